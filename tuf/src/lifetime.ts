/**
 * What expires when, and how loudly to say so. A lifetime has two alarms: at half of it the next signing is planned, at
 * 80 % it is overdue. Pure.
 */

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

export function expiryOf(what: string, from: number, expires: number, now: number): Expiry {
  const at = (share: number): number => from + Math.floor((expires - from) * share);
  const [half, late] = [at(0.5), at(0.8)];
  const alarm = now >= expires ? "expired" : now >= late ? "80%" : now >= half ? "50%" : "none";
  return { what, from, half, late, expires, alarm };
}
