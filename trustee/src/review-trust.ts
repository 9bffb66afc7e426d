/**
 * Proposed targets and roots, held against the accepted ones: what changes, in words, and what may never change.
 *
 * Thresholds do not fall, every quorum stays a majority, and one rotation replaces fewer trustees than could sign
 * alone. Pure.
 */
import {
  formatHex,
  type KeyEntry,
  kidText,
  type PublicKey,
  parseUtf8,
  type Role,
  type Rules,
  VerificationError,
} from "@viafabric/schemas";
import {
  type Attachments,
  assertQuorum,
  delegatedRole,
  detachTargets,
  HEAD_PATH,
  KEYS_PATH,
  POLICY_FILES,
  POLICY_MANIFEST_PATH,
  POLICY_PATH,
  parseSigned,
  type Root,
  RULES_PATH,
  readTargets,
  STATEMENT_PATH,
  type Targets,
  type TrustedState,
} from "@viafabric/tuf";
import { assertKeysApart, assertLifetime, broken, dayOf, sameRole } from "./policy.ts";
import { policyChanges, profileChanges } from "./review-policy.ts";
import { witnessChanges } from "./review-witnesses.ts";

export interface TrustReview {
  readonly expires: number;
  /** One sentence for each difference to the accepted state. */
  readonly changes: readonly string[];
  /** Who has to sign. A rotation of root needs the new trustees as well. */
  readonly quorums: readonly Role[];
}

/** @throws VerificationError ERR_PROPOSAL_BASE, ERR_PROPOSAL_MISMATCH, ERR_PROPOSAL_POLICY, ERR_DELEGATION; FormatError */
export function reviewTargets(
  signed: Uint8Array,
  attachments: Attachments,
  accepted: TrustedState,
  now: number,
): TrustReview {
  const targets = parseSigned("targets", signed);
  if (targets.version <= accepted.targetsVersion)
    throw base(`targets ${targets.version} after targets ${accepted.targetsVersion}, which was accepted here`);
  assertLifetime("targets", targets.expires, now);
  const files = detachTargets(attachments);
  for (const path of targets.targets.keys())
    if (!files.has(path))
      throw new VerificationError("ERR_PROPOSAL_MISMATCH", `${path} did not come with the proposal`);
  const approvers = delegatedRole(targets, "batches", HEAD_PATH);
  const other = targets.delegations.filter(({ name }) => name !== "batches" && name !== "revocations");
  if (other.length > 0) throw broken(`targets would delegate to ${other.map(({ name }) => name).join(", ")}`);
  const statements = statementRole(targets);
  assertNotWeaker("batches", accepted.approvers, approvers);
  assertGradual("batches", accepted.approvers, approvers);
  // The head is not part of this proposal: the accepted one stays in force under the new targets.
  const content = readTargets(
    targets,
    accepted.batches,
    new Map([...files, [HEAD_PATH, accepted.headBytes]]),
    accepted.authority,
  );
  const policy = witnessChanges(accepted.policyText, content.policyText);
  assertRulesNotWeaker(accepted.rules, content.rules);
  const { roles } = accepted.root;
  const pointers = [...roles.snapshot.keys, ...roles.timestamp.keys];
  if (missing(statements.keys, pointers).length < statements.keys.length)
    throw broken("a key of snapshot or timestamp would also sign revocations");
  const online = [...pointers, ...statements.keys];
  assertKeysApart(content.keys, [...roles.root.keys, ...roles.targets.keys, ...approvers.keys, ...online]);
  if (missing(online, approvers.keys).length < online.length)
    throw broken("a key that signs online would also approve batches");
  const changes = [
    ...roleChanges("batches", accepted.approvers, approvers),
    ...roleChanges("revocations", statementRole(accepted.targets), statementRole(targets)),
    ...keyChanges(accepted.keys, content.keys),
    ...ruleChanges(accepted.rules, content.rules),
    ...policy,
    ...profileChanges(accepted.profiles, content.profiles),
    ...policyChanges(accepted, { ...content, files }),
    ...fileChanges(accepted.files, files),
  ];
  return { expires: targets.expires, changes, quorums: [accepted.trustees] };
}

/** The root alone; what is signed with it is looked at by `reviewRotation`. */
export function reviewRoot(signed: Uint8Array, accepted: TrustedState, now: number): TrustReview {
  const root = parseSigned("root", signed);
  if (root.version !== accepted.rootVersion + 1)
    throw base(`root ${root.version} does not follow root ${accepted.rootVersion}, which was accepted here`);
  assertLifetime("root", root.expires, now);
  for (const name of ["root", "targets"] as const) {
    assertNotWeaker(name, accepted.root.roles[name], root.roles[name]);
    assertGradual(name, accepted.root.roles[name], root.roles[name]);
  }
  if (!sameRole(root.roles.root, root.roles.targets)) throw broken("root and targets would have different trustees");
  assertApart(root);
  assertKeysApart(
    accepted.keys,
    (["root", "targets", "snapshot", "timestamp"] as const).flatMap((name) => root.roles[name].keys),
  );
  const changes = [...roleChanges("trustees", accepted.root.roles.root, root.roles.root)];
  for (const name of ["snapshot", "timestamp"] as const) {
    const { keys, threshold } = root.roles[name];
    if (keys.length !== 1 || threshold !== 1) throw broken(`${name} would be signed by ${threshold} of ${keys.length}`);
    changes.push(...roleChanges(name, accepted.root.roles[name], root.roles[name]));
  }
  return { expires: root.expires, changes, quorums: [accepted.root.roles.root, root.roles.root] };
}

function assertNotWeaker(name: string, old: Role, next: Role): void {
  assertMajority(name, next);
  if (next.threshold < old.threshold)
    throw broken(`the threshold of ${name} would fall from ${old.threshold} to ${next.threshold}`);
}

/** How many trustees a status event takes may grow, never fall: k of them signed that it takes so many. So with classes. */
function assertRulesNotWeaker(old: Rules, next: Rules): void {
  for (const name of ["suspend", "revokeKit", "revoke", "reinstate"] as const)
    if (next.thresholds[name] < old.thresholds[name])
      throw broken(`${name} would take ${next.thresholds[name]} trustees, no longer ${old.thresholds[name]}`);
  for (const [purpose, minimum] of old.classes)
    if (minimum === "hardware" && next.classes.get(purpose) !== "hardware")
      throw broken(`${purpose} keys would no longer have to be in hardware`);
}

function assertMajority(name: string, role: Role): void {
  try {
    assertQuorum(role);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "";
    throw new VerificationError("ERR_PROPOSAL_POLICY", `${name} would be no quorum any more: ${reason}`, { cause });
  }
}

/** k old trustees sign a rotation; if they could replace k, they could hand the authority over in one step. */
function assertGradual(name: string, old: Role, next: Role): void {
  const added = missing(next.keys, old.keys).length;
  if (added >= old.threshold)
    throw broken(`${name} would get ${added} new keys at once; at most ${old.threshold - 1} may change`);
}

/** Each key has one purpose. */
function assertApart({ roles }: Root): void {
  const people = new Set([...roles.root.keys, ...roles.targets.keys].map(kidText));
  for (const name of ["snapshot", "timestamp"] as const)
    for (const key of roles[name].keys)
      if (people.has(kidText(key))) throw broken(`a trustee's key would also sign ${name}`);
}

/** Who signs the daily statement for TUF clients: nobody, where targets does not delegate it. */
function statementRole(targets: Targets): Role {
  const delegated = targets.delegations.some(({ name }) => name === "revocations");
  return delegated ? delegatedRole(targets, "revocations", STATEMENT_PATH) : { keys: [], threshold: 1 };
}

function roleChanges(name: string, old: Role, next: Role): readonly string[] {
  return [
    ...(old.threshold === next.threshold ? [] : [`${name}: threshold ${old.threshold} becomes ${next.threshold}`]),
    ...missing(next.keys, old.keys).map((key) => `${name}: new key ${formatHex(key.kid)}`),
    ...missing(old.keys, next.keys).map((key) => `${name}: key ${formatHex(key.kid)} goes`),
  ];
}

function keyChanges(old: readonly KeyEntry[], next: readonly KeyEntry[]): readonly string[] {
  const name = (entry: KeyEntry) => `${entry.purpose} key ${formatHex(entry.key.kid)} (${entry.class})`;
  const line = (entry: KeyEntry) => `${name(entry)}, ${dayOf(entry.from)} to ${dayOf(entry.until)}`;
  const before = new Map(old.map((entry) => [name(entry), entry]));
  const after = new Map(next.map((entry) => [name(entry), entry]));
  const gone = old.filter((entry) => !after.has(name(entry)));
  return [
    ...next.flatMap((entry) => {
      const known = before.get(name(entry));
      if (!known) return [`new: ${line(entry)}`];
      const same = known.from === entry.from && known.until === entry.until;
      return same
        ? []
        : [
            `${name(entry)} was valid ${dayOf(known.from)} to ${dayOf(known.until)}, and would be ${dayOf(entry.from)} to ${dayOf(entry.until)}`,
          ];
    }),
    ...gone.map((entry) => `goes: ${line(entry)}`),
    ...gone
      .filter(({ purpose }) => purpose === "issuer")
      .map(() => "with an issuer key, every token that it signed is refused"),
  ];
}

function ruleChanges(old: Rules, next: Rules): readonly string[] {
  const lines = (rules: Rules): readonly string[] => [
    ...Object.entries(rules.thresholds).map(([name, count]) => `${name} takes ${count}`),
    ...[...rules.ages].map(([profile, { soft, hard }]) => `profile ${profile}: status ages ${soft} s and ${hard} s`),
    ...[...rules.classes].map(([purpose, minimum]) => `${purpose} keys are at least ${minimum}`),
  ];
  const [before, after] = [lines(old), lines(next)];
  return [
    ...after.filter((line) => !before.includes(line)).map((line) => `new rule: ${line}`),
    ...before.filter((line) => !after.includes(line)).map((line) => `rule goes: ${line}`),
  ];
}

function fileChanges(old: ReadonlyMap<string, Uint8Array>, next: ReadonlyMap<string, Uint8Array>): readonly string[] {
  const own = [KEYS_PATH, RULES_PATH, POLICY_PATH, HEAD_PATH, STATEMENT_PATH, POLICY_MANIFEST_PATH];
  const told = (path: string) => own.includes(path) || path.startsWith(POLICY_FILES) || path.startsWith("profiles/");
  const paths = new Set([...old.keys(), ...next.keys()].filter((path) => !told(path)));
  return [...paths].sort().flatMap((path) => {
    const [before, after] = [old.get(path), next.get(path)];
    if (!after) return [`${path} goes`];
    if (!before) return [`new file ${path}`];
    return parseUtf8(before) === parseUtf8(after) ? [] : [`${path} changes`];
  });
}

/** Keys that are not among the others. */
export function missing(from: readonly PublicKey[], among: readonly PublicKey[]): readonly PublicKey[] {
  const known = new Set(among.map(kidText));
  return from.filter((key) => !known.has(kidText(key)));
}

function base(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_BASE", reason);
}
