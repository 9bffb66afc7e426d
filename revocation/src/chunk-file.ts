/**
 * One chunk of a set with its proof, for a node too small or too briefly online to hold the whole list.
 *
 *     u32 epoch ‖ u32 chunk ‖ u32 chunks ‖ u32 elements ‖ u8 hashes ‖ 32 bytes each ‖ RVX1 body, universe 131072
 *
 * The body decodes to the chunk, the chunk hashes to a leaf, the proof (RFC 6962, leaf to root) leads to the signed
 * root. Whoever serves it learns which 131,072 tokens are of interest, and no more.
 */
import {
  concat,
  FormatError,
  HASH_BYTES,
  type Hash,
  hashChildren,
  PROOF_HASHES_MAX,
  readU32,
  u32,
  VerificationError,
  verifyInclusion,
} from "@viafabric/schemas";
import type { SignedSet } from "./container.ts";
import { IndexSet } from "./index-set.ts";
import { decodeBody, encodeBody } from "./rvx1.ts";
import { CHUNK_INDICES, chunkCount, chunkLeaf } from "./set-root.ts";

const HEADER_BYTES = 17;
/** A raw bitmap would be 16 KiB; RVX1 at its worst stays near that. */
export const CHUNK_FILE_BYTES_MAX = 32 * 1024;

/** Every level of the tree over chunk leaves; an odd last node rises unchanged, which is RFC 6962's shape. */
export type ChunkLevels = readonly (readonly Hash[])[];

export function chunkLevels(leaves: readonly Hash[]): ChunkLevels {
  const levels = [leaves];
  for (let level = leaves; level.length > 1; levels.push(level)) {
    const above: Hash[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const right = level[i + 1];
      above.push(right ? hashChildren(level[i]!, right) : level[i]!);
    }
    level = above;
  }
  return levels;
}

/** Leaf to root, as verifyInclusion takes it. */
export function chunkProof(levels: ChunkLevels, chunk: number): readonly Hash[] {
  return levels.flatMap((level, height) => level[(chunk >>> height) ^ 1] ?? []);
}

/** @param levels chunkLevels(chunkLeaves(set, n)), made once for all chunks of a set */
export function encodeChunkFile(set: IndexSet, levels: ChunkLevels, epoch: number, chunk: number): Uint8Array {
  const members = chunkMembers(set, chunk);
  const proof = chunkProof(levels, chunk);
  const header = [u32(epoch), u32(chunk), u32(levels[0]!.length), u32(members.count), new Uint8Array([proof.length])];
  return concat(...header, ...proof, encodeBody(members, CHUNK_INDICES));
}

/** The members of one chunk, as places within it. */
export function chunkMembers(set: IndexSet, chunk: number): IndexSet {
  const base = chunk * CHUNK_INDICES;
  const [from, to] = set.runsWithin(base, base + CHUNK_INDICES);
  const starts = set.starts.slice(from, to).map((start) => Math.max(start, base) - base);
  const ends = set.ends.slice(from, to).map((end) => Math.min(end, base + CHUNK_INDICES) - base);
  return IndexSet.fromSorted(starts, ends);
}

/** @returns the members as places within the chunk. @throws FormatError ERR_RVX1, VerificationError */
export function verifyChunkFile(bytes: Uint8Array, chunk: number, signed: SignedSet): IndexSet {
  if (bytes.length < HEADER_BYTES || bytes.length > CHUNK_FILE_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const hashes = bytes[16]!;
  const bodyAt = HEADER_BYTES + hashes * HASH_BYTES;
  if (hashes > PROOF_HASHES_MAX || bodyAt > bytes.length) throw wrong(`a proof of ${hashes} hashes`);
  const size = chunkCount(signed.n);
  if (readU32(bytes, 0) !== signed.epoch || readU32(bytes, 4) !== chunk || readU32(bytes, 8) !== size) {
    throw new VerificationError("ERR_SET_OTHER", `not chunk ${chunk} of ${size} at epoch ${signed.epoch}`);
  }
  const proof = Array.from({ length: hashes }, (_, i) => {
    return bytes.slice(HEADER_BYTES + i * HASH_BYTES, HEADER_BYTES + (i + 1) * HASH_BYTES);
  });
  const members = decodeBody(bytes.subarray(bodyAt), { universe: CHUNK_INDICES, count: readU32(bytes, 12) });
  verifyInclusion({ index: chunk, size, leafHash: chunkLeaf(members, 0), proof, root: signed.root });
  return members;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_RVX1", `not a chunk file: ${reason}`);
}
