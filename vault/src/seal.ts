/**
 * Sealing a kit to the station that will write it: JWE compact (RFC 7516), ECDH-ES over X25519 with A256GCM.
 *
 * A kit holds the uid key and claim secrets; whoever finds the stick on the way must learn nothing. The station makes
 * the X25519 key and signs the request that carries it with its station key, so the seal needs no key of its own.
 * This file is the only door to `jose` in this room.
 */

import { FormatError, formatBase64Url, OperationError } from "@viafabric/schemas";
import { CompactEncrypt, importJWK } from "jose";

/** Protected header `cty`: what is inside, so that a kit is never mistaken for something else sealed to the same key. */
export const SEALED_KIT_TYPE = "application/rct-kit+cbor";
/** A kit fits on the smallest stick and in memory twice. The writer's limit is the same. */
export const SEALED_BYTES_MAX = 64 * 1024 * 1024;

const X25519_BYTES = 32;
/** The points of small order on curve25519: any peer would reach the same shared secret, and so would a thief. */
const SMALL_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

/** @param publicKey the station's X25519 key, 32 bytes. @returns the JWE in its compact serialisation */
export async function sealTo(publicKey: Uint8Array, bytes: Uint8Array): Promise<string> {
  checkX25519(publicKey);
  if (bytes.length > SEALED_BYTES_MAX) {
    throw new OperationError("ERR_KIT_SIZE", `a kit of ${bytes.length} bytes; approve smaller batches`);
  }
  const key = await importJWK({ kty: "OKP", crv: "X25519", x: formatBase64Url(publicKey) }, "ECDH-ES");
  return new CompactEncrypt(bytes)
    .setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM", cty: SEALED_KIT_TYPE })
    .encrypt(key);
}

function checkX25519(publicKey: Uint8Array): void {
  if (publicKey.length !== X25519_BYTES) {
    throw new FormatError("ERR_KEY", `an X25519 key has ${X25519_BYTES} bytes, not ${publicKey.length}`);
  }
  // RFC 7748 section 5: the top bit is masked before use.
  const masked = publicKey.slice();
  masked[31]! &= 0x7f;
  if (SMALL_ORDER.has(Buffer.from(masked).toString("hex"))) {
    throw new FormatError("ERR_KEY", "an X25519 key of small order");
  }
}
