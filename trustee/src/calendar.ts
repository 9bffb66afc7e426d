/**
 * What expires when, and how loudly to say so. A lifetime has two alarms: at half of it the next signing is planned, at
 * 80 % it is overdue. Metadata does not say when it was signed, so its life is taken to be the one the rules give.
 */
import { formatHex, type KeyEntry } from "@viafabric/schemas";
import type { ProposalRole, TrustedState } from "@viafabric/tuf";
import { LIFETIME_SECONDS } from "./policy.ts";

/** The share of its life that something has behind it. */
export type Alarm = "none" | "50%" | "80%" | "expired";

export interface Expiry {
  readonly what: string;
  /** Unix seconds, as all times here. */
  readonly from: number;
  readonly half: number;
  readonly late: number;
  readonly expires: number;
  readonly alarm: Alarm;
}

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

export function expiryOf(what: string, from: number, expires: number, now: number): Expiry {
  const at = (share: number): number => from + Math.floor((expires - from) * share);
  const [half, late] = [at(0.5), at(0.8)];
  const alarm = now >= expires ? "expired" : now >= late ? "80%" : now >= half ? "50%" : "none";
  return { what, from, half, late, expires, alarm };
}
