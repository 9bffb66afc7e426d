/**
 * Releasing a batch: the release officer, who is not the one who wrote it, switches its tokens on. What is signed is
 * built here, from the manifest as it is published and proven under the trustees' head.
 */
import {
  buildInclusionProof,
  decodeManifest,
  EVENT_CONTEXT,
  encodeEventBody,
  equalBytes,
  hashLeaf,
  type IndexRange,
  type Manifest,
  manifestHash,
  OperationError,
  type Signer,
  signingInput,
  VerificationError,
  verifyInclusion,
} from "@viafabric/schemas";
import { type FetchFile, openTree, subFolder } from "@viafabric/transparency-log/client";
import type { Trust } from "@viafabric/verifier";

/** An event that nobody completes is forgotten after this. */
const RELEASE_SECONDS = 7 * 86_400;

/** @throws VerificationError ERR_PROOF; OperationError ERR_NOT_FOUND */
export async function readManifest(trust: Trust, published: FetchFile, batch: number): Promise<Manifest> {
  const { head } = trust;
  const bytes = await published(`batch/${batch}/manifest.cbor`);
  if (!bytes || batch >= head.size) throw new OperationError("ERR_NOT_FOUND", `batch ${batch} is not published`);
  const { subtree } = await openTree(subFolder(published, "batches"), head);
  const proof = await buildInclusionProof(batch, head.size, subtree);
  verifyInclusion({ index: batch, size: head.size, leafHash: hashLeaf(manifestHash(bytes)), proof, root: head.root });
  return decodeManifest(bytes);
}

/** The batch without the serials left out (spoiled tags), as ascending ranges. */
export function releaseRanges(manifest: Manifest, without: readonly number[]): readonly IndexRange[] {
  const left = new Set(without);
  const ranges: { first: number; count: number }[] = [];
  for (let index = manifest.first; index < manifest.first + manifest.count; index++) {
    const last = ranges.at(-1);
    if (left.has(index)) continue;
    if (last && last.first + last.count === index) last.count++;
    else ranges.push({ first: index, count: 1 });
  }
  if (ranges.length === 0) throw new OperationError("ERR_USAGE", "nothing is left to release");
  return ranges;
}

export interface SignedRelease {
  readonly body: Uint8Array;
  readonly signature: Uint8Array;
}

/**
 * @param nonce 16 random bytes. @param now unix seconds
 * @throws VerificationError ERR_UNAUTHORIZED when the batch names other release keys
 */
export async function signRelease(
  signer: Signer,
  manifest: Manifest,
  ranges: readonly IndexRange[],
  { reason, nonce, now }: { readonly reason: string; readonly nonce: Uint8Array; readonly now: number },
): Promise<SignedRelease> {
  const { kid } = signer.publicKey;
  if (!manifest.releaseKeys.some((key) => equalBytes(key, kid))) {
    throw new VerificationError("ERR_UNAUTHORIZED", `batch ${manifest.seq} is released by another key than this one`);
  }
  const { authority } = manifest;
  const body = encodeEventBody({
    authority,
    action: "release",
    ranges,
    reason,
    notAfter: now + RELEASE_SECONDS,
    undoes: [],
    nonce,
  });
  return { body, signature: await signer.sign(signingInput(EVENT_CONTEXT, authority, body)) };
}
