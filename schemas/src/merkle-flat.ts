/**
 * RFC 6962 hashing over flat arrays: n hashes are one Uint8Array of 32·n bytes, the layout of a tile.
 *
 * The same hashes as merkle.ts, by other code, for when there are a million of them: four at a time, and none is an
 * object of its own, which would cost more than the hash.
 */
import { HASH_BYTES, writeSha256 } from "./crypto.ts";
import { EMPTY_ROOT, hashLeaf } from "./merkle.ts";
import { blocksOf, LANE_BYTES_MAX, LANES, padLanes, type Sha256Lanes, sha256Lanes } from "./sha256-lanes.ts";

const PAIR_BYTES = 2 * HASH_BYTES;
const BLOCK_BYTES = 64;

// The memory of the lanes: messages, a run of pairs, and the digests of a run.
const MESSAGES = 0;
const PAIRS = 4096;
const DIGESTS = 32_768;
/** Leaves or pairs between two copies out of that memory. */
const RUN = 256;

/** How the messages are padded at the moment: for leaves or nodes of so many bytes. */
let padded = { prefix: -1, length: -1 };

function pad(lanes: Sha256Lanes, prefix: 0 | 1, length: number): void {
  if (padded.prefix === prefix && padded.length === length) return;
  padLanes(lanes, MESSAGES, length);
  const step = blocksOf(length) * BLOCK_BYTES;
  for (let lane = 0; lane < LANES; lane++) lanes.memory[MESSAGES + lane * step] = prefix;
  padded = { prefix, length };
}

/** The leaf hash of each entry, in order. */
export function hashLeaves(entries: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(entries.length * HASH_BYTES);
  for (let at = 0; at < entries.length; ) {
    const length = entries[at]!.length;
    let end = at + 1;
    while (end < entries.length && end - at < RUN && entries[end]!.length === length) end++;
    if (end - at < LANES || length >= LANE_BYTES_MAX) {
      for (; at < end; at++) out.set(hashLeaf(entries[at]!), at * HASH_BYTES);
    } else {
      hashRun(entries, at, end, out);
      at = end;
    }
  }
  return out;
}

/** Entries of one length, which those of one type have. */
function hashRun(entries: readonly Uint8Array[], start: number, end: number, out: Uint8Array): void {
  const lanes = sha256Lanes();
  const { memory } = lanes;
  const length = 1 + entries[start]!.length;
  pad(lanes, 0, length);
  const blocks = blocksOf(length);
  const step = blocks * BLOCK_BYTES;
  let output = DIGESTS;
  for (let at = start; at < end; at += LANES) {
    // Lanes beyond the end hash once more what is in them, and nobody looks.
    for (let lane = 0; lane < LANES && at + lane < end; lane++)
      memory.set(entries[at + lane]!, MESSAGES + lane * step + 1);
    lanes.hash(MESSAGES, blocks, output);
    output += LANES * HASH_BYTES;
  }
  out.set(memory.subarray(DIGESTS, DIGESTS + (end - start) * HASH_BYTES), start * HASH_BYTES);
}

/** The same hashes by node:crypto alone, one after the other. */
export function hashLeavesSingly(entries: readonly Uint8Array[]): Uint8Array {
  const out = Buffer.alloc(entries.length * HASH_BYTES);
  let input = new Uint8Array(1);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    if (input.length !== 1 + entry.length) input = new Uint8Array(1 + entry.length);
    input.set(entry, 1);
    writeSha256(input, out, i * HASH_BYTES);
  }
  return new Uint8Array(out.buffer, out.byteOffset, out.length);
}

/** The root of a complete subtree. @param hashes a power of two of them, at least one */
export function rootOfPairs(hashes: Uint8Array): Uint8Array {
  if (!Number.isInteger(Math.log2(hashes.length / HASH_BYTES))) throw new RangeError("not a complete subtree");
  return rootOfHashes(hashes);
}

/** The root over any number of leaf hashes: an odd one at the end of a level is passed up as it is. */
export function rootOfHashes(hashes: Uint8Array): Uint8Array {
  if (hashes.length % HASH_BYTES !== 0) throw new RangeError("not a whole number of hashes");
  if (hashes.length === 0) return EMPTY_ROOT;
  // Each level overwrites the one below it: a parent's place is never behind its children's.
  const level = hashes.slice();
  for (let count = level.length / HASH_BYTES; count > 1; count = Math.ceil(count / 2)) {
    const pairs = Math.floor(count / 2);
    for (let at = 0; at < pairs; at += RUN) hashPairs(level, at, Math.min(at + RUN, pairs));
    if (count % 2 === 1) level.copyWithin(pairs * HASH_BYTES, (count - 1) * HASH_BYTES, count * HASH_BYTES);
  }
  return level.slice(0, HASH_BYTES);
}

/** Puts the node over hashes 2·i and 2·i+1 at place i, for each i from `start` to `end`. */
function hashPairs(level: Uint8Array, start: number, end: number): void {
  const lanes = sha256Lanes();
  const { memory } = lanes;
  pad(lanes, 1, 1 + PAIR_BYTES);
  memory.set(level.subarray(start * PAIR_BYTES, end * PAIR_BYTES), PAIRS);
  const blocks = blocksOf(1 + PAIR_BYTES);
  const step = blocks * BLOCK_BYTES;
  let output = DIGESTS;
  let from = PAIRS;
  for (let at = start; at < end; at += LANES) {
    for (let lane = 0; lane < LANES; lane++) {
      memory.copyWithin(MESSAGES + lane * step + 1, from, from + PAIR_BYTES);
      from += PAIR_BYTES;
    }
    lanes.hash(MESSAGES, blocks, output);
    output += LANES * HASH_BYTES;
  }
  level.set(memory.subarray(DIGESTS, DIGESTS + (end - start) * HASH_BYTES), start * HASH_BYTES);
}
