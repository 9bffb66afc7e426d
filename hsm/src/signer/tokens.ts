/**
 * Which tokens may be signed: exactly those whose leaves make the root of a manifest that stands under the head.
 *
 * Nobody hands over what is to be signed. A manifest says what all its tokens have in common, and of each token comes
 * what is its own: id and subject. The signer builds every body itself, and nothing is signed before all of them are
 * there and make the root that k trustees signed: one too many, one altered or two exchanged make another.
 */
import {
  decodeManifest,
  equalBytes,
  formatHex,
  type Hash,
  hashLeaf,
  type Manifest,
  MerkleFrontier,
  manifestHash,
  type OwnClaims,
  type PublicKey,
  parseDidKey,
  payloadEncoder,
  RCT_ID_BYTES,
  signatureInput,
  tokenLeaf,
  URI_LENGTH_MAX,
  VerificationError,
  verifyInclusion,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { namedKey } from "./key-ring.ts";
import type { SignerState } from "./state.ts";

export interface BatchRequest {
  readonly manifest: Uint8Array;
  /** RFC 9162 inclusion of H(manifest) in the current head. */
  readonly proof: readonly Hash[];
}

/** What is each token's own, for some tokens in index order. */
export interface Bodies {
  /** 16 bytes each. */
  readonly ids: Uint8Array;
  readonly subjects: readonly string[];
  /** Thumbprints of those that have one, by place in this list. */
  readonly confirmations: ReadonlyMap<number, Uint8Array>;
}

/** Signed and not yet logged; a sequencer logs one batch after the other. */
const SIGNED_MANIFESTS_MAX = 1024;

/** @throws VerificationError unless trustees approved this manifest */
export function planBatch(trusted: TrustedState, { manifest: bytes, proof }: BatchRequest, now: number): Manifest {
  const manifest = decodeManifest(bytes);
  const { head, authority } = trusted;
  if (!equalBytes(manifest.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", "the manifest is of another authority");
  assertInForce(trusted, now);
  const hash = manifestHash(bytes);
  try {
    verifyInclusion({ index: manifest.seq, size: head.size, leafHash: hashLeaf(hash), proof, root: head.root });
  } catch (cause) {
    const reason = `manifest ${formatHex(hash)} is not under the head that trustees signed`;
    throw new VerificationError("ERR_UNAPPROVED", reason, { cause });
  }
  if (manifest.first + manifest.count > head.next)
    throw new VerificationError("ERR_UNAPPROVED", `the manifest names indices beyond the head's ${head.next}`);
  return manifest;
}

/**
 * The key that signs them: the one that the manifest names. Asked before each pack of signatures, because a batch may
 * stay open for long.
 * @param held the issuer keys of this signer
 */
export function planIssuer(
  trusted: TrustedState,
  held: readonly PublicKey[],
  { issuer, nbf }: Manifest,
  now: number,
): PublicKey {
  assertInForce(trusted, now);
  return namedKey(held, trusted.keys, "issuer", issuer, nbf);
}

/** With a batch that counts as signed: from the moment its first signature could exist. */
export function withSignedBatch(state: SignerState, { seq }: Manifest, bytes: Uint8Array): SignerState {
  // A batch in the log is the one under the head for ever, so signing it again adds nothing to remember.
  if (seq < state.batches.length || state.signedManifests.has(seq)) return state;
  const signedManifests = new Map(state.signedManifests).set(seq, bytes);
  if (signedManifests.size > SIGNED_MANIFESTS_MAX)
    throw new VerificationError("ERR_SIGNER_ORDER", `${signedManifests.size} signed batches are not in the log`);
  return { ...state, signedManifests };
}

/** The bodies of one batch as they come: some 100 bytes each until the last one is signed. */
export class BatchBodies {
  readonly #manifest: Manifest;
  readonly #payloadOf: (own: OwnClaims) => Uint8Array;
  readonly #tree = new MerkleFrontier();
  readonly #ids: Uint8Array;
  readonly #subjects: string[] = [];
  readonly #confirmations = new Map<number, Uint8Array>();
  #whole = false;

  constructor(manifest: Manifest) {
    this.#manifest = manifest;
    this.#payloadOf = payloadEncoder(manifest);
    this.#ids = new Uint8Array(manifest.count * RCT_ID_BYTES);
  }

  /** How many there are so far. */
  get count(): number {
    return this.#subjects.length;
  }

  /** @throws VerificationError, FormatError; then none of them was added */
  add({ ids, subjects, confirmations }: Bodies): void {
    const { first, count } = this.#manifest;
    const start = this.count;
    if (start + subjects.length > count)
      throw new VerificationError("ERR_TOKEN_MISMATCH", `more than ${count} bodies for ${count} tokens`);
    // A thumbprint for a token that is there already would change what is signed after its leaf was made.
    const strays = [...confirmations.keys()].filter((i) => i < 0 || i >= subjects.length);
    if (ids.length !== subjects.length * RCT_ID_BYTES || strays.length > 0)
      throw new VerificationError("ERR_TOKEN_MISMATCH", "ids or thumbprints that belong to none of the subjects");
    for (const [i, subject] of subjects.entries()) assertSubject(subject, confirmations.get(i), first + start + i);
    this.#ids.set(ids, start * RCT_ID_BYTES);
    for (const [i, thumbprint] of confirmations) this.#confirmations.set(start + i, thumbprint);
    for (const subject of subjects) {
      this.#subjects.push(subject);
      const own = this.#own(this.count - 1);
      this.#tree.append(hashLeaf(tokenLeaf(own.index, own.rctId, this.#payloadOf(own))));
    }
  }

  /** @throws VerificationError ERR_TOKEN_MISMATCH unless these are all, and those that trustees approved */
  assertWhole(): void {
    if (this.#whole) return;
    const { count, root } = this.#manifest;
    if (this.count !== count)
      throw new VerificationError("ERR_TOKEN_MISMATCH", `${this.count} bodies for ${count} tokens`);
    if (!equalBytes(this.#tree.root(), root))
      throw new VerificationError("ERR_TOKEN_MISMATCH", "the bodies do not make the root that trustees approved");
    const ids = new Set(this.#subjects.map((_, place) => formatHex(this.#own(place).rctId)));
    if (ids.size < count) throw new VerificationError("ERR_TOKEN_MISMATCH", "two tokens have one id");
    this.#whole = true;
  }

  /** What an issuer key signs, in order. @throws VerificationError as assertWhole; ERR_TOKEN_MISMATCH beyond the batch */
  messages(from: number, count: number, { algorithm }: PublicKey): readonly Uint8Array[] {
    this.assertWhole();
    if (count < 1 || from + count > this.count)
      throw new VerificationError("ERR_TOKEN_MISMATCH", `${count} tokens from ${from} on, of ${this.count}`);
    return Array.from({ length: count }, (_, i) => signatureInput(algorithm, this.#payloadOf(this.#own(from + i))));
  }

  #own(place: number): OwnClaims {
    const rctId = this.#ids.subarray(place * RCT_ID_BYTES, (place + 1) * RCT_ID_BYTES);
    const confirmation = this.#confirmations.get(place);
    const own = { rctId, subject: this.#subjects[place]!, index: this.#manifest.first + place };
    return confirmation ? { ...own, confirmation } : own;
  }
}

function assertInForce({ expires }: TrustedState, now: number): void {
  for (const [role, at] of Object.entries(expires))
    if (now >= at) throw new VerificationError("ERR_METADATA_EXPIRED", `${role} has expired: trustees must sign again`);
}

function assertSubject(subject: string, confirmation: Uint8Array | undefined, index: number): void {
  if (subject.length > URI_LENGTH_MAX)
    throw new VerificationError("ERR_TOKEN_MISMATCH", `the subject of index ${index} is too long`);
  // A key in the subject's name must be one; where it is elsewhere, the thumbprint binds it.
  if (subject.startsWith("did:key:")) parseDidKey(subject);
  else if (!confirmation)
    throw new VerificationError("ERR_TOKEN_MISMATCH", `the subject of index ${index} has neither key nor thumbprint`);
}
