/**
 * RFC 6962 hashing over flat arrays: n hashes are one Uint8Array of 32·n bytes, the layout of a tile.
 *
 * The same hashes as merkle.ts, by other code, for when there are a million of them: one object per hash costs more
 * than the hash itself.
 */
import { HASH_BYTES, sha256Latin1 } from "./crypto.ts";
import { EMPTY_ROOT } from "./merkle.ts";

const PAIR_BYTES = 2 * HASH_BYTES;
/** Hashing never waits, so one scratch space of each kind is enough. */
const pairInput = Buffer.alloc(1 + PAIR_BYTES, 1);

/** The leaf hash of each entry, in order. */
export function hashLeaves(entries: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(entries.length * HASH_BYTES);
  const target = viewOf(out);
  let input = new Uint8Array(1);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    // Entries of one type share a length, so the space is almost always the right one already.
    if (input.length !== 1 + entry.length) input = new Uint8Array(1 + entry.length);
    input.set(entry, 1);
    target.write(sha256Latin1(input), i * HASH_BYTES, "latin1");
  }
  return out;
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
  const level = Buffer.from(hashes);
  for (let length = level.length; length > HASH_BYTES; ) {
    let to = 0;
    let from = 0;
    for (; from + PAIR_BYTES <= length; from += PAIR_BYTES) {
      level.copy(pairInput, 1, from, from + PAIR_BYTES);
      level.write(sha256Latin1(pairInput), to, "latin1");
      to += HASH_BYTES;
    }
    if (from < length) level.copyWithin(to, from, length);
    length = to + length - from;
  }
  return Uint8Array.from(level.subarray(0, HASH_BYTES));
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
