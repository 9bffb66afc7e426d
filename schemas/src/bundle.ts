/**
 * The batch bundle's token file (FORMATS "Batch bundle"): 112 bytes a token, each sealed under a key that only the
 * token's own random id gives. Whoever holds a tag, or its id, can read that token's signature from public files;
 * nobody else learns whom a batch was made for.
 */
import { concat, u32, utf8 } from "./bytes.ts";
import { hkdfSha256, openAesGcm, SIGNATURE_BYTES, sealAesGcm } from "./crypto.ts";

/** AES-256-GCM of subject key ‖ signature. */
export const SEALED_TOKEN_BYTES = 112;
const INFO = utf8("rct/bundle/v1");

export interface BundleToken {
  readonly index: number;
  readonly rctId: Uint8Array;
  /** Ed25519, 32 bytes. */
  readonly subjectKey: Uint8Array;
  readonly signature: Uint8Array;
}

/** The bytes of tokens.bin, in the order given. */
export function sealTokens(authority: Uint8Array, tokens: readonly BundleToken[]): Uint8Array {
  return concat(
    ...tokens.map((token) => {
      const { key, nonce } = sealingKey(authority, token.rctId);
      return sealAesGcm(key, nonce, u32(token.index), concat(token.subjectKey, token.signature));
    }),
  );
}

/** Undefined unless `sealed` was made for this id and index. */
export function openSealedToken(
  authority: Uint8Array,
  rctId: Uint8Array,
  index: number,
  sealed: Uint8Array,
): { readonly subjectKey: Uint8Array; readonly signature: Uint8Array } | undefined {
  if (sealed.length !== SEALED_TOKEN_BYTES) return undefined;
  const { key, nonce } = sealingKey(authority, rctId);
  const opened = openAesGcm(key, nonce, u32(index), sealed);
  return opened && { subjectKey: opened.slice(0, 32), signature: opened.slice(32, 32 + SIGNATURE_BYTES) };
}

// An id is never used twice, so a key and its nonce seal one message only.
function sealingKey(authority: Uint8Array, rctId: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const material = hkdfSha256(rctId, authority, INFO, 44);
  return { key: material.subarray(0, 32), nonce: material.subarray(32) };
}
