/**
 * What the vault has published, read back and verified from the pinned root like anybody else would: after a start, and
 * after each publication. The vault believes what it published, not what it meant to publish.
 */
import path from "node:path";
import { readFileBounded, readFileIfPresent } from "@viafabric/platform";
import { type VerifiedStatement, verifyStatement } from "@viafabric/revocation";
import { NOTE_BYTES_MAX, OperationError } from "@viafabric/schemas";
import {
  METADATA_BYTES_MAX,
  metadataFileName,
  parseMetadata,
  TARGET_BYTES_MAX,
  type TrustedState,
  targetFileName,
  verifyTrust,
} from "@viafabric/tuf";
import { STATUS_PATH, TIMESTAMP_PATH } from "./publisher.ts";
import type { RoleFile } from "./trust-files.ts";

/** The files that trustees signed. */
export interface QuorumFiles {
  /** Every root after the pinned one. */
  readonly roots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export interface Published {
  readonly files: QuorumFiles;
  readonly trusted: TrustedState;
  readonly targets: RoleFile;
  readonly batches: RoleFile;
  /** Versions of the online roles. */
  readonly snapshotVersion: number;
  readonly revocationsVersion: number;
  readonly timestampVersion: number;
  readonly statement: VerifiedStatement;
}

/** A chain of that many roots is a century of rotations. */
const ROOTS_MAX = 1024;

/**
 * Undefined before the first publication.
 * @throws VerificationError, FormatError, OperationError when something published is missing or wrong
 */
export async function readPublished(publicFolder: string, pinnedRoot: Uint8Array): Promise<Published | undefined> {
  const latest = await readFileIfPresent(path.join(publicFolder, STATUS_PATH), NOTE_BYTES_MAX);
  const timestampFile = await readFileIfPresent(path.join(publicFolder, TIMESTAMP_PATH), METADATA_BYTES_MAX.timestamp);
  if (!latest || !timestampFile) return undefined;
  const timestamp = parseMetadata("timestamp", timestampFile);
  const role = async (type: "snapshot" | "targets", name: string, version: number): Promise<RoleFile> => {
    const file = path.join(publicFolder, "tuf/metadata", metadataFileName(name, version));
    return { version, file: await readFileBounded(file, METADATA_BYTES_MAX[type]) };
  };
  const snapshotVersion = timestamp.signed.snapshot.version;
  const snapshot = await role("snapshot", "snapshot", snapshotVersion);
  const { meta } = parseMetadata("snapshot", snapshot.file).signed;
  const versionOf = (name: string): number => {
    const listed = meta.get(`${name}.json`);
    if (!listed) throw new OperationError("ERR_FILE", `snapshot ${snapshotVersion} does not list ${name}`);
    return listed.version;
  };
  const targets = await role("targets", "targets", versionOf("targets"));
  const batches = await role("targets", "batches", versionOf("batches"));
  const files: QuorumFiles = {
    roots: await readRoots(publicFolder),
    targets: targets.file,
    batches: batches.file,
    targetFiles: await readTargetFiles(publicFolder, [targets.file, batches.file]),
  };
  const trusted = verifyTrust({ pinned: { file: pinnedRoot }, ...files });
  return {
    files,
    trusted,
    targets,
    batches,
    snapshotVersion,
    revocationsVersion: meta.get("revocations.json")?.version ?? 0,
    timestampVersion: timestamp.signed.version,
    statement: verifyStatement(latest, trusted),
  };
}

async function readRoots(publicFolder: string): Promise<readonly Uint8Array[]> {
  const roots: Uint8Array[] = [];
  for (let version = 2; version <= ROOTS_MAX; version++) {
    const file = path.join(publicFolder, "tuf/metadata", metadataFileName("root", version));
    const root = await readFileIfPresent(file, METADATA_BYTES_MAX.root);
    if (!root) break;
    roots.push(root);
  }
  return roots;
}

async function readTargetFiles(
  publicFolder: string,
  roles: readonly Uint8Array[],
): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const [name, { sha256 }] of roles.flatMap((file) => [...parseMetadata("targets", file).signed.targets])) {
    const file = path.join(publicFolder, "tuf/targets", targetFileName(name, sha256));
    files.set(name, await readFileBounded(file, TARGET_BYTES_MAX));
  }
  return files;
}
