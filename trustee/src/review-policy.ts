/**
 * Proposed profiles and policies, held against the accepted ones: each file that changes, in words. What the files say
 * is for the trustee to judge; that they belong to the lineage, and follow the bundle in force, is decided here. Pure.
 */
import {
  type CapabilityProfile,
  equalBytes,
  formatHex,
  OperationError,
  parseUtf8,
  quote,
  VerificationError,
} from "@viafabric/schemas";
import { type PolicyState, policyFiles, type TrustedState } from "@viafabric/tuf";
import { broken } from "./policy.ts";

/** What both the accepted and the proposed state have. */
export type Content = Pick<TrustedState, "policy" | "profiles" | "files">;

/** Changed lines of one file: more is read in an editor. */
const LINES_SHOWN = 40;
const LINE_LENGTH_SHOWN = 160;

/** @throws VerificationError ERR_PROPOSAL_POLICY for a profile that changes without a higher version */
export function profileChanges(
  old: ReadonlyMap<string, CapabilityProfile>,
  next: ReadonlyMap<string, CapabilityProfile>,
): readonly string[] {
  return [...new Set([...old.keys(), ...next.keys()])].sort().flatMap((id) => {
    const [before, after] = [old.get(id), next.get(id)];
    if (!after) return [`profile ${id} goes: no batch can be asked for with it`];
    if (!before)
      return [`new profile ${id}, version ${after.version}: ${quote(after.title)}`, ...quotaLines(id, after)];
    const lines = [
      ...(before.title === after.title ? [] : [`profile ${id}: its title becomes ${quote(after.title)}`]),
      ...quotaChanges(id, before, after),
    ];
    if (before.version === after.version && lines.length === 0) return [];
    if (after.version <= before.version)
      throw broken(`profile ${id} would change at version ${after.version} after ${before.version}`);
    return [`profile ${id}: version ${before.version} becomes ${after.version}`, ...lines];
  });
}

function quotaLines(id: string, { quotas }: CapabilityProfile): readonly string[] {
  return [...quotas].map(([name, value]) => `profile ${id} grants ${value} ${name}`);
}

function quotaChanges(id: string, old: CapabilityProfile, next: CapabilityProfile): readonly string[] {
  return [...new Set([...old.quotas.keys(), ...next.quotas.keys()])].sort().flatMap((name) => {
    const [before, after] = [old.quotas.get(name), next.quotas.get(name)];
    return before === after ? [] : [`profile ${id}: ${name} ${before ?? "none"} becomes ${after ?? "none"}`];
  });
}

/**
 * @throws VerificationError ERR_POLICY_LINEAGE unless the bundle is the accepted one or follows it directly;
 * FormatError ERR_POLICY_BUNDLE unless all its files came along
 */
export function policyChanges(accepted: Content, next: Content): readonly string[] {
  assertFollows(accepted.policy, next.policy);
  const [old, proposed] = [accepted.policy?.bundle, next.policy?.bundle];
  if (!proposed || (old && equalBytes(old.hash, proposed.hash))) return [];
  const [before, after] = [
    old ? heldFiles(accepted) : new Map<string, Uint8Array>(),
    policyFiles(proposed, next.files),
  ];
  const { version, root } = proposed.manifest;
  return [
    old
      ? `policy bundle ${version} follows bundle ${old.manifest.version}, in the same lineage`
      : `the first policy bundle of this lineage`,
    `its root: ${formatHex(root)}`,
    ...[...new Set([...before.keys(), ...after.keys()])]
      .sort()
      .flatMap((path) => fileChange(path, before.get(path), after.get(path))),
  ];
}

/** One step at a time: a trustee looks at what the quorum before put into force, and at nothing between. */
function assertFollows(accepted: PolicyState | undefined, next: PolicyState | undefined): void {
  if (!accepted && !next) return;
  if (accepted && (!next || !equalBytes(next.lineage, accepted.lineage)))
    throw lineage("it would leave the policy lineage, which every token names");
  const [old, proposed] = [accepted?.bundle, next?.bundle];
  if (!proposed) {
    if (old) throw lineage(`policy bundle ${old.manifest.version} would go`);
    return;
  }
  const { version, previous } = proposed.manifest;
  if (!old) {
    if (version !== 1) throw lineage(`the first policy bundle would have version ${version}`);
    return;
  }
  if (equalBytes(old.hash, proposed.hash)) return;
  if (version !== old.manifest.version + 1 || !equalBytes(previous, old.hash))
    throw lineage(`policy bundle ${version} does not follow bundle ${old.manifest.version}, which was accepted here`);
}

/** @throws OperationError ERR_TRUST_MISSING: what is in force cannot be shown, so its change cannot be */
function heldFiles({ policy, files }: Content): ReadonlyMap<string, Uint8Array> {
  try {
    return policyFiles(policy!.bundle!, files);
  } catch (cause) {
    throw new OperationError("ERR_TRUST_MISSING", "the policy bundle in force is not complete here", { cause });
  }
}

function fileChange(path: string, before: Uint8Array | undefined, after: Uint8Array | undefined): readonly string[] {
  if (before && after && equalBytes(before, after)) return [];
  if (!after) return [`policy file ${path} goes (${before!.length} bytes)`];
  const what = before
    ? `policy file ${path} changes: ${before.length} bytes become ${after.length}`
    : `new policy file ${path}: ${after.length} bytes`;
  return [what, ...lineChanges(before ?? new Uint8Array(0), after)];
}

/** The lines between the common beginning and the common end. */
function lineChanges(before: Uint8Array, after: Uint8Array): readonly string[] {
  const [old, next] = [linesOf(before), linesOf(after)];
  if (!old || !next) return ["    (not text)"];
  let start = 0;
  while (start < old.length && start < next.length && old[start] === next[start]) start++;
  let end = 0;
  while (end < old.length - start && end < next.length - start && old.at(-1 - end) === next.at(-1 - end)) end++;
  const lines = [
    ...old.slice(start, old.length - end).map((line) => `    - ${shown(line)}`),
    ...next.slice(start, next.length - end).map((line) => `    + ${shown(line)}`),
  ];
  const hidden = lines.length - LINES_SHOWN;
  return hidden > 0 ? [...lines.slice(0, LINES_SHOWN), `    (${hidden} more lines)`] : lines;
}

function linesOf(bytes: Uint8Array): readonly string[] | undefined {
  try {
    const text = parseUtf8(bytes);
    return text === "" ? [] : text.replace(/\n$/, "").split("\n");
  } catch {
    return undefined;
  }
}

/** Quoted: a policy must not move the cursor of the trustee who reads it. */
function shown(line: string): string {
  const cut = line.length > LINE_LENGTH_SHOWN ? `${line.slice(0, LINE_LENGTH_SHOWN)}…` : line;
  return quote(cut);
}

function lineage(reason: string): VerificationError {
  return new VerificationError("ERR_POLICY_LINEAGE", reason);
}
