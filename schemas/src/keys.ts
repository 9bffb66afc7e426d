/** Roles and thresholds, and what can sign. A threshold counts distinct public keys, never ids or signatures. */
import { formatHex } from "./bytes.ts";
import { isValidSignature, type PublicKey, signingInput } from "./crypto.ts";
import { VerificationError } from "./errors.ts";

/** A private key somewhere: HSM, encrypted file, memory of a test. */
export interface Signer {
  readonly publicKey: PublicKey;
  /** 64 bytes: Ed25519, or P-256 as r ‖ s with low S. */
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** Who may do something, and how many of them it takes. */
export interface Role {
  readonly keys: readonly PublicKey[];
  readonly threshold: number;
}

export interface DetachedSignature {
  readonly kid: Uint8Array;
  readonly signature: Uint8Array;
}

/** SHA-256 of the SPKI in hex: how a key is named in text and in maps. */
export function kidText(key: PublicKey): string {
  return formatHex(key.kid);
}

/**
 * The keys of `role` that signed `bytes` under the context `viafabric/<type>/v1`.
 * A signature by an unknown key, a wrong signature and a repeated key each count for nothing.
 */
export function signersOf(
  role: Role,
  type: string,
  authority: Uint8Array,
  bytes: Uint8Array,
  signatures: readonly DetachedSignature[],
): readonly PublicKey[] {
  const message = signingInput(type, authority, bytes);
  const known = new Map(role.keys.map((key) => [kidText(key), key]));
  const signers = new Map<string, PublicKey>();
  for (const { kid, signature } of signatures) {
    const key = known.get(formatHex(kid));
    if (key && isValidSignature(key, message, signature)) signers.set(kidText(key), key);
  }
  return [...signers.values()];
}

/** @throws VerificationError ERR_THRESHOLD, also for a threshold that is not a positive integer. */
export function verifyThreshold(
  role: Role,
  type: string,
  authority: Uint8Array,
  bytes: Uint8Array,
  signatures: readonly DetachedSignature[],
): readonly PublicKey[] {
  const signers = signersOf(role, type, authority, bytes, signatures);
  // An empty or broken rule must never mean yes.
  const satisfiable = Number.isSafeInteger(role.threshold) && role.threshold >= 1;
  if (!satisfiable || signers.length < role.threshold) {
    throw new VerificationError(
      "ERR_THRESHOLD",
      `${signers.length} of the ${role.threshold} distinct keys needed signed this ${type}`,
    );
  }
  return signers;
}
