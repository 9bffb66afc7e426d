/** The authority's own rules about lifetimes and keys, as a trustee's tool holds proposals to them (DESIGN section 4). */
import { formatHex, type KeyEntry, kidText, type PublicKey, type Role, VerificationError } from "@viafabric/schemas";
import type { ProposalRole } from "@viafabric/tuf";

const DAY = 86_400;

/** What the design gives each role. */
export const LIFETIME_SECONDS: Readonly<Record<ProposalRole, number>> = {
  root: 730 * DAY,
  targets: 365 * DAY,
  batches: 120 * DAY,
};

/** A day or two more than the design says, because proposals are drawn up before they are signed. */
export const LIFETIME_SECONDS_MAX: Readonly<Record<ProposalRole, number>> = {
  root: 732 * DAY,
  targets: 367 * DAY,
  batches: 121 * DAY,
};

/** @param expires and `now` in unix seconds. @throws VerificationError ERR_PROPOSAL_POLICY */
export function assertLifetime(role: ProposalRole, expires: number, now: number): void {
  if (expires <= now) throw broken(`${role} would be expired already, ${dayOf(expires)}`);
  if (expires - now > LIFETIME_SECONDS_MAX[role])
    throw broken(`${role} would live until ${dayOf(expires)}, more than ${LIFETIME_SECONDS_MAX[role] / DAY - 1} days`);
}

export function sameKeys(a: readonly PublicKey[], b: readonly PublicKey[]): boolean {
  const [left, right] = [new Set(a.map(kidText)), new Set(b.map(kidText))];
  return left.size === right.size && [...left].every((kid) => right.has(kid));
}

export function sameRole(a: Role, b: Role): boolean {
  return a.threshold === b.threshold && sameKeys(a.keys, b.keys);
}

/**
 * Each key has one purpose: a trustee's or an online role's key must not also sign tokens, statuses or releases.
 * @throws VerificationError ERR_PROPOSAL_POLICY
 */
export function assertKeysApart(keys: readonly KeyEntry[], roleKeys: readonly PublicKey[]): void {
  const taken = new Set(roleKeys.map(kidText));
  for (const { key, purpose } of keys)
    if (taken.has(kidText(key)))
      throw broken(`${formatHex(key.kid)} is listed as ${purpose} and is also a TUF role's key`);
}

/** YYYY-MM-DD. */
export function dayOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

export function broken(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_POLICY", reason);
}
