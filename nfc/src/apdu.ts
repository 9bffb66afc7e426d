/**
 * The command APDUs that a PC/SC contactless reader takes (PC/SC part 3 section 3.2.2; ACR122U API 2.04).
 *
 * `FF CA`, `FF B0` and `FF D6` are understood by every reader. `FF 00 00 00 … D4 42` passes a raw command to the
 * tag and exists only where a PN532 sits behind the USB plug; its own status byte counts, the outer 90 00 only says
 * that the reader obeyed.
 */
import { concat, equalBytes } from "@viafabric/schemas";

export const GET_UID = new Uint8Array([0xff, 0xca, 0x00, 0x00, 0x00]);

/** Raw tag commands (NTAG data sheet, section 10). */
export const TAG_COMMAND = {
  getVersion: 0x60,
  read: 0x30,
  fastRead: 0x3a,
  write: 0xa2,
  readCounter: 0x39,
  passwordAuth: 0x1b,
  readSignature: 0x3c,
} as const;

/** LED and buzzer of an ACR122U: green and one short beep, or red and two long ones. */
export const SIGNAL_SUCCESS = new Uint8Array([0xff, 0x00, 0x40, 0xae, 0x04, 0x01, 0x01, 0x01, 0x01]);
export const SIGNAL_FAILURE = new Uint8Array([0xff, 0x00, 0x40, 0x5d, 0x04, 0x02, 0x01, 0x02, 0x01]);

const SUCCESS = new Uint8Array([0x90, 0x00]);

export function readBinary(page: number, length: number): Uint8Array {
  return new Uint8Array([0xff, 0xb0, page >>> 8, page & 255, length]);
}

export function updateBinary(page: number, content: Uint8Array): Uint8Array {
  return concat(new Uint8Array([0xff, 0xd6, page >>> 8, page & 255, content.length]), content);
}

export function passThrough(command: Uint8Array): Uint8Array {
  return concat(new Uint8Array([0xff, 0x00, 0x00, 0x00, command.length + 2, 0xd4, 0x42]), command);
}

/** The data before a status of 90 00; undefined for any other answer. */
export function dataOf(answer: Uint8Array): Uint8Array | undefined {
  if (answer.length < 2 || !equalBytes(answer.subarray(-2), SUCCESS)) return undefined;
  return answer.slice(0, -2);
}

/** What became of a passed-through command. `unsupported`: the reader has no PN532. */
export type PassThroughAnswer =
  | { readonly kind: "ok"; readonly data: Uint8Array }
  | { readonly kind: "refused"; readonly status: number }
  | { readonly kind: "unsupported" };

export function parsePassThrough(answer: Uint8Array): PassThroughAnswer {
  const data = dataOf(answer);
  if (!data || data.length < 3 || data[0] !== 0xd5 || data[1] !== 0x43) return { kind: "unsupported" };
  return data[2] === 0 ? { kind: "ok", data: data.slice(3) } : { kind: "refused", status: data[2]! };
}
