/** did:key identifiers of Ed25519 keys (W3C did:key): `did:key:z` and base58btc of ed 01 ‖ key. */
import { base58 } from "@scure/base";
import { concat, quote } from "./bytes.ts";
import { checkEd25519Key } from "./crypto.ts";
import { FormatError } from "./errors.ts";

const PREFIX = "did:key:z";
const ED25519_MULTICODEC = new Uint8Array([0xed, 0x01]);
/** 34 bytes of base58 never need more. */
const DID_KEY_LENGTH_MAX = PREFIX.length + 48;

/** @param raw the 32-byte Ed25519 public key */
export function formatDidKey(raw: Uint8Array): string {
  return PREFIX + base58.encode(concat(ED25519_MULTICODEC, raw));
}

/** @returns the 32-byte key. @throws FormatError ERR_DID; ERR_KEY for a key of small order */
export function parseDidKey(did: string): Uint8Array {
  if (did.startsWith(PREFIX) && did.length <= DID_KEY_LENGTH_MAX) {
    const raw = decodeBase58(did.slice(PREFIX.length));
    // Written again and compared: base58 has one spelling per value, and other multicodecs fall out here too.
    if (raw?.length === 34 && formatDidKey(raw.subarray(2)) === did) {
      const key = raw.slice(2);
      // No key object is made: a batch has a hundred thousand subjects, and most are only compared.
      checkEd25519Key(key);
      return key;
    }
  }
  throw new FormatError("ERR_DID", `not a did:key of an Ed25519 key: ${quote(did)}`);
}

function decodeBase58(text: string): Uint8Array | undefined {
  try {
    return base58.decode(text);
  } catch {
    return undefined;
  }
}
