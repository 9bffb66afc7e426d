/**
 * SHA-256 (FIPS 180-4) of four messages at a time, in the four lanes of WebAssembly's vector registers.
 *
 * A call of node:crypto costs ten times what hashing the 65 bytes of a tree node does, and a million leaves are two
 * million calls. Here a call costs next to nothing, and four hashes take little longer than one.
 *
 * It is not believed because it is here: before its first use it must agree with node:crypto on every length, and a
 * log signs no root that node:crypto has not computed too.
 */
import { HASH_BYTES, sha256 } from "./crypto.ts";

export const LANES = 4;
const BLOCK_BYTES = 64;
/** Section 5.1.1: a 1 bit, zeroes, and the length in bits as the last 8 bytes. */
const PADDING_BYTES_MIN = 9;
/** Longer messages are hashed better by node:crypto, which has the processor's own instructions. */
export const LANE_BYTES_MAX = 4 * BLOCK_BYTES - PADDING_BYTES_MIN;

export interface Sha256Lanes {
  /** One page. Whoever hashes places messages and digests in it. */
  readonly memory: Uint8Array;
  /**
   * @param input place of four padded messages of so many blocks, one behind the other
   * @param output place for their digests
   */
  hash(input: number, blocks: number, output: number): void;
}

let shared: Sha256Lanes | undefined;

/** The one instance. Hashing never waits, so nobody finds another's bytes in it. */
export function sha256Lanes(): Sha256Lanes {
  if (shared) return shared;
  const { memory, hash } = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes())).exports;
  const bytes = new Uint8Array((memory as WebAssembly.Memory).buffer);
  shared = { memory: bytes, hash: hash as Sha256Lanes["hash"] };
  compareWithNode(shared);
  return shared;
}

export function blocksOf(length: number): number {
  return Math.ceil((length + PADDING_BYTES_MIN) / BLOCK_BYTES);
}

/**
 * Pads four messages of `length` bytes that begin at `input` and each `64 · blocksOf(length)` bytes further on. Only
 * the messages themselves are to be written from then on.
 */
export function padLanes({ memory }: Sha256Lanes, input: number, length: number): void {
  const bytes = blocksOf(length) * BLOCK_BYTES;
  memory.fill(0, input, input + LANES * bytes);
  for (let at = input; at < input + LANES * bytes; at += bytes) {
    memory[at + length] = 0x80;
    memory[at + bytes - 2] = (8 * length) >>> 8;
    memory[at + bytes - 1] = (8 * length) & 255;
  }
}

function compareWithNode(lanes: Sha256Lanes): void {
  const { memory } = lanes;
  const output = memory.length - LANES * HASH_BYTES;
  for (let length = 0; length <= LANE_BYTES_MAX; length++) {
    padLanes(lanes, 0, length);
    const step = blocksOf(length) * BLOCK_BYTES;
    const messages = [0, 1, 2, 3].map((lane) => memory.subarray(lane * step, lane * step + length));
    messages.forEach((message, lane) => {
      for (let i = 0; i < length; i++) message[i] = i * 131 + lane * 89 + length;
    });
    lanes.hash(0, blocksOf(length), output);
    messages.forEach((message, lane) => {
      const found = memory.subarray(output + lane * HASH_BYTES);
      if (!sha256(message).every((byte, i) => byte === found[i]))
        throw new Error("WebAssembly does not hash as it must");
    });
  }
}

// From here on: the module, byte by byte as the WebAssembly specification (2.0, binary format) writes it.

type Code = readonly number[];

const V128_LOAD = [0xfd, 0x00, 0] as const;
const V128_STORE = [0xfd, 0x0b, 0] as const;
const V128_CONST = [0xfd, 0x0c] as const;
const SHUFFLE = [0xfd, 0x0d] as const;
const OR = [0xfd, 0x50] as const;
const XOR = [0xfd, 0x51] as const;
const BITSELECT = [0xfd, 0x52] as const;
const SHIFT_LEFT = [0xfd, 0xab, 0x01] as const;
const SHIFT_RIGHT = [0xfd, 0xad, 0x01] as const;
const ADD = [0xfd, 0xae, 0x01] as const;
const I32_ADD = [0x6a] as const;
const I32_SHIFT_LEFT = [0x74] as const;

/** Parameters; bytes from one lane's message to the next; the vectors, each one word of all four lanes. */
const [INPUT, BLOCKS, OUTPUT, STEP] = [0, 1, 2, 3] as const;
const FIRST_VECTOR = 4;
const SCHEDULE = FIRST_VECTOR;
const WORKING = SCHEDULE + 16;
const STATE = WORKING + 8;
const BETWEEN = STATE + 8;
const VECTORS = BETWEEN + 4 - FIRST_VECTOR;

const get = (local: number): Code => [0x20, local];
const set = (local: number, value: Code): Code => [...value, 0x21, local];
/** Of a small number: one byte. */
const i32 = (value: number): Code => [0x41, value & 0x7f];
const folded = (operator: Code, [first, ...rest]: readonly Code[]): Code => {
  return [...first!, ...rest.flatMap((term) => [...term, ...operator])];
};
const sum = (...terms: readonly Code[]): Code => folded(ADD, terms);
const xor = (...terms: readonly Code[]): Code => folded(XOR, terms);
const shifted = (x: number, by: number): Code => [...get(x), ...i32(by), ...SHIFT_RIGHT];
const rotated = (x: number, by: number): Code => {
  return [...shifted(x, by), ...get(x), ...i32(32 - by), ...SHIFT_LEFT, ...OR];
};
const splat = (word: number): Code => {
  const bytes = [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24];
  return [...V128_CONST, ...bytes, ...bytes, ...bytes, ...bytes];
};

/** @param picked of the words of both vectors: 0 to 3 are those of `a`, 4 to 7 those of `b` */
function wordsOf(a: number, b: number, picked: readonly number[]): Code {
  return [...get(a), ...get(b), ...SHUFFLE, ...picked.flatMap((word) => [0, 1, 2, 3].map((i) => 4 * word + i))];
}

function bytesSwapped(x: number): Code {
  return [...get(x), ...get(x), ...SHUFFLE, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
}

/** Four vectors from `first` on are the rows of a matrix of words; they become its columns. */
function transposed(first: number): Code {
  const [a, b, c, d] = [first, first + 1, first + 2, first + 3];
  const [s, t, u, v] = [BETWEEN, BETWEEN + 1, BETWEEN + 2, BETWEEN + 3];
  return [
    ...set(s, wordsOf(a, b, [0, 4, 1, 5])),
    ...set(t, wordsOf(a, b, [2, 6, 3, 7])),
    ...set(u, wordsOf(c, d, [0, 4, 1, 5])),
    ...set(v, wordsOf(c, d, [2, 6, 3, 7])),
    ...set(a, wordsOf(s, u, [0, 1, 4, 5])),
    ...set(b, wordsOf(s, u, [2, 3, 6, 7])),
    ...set(c, wordsOf(t, v, [0, 1, 4, 5])),
    ...set(d, wordsOf(t, v, [2, 3, 6, 7])),
  ];
}

/** The next block of each lane: word i of all of them into vector i of the schedule. */
function blockLoaded(): Code {
  const code: number[] = [];
  for (let i = 0; i < 16; i += 4) {
    for (let lane = 0; lane < LANES; lane++) {
      const row = SCHEDULE + i + lane;
      const place = folded(I32_ADD, [get(INPUT), ...Array.from({ length: lane }, () => get(STEP))]);
      code.push(...set(row, [...place, ...V128_LOAD, 4 * i]), ...set(row, bytesSwapped(row)));
    }
    code.push(...transposed(SCHEDULE + i));
  }
  return code;
}

/** Section 6.2.2, with its names. The working variables change names from round to round instead of places. */
function rounds(): Code {
  return ROUND_CONSTANTS.flatMap((constant, t) => {
    const variable = (i: number) => WORKING + ((i + 64 - t) % 8);
    const [a, b, c, d] = [variable(0), variable(1), variable(2), variable(3)];
    const [e, f, g, h] = [variable(4), variable(5), variable(6), variable(7)];
    const w = (i: number) => SCHEDULE + ((t + i) % 16);
    const sigma0 = xor(rotated(w(1), 7), rotated(w(1), 18), shifted(w(1), 3));
    const sigma1 = xor(rotated(w(14), 17), rotated(w(14), 19), shifted(w(14), 10));
    const choice: Code = [...get(f), ...get(g), ...get(e), ...BITSELECT];
    // Where a and b differ, c decides.
    const majority: Code = [...get(c), ...get(b), ...xor(get(a), get(b)), ...BITSELECT];
    const sum1 = xor(rotated(e, 6), rotated(e, 11), rotated(e, 25));
    const sum0 = xor(rotated(a, 2), rotated(a, 13), rotated(a, 22));
    return [
      ...(t < 16 ? [] : set(w(0), sum(get(w(0)), sigma0, get(w(9)), sigma1))),
      ...set(h, sum(get(h), sum1, choice, splat(constant), get(w(0)))),
      ...set(d, sum(get(d), get(h))),
      ...set(h, sum(get(h), sum0, majority)),
    ];
  });
}

function hashFunction(): Code {
  const eight = [0, 1, 2, 3, 4, 5, 6, 7];
  return [
    // Locals: one i32, then the vectors.
    ...[2, 1, 0x7f, VECTORS, 0x7b],
    ...set(STEP, [...get(BLOCKS), ...i32(6), ...I32_SHIFT_LEFT]),
    ...INITIAL_STATE.flatMap((word, i) => set(STATE + i, splat(word))),
    ...[0x03, 0x40], // loop
    ...blockLoaded(),
    ...eight.flatMap((i) => set(WORKING + i, get(STATE + i))),
    ...rounds(),
    ...eight.flatMap((i) => set(STATE + i, sum(get(STATE + i), get(WORKING + i)))),
    ...set(INPUT, [...get(INPUT), 0x41, ...[0xc0, 0x00], ...I32_ADD]), // 64 bytes on
    ...set(BLOCKS, [...get(BLOCKS), ...i32(-1), ...I32_ADD]),
    ...[...get(BLOCKS), 0x0d, 0, 0x0b], // once more while there are blocks; end
    ...transposed(STATE),
    ...transposed(STATE + 4),
    ...eight.flatMap((i) => {
      const offset = (i % 4) * HASH_BYTES + (i < 4 ? 0 : 16);
      return [...get(OUTPUT), ...bytesSwapped(STATE + i), ...V128_STORE, offset];
    }),
    0x0b,
  ];
}

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const code = hashFunction();
  const name = (text: string): Code => [text.length, ...new TextEncoder().encode(text)];
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 3, 0x7f, 0x7f, 0x7f, 0]), // one type: three i32, no result
    ...section(3, [1, 0]), // one function, of that type
    ...section(5, [1, 1, 1, 1]), // one memory, exactly one page
    ...section(7, [2, ...name("memory"), 2, 0, ...name("hash"), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

function section(id: number, bytes: Code): Code {
  return [id, ...unsigned(bytes.length), ...bytes];
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

const INITIAL_STATE = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

const ROUND_CONSTANTS = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
  0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
  0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
  0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
  0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
  0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
  0xc67178f2,
];
