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

/** What one channel named. */
export interface Claim {
  /** What a person calls it; only that two differ can be checked here. */
  readonly channel: string;
  readonly authority: Uint8Array;
  /** SHA-256 of the root file, where the channel carries the whole line of a sheet. */
  readonly root?: Uint8Array;
  /** Of the policy lineage, likewise. */
  readonly policy?: Uint8Array;
}

const CHANNELS_MIN = 2;
const CHANNEL = /^[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}$/;
const LINE = /^v=viafabric1 authority=([0-9a-f]{64}) root=([0-9a-f]{64})(?: policy=([0-9a-f]{64}))?$/;

/**
 * @param text `CHANNEL=` and 64 hex digits, 24 words, or the line of a sheet (`v=viafabric1 …`)
 * @throws OperationError ERR_USAGE
 */
export function parseClaim(text: string): Claim {
  const at = text.indexOf("=");
  const [channel, digest] = [text.slice(0, Math.max(at, 0)).trim(), text.slice(at + 1).trim()];
  try {
    if (!CHANNEL.test(channel)) throw new RangeError(`no name of a channel: ${quote(channel)}`);
    // As `dig` prints a record of several strings: quoted, one after the other.
    const [line, authority, root, policy] = LINE.exec(digest.replaceAll('"', "").replaceAll(/\s+/g, " ")) ?? [];
    if (!line) return { channel, authority: digest.includes(" ") ? parseWords(digest) : parseHex(digest, 32) };
    return {
      channel,
      authority: parseHex(authority!, 32),
      root: parseHex(root!, 32),
      ...(policy !== undefined && { policy: parseHex(policy, 32) }),
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "";
    throw new OperationError(
      "ERR_USAGE",
      `not CHANNEL=HEX, CHANNEL="24 words" or CHANNEL="v=viafabric1 …": ${reason}`,
      {
        cause,
      },
    );
  }
}

/**
 * @param rootDigest SHA-256 of the root file
 * @returns the policy lineage, where a channel named one
 * @throws OperationError ERR_USAGE for too few channels; VerificationError ERR_AUTHORITY when one names something else
 */
export function verifyClaims(
  authority: Uint8Array,
  rootDigest: Uint8Array,
  claims: readonly Claim[],
): Uint8Array | undefined {
  const channels = new Set(claims.map(({ channel }) => channel.toLowerCase()));
  if (channels.size < CHANNELS_MIN || channels.size < claims.length)
    throw new OperationError(
      "ERR_USAGE",
      `name ${CHANNELS_MIN} different channels with --digest-from, not ${claims.map(({ channel }) => channel).join(", ") || "none"}`,
    );
  const policy = claims.find((claim) => claim.policy)?.policy;
  for (const claim of claims) {
    assertNamed(claim.channel, "authority", claim.authority, authority);
    if (claim.root) assertNamed(claim.channel, "root file", claim.root, rootDigest);
    if (claim.policy && policy) assertNamed(claim.channel, "policy lineage", claim.policy, policy);
  }
  return policy;
}

function assertNamed(channel: string, what: string, named: Uint8Array, found: Uint8Array): void {
  if (equalBytes(named, found)) return;
  throw new VerificationError(
    "ERR_AUTHORITY",
    `${channel} names the ${what} ${formatHex(named)}; here it is ${formatHex(found)}`,
  );
}
