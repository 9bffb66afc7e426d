/**
 * The only door to node:crypto for the pure rooms.
 *
 * Ed25519 is strict: keys of small order are refused when a key is read, and S ≥ L is refused by OpenSSL. P-256
 * signatures outside TUF are r ‖ s with low S, so each signature has one spelling. The algorithm is always a
 * property of the key, never of a header.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPublicKey,
  createSecretKey,
  hash,
  hkdfSync,
  type KeyObject,
  verify as nodeVerify,
} from "node:crypto";
import { compareBytes, concat, equalBytes, formatHex, parseHex } from "./bytes.ts";
import { FormatError } from "./errors.ts";

export type Algorithm = "ed25519" | "p256";

/** A public key. `kid` is SHA-256 of its SPKI DER; `raw` is 32 bytes (Ed25519) or the 65-byte point (P-256). */
export interface PublicKey {
  readonly algorithm: Algorithm;
  readonly spki: Uint8Array;
  readonly raw: Uint8Array;
  readonly kid: Uint8Array;
  /** For node:crypto only. */
  readonly handle: KeyObject;
}

export const HASH_BYTES = 32;
export const SIGNATURE_BYTES = 64;

export function sha256(bytes: Uint8Array): Uint8Array {
  const digest = sha256Latin1(bytes);
  const out = new Uint8Array(HASH_BYTES);
  for (let i = 0; i < HASH_BYTES; i++) out[i] = digest.charCodeAt(i);
  return out;
}

/**
 * Writes SHA-256 of `bytes` at `target[at…at+32)`. For millions of digests in a row: the string that node:crypto gives is
 * several times cheaper than a Buffer of its own for each.
 */
export function writeSha256(bytes: Uint8Array, target: Buffer, at: number): void {
  target.write(hash("sha256", bytes, "binary"), at, "binary");
}

/**
 * The digest with one character for each byte, for whoever writes it into a larger array. node:crypto makes strings
 * several times faster than Buffers.
 */
export function sha256Latin1(bytes: Uint8Array): string {
  return hash("sha256", bytes, "binary");
}

const ED25519_SPKI = parseHex("302a300506032b6570032100");
const P256_SPKI = parseHex("3059301306072a8648ce3d020106082a8648ce3d030107034200");
/** Half the order of P-256: a larger S is the mirror image of a smaller one. */
const P256_HALF_ORDER = parseHex("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");

/** The y coordinates (sign bit cleared) of the points of order 1, 2, 4 and 8 on edwards25519, canonical or not. */
const SMALL_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

export function ed25519PublicKey(raw: Uint8Array): PublicKey {
  checkEd25519Key(raw);
  return publicKeyOf("ed25519", concat(ED25519_SPKI, raw), raw);
}

/** What makes 32 bytes acceptable as an Ed25519 key, without the cost of a key object. @throws FormatError ERR_KEY */
export function checkEd25519Key(raw: Uint8Array): void {
  if (raw.length !== 32) throw new FormatError("ERR_KEY", `an Ed25519 key has 32 bytes, not ${raw.length}`);
  const magnitude = raw.slice();
  magnitude[31]! &= 0x7f;
  if (SMALL_ORDER.has(formatHex(magnitude))) throw new FormatError("ERR_KEY", "an Ed25519 key of small order");
}

/** @param point the uncompressed point, 65 bytes. */
export function p256PublicKey(point: Uint8Array): PublicKey {
  if (point.length !== 65 || point[0] !== 4) throw new FormatError("ERR_KEY", "not an uncompressed P-256 point");
  return publicKeyOf("p256", concat(P256_SPKI, point), point);
}

/** Reads SubjectPublicKeyInfo DER in its one accepted spelling. */
export function parsePublicKey(spki: Uint8Array): PublicKey {
  if (spki.length === 44 && startsWith(spki, ED25519_SPKI)) return ed25519PublicKey(spki.slice(12));
  if (spki.length === 91 && startsWith(spki, P256_SPKI)) return p256PublicKey(spki.slice(26));
  throw new FormatError("ERR_KEY", "neither an Ed25519 nor an uncompressed P-256 public key");
}

function publicKeyOf(algorithm: Algorithm, spki: Uint8Array, raw: Uint8Array): PublicKey {
  let handle: KeyObject;
  try {
    handle = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch (cause) {
    throw new FormatError("ERR_KEY", "a public key that is not on its curve", { cause });
  }
  return { algorithm, spki, raw, kid: sha256(spki), handle };
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return equalBytes(bytes.subarray(0, prefix.length), prefix);
}

/**
 * Whether `signature` is one of `key` over `message`. P-256 hashes with SHA-256.
 * @param encoding `raw`: 64 bytes, low S (COSE and everything of ours); `der`: what TUF prescribes for P-256.
 */
export function isValidSignature(
  key: PublicKey,
  message: Uint8Array,
  signature: Uint8Array,
  encoding: "raw" | "der" = "raw",
): boolean {
  if (key.algorithm === "ed25519") {
    return signature.length === SIGNATURE_BYTES && nodeVerify(null, message, key.handle, signature);
  }
  if (encoding === "der") return nodeVerify("sha256", message, key.handle, signature);
  if (signature.length !== SIGNATURE_BYTES || compareBytes(signature.subarray(32), P256_HALF_ORDER) > 0) return false;
  return nodeVerify("sha256", message, { key: key.handle, dsaEncoding: "ieee-p1363" }, signature);
}

/** What signs before there is an authority, signs for none: cards, and the transcript of an authority's first keys. */
export const NO_AUTHORITY: Uint8Array = new Uint8Array(32);

/** The bytes under every signature of ours that is not TUF, COSE or a note (FORMATS, conventions). */
export function signingInput(type: string, authority: Uint8Array, bytes: Uint8Array): Uint8Array {
  return concat(new TextEncoder().encode(`viafabric/${type}/v1\0`), authority, bytes);
}

// Secrets go in as key objects: node:crypto makes one of anything else, in a way that takes ten times as long.

export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  return createHmac("sha256", createSecretKey(key)).update(message).digest();
}

/** HKDF-SHA-256 (RFC 5869). */
export function hkdfSha256(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", createSecretKey(secret), salt, info, length));
}

/** AES-256-GCM: ciphertext ‖ 16-byte tag. */
export function sealAesGcm(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv("aes-256-gcm", createSecretKey(key), nonce).setAAD(aad);
  return concat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
}

/** Undefined when the tag does not match. */
export function openAesGcm(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < 16) return undefined;
  const cut = sealed.length - 16;
  const decipher = createDecipheriv("aes-256-gcm", createSecretKey(key), nonce)
    .setAAD(aad)
    .setAuthTag(sealed.subarray(cut));
  const plaintext = decipher.update(sealed.subarray(0, cut));
  try {
    return concat(plaintext, decipher.final());
  } catch {
    return undefined;
  }
}
