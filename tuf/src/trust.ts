/**
 * One trusted value out of TUF metadata and target files, checked without network, disk or tuf-js.
 *
 * The bounded signer, the vault (on its own output), the trustee's tool and a node without a network all decide here.
 * Expiry is judged only where `now` is given: offline, a verdict judges it by its own clock later.
 */
import {
  type CapabilityProfile,
  decodeHead,
  decodeRules,
  decodeTrustKeys,
  equalBytes,
  formatHex,
  type Head,
  type KeyEntry,
  parseUtf8,
  type Role,
  type Rules,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import {
  type Delegation,
  HEAD_PATH,
  type Metadata,
  type MetaInfo,
  parseMetadata,
  type Root,
  STATEMENT_PATH,
  type Targets,
} from "./metadata.ts";
import { type PolicyState, readPolicy, readProfiles } from "./policy.ts";
import { type PinnedRoot, verifyFile, verifyRole, verifyRootChain } from "./verify.ts";

export const KEYS_PATH = "trust/keys.cbor";
export const POLICY_PATH = "trust/tlog-policy";
export const RULES_PATH = "trust/rules.cbor";

/** Files as published. `targetFiles` by target path; profiles and policies may be left out. */
export interface TrustFiles {
  readonly pinned: PinnedRoot;
  /** The roots after the pinned one, in order. */
  readonly roots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
  readonly revocations?: Uint8Array;
  readonly snapshot?: Uint8Array;
  readonly timestamp?: Uint8Array;
}

export interface TrustedState {
  readonly authority: Uint8Array;
  readonly root: Root;
  readonly rootVersion: number;
  readonly targets: Targets;
  readonly targetsVersion: number;
  readonly batches: Targets;
  readonly batchesVersion: number;
  /** SHA-256 of the signed parts: the ids of the proposals that became them. */
  readonly ids: Readonly<Record<"root" | "targets" | "batches", Uint8Array>>;
  /** Who signs targets, and status events: k of n. */
  readonly trustees: Role;
  /** Who signs heads. */
  readonly approvers: Role;
  readonly keys: readonly KeyEntry[];
  readonly rules: Rules;
  /** The tlog-policy in force; the transparency log's code parses it. */
  readonly policyText: string;
  /** Undefined where targets list no lineage. */
  readonly policy: PolicyState | undefined;
  /** The catalogue, by id. */
  readonly profiles: ReadonlyMap<string, CapabilityProfile>;
  readonly head: Head;
  readonly headBytes: Uint8Array;
  /** Every target file given, by path, each of the listed length and hash. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Unix seconds. */
  readonly expires: { readonly root: number; readonly targets: number; readonly batches: number };
}

/**
 * @param now unix seconds to judge every expiry by; undefined judges none
 * @throws VerificationError ERR_THRESHOLD, ERR_ROLLBACK, ERR_AUTHORITY, ERR_DELEGATION, ERR_METADATA_MISMATCH,
 * ERR_METADATA_EXPIRED; FormatError for any file that is malformed
 */
export function verifyTrust(files: TrustFiles, now?: number): TrustedState {
  const chain = verifyRootChain(files.pinned, files.roots);
  const { authority, root } = chain;
  const targets = parseMetadata("targets", files.targets);
  verifyRole(root.roles.targets, "targets", targets);
  const approvers = delegatedRole(targets.signed, "batches", HEAD_PATH);
  const batches = parseMetadata("targets", files.batches);
  verifyRole(approvers, "batches", batches);
  const trusted = readTargets(targets.signed, batches.signed, files.targetFiles, authority);
  const online = verifyOnlineRoles(files, root, targets, batches);
  if (now !== undefined) {
    assertCurrent("root", root.expires, now);
    for (const [name, { signed }] of [["targets", targets], ["batches", batches], ...online] as const)
      assertCurrent(name, signed.expires, now);
  }
  return {
    ...trusted,
    authority,
    root,
    rootVersion: root.version,
    targets: targets.signed,
    targetsVersion: targets.signed.version,
    batches: batches.signed,
    batchesVersion: batches.signed.version,
    ids: { root: chain.id, targets: sha256(targets.signedBytes), batches: sha256(batches.signedBytes) },
    trustees: root.roles.targets,
    approvers,
    expires: { root: root.expires, targets: targets.signed.expires, batches: batches.signed.expires },
  };
}

/** @throws VerificationError ERR_DELEGATION unless `targets` delegates exactly `path` to a terminating role `name` */
export function delegatedRole(targets: Targets, name: string, path: string): Role {
  const delegation = targets.delegations.find((d): d is Delegation => d.name === name);
  if (!delegation) throw new VerificationError("ERR_DELEGATION", `targets does not delegate to ${name}`);
  if (!delegation.terminating || delegation.paths.length !== 1 || delegation.paths[0] !== path)
    throw new VerificationError("ERR_DELEGATION", `${name} must be terminating and for ${path} alone`);
  return delegation.role;
}

/**
 * The contents of the two quorum-signed roles, without regard to signatures: also what a trustee looks at before the
 * first signature exists.
 */
export function readTargets(
  targets: Targets,
  batches: Targets,
  files: ReadonlyMap<string, Uint8Array>,
  authority: Uint8Array,
): Pick<TrustedState, "keys" | "rules" | "policyText" | "policy" | "profiles" | "head" | "headBytes" | "files"> {
  // A client would take such an entry before the delegation.
  for (const path of [HEAD_PATH, STATEMENT_PATH])
    if (targets.targets.has(path)) throw new VerificationError("ERR_DELEGATION", `targets itself lists ${path}`);
  if (batches.targets.size !== 1 || batches.delegations.length > 0)
    throw new VerificationError("ERR_DELEGATION", `batches must list ${HEAD_PATH} and nothing else`);
  for (const [path, bytes] of files)
    if (path !== STATEMENT_PATH) verifyFile(path, bytes, targets.targets.get(path) ?? batches.targets.get(path));
  const file = (path: string): Uint8Array => {
    const bytes = files.get(path);
    if (!bytes) throw new VerificationError("ERR_METADATA_MISMATCH", `${path} is missing`);
    return bytes;
  };
  const headBytes = file(HEAD_PATH);
  const head = decodeHead(headBytes);
  const rules = decodeRules(file(RULES_PATH));
  for (const [path, owner] of [
    [HEAD_PATH, head.authority],
    [RULES_PATH, rules.authority],
  ] as const)
    if (!equalBytes(owner, authority))
      throw new VerificationError("ERR_AUTHORITY", `${path} belongs to authority ${formatHex(owner)}`);
  return {
    keys: decodeTrustKeys(file(KEYS_PATH)),
    rules,
    policyText: parseUtf8(file(POLICY_PATH)),
    policy: readPolicy(targets, files, authority),
    profiles: readProfiles(files),
    head,
    headBytes,
    files,
  };
}

/** The roles signed online, as far as they are given: they prove that all files belong to one moment. */
function verifyOnlineRoles(
  files: TrustFiles,
  root: Root,
  targets: Metadata<Targets>,
  batches: Metadata<Targets>,
): readonly (readonly [string, Metadata])[] {
  const online: (readonly [string, Metadata])[] = [];
  const roles = new Map([
    ["targets", targets],
    ["batches", batches],
  ]);
  if (files.revocations) {
    const revocations = parseMetadata("targets", files.revocations);
    verifyRole(delegatedRole(targets.signed, "revocations", STATEMENT_PATH), "revocations", revocations);
    const statement = files.targetFiles.get(STATEMENT_PATH);
    if (statement) verifyFile(STATEMENT_PATH, statement, revocations.signed.targets.get(STATEMENT_PATH));
    roles.set("revocations", revocations);
    online.push(["revocations", revocations]);
  } else if (files.targetFiles.has(STATEMENT_PATH)) {
    throw new VerificationError("ERR_METADATA_MISMATCH", `${STATEMENT_PATH} comes without the role that lists it`);
  }
  if (!files.snapshot) return online;
  const snapshot = parseMetadata("snapshot", files.snapshot);
  verifyRole(root.roles.snapshot, "snapshot", snapshot);
  for (const [name, metadata] of roles)
    verifyListed(`${name}.json`, metadata, snapshot.signed.meta.get(`${name}.json`));
  online.push(["snapshot", snapshot]);
  if (!files.timestamp) return online;
  const timestamp = parseMetadata("timestamp", files.timestamp);
  verifyRole(root.roles.timestamp, "timestamp", timestamp);
  verifyListed("snapshot.json", snapshot, timestamp.signed.snapshot);
  return [...online, ["timestamp", timestamp]];
}

function verifyListed(name: string, metadata: Metadata, listed: MetaInfo | undefined): void {
  if (listed?.version !== metadata.signed.version)
    throw new VerificationError(
      "ERR_METADATA_MISMATCH",
      `${name} is version ${metadata.signed.version}, not the listed one`,
    );
  verifyFile(name, metadata.file, listed);
}

function assertCurrent(name: string, expires: number, now: number): void {
  if (now >= expires)
    throw new VerificationError("ERR_METADATA_EXPIRED", `${name} expired ${new Date(expires * 1000).toISOString()}`);
}
