/**
 * A set of hashes that takes 16 bytes for each: a million token ids in 32 MB, where a Set of strings takes ten times
 * that. Pure.
 *
 * Open addressing over the first 128 bits of each hash. Nobody finds two SHA-256 hashes that share those, and if
 * somebody did it would be reported, not overlooked: the set can only see a repetition too many.
 */
const WORDS = 4;

export class DigestSet {
  #slots = new Uint32Array(1024 * WORDS);
  #size = 0;

  /** As encode gave it; undefined for anything else. */
  static decode(bytes: Uint8Array): DigestSet | undefined {
    const length = bytes.length / 4;
    if (!Number.isInteger(Math.log2(length)) || length < 1024 * WORDS) return undefined;
    const set = new DigestSet();
    const copy = bytes.slice();
    set.#slots = new Uint32Array(copy.buffer);
    for (let at = 0; at < length; at += WORDS) if (set.#slots[at] !== 0) set.#size++;
    return set;
  }

  /** For a file that the same machine reads again. */
  encode(): Uint8Array {
    return new Uint8Array(this.#slots.buffer);
  }

  get size(): number {
    return this.#size;
  }

  /** @returns false when the hash was there already. @param hash 16 bytes or more, as good as random */
  add(hash: Uint8Array): boolean {
    // Half full at most: beyond that, searches grow long.
    if (this.#size * 2 * WORDS >= this.#slots.length) this.#grow();
    // All zeros marks a free slot; a hash that begins like that does not occur.
    if (!this.#insert(word(hash, 0) || 1, word(hash, 4), word(hash, 8), word(hash, 12))) return false;
    this.#size++;
    return true;
  }

  #insert(a: number, b: number, c: number, d: number): boolean {
    const slots = this.#slots;
    const mask = slots.length / WORDS - 1;
    for (let slot = b & mask; ; slot = (slot + 1) & mask) {
      const at = slot * WORDS;
      if (slots[at] === 0) {
        slots[at] = a;
        slots[at + 1] = b;
        slots[at + 2] = c;
        slots[at + 3] = d;
        return true;
      }
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c && slots[at + 3] === d) return false;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += WORDS) {
      if (old[at] !== 0) this.#insert(old[at]!, old[at + 1]!, old[at + 2]!, old[at + 3]!);
    }
  }
}

/** Four bytes as one number, without the DataView that a general reader makes each time. */
function word(hash: Uint8Array, at: number): number {
  return ((hash[at]! << 24) | (hash[at + 1]! << 16) | (hash[at + 2]! << 8) | hash[at + 3]!) >>> 0;
}
