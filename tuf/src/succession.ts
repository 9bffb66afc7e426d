/**
 * What may follow what was accepted before. No server can make a tool forget: versions only rise, one version has one
 * content, and the head's tree of manifests only grows.
 */
import { equalBytes, type Hash, type Head, VerificationError, verifyConsistency } from "@viafabric/schemas";
import type { TrustedState } from "./trust.ts";

/** The RFC 6962 proof, from `batches/tile/`, that the manifest tree of `next` extends the one of `oldSize`. */
export type ProveHead = (oldSize: number, next: Pick<Head, "size" | "root">) => Promise<readonly Hash[]>;

/**
 * Whether `next` may follow `accepted`: versions only rise, equal versions are equal, and the head's tree grows.
 * @throws VerificationError ERR_ROLLBACK, ERR_HEAD_FORK, ERR_PROOF
 */
export async function verifySuccession(accepted: TrustedState, next: TrustedState, prove: ProveHead): Promise<void> {
  for (const role of ["root", "targets", "batches"] as const) {
    const [before, after] = [versionOf(accepted, role), versionOf(next, role)];
    if (after < before) throw new VerificationError("ERR_ROLLBACK", `${role} ${after} after ${before}`);
    if (after === before && !equalBytes(next.ids[role], accepted.ids[role]))
      throw new VerificationError("ERR_HEAD_FORK", `two different versions ${after} of ${role} were signed`);
  }
  await verifyHeadExtends(accepted.head, next.head, prove);
}

/** @throws VerificationError ERR_HEAD_FORK when a count falls, ERR_PROOF when the tree was rewritten */
export async function verifyHeadExtends(old: Head, next: Head, prove: ProveHead): Promise<void> {
  const counts = (head: Head): readonly (readonly [string, number])[] => [
    ["batches", head.size],
    ["the next index", head.next],
    ["log entries", head.log.size],
    ["the floor's epoch", head.floor.epoch],
    ["the floor's N", head.floor.n],
    ["the floor's log size", head.floor.logSize],
  ];
  counts(next).forEach(([what, count], i) => {
    const before = counts(old)[i]![1];
    if (count < before) throw new VerificationError("ERR_HEAD_FORK", `${what} fell from ${before} to ${count}`);
  });
  const needed = old.size > 0 && old.size < next.size;
  const proof = needed ? await prove(old.size, next) : [];
  verifyConsistency({ oldSize: old.size, oldRoot: old.root, newSize: next.size, newRoot: next.root, proof });
}

function versionOf(state: TrustedState, role: "root" | "targets" | "batches"): number {
  return { root: state.rootVersion, targets: state.targetsVersion, batches: state.batchesVersion }[role];
}
