/**
 * Deterministic CBOR (RFC 8949 section 4.2), strict both ways; the only door to `cborg`.
 *
 * Only unsigned and negative integers, byte strings, text, arrays, maps, booleans and null: no floats, no tags but
 * the one a caller names. What was decoded is encoded again and compared, so every value has one spelling.
 */
import { decode, encode, rfc8949EncodeOptions, Tagged } from "cborg";
import { concat, equalBytes, u32 } from "./bytes.ts";
import { type FormatCode, FormatError } from "./errors.ts";

export type CborValue = number | string | boolean | null | Uint8Array | readonly CborValue[] | CborMap;
export type CborMap = ReadonlyMap<number | string, CborValue>;

export function encodeCbor(value: CborValue): Uint8Array {
  return encode(value, rfc8949EncodeOptions);
}

/** @param tag the CBOR tag around the value, e.g. 18 for COSE_Sign1. */
export function encodeTagged(tag: number, value: CborValue): Uint8Array {
  return encode(new Tagged(tag, value), rfc8949EncodeOptions);
}

/** The head of a byte string (2) or text (3) of `length` bytes, or an unsigned integer (0): what comes before its bytes. */
export function cborHead(major: 0 | 2 | 3, argument: number): Uint8Array {
  const first = major << 5;
  if (argument < 24) return Uint8Array.of(first | argument);
  if (argument < 0x100) return Uint8Array.of(first | 24, argument);
  if (argument < 0x10000) return Uint8Array.of(first | 25, argument >> 8, argument & 0xff);
  if (argument < 2 ** 32) return concat(Uint8Array.of(first | 26), u32(argument));
  throw new RangeError(`no head of ours has an argument of ${argument}`);
}

/** Maximum nesting of arrays and maps in anything we read. Nothing of ours goes deeper than four. */
const DEPTH_MAX = 8;

const OPTIONS = {
  strict: true,
  useMaps: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
} as const;

/** @throws FormatError with `code` unless `bytes` is the one deterministic spelling of a value. */
export function decodeCbor(bytes: Uint8Array, code: FormatCode = "ERR_CBOR"): CborValue {
  return check(bytes, code, () => {
    const value = decode(bytes, OPTIONS) as CborValue;
    return { value, again: encodeCbor(value) };
  });
}

export function decodeTagged(bytes: Uint8Array, tag: number, code: FormatCode = "ERR_CBOR"): CborValue {
  return check(bytes, code, () => {
    const tagged: unknown = decode(bytes, { ...OPTIONS, tags: Tagged.preserve(tag) });
    if (!(tagged instanceof Tagged) || tagged.tag !== tag) throw new Error(`tag ${tag} is missing`);
    const value = tagged.value as CborValue;
    return { value, again: encodeTagged(tag, value) };
  });
}

function check(bytes: Uint8Array, code: FormatCode, read: () => { value: CborValue; again: Uint8Array }): CborValue {
  let result: { value: CborValue; again: Uint8Array };
  try {
    assertShallow(bytes);
    result = read();
    assertPlain(result.value);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(code, `not deterministic CBOR: ${reason}`, { cause });
  }
  if (!equalBytes(result.again, bytes))
    throw new FormatError(code, "CBOR with another spelling than the deterministic one");
  return result.value;
}

/** Floats and stray tags survive a round trip, so they are refused by type. */
function assertPlain(value: unknown): void {
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new Error("a number that is not an integer");
  } else if (Array.isArray(value)) {
    for (const item of value) assertPlain(item);
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      if (typeof key !== "string" && !Number.isSafeInteger(key))
        throw new Error("a map key that is no integer or text");
      assertPlain(item);
    }
  } else if (
    !(value === null || typeof value === "string" || typeof value === "boolean" || value instanceof Uint8Array)
  ) {
    throw new Error("a value of a type that is not used here");
  }
}

/**
 * Refuses deep nesting before the recursive decoder sees it: 100,000 opening brackets must not exhaust the stack.
 * Walks heads only; anything malformed is left to the decoder.
 */
function assertShallow(bytes: Uint8Array): void {
  const open: number[] = [];
  let at = 0;
  while (at < bytes.length) {
    const major = bytes[at]! >> 5;
    const info = bytes[at]! & 31;
    if (info > 27) return;
    const extra = info < 24 ? 0 : 1 << (info - 24);
    let argument = info;
    if (extra > 0) {
      argument = 0;
      for (let i = 1; i <= extra; i++) argument = argument * 256 + (bytes[at + i] ?? 0);
    }
    at += 1 + extra;
    if (major === 2 || major === 3) at += argument;
    const children = major === 4 ? argument : major === 5 ? argument * 2 : major === 6 ? 1 : 0;
    if (children > 0) {
      open.push(children);
      if (open.length > DEPTH_MAX) throw new Error(`nested deeper than ${DEPTH_MAX}`);
      continue;
    }
    while (open.length > 0 && --open[open.length - 1]! === 0) open.pop();
  }
}

/** The fields of a map that must have exactly the keys named; anything unknown or missing is refused. */
export class Fields {
  readonly #map: CborMap;
  readonly #code: FormatCode;

  constructor(value: CborValue, keys: readonly (number | string)[], code: FormatCode) {
    if (!(value instanceof Map)) throw new FormatError(code, "not a map");
    const expected = new Set(keys);
    for (const key of value.keys()) if (!expected.has(key)) throw new FormatError(code, `unknown key ${key}`);
    for (const key of keys) if (!value.has(key)) throw new FormatError(code, `key ${key} is missing`);
    this.#map = value;
    this.#code = code;
  }

  text(key: number | string, lengthMax = 512): string {
    const value = this.#map.get(key);
    if (typeof value !== "string" || value.length > lengthMax) throw this.#wrong(key, `text of at most ${lengthMax}`);
    return value;
  }

  integer(key: number | string, max: number = Number.MAX_SAFE_INTEGER, min = 0): number {
    const value = this.#map.get(key);
    if (typeof value !== "number" || value < min || value > max) throw this.#wrong(key, `an integer ${min}..${max}`);
    return value;
  }

  bytes(key: number | string, length?: number): Uint8Array {
    const value = this.#map.get(key);
    if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) {
      throw this.#wrong(key, `${length ?? "some"} bytes`);
    }
    return value;
  }

  array(key: number | string, lengthMax: number): readonly CborValue[] {
    const value = this.#map.get(key);
    if (!Array.isArray(value) || value.length > lengthMax) throw this.#wrong(key, `an array of at most ${lengthMax}`);
    return value;
  }

  value(key: number | string): CborValue {
    return this.#map.get(key)!;
  }

  #wrong(key: number | string, wanted: string): FormatError {
    return new FormatError(this.#code, `key ${key} must be ${wanted}`);
  }
}
