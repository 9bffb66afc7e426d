/** Identifiers as words: 32 bytes are 24 words of the BIP-39 English list, the last carrying the checksum. */
import { entropyToMnemonic, mnemonicToEntropy } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import { quote } from "./bytes.ts";
import { FormatError } from "./errors.ts";

/** @param id 32 bytes. Shown whole, never cut short: a prefix can be made to match. */
export function formatWords(id: Uint8Array): string {
  if (id.length !== 32) throw new RangeError("an identifier has 32 bytes");
  return entropyToMnemonic(id, wordlist);
}

export function parseWords(text: string): Uint8Array {
  try {
    const id = mnemonicToEntropy(text.trim().toLowerCase().split(/\s+/).join(" "), wordlist);
    if (id.length === 32) return id;
  } catch (cause) {
    throw new FormatError("ERR_WORDS", `not the words of an identifier: ${quote(text)}`, { cause });
  }
  throw new FormatError("ERR_WORDS", "an identifier has 24 words");
}
