/**
 * The TLV blocks in the data area of a Type 2 tag (NFC Forum Type 2 Tag 1.2, section 4.6).
 *
 *     00             NULL, one byte
 *     01, 02         lock and memory control: where reserved bytes lie
 *     03 len value   the NDEF message
 *     FD len value   proprietary
 *     FE             terminator, one byte; what follows is undefined
 *
 * A length is one byte, or FF and two bytes for 255 and more.
 */
import { FormatError, readU16 } from "@viafabric/schemas";

const NULL = 0x00;
const NDEF = 0x03;
const TERMINATOR = 0xfe;
const LONG = 0xff;

/**
 * The NDEF message of a data area: the value of the first NDEF TLV.
 * @returns undefined when there is none, and empty bytes for a message of length zero: nothing is visible in both.
 * @throws FormatError ERR_TLV when a length leaves the area
 */
export function findNdefMessage(area: Uint8Array): Uint8Array | undefined {
  for (let at = 0; at < area.length; ) {
    const type = area[at]!;
    if (type === TERMINATOR) return undefined;
    if (type === NULL) {
      at++;
      continue;
    }
    const { length, start } = readLength(area, at + 1);
    if (length > area.length - start) throw wrong(`a length of ${length} at byte ${at} leaves the data area`);
    if (type === NDEF) return area.slice(start, start + length);
    at = start + length;
  }
  return undefined;
}

function readLength(area: Uint8Array, at: number): { length: number; start: number } {
  if (at >= area.length) throw wrong("a type without a length");
  if (area[at] !== LONG) return { length: area[at]!, start: at + 1 };
  if (at + 3 > area.length) throw wrong("a length that is cut off");
  const length = readU16(area, at + 1);
  // FF 00 00 is what a long message looks like before its commit; other small lengths have a shorter spelling.
  if (length > 0 && length < LONG) throw wrong(`the long form for a length of ${length}`);
  return { length, start: at + 3 };
}

/** Bytes that the type and length of an NDEF TLV take: 2, or 4 from 255 bytes on. */
export function tlvHeaderBytes(messageLength: number): 2 | 4 {
  return messageLength < LONG ? 2 : 4;
}

/** The NDEF TLV of a message, then a terminator if one more byte still fits into `areaBytes`. */
export function encodeNdefTlv(message: Uint8Array, areaBytes: number): Uint8Array {
  const header = tlvHeaderBytes(message.length);
  const end = header + message.length;
  if (end > areaBytes) throw new RangeError(`${end} bytes do not fit an area of ${areaBytes}`);
  const out = new Uint8Array(end < areaBytes ? end + 1 : end);
  out[0] = NDEF;
  if (header === 2) out[1] = message.length;
  else out.set([LONG, message.length >>> 8, message.length & 255], 1);
  out.set(message, header);
  if (end < areaBytes) out[end] = TERMINATOR;
  return out;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TLV", `not the data area of a Type 2 tag: ${reason}`);
}
