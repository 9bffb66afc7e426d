/**
 * A set as a node keeps it in memory for years: built once per epoch, asked at every tap.
 *
 * Three shapes, whichever is smallest for the set at hand: runs (8 bytes each; whole batches), a bitmap (N / 8 bytes;
 * dense sets), or buckets (one byte per element, plus 4 bytes per 256 indices; sparse scattered ones). A million
 * scattered revocations of a hundred million tokens take 2.6 MB.
 */
import { IndexSet } from "./index-set.ts";

export interface HeldSet {
  readonly shape: "runs" | "bitmap" | "buckets";
  /** Number of indices. */
  readonly count: number;
  /** Memory taken by the data. */
  readonly bytes: number;
  has(index: number): boolean;
  /** The same set in its working form, to apply a delta to. */
  toSet(): IndexSet;
}

const BUCKET_INDICES = 256;

/** @param n the universe: every index is below it */
export function holdSet(set: IndexSet, n: number): HeldSet {
  const buckets = 4 * (Math.ceil(n / BUCKET_INDICES) + 1) + set.count;
  const bitmap = Math.ceil(n / 8);
  const runs = 8 * set.runCount;
  if (runs <= buckets && runs <= bitmap) return heldRuns(set);
  return buckets < bitmap ? heldBuckets(set, n) : heldBitmap(set, n);
}

function heldRuns(set: IndexSet): HeldSet {
  const { count, runCount } = set;
  return { shape: "runs", count, bytes: 8 * runCount, has: (index) => set.has(index), toSet: () => set };
}

function heldBitmap(set: IndexSet, n: number): HeldSet {
  const bits = new Uint8Array(Math.ceil(n / 8));
  for (const index of set) bits[index >>> 3]! |= 1 << (index & 7);
  const has = (index: number) => index < n && (bits[index >>> 3]! & (1 << (index & 7))) !== 0;
  const indices = function* () {
    for (let index = 0; index < n; index++) if (has(index)) yield index;
  };
  return {
    shape: "bitmap",
    count: set.count,
    bytes: bits.length,
    has,
    toSet: () => IndexSet.fromIndices(indices()),
  };
}

/** Elements of bucket b, their low byte each, lie at offsets[b] ≤ i < offsets[b + 1], ascending. */
function heldBuckets(set: IndexSet, n: number): HeldSet {
  const offsets = new Uint32Array(Math.ceil(n / BUCKET_INDICES) + 1);
  const lows = new Uint8Array(set.count);
  let at = 0;
  for (const index of set) {
    lows[at++] = index & 255;
    offsets[Math.floor(index / BUCKET_INDICES) + 1]!++;
  }
  for (let bucket = 1; bucket < offsets.length; bucket++) offsets[bucket]! += offsets[bucket - 1]!;
  const has = (index: number) => {
    const bucket = Math.floor(index / BUCKET_INDICES);
    if (bucket + 1 >= offsets.length) return false;
    const low = index & 255;
    const end = offsets[bucket + 1]!;
    for (let i = offsets[bucket]!; i < end; i++) if (lows[i] === low) return true;
    return false;
  };
  const bytes = offsets.byteLength + lows.length;
  const indices = function* () {
    for (let bucket = 0; bucket + 1 < offsets.length; bucket++) {
      for (let i = offsets[bucket]!; i < offsets[bucket + 1]!; i++) yield bucket * BUCKET_INDICES + lows[i]!;
    }
  };
  return { shape: "buckets", count: set.count, bytes, has, toSet: () => IndexSet.fromIndices(indices()) };
}
