/**
 * Opening what was sealed to this station: JWE compact (RFC 7516), ECDH-ES over X25519 with A256GCM. The only door
 * to `jose` in this room. Each fetch has a key of its own, so an old one opens nothing new.
 */
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { FormatError, parseBase64Url, parseUtf8, VerificationError } from "@viafabric/schemas";
import { compactDecrypt, errors } from "jose";

/** Protected header `cty`: a kit is never mistaken for something else sealed to the same key. */
const SEALED_KIT_TYPE = "application/rct-kit+cbor";
/** The vault seals no larger kit; base64 adds a third. */
export const SEALED_KIT_BYTES_MAX = 96 * 1024 * 1024;
export const SEAL_KEY_BYTES_MAX = 1024;

export interface SealKey {
  /** X25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** PKCS #8, DER. */
  readonly privateKey: Uint8Array;
}

export function generateSealKey(): SealKey {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  return {
    publicKey: parseBase64Url(publicKey.export({ format: "jwk" }).x!, 32),
    privateKey: new Uint8Array(privateKey.export({ format: "der", type: "pkcs8" })),
  };
}

/** @throws VerificationError ERR_KIT_REFUSED when it was sealed to another key, or changed on the way */
export async function openSealed(sealed: Uint8Array, privateKey: Uint8Array): Promise<Uint8Array> {
  const key = createPrivateKey({ key: Buffer.from(privateKey), format: "der", type: "pkcs8" });
  try {
    const { plaintext, protectedHeader } = await compactDecrypt(parseUtf8(sealed), key, {
      keyManagementAlgorithms: ["ECDH-ES"],
      contentEncryptionAlgorithms: ["A256GCM"],
    });
    if (protectedHeader.cty !== SEALED_KIT_TYPE) throw new FormatError("ERR_KIT", "sealed content that is not a kit");
    return plaintext;
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause;
    throw new VerificationError("ERR_KIT_REFUSED", "the kit does not open with this station's key; fetch it again", {
      cause,
    });
  }
}
