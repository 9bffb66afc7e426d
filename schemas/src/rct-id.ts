/**
 * Token ids: 16 random bytes, as text 26 Crockford base-32 characters `^[0-7][0-9A-HJKMNP-TV-Z]{25}$`.
 *
 * All 128 bits are random. A time prefix would tell when a token was made and let its hash in the log be guessed.
 */
import { quote } from "./bytes.ts";
import { FormatError } from "./errors.ts";

export const RCT_ID_BYTES = 16;
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const PATTERN = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

export function formatRctId(id: Uint8Array): string {
  if (id.length !== RCT_ID_BYTES) throw new RangeError("a token id has 16 bytes");
  let value = 0n;
  for (const byte of id) value = (value << 8n) | BigInt(byte);
  let text = "";
  for (let i = 0; i < 26; i++) {
    text = ALPHABET[Number(value & 31n)] + text;
    value >>= 5n;
  }
  return text;
}

export function parseRctId(text: string): Uint8Array {
  if (!PATTERN.test(text)) throw new FormatError("ERR_RCT_ID", `not a token id: ${quote(text)}`);
  let value = 0n;
  for (const character of text) value = (value << 5n) | BigInt(ALPHABET.indexOf(character));
  const id = new Uint8Array(RCT_ID_BYTES);
  for (let i = RCT_ID_BYTES - 1; i >= 0; i--) {
    id[i] = Number(value & 255n);
    value >>= 8n;
  }
  return id;
}
