/**
 * Which tokens may be signed: exactly the bodies whose leaves make the root of a manifest that stands under the head.
 *
 * Everything is computed again from the bodies. A manifest says what all its tokens have in common, so each payload
 * must be the one encoding of that plus its own id, subject and index; a body too many, one altered or one exchanged
 * changes the root, and the root is what k trustees signed.
 */
import {
  bodyFrom,
  decodeManifest,
  decodePayload,
  encodePayload,
  equalBytes,
  formatHex,
  type Hash,
  hashLeaf,
  type Manifest,
  MerkleFrontier,
  manifestHash,
  type PublicKey,
  parseDidKey,
  signatureInput,
  tokenLeaf,
  VerificationError,
  verifyInclusion,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { namedKey } from "./key-ring.ts";
import type { SignerState } from "./state.ts";

export interface TokensRequest {
  readonly manifest: Uint8Array;
  readonly payloads: readonly Uint8Array[];
  /** RFC 9162 inclusion of H(manifest) in the current head. */
  readonly proof: readonly Hash[];
}

export interface TokensPlan {
  readonly state: SignerState;
  /** The key that the manifest names. */
  readonly issuer: PublicKey;
  /** What it signs, in order. */
  readonly messages: readonly Uint8Array[];
}

/** Signed and not yet logged; a sequencer logs one batch after the other. */
const SIGNED_MANIFESTS_MAX = 1024;

export function planTokens(
  state: SignerState,
  trusted: TrustedState,
  issuers: readonly PublicKey[],
  request: TokensRequest,
  now: number,
): TokensPlan {
  const manifest = decodeManifest(request.manifest);
  assertApproved(trusted, manifest, request, now);
  const issuer = namedKey(issuers, trusted.keys, "issuer", manifest.issuer, manifest.nbf);
  assertPayloads(manifest, request.payloads);
  const messages = request.payloads.map((payload) => signatureInput(issuer.algorithm, payload));
  // A batch in the log is the one under the head for ever, so signing it again adds nothing to remember.
  if (manifest.seq < state.batches.length) return { state, issuer, messages };
  const signedManifests = new Map(state.signedManifests).set(manifest.seq, request.manifest);
  if (signedManifests.size > SIGNED_MANIFESTS_MAX)
    throw new VerificationError("ERR_SIGNER_ORDER", `${signedManifests.size} signed batches are not in the log`);
  return { state: { ...state, signedManifests }, issuer, messages };
}

function assertApproved(trusted: TrustedState, manifest: Manifest, request: TokensRequest, now: number): void {
  const { head, authority, expires } = trusted;
  if (!equalBytes(manifest.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", "the manifest is of another authority");
  for (const [role, at] of Object.entries(expires))
    if (now >= at) throw new VerificationError("ERR_METADATA_EXPIRED", `${role} has expired: trustees must sign again`);
  try {
    verifyInclusion({
      index: manifest.seq,
      size: head.size,
      leafHash: hashLeaf(manifestHash(request.manifest)),
      proof: request.proof,
      root: head.root,
    });
  } catch (cause) {
    const hash = formatHex(manifestHash(request.manifest));
    throw new VerificationError("ERR_UNAPPROVED", `manifest ${hash} is not under the head that trustees signed`, {
      cause,
    });
  }
  if (manifest.first + manifest.count > head.next)
    throw new VerificationError("ERR_UNAPPROVED", `the manifest names indices beyond the head's ${head.next}`);
}

function assertPayloads(manifest: Manifest, payloads: readonly Uint8Array[]): void {
  if (payloads.length !== manifest.count)
    throw new VerificationError("ERR_TOKEN_MISMATCH", `${payloads.length} bodies for ${manifest.count} tokens`);
  const ids = new Set<string>();
  const tree = new MerkleFrontier();
  payloads.forEach((payload, i) => {
    const index = manifest.first + i;
    const body = decodePayload(payload);
    const { rctId, subject, confirmation } = body;
    const own = { rctId, subject, index, ...(confirmation ? { confirmation } : {}) };
    if (!equalBytes(encodePayload(bodyFrom(manifest, own)), payload))
      throw new VerificationError("ERR_TOKEN_MISMATCH", `the body of index ${index} is not what its manifest says`);
    // A key in the subject's name must be one; where it is elsewhere, the thumbprint binds it.
    if (subject.startsWith("did:key:")) parseDidKey(subject);
    else if (!confirmation)
      throw new VerificationError("ERR_TOKEN_MISMATCH", `the subject of index ${index} has neither key nor thumbprint`);
    ids.add(formatHex(rctId));
    tree.append(hashLeaf(tokenLeaf(index, rctId, payload)));
  });
  if (ids.size < payloads.length) throw new VerificationError("ERR_TOKEN_MISMATCH", "two tokens have one id");
  if (!equalBytes(tree.root(), manifest.root))
    throw new VerificationError("ERR_TOKEN_MISMATCH", "the bodies do not make the root that trustees approved");
}
