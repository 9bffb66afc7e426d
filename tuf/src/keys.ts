/**
 * Public keys as TUF metadata spells them, and signatures by them (TUF specification 4.2).
 *
 * Ed25519: 64 hex digits. P-256: PEM, keytype `ecdsa`; signatures in DER. A key id is SHA-256 of the canonical JSON of
 * the key. Clients do not check that, so one key under two names would count as two people: here the id is computed
 * again and compared, and each key has one spelling.
 */

import {
  ed25519PublicKey,
  FormatError,
  formatBase64,
  formatHex,
  isValidSignature,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
  quote,
  type Signer,
  sha256,
} from "@viafabric/schemas";
import { canonicalJson, type Json, type JsonObject } from "./canonical.ts";

const PEM_BEGIN = "-----BEGIN PUBLIC KEY-----";
const PEM_END = "-----END PUBLIC KEY-----";

export interface TufSignature {
  readonly keyid: string;
  readonly sig: Uint8Array;
}

export function keyJson(key: PublicKey): JsonObject {
  return key.algorithm === "ed25519"
    ? { keytype: "ed25519", scheme: "ed25519", keyval: { public: formatHex(key.raw) } }
    : { keytype: "ecdsa", scheme: "ecdsa-sha2-nistp256", keyval: { public: pemOf(key) } };
}

/** 64 hex digits. Not the kid of our own formats: that one is over the SPKI. */
export function keyId(key: PublicKey): string {
  return formatHex(sha256(canonicalJson(keyJson(key))));
}

/** @throws FormatError ERR_KEY for other types, schemes and spellings than `keyJson` writes */
export function parseKeyJson(value: Json): PublicKey {
  const text = formatKey(value);
  const { keytype, keyval } = value as { keytype: string; keyval: { public: string } };
  const key = keytype === "ed25519" ? ed25519PublicKey(parseHex(keyval.public, 32)) : parsePem(keyval.public);
  if (formatKey(keyJson(key)) !== text) throw new FormatError("ERR_KEY", `an unusual key: ${quote(text)}`);
  return key;
}

function formatKey(value: Json): string {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw unsupported(value);
  const { keytype, scheme, keyval } = value as JsonObject;
  if (!(keytype === "ed25519" && scheme === "ed25519") && !(keytype === "ecdsa" && scheme === "ecdsa-sha2-nistp256"))
    throw unsupported(value);
  if (keyval === null || typeof keyval !== "object" || typeof (keyval as JsonObject).public !== "string")
    throw unsupported(value);
  return Buffer.from(canonicalJson(value)).toString();
}

function unsupported(value: Json): FormatError {
  return new FormatError("ERR_KEY", `neither an Ed25519 nor a P-256 key: ${quote(JSON.stringify(value))}`);
}

/** PEM (RFC 7468) as every library writes it: lines of 64 and a line feed at the end. */
function pemOf(key: PublicKey): string {
  const lines = formatBase64(key.spki).match(/.{1,64}/g)!;
  return [PEM_BEGIN, ...lines, PEM_END, ""].join("\n");
}

/** Any other layout of the same key is caught by writing it again. */
function parsePem(pem: string): PublicKey {
  return parsePublicKey(parseBase64(pem.replace(PEM_BEGIN, "").replace(PEM_END, "").replaceAll("\n", "")));
}

/** Signs canonical bytes as TUF wants it: P-256 signatures in DER. */
export async function signMetadata(signer: Signer, signedBytes: Uint8Array): Promise<TufSignature> {
  const raw = await signer.sign(signedBytes);
  const sig = signer.publicKey.algorithm === "p256" ? derSignature(raw) : raw;
  return { keyid: keyId(signer.publicKey), sig };
}

export function isMetadataSignature(key: PublicKey, signedBytes: Uint8Array, sig: Uint8Array): boolean {
  return isValidSignature(key, signedBytes, sig, "der");
}

/** r ‖ s as SEQUENCE { INTEGER r, INTEGER s }. */
function derSignature(raw: Uint8Array): Uint8Array {
  const r = derInteger(raw.subarray(0, 32));
  const s = derInteger(raw.subarray(32));
  return new Uint8Array([0x30, r.length + s.length, ...r, ...s]);
}

function derInteger(value: Uint8Array): number[] {
  let start = 0;
  while (start < value.length - 1 && value[start] === 0) start++;
  const digits = [...value.subarray(start)];
  if (digits[0]! >= 0x80) digits.unshift(0);
  return [0x02, digits.length, ...digits];
}
