/**
 * Bytes and their one spelling in text.
 *
 * JavaScript's own decoders are generous: `Buffer.from("AAA*A=", "base64")` gives three bytes and `Number("")` is 0.
 * Everything here decodes, writes again and compares, so each value has exactly one accepted spelling.
 */
import { FormatError } from "./errors.ts";

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return concatAll(parts);
}

/** For lists that may be long: as arguments, a hundred thousand parts nearly fill the stack. */
export function concatAll(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Whether two byte strings are equal, in time that depends only on their lengths. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

/** Bytewise order, as RFC 8949 section 4.2.1 and our ascending key lists use it. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

export function utf8(text: string): Uint8Array {
  return textEncoder.encode(text);
}

/** Strict UTF-8. A byte order mark is kept, because dropping it would change what was signed. */
export function parseUtf8(bytes: Uint8Array): string {
  try {
    return textDecoder.decode(bytes);
  } catch (cause) {
    throw new FormatError("ERR_UTF8", "not valid UTF-8", { cause });
  }
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function formatHex(bytes: Uint8Array): string {
  return view(bytes).toString("hex");
}

/** Lower-case hexadecimal only. @param length bytes expected, any when left out. */
export function parseHex(text: string, length?: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "hex"));
  if (formatHex(bytes) !== text || (length !== undefined && bytes.length !== length)) {
    throw new FormatError("ERR_HEX", `not ${length ?? "a whole number of"} bytes in lower-case hex: ${quote(text)}`);
  }
  return bytes;
}

/** Standard alphabet, with padding (RFC 4648 section 4). */
export function formatBase64(bytes: Uint8Array): string {
  return view(bytes).toString("base64");
}

export function parseBase64(text: string, length?: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  if (formatBase64(bytes) !== text || (length !== undefined && bytes.length !== length)) {
    throw new FormatError("ERR_BASE64", `not base64 of ${length ?? "some"} bytes: ${quote(text)}`);
  }
  return bytes;
}

/** URL-safe alphabet, without padding (RFC 4648 section 5). */
export function formatBase64Url(bytes: Uint8Array): string {
  return view(bytes).toString("base64url");
}

export function parseBase64Url(text: string, length?: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64url"));
  if (formatBase64Url(bytes) !== text || (length !== undefined && bytes.length !== length)) {
    throw new FormatError("ERR_BASE64", `not base64url of ${length ?? "some"} bytes: ${quote(text)}`);
  }
  return bytes;
}

/** A decimal without sign or leading zeros, at most 2^53 - 1. */
export function parseDecimal(text: string, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) throw new FormatError("ERR_INTEGER", `not a decimal up to ${max}: ${quote(text)}`);
  return value;
}

export function u16(value: number): Uint8Array {
  return new Uint8Array([value >>> 8, value & 255]);
}

export function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

export function u64(value: number): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(value));
  return out;
}

export function readU16(bytes: Uint8Array, at: number): number {
  return readUnsigned(bytes, at, 2);
}

export function readU32(bytes: Uint8Array, at: number): number {
  return readUnsigned(bytes, at, 4);
}

/** Reads eight bytes; beyond 2^53 - 1 is refused, because a number could not hold it. */
export function readU64(bytes: Uint8Array, at: number): number {
  const [high, low] = [readU32(bytes, at), readU32(bytes, at + 4)];
  if (high >= 2 ** 21) {
    throw new FormatError("ERR_INTEGER", `64-bit value too large: ${BigInt(high) * 2n ** 32n + BigInt(low)}`);
  }
  return high * 2 ** 32 + low;
}

/** Without a DataView: a million of them cost more than all that is read with them. */
function readUnsigned(bytes: Uint8Array, at: number, width: number): number {
  if (!(at >= 0 && at + width <= bytes.length)) throw new RangeError(`no ${width} bytes at ${at} of ${bytes.length}`);
  let value = 0;
  for (let i = at; i < at + width; i++) value = value * 256 + bytes[i]!;
  return value;
}

/**
 * Outside text inside a message: escaped, so that a terminal obeys none of it, and never long.
 * @param lengthMax Infinity where what is cut off could be what matters
 */
export function quote(text: string, lengthMax = 80): string {
  const shown = text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text;
  return JSON.stringify(shown).replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "?");
}
