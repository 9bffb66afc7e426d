/**
 * When a proposal is overtaken: something was published since it was drawn up, or a day has passed, and what it proposes
 * cannot follow any more. Trustees' tools would refuse it, so it is superseded, and the requests behind it are planned
 * again on what is published then. Pure.
 */
import { CodedError, decodeManifest, findKey, kidText, type Role } from "@viafabric/schemas";
import type { Proposal, TrustedState } from "@viafabric/tuf";
import { type RequestTrust, verifyBatchRequest } from "./batch-request.ts";
import type { BatchRecord } from "./records.ts";

/**
 * Whether the published state has gone on without it. Also true of one that is ready, as long as the signer has not taken
 * it over: k trustees signed it, and it follows nothing any more.
 * @returns why, or undefined while it still stands
 */
export function whyOvertaken(
  { role, version, quorums }: Proposal,
  batches: readonly Pick<BatchRecord, "seq">[],
  trusted: TrustedState,
): string | undefined {
  const published = { root: trusted.rootVersion, targets: trusted.targetsVersion, batches: trusted.batchesVersion };
  if (version <= published[role]) return `${role} ${published[role]} was published before it`;
  // What a rotation of the trustees carries is signed by the old ones and the new ones; it lives and dies with its root.
  const [quorum, ...others] = quorums;
  const signers = { root: trusted.root.roles.root, targets: trusted.trustees, batches: trusted.approvers };
  if (others.length === 0 && !sameRole(quorum!, signers[role])) return "other trustees have to sign it now";
  const [first] = batches;
  if (first && first.seq !== trusted.head.size) return `batch ${first.seq} was published by another proposal`;
  return undefined;
}

/**
 * Whether the trust files still allow what is proposed: a station may have gone since, or the last day to claim.
 * @returns why not
 */
export function whyDisallowed(
  batches: readonly Pick<BatchRecord, "seq" | "manifest">[],
  trust: RequestTrust,
  now: number,
): string | undefined {
  for (const { seq, manifest } of batches) {
    const reason = whyRefused(manifest, trust, now);
    if (reason !== undefined) return `batch ${seq} is not allowed any more: ${reason}`;
  }
  return undefined;
}

function whyRefused(bytes: Uint8Array, trust: RequestTrust, now: number): string | undefined {
  const manifest = decodeManifest(bytes);
  if (!findKey(trust.keys, manifest.issuer, "issuer", manifest.nbf)) return "its issuer key is not listed";
  try {
    verifyBatchRequest({ ...manifest, release: manifest.releaseKeys }, trust, now);
    return undefined;
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    return error.message;
  }
}

function sameRole(a: Role, b: Role): boolean {
  const kids = ({ keys }: Role): string => keys.map(kidText).sort().join();
  return a.threshold === b.threshold && kids(a) === kids(b);
}
