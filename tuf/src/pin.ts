/**
 * Pinning an authority: the one decision, of a node or of a trustee who joins, that nothing later can put right.
 *
 * A root file from a trusted hand is compared by its words. A root file from anywhere else is pinned only when two
 * channels that do not depend on each other (paper, telephone, DNS with DNSSEC, another person) named the same
 * authority and it is this file's; and a person says yes in the end. Pure.
 */
import {
  equalBytes,
  formatHex,
  OperationError,
  parseHex,
  parseWords,
  quote,
  VerificationError,
} from "@viafabric/schemas";

/** The authority as one channel named it. */
export interface Claim {
  /** What a person calls it; only that two differ can be checked here. */
  readonly channel: string;
  readonly authority: Uint8Array;
}

const CHANNELS_MIN = 2;
const CHANNEL = /^[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}$/;

/** @param text `CHANNEL=64 hex digits` or `CHANNEL=24 words`. @throws OperationError ERR_USAGE */
export function parseClaim(text: string): Claim {
  const at = text.indexOf("=");
  const [channel, digest] = [text.slice(0, Math.max(at, 0)).trim(), text.slice(at + 1).trim()];
  try {
    if (!CHANNEL.test(channel)) throw new RangeError(`no name of a channel: ${quote(channel)}`);
    return { channel, authority: digest.includes(" ") ? parseWords(digest) : parseHex(digest, 32) };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "";
    throw new OperationError("ERR_USAGE", `not CHANNEL=HEX or CHANNEL="24 words": ${reason}`, { cause });
  }
}

/** @throws OperationError ERR_USAGE for too few channels; VerificationError ERR_AUTHORITY when one names another authority */
export function verifyClaims(authority: Uint8Array, claims: readonly Claim[]): void {
  const channels = new Set(claims.map(({ channel }) => channel.toLowerCase()));
  if (channels.size < CHANNELS_MIN || channels.size < claims.length)
    throw new OperationError(
      "ERR_USAGE",
      `name ${CHANNELS_MIN} different channels with --digest-from, not ${claims.map(({ channel }) => channel).join(", ") || "none"}`,
    );
  for (const { channel, authority: named } of claims)
    if (!equalBytes(named, authority))
      throw new VerificationError(
        "ERR_AUTHORITY",
        `${channel} names authority ${formatHex(named)}; the root file makes ${formatHex(authority)}`,
      );
}
