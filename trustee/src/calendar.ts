/** What expires when. Metadata does not say when it was signed, so its life is taken to be the one the rules give. */
import { formatHex, type KeyEntry } from "@viafabric/schemas";
import { type Expiry, expiryOf, type ProposalRole, type TrustedState } from "@viafabric/tuf";
import { LIFETIME_SECONDS } from "./policy.ts";

/** Soonest first. @param now unix seconds */
export function calendarOf({ expires, keys }: Pick<TrustedState, "expires" | "keys">, now: number): readonly Expiry[] {
  const roles = (Object.entries(expires) as [ProposalRole, number][]).map(([role, until]) =>
    expiryOf(role, until - LIFETIME_SECONDS[role], until, now),
  );
  const listed = keys.map(({ purpose, key, from, until }: KeyEntry) =>
    expiryOf(`${purpose} key ${formatHex(key.kid).slice(0, 8)}…`, from, until, now),
  );
  return [...roles, ...listed].sort((a, b) => a.expires - b.expires);
}
