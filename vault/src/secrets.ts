/**
 * Secrets at rest: what the database must hold and must not show (uid keys, claim secrets), under the vault's own key.
 *
 * AES-256-GCM, `nonce 12 ‖ ciphertext ‖ tag`; the hash of the batch's manifest is bound in, so that a row moved to
 * another batch does not open. The key is a file in private/, so a dump of the database alone shows nothing.
 */
import { concat, OperationError, openAesGcm, sealAesGcm } from "@viafabric/schemas";

export const SECRET_KEY_BYTES = 32;
export const SECRET_NONCE_BYTES = 12;

/** @param nonce 12 random bytes, never used twice under a key */
export function sealSecret(key: Uint8Array, nonce: Uint8Array, place: Uint8Array, secret: Uint8Array): Uint8Array {
  return concat(nonce, sealAesGcm(key, nonce, place, secret));
}

/** @throws OperationError ERR_DATABASE when it was sealed under another key or for another place */
export function openSecret(key: Uint8Array, place: Uint8Array, sealed: Uint8Array): Uint8Array {
  const nonce = sealed.subarray(0, SECRET_NONCE_BYTES);
  const secret = openAesGcm(key, nonce, place, sealed.subarray(SECRET_NONCE_BYTES));
  if (!secret)
    throw new OperationError("ERR_DATABASE", "a secret in the database is not sealed under this vault's key");
  return secret;
}
