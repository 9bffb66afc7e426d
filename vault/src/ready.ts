/**
 * What the database calls ready, before anything is done with it. Whoever can write there can call ready what trustees
 * did not sign, or put other files under what they did. The signer would refuse it, and would again, and nothing behind
 * it would go on; so the vault looks first, with the check that every reader makes. Pure.
 */
import { equalBytes, VerificationError } from "@viafabric/schemas";
import { type PinnedRoot, rotationIdOf, verifyTrust } from "@viafabric/tuf";
import type { QuorumFiles } from "./published.ts";
import type { EventRecord } from "./records.ts";

/**
 * Whether what a ready event brings is what trustees signed, all of it, and was asked of them under this id.
 * @param files that would be in force with it
 * @throws VerificationError ERR_THRESHOLD, ERR_METADATA_MISMATCH and others; FormatError
 */
export function verifyReady({ proposal }: EventRecord, pinned: PinnedRoot, files: QuorumFiles): void {
  const { ids, ...trusted } = verifyTrust({ pinned, ...files });
  const { role, version } = proposal;
  if (!equalBytes(role === "root" ? rotationIdOf(ids) : ids[role], proposal.id))
    throw notStored(`the file of ${role} ${version} is that of another proposal`);
  // The signer needs but some of them, and readers all.
  for (const path of trusted.targets.targets.keys())
    if (!trusted.files.has(path)) throw notStored(`${path} is listed and not stored`);
}

export function notStored(reason: string): VerificationError {
  return new VerificationError("ERR_METADATA_MISMATCH", reason);
}
