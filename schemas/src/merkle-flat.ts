/**
 * RFC 6962 hashing over flat arrays: n hashes are one Uint8Array of 32·n bytes, the layout of a tile.
 *
 * The same hashes as merkle.ts, by other code, for when there are a million of them: one object per hash costs more
 * than the hash itself. node:crypto's string output is several times cheaper than its Buffer output, so digests pass
 * through a Latin-1 string, in which each character is one byte.
 */
import { concat } from "./bytes.ts";
import { HASH_BYTES, writeSha256 } from "./crypto.ts";
import { EMPTY_ROOT } from "./merkle.ts";

/** The leaf hash of each entry, in order. */
export function hashLeaves(entries: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(entries.length * HASH_BYTES);
  const target = viewOf(out);
  let scratch = new Uint8Array(1);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    // Entries of one type share a length, so the scratch space is almost always the right one already.
    if (scratch.length !== 1 + entry.length) scratch = new Uint8Array(1 + entry.length);
    scratch.set(entry, 1);
    writeSha256(scratch, target, i * HASH_BYTES);
  }
  return out;
}

/** The parents of hashes 0 and 1, 2 and 3, and so on. @param hashes an even number of them */
export function hashPairs(hashes: Uint8Array): Uint8Array {
  if (hashes.length % (2 * HASH_BYTES) !== 0) throw new RangeError("an odd number of hashes has no pairs");
  const out = new Uint8Array(hashes.length / 2);
  const source = viewOf(hashes);
  const target = viewOf(out);
  const scratch = Buffer.alloc(1 + 2 * HASH_BYTES);
  scratch[0] = 1;
  for (let at = 0; at < out.length; at += HASH_BYTES) {
    source.copy(scratch, 1, 2 * at, 2 * at + 2 * HASH_BYTES);
    writeSha256(scratch, target, at);
  }
  return out;
}

/** The root of a complete subtree. @param hashes a power of two of them, at least one */
export function rootOfPairs(hashes: Uint8Array): Uint8Array {
  let level = hashes;
  while (level.length > HASH_BYTES) level = hashPairs(level);
  return level.slice();
}

/** The root over any number of leaf hashes: an odd one at the end of a level is passed up as it is. */
export function rootOfHashes(hashes: Uint8Array): Uint8Array {
  if (hashes.length === 0) return EMPTY_ROOT;
  let level = hashes;
  while (level.length > HASH_BYTES) {
    const paired = level.length - (level.length % (2 * HASH_BYTES));
    level = concat(hashPairs(level.subarray(0, paired)), level.subarray(paired));
  }
  return level.slice();
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
