/**
 * The adaptive binary range coder under RVX1 set bodies.
 *
 * A bit is coded against the probability its context has learned so far; bits without structure go raw. Decoder and
 * encoder do the same integer arithmetic on 32 bits, so a body has the same bytes on every machine. A decoder reads
 * zero bytes past the end (the encoder strips them) and every call does a bounded amount of work.
 */
import { FormatError } from "@viafabric/schemas";

/** Probability that the bit is 0, scale 65536, and how often the context was used, capped at 255. */
export interface Contexts {
  readonly probability: Uint16Array;
  readonly uses: Uint8Array;
}

/** Raw bits are coded in groups of at most this many. */
const RAW_BITS_MAX = 8;
const RENORMALISE_BELOW = 2 ** 24;
const WORD = 2 ** 32;

/** How fast a context learns: quickly at first, then by 1/256. `bitlen(uses + 1)`, at most 8. */
const RATE = Uint8Array.from({ length: 256 }, (_, uses) => Math.min(8, 32 - Math.clz32(uses + 1)));

export class RangeDecoder {
  readonly #bytes: Uint8Array;
  readonly #probability: Uint16Array;
  readonly #uses: Uint8Array;
  /** [range, code]. A typed array keeps both unsigned without boxing numbers above 2^31. */
  readonly #state = new Uint32Array(2);
  #at: number;

  /** @param start where the coder's output begins in `bytes` */
  constructor(bytes: Uint8Array, start: number, contexts: Contexts) {
    this.#bytes = bytes;
    this.#probability = contexts.probability;
    this.#uses = contexts.uses;
    this.#at = start;
    this.#state[0] = 0xffffffff;
    for (let i = 0; i < 4; i++) this.#state[1] = (this.#state[1]! << 8) | this.#next();
  }

  bit(context: number): 0 | 1 {
    const state = this.#state;
    const p = this.#probability[context]!;
    const uses = this.#uses[context]!;
    const rate = RATE[uses]!;
    if (uses < 255) this.#uses[context] = uses + 1;
    const range = state[0]!;
    const bound = ((range >>> 16) * p) >>> 0;
    const code = state[1]!;
    if (code < bound) {
      this.#probability[context] = p + ((65536 - p) >> rate);
      state[0] = bound;
      if (bound < RENORMALISE_BELOW) this.#renormalise();
      return 0;
    }
    this.#probability[context] = p - (p >> rate);
    state[0] = range - bound;
    state[1] = code - bound;
    if (state[0]! < RENORMALISE_BELOW) this.#renormalise();
    return 1;
  }

  /** `width` bits, at most 31, most significant first. @throws FormatError when no encoder could have written this */
  raw(width: number): number {
    let value = 0;
    for (let left = width; left > 0; ) {
      const bits = Math.min(RAW_BITS_MAX, left);
      const range = this.#state[0]! >>> bits;
      const group = Math.floor(this.#state[1]! / range);
      if (group >= 1 << bits) throw new FormatError("ERR_RVX1", "a raw group overflows");
      this.#state[1] = this.#state[1]! - group * range;
      this.#state[0] = range;
      if (range < RENORMALISE_BELOW) this.#renormalise();
      value = value * 2 ** bits + group;
      left -= bits;
    }
    return value;
  }

  #renormalise(): void {
    const state = this.#state;
    do {
      state[1] = (state[1]! << 8) | this.#next();
      state[0] = state[0]! << 8;
    } while (state[0]! < RENORMALISE_BELOW);
  }

  #next(): number {
    return this.#at < this.#bytes.length ? this.#bytes[this.#at++]! : 0;
  }
}

export class RangeEncoder {
  readonly #contexts: Contexts;
  #out = new Uint8Array(1024);
  #length = 0;
  /** Below 2^33: bit 32 is a carry into bytes already produced. */
  #low = 0;
  #range = 0xffffffff;
  /** The last byte, and how many 0xff after it wait to learn whether a carry comes. */
  #cache = 0;
  #pending = 0;
  #started = false;

  constructor(contexts: Contexts) {
    this.#contexts = contexts;
  }

  bit(context: number, bit: 0 | 1): void {
    const { probability, uses } = this.#contexts;
    const p = probability[context]!;
    const rate = RATE[uses[context]!]!;
    if (uses[context]! < 255) uses[context] = uses[context]! + 1;
    const bound = (this.#range >>> 16) * p;
    if (bit === 0) {
      probability[context] = p + ((65536 - p) >> rate);
      this.#range = bound;
    } else {
      probability[context] = p - (p >> rate);
      this.#low += bound;
      this.#range -= bound;
    }
    this.#renormalise();
  }

  raw(value: number, width: number): void {
    for (let left = width; left > 0; ) {
      const bits = Math.min(RAW_BITS_MAX, left);
      left -= bits;
      const group = Math.floor(value / 2 ** left) % 2 ** bits;
      this.#range >>>= bits;
      this.#low += group * this.#range;
      this.#renormalise();
    }
  }

  /** The shortest bytes that decode to what was coded; trailing zeros are left out. */
  finish(): Uint8Array {
    const high = this.#low + this.#range - 1;
    for (let zeros = 32; zeros >= 0; zeros--) {
      const candidate = Math.floor(high / 2 ** zeros) * 2 ** zeros;
      if (candidate >= this.#low) {
        this.#low = candidate;
        break;
      }
    }
    for (let i = 0; i < 5; i++) this.#shift();
    let end = this.#length;
    while (end > 0 && this.#out[end - 1] === 0) end--;
    return this.#out.slice(0, end);
  }

  #renormalise(): void {
    while (this.#range < RENORMALISE_BELOW) {
      this.#range = (this.#range << 8) >>> 0;
      this.#shift();
    }
  }

  #shift(): void {
    if (this.#low < 0xff000000 || this.#low >= WORD) {
      const carry = this.#low >= WORD ? 1 : 0;
      // The very first byte is always 0 and not part of the output.
      if (this.#started) this.#push(this.#cache + carry);
      this.#started = true;
      for (; this.#pending > 0; this.#pending--) this.#push(0xff + carry);
      this.#cache = Math.floor(this.#low / RENORMALISE_BELOW) & 0xff;
    } else {
      this.#pending++;
    }
    this.#low = (this.#low % RENORMALISE_BELOW) * 256;
  }

  #push(byte: number): void {
    if (this.#length === this.#out.length) {
      const larger = new Uint8Array(this.#out.length * 2);
      larger.set(this.#out);
      this.#out = larger;
    }
    this.#out[this.#length++] = byte & 0xff;
  }
}
