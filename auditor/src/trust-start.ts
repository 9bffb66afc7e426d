/**
 * From the pinned root to the log's policy: whose checkpoints count is itself signed by the trustees.
 *
 * Nothing here looks at a clock. An audit asks what was signed and logged, and an old mirror may be audited too.
 */

import { LATEST_PATH } from "@viafabric/revocation";
import {
  equalBytes,
  formatVerifierKey,
  type Hash,
  OperationError,
  parseUtf8,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import { type LogPolicy, parsePolicy } from "@viafabric/transparency-log";
import type { FetchFile } from "@viafabric/transparency-log/client";
import {
  delegatedRole,
  METADATA_BYTES_MAX,
  type Metadata,
  type MetadataType,
  metadataFileName,
  type PinnedRoot,
  POLICY_PATH,
  parseMetadata,
  type Root,
  type Snapshot,
  STATEMENT_PATH,
  type Targets,
  type Timestamp,
  targetFileName,
  verifyFile,
  verifyRole,
  verifyRootChain,
} from "@viafabric/tuf";
import { evidence } from "./evidence.ts";
import { isCanonical, type Pin, type TrustHistory, type VersionedKind } from "./trust-history.ts";

/** A chain of that many roots is a century of rotations. */
const ROOTS_MAX = 1024;
const TIMESTAMP = "tuf/metadata/timestamp.json";

export interface TrustStart {
  readonly pin: Pin;
  readonly root: Root;
  /** From the pinned one on. */
  readonly roots: readonly Root[];
  readonly policy: LogPolicy;
  readonly targets: Metadata<Targets>;
  readonly timestamp: Metadata<Timestamp>;
  readonly snapshot: Metadata<Snapshot>;
  /** The pointer to the newest statement; read before the checkpoint, so that the log covers it. */
  readonly latest: Uint8Array | undefined;
}

/** @throws VerificationError, FormatError; OperationError ERR_FETCH where something is missing */
export async function startTrust(published: FetchFile, pinned: PinnedRoot): Promise<TrustStart> {
  const latest = await published(LATEST_PATH);
  const timestampFile = await need(published, TIMESTAMP);
  const first = parseMetadata("root", pinned.file);
  const roots: Uint8Array[] = [];
  for (let version = first.signed.version + 1; version <= ROOTS_MAX; version++) {
    const file = await published(`tuf/metadata/${metadataFileName("root", version)}`);
    if (!file) break;
    roots.push(file);
  }
  const { authority, root } = verifyRootChain(pinned, roots);
  const timestamp = readMetadata("timestamp", TIMESTAMP, timestampFile);
  verifyRole(root.roles.timestamp, TIMESTAMP, timestamp);
  const role = async <T extends MetadataType>(
    type: T,
    version: number,
  ): Promise<ReturnType<typeof readMetadata<T>>> => {
    const path = `tuf/metadata/${metadataFileName(type, version)}`;
    return readMetadata(type, path, await need(published, path));
  };
  const snapshot = await role("snapshot", timestamp.signed.snapshot.version);
  verifyFile("the snapshot", snapshot.file, timestamp.signed.snapshot);
  verifyRole(root.roles.snapshot, "the snapshot", snapshot);
  const listed = snapshot.signed.meta.get("targets.json")!;
  const targets = await role("targets", listed.version);
  verifyFile("targets", targets.file, listed);
  verifyRole(root.roles.targets, `targets ${listed.version}`, targets);
  const info = targets.signed.targets.get(POLICY_PATH);
  if (!info) throw evidence(`targets ${listed.version} lists no ${POLICY_PATH}`);
  const policyFile = await need(published, `tuf/targets/${targetFileName(POLICY_PATH, info.sha256)}`);
  verifyFile(POLICY_PATH, policyFile, info);
  const pin = { authority, version: first.signed.version, id: sha256(first.signedBytes) };
  const chain = [first, ...roots.map((file) => parseMetadata("root", file))].map(({ signed }) => signed);
  return { pin, root, roots: chain, policy: parsePolicy(policyFile), targets, timestamp, snapshot, latest };
}

/**
 * What clients are pointed at must be in the log: the versions that the snapshot lists, the newest statement, the key
 * of the log. @throws VerificationError, FormatError
 */
export async function checkPointers(
  published: FetchFile,
  start: TrustStart,
  trust: TrustHistory,
  stated: ReadonlyMap<number, { readonly fileHash: Hash }>,
): Promise<readonly (() => Promise<void>)[]> {
  const { snapshot, latest, root } = start;
  const { meta } = snapshot.signed;
  const statedFile = (file: Uint8Array): boolean => {
    return [...stated.values()].some(({ fileHash }) => equalBytes(fileHash, sha256(file)));
  };
  const logged = (kind: VersionedKind, version: number, hash: Hash | undefined): void => {
    const found = trust.logged[kind].get(version);
    if (!found || (hash && !equalBytes(found, hash))) {
      throw unlogged(`${kind} ${version} is in use and not in the log`);
    }
  };
  const targetsOf = (): Targets => start.targets.signed;
  return [
    async () => logged("root", root.version, undefined),
    async () => {
      for (const kind of ["targets", "batches"] as const) {
        const listed = meta.get(`${kind}.json`);
        if (listed) logged(kind, listed.version, listed.sha256);
      }
    },
    async () => {
      if (latest && !statedFile(latest)) throw unlogged(`${LATEST_PATH} is no statement of the log`);
    },
    async () => {
      const listed = meta.get("revocations.json");
      if (!listed) return;
      const path = `tuf/metadata/${metadataFileName("revocations", listed.version)}`;
      const metadata = readMetadata("targets", path, await need(published, path));
      verifyFile(path, metadata.file, listed);
      verifyRole(delegatedRole(targetsOf(), "revocations", STATEMENT_PATH), path, metadata);
      const info = metadata.signed.targets.get(STATEMENT_PATH);
      if (!info) throw evidence(`${path} lists no ${STATEMENT_PATH}`);
      const file = await need(published, `tuf/targets/${targetFileName(STATEMENT_PATH, info.sha256)}`);
      verifyFile(STATEMENT_PATH, file, info);
      if (!statedFile(file)) throw unlogged(`the statement that ${path} lists is not in the log`);
    },
    async () => {
      const file = await published("log.vkey");
      const keys = trust.policies.flatMap(({ logs }) => logs).map(({ verifier }) => `${formatVerifierKey(verifier)}\n`);
      if (file && !keys.includes(parseUtf8(file))) throw evidence("log.vkey is not a key of the log");
    },
  ];
}

/** In its one spelling, so that no bit of the file is out of reach of the signatures. */
export function readMetadata<T extends MetadataType>(type: T, name: string, file: Uint8Array) {
  if (file.length > METADATA_BYTES_MAX[type]) throw evidence(`${name} has ${file.length} bytes`);
  const metadata = parseMetadata(type, file);
  if (!isCanonical(metadata)) throw evidence(`${name} is not in the one spelling of its metadata`);
  return metadata;
}

async function need(published: FetchFile, path: string): Promise<Uint8Array> {
  const bytes = await published(path);
  if (!bytes) throw new OperationError("ERR_FETCH", `there is no ${path}: is this the published tree of an authority?`);
  return bytes;
}

function unlogged(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_UNLOGGED", reason);
}
