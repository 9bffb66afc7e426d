/**
 * The root of a status set: an RFC 6962 tree over its bitmap in chunks of 131,072 bits.
 *
 * Index i is bit (i & 7), least significant first, of byte ((i & 131071) >> 3) of chunk i >> 17. One chunk is a whole
 * IETF token status list (same bit order), the smallest W3C bitstring list, and the crowd a single look-up hides in.
 * The signed root commits to the set alone, whatever bytes it travelled in.
 */
import { type Hash, hashLeaf, rootOf } from "@viafabric/schemas";
import type { IndexSet } from "./index-set.ts";

export const CHUNK_INDICES = 131_072;
export const CHUNK_BYTES = CHUNK_INDICES / 8;

/** Most chunks of most sets are empty; their hash is computed once. */
export const ZERO_CHUNK_LEAF: Hash = hashLeaf(new Uint8Array(CHUNK_BYTES));

/** Number of chunks over [0, n). */
export function chunkCount(n: number): number {
  return Math.ceil(n / CHUNK_INDICES);
}

/** The 16,384 bytes of one chunk. */
export function chunkBitmap(set: IndexSet, chunk: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_BYTES);
  const base = chunk * CHUNK_INDICES;
  const [from, to] = set.runsWithin(base, base + CHUNK_INDICES);
  for (let i = from; i < to; i++) {
    fill(bytes, Math.max(0, set.starts[i]! - base), Math.min(CHUNK_INDICES, set.ends[i]! - base));
  }
  return bytes;
}

/** Sets the bits [start, end): bit by bit to the next byte border, whole bytes, bit by bit again. */
function fill(bytes: Uint8Array, start: number, end: number): void {
  const firstWhole = Math.min(end, Math.ceil(start / 8) * 8);
  const lastWhole = Math.max(firstWhole, Math.floor(end / 8) * 8);
  for (let bit = start; bit < firstWhole; bit++) bytes[bit >> 3]! |= 1 << (bit & 7);
  bytes.fill(0xff, firstWhole >> 3, lastWhole >> 3);
  for (let bit = lastWhole; bit < end; bit++) bytes[bit >> 3]! |= 1 << (bit & 7);
}

/** The leaf hash of every chunk over [0, n). */
export function chunkLeaves(set: IndexSet, n: number): readonly Hash[] {
  return updateLeaves([], set, n, undefined);
}

/**
 * Leaf hashes after a change: only the chunks that `touched` reaches, and those that are new, are hashed.
 * @param leaves of the set before. @param touched every index whose membership changed; undefined for all
 */
export function updateLeaves(
  leaves: readonly Hash[],
  set: IndexSet,
  n: number,
  touched: IndexSet | undefined,
): readonly Hash[] {
  if (set.count > 0 && set.ends.at(-1)! > n) throw new RangeError(`the set holds an index that is not below ${n}`);
  const next: Hash[] = [];
  for (let chunk = 0; chunk < chunkCount(n); chunk++) {
    const known = touched && !reaches(touched, chunk) ? leaves[chunk] : undefined;
    next.push(known ?? chunkLeaf(set, chunk));
  }
  return next;
}

export function chunkLeaf(set: IndexSet, chunk: number): Hash {
  return reaches(set, chunk) ? hashLeaf(chunkBitmap(set, chunk)) : ZERO_CHUNK_LEAF;
}

function reaches(set: IndexSet, chunk: number): boolean {
  const [from, to] = set.runsWithin(chunk * CHUNK_INDICES, (chunk + 1) * CHUNK_INDICES);
  return to > from;
}

/** The root of `set` in the universe [0, n). */
export function setRoot(set: IndexSet, n: number): Hash {
  return rootOf(chunkLeaves(set, n));
}
