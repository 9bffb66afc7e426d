/**
 * TUF metadata as it is published: the next versions of the roles, under names that never change content.
 *
 * Consistent snapshots (TUF specification 6.2): every file but the timestamp carries its version or its hash in its
 * name, so a client in the middle of a refresh never meets a mixture. What trustees sign comes from signing events;
 * snapshot, timestamp and revocations are planned here and signed by the HSM behind `sign`.
 */
import { type PublicKey, sha256, utf8 } from "@viafabric/schemas";
import {
  assemble,
  buildBatches,
  buildRevocations,
  buildSnapshot,
  buildTimestamp,
  GENESIS_ROLES,
  HEAD_PATH,
  metadataFileName,
  STATEMENT_PATH,
  type TufSignature,
  targetFileName,
} from "@viafabric/tuf";
import { trustEntry } from "./bundle-files.ts";
import { type Genesis, LIFETIMES, logVerifierKey } from "./genesis.ts";
import type { SignedGenesis } from "./genesis-folder.ts";
import type { Publication, PublishedFile } from "./publisher.ts";

/** One version of a role, as published. */
export interface RoleFile {
  readonly version: number;
  readonly file: Uint8Array;
}

/** What is published now. `revocations` and the online roles are undefined before the first publication. */
export interface MetadataState {
  readonly targets: RoleFile;
  readonly batches: RoleFile;
  readonly revocations?: RoleFile;
  readonly snapshotVersion: number;
  readonly timestampVersion: number;
}

export type OnlineRole = "snapshot" | "timestamp" | "revocations";

/** Signs canonical bytes with the HSM's key of that role; the bounded signer decides whether it may. */
export type SignMetadata = (role: OnlineRole, signedBytes: Uint8Array) => Promise<readonly TufSignature[]>;

/**
 * Signed again every day, valid for thirty: a node that sees no refresh for a month has lost contact, and what it may
 * still accept is the business of the statement's age, not of these.
 */
export const ONLINE_LIFETIME_SECONDS = 30 * 86_400;

/** The signed part of the next `batches`: what trustees are asked to sign. @param version above every one ever proposed */
export function planBatchesMetadata(
  version: number,
  headBytes: Uint8Array,
  now: number,
  lifetime: number = LIFETIMES.batches,
): Uint8Array {
  return buildBatches({ version, expires: now + lifetime, head: headBytes });
}

/**
 * The next snapshot and timestamp over what changed, and revocations where a statement is given: one publication.
 * The same arguments give the same bytes to sign, so a plan that died is signed again, not differently.
 */
export async function nextOnlineMetadata(
  state: MetadataState,
  change: { readonly batches?: RoleFile; readonly targets?: RoleFile; readonly statement?: Uint8Array },
  sign: SignMetadata,
  now: number,
): Promise<{ readonly state: MetadataState; readonly publication: Publication }> {
  const expires = now + ONLINE_LIFETIME_SECONDS;
  const signed = async (role: OnlineRole, version: number, bytes: Uint8Array): Promise<RoleFile> => {
    return { version, file: assemble(bytes, await sign(role, bytes)) };
  };
  const nextRevocations = (statement: Uint8Array): Promise<RoleFile> => {
    const version = (state.revocations?.version ?? 0) + 1;
    return signed("revocations", version, buildRevocations({ version, expires, statement }));
  };
  const targets = change.targets ?? state.targets;
  const batches = change.batches ?? state.batches;
  const revocations = change.statement ? await nextRevocations(change.statement) : state.revocations;
  // An entry once listed stays for ever: clients take its loss for an attack.
  const roles = new Map([
    ["targets", targets],
    ["batches", batches],
    ...(revocations ? ([["revocations", revocations]] as const) : []),
  ]);
  const snapshotVersion = state.snapshotVersion + 1;
  const snapshot = await signed(
    "snapshot",
    snapshotVersion,
    buildSnapshot({ version: snapshotVersion, expires, roles }),
  );
  const timestampVersion = state.timestampVersion + 1;
  const timestampBytes = buildTimestamp({ version: timestampVersion, expires, snapshot });
  const timestamp = await signed("timestamp", timestampVersion, timestampBytes);
  const immutable = [
    ...(change.targets ? [roleFile("targets", change.targets)] : []),
    ...(change.batches ? [roleFile("batches", change.batches)] : []),
    ...(change.statement && revocations
      ? [targetFile(STATEMENT_PATH, change.statement), roleFile("revocations", revocations)]
      : []),
    roleFile("snapshot", snapshot),
  ];
  return {
    state: { targets, batches, ...(revocations ? { revocations } : {}), snapshotVersion, timestampVersion },
    publication: { immutable, hints: [], roots: [], pointers: { timestamp: timestamp.file } },
  };
}

/** The head of a batches version, where TUF clients look for it. */
export function headFile(headBytes: Uint8Array): PublishedFile {
  return targetFile(HEAD_PATH, headBytes);
}

/** `tuf/targets/trust/<sha256>.keys.cbor` */
export function targetFile(path: string, bytes: Uint8Array): PublishedFile {
  return { path: `tuf/targets/${targetFileName(path, sha256(bytes))}`, bytes };
}

/** `tuf/metadata/3.batches.json` */
export function roleFile(role: string, { version, file }: RoleFile): PublishedFile {
  return { path: `tuf/metadata/${metadataFileName(role, version)}`, bytes: file };
}

/** The root where TUF clients look for it, and where people look for what they pin. */
export function rootFiles(root: RoleFile): readonly PublishedFile[] {
  return [roleFile("root", root), { path: `root/${root.version}.root.json`, bytes: root.file }];
}

/** Everything of genesis that can be published before the first statement exists. */
export function genesisFiles(genesis: Genesis, signed: SignedGenesis, logKey: PublicKey): readonly PublishedFile[] {
  const first = (file: Uint8Array): RoleFile => ({ version: 1, file });
  return [
    ...rootFiles(first(signed.files.root)),
    ...[...genesis.targetFiles].map(([path, bytes]) => targetFile(path, bytes)),
    headFile(genesis.headBytes),
    roleFile("targets", first(signed.files.targets)),
    roleFile("batches", first(signed.files.batches)),
    { path: "log.vkey", bytes: utf8(`${logVerifierKey(genesis.settings.logOrigin, logKey)}\n`) },
  ];
}

/** Before the first publication: what genesis signed, and no online role yet. */
export function genesisMetadata(signed: SignedGenesis): MetadataState {
  const first = (file: Uint8Array): RoleFile => ({ version: 1, file });
  return {
    targets: first(signed.files.targets),
    batches: first(signed.files.batches),
    snapshotVersion: 0,
    timestampVersion: 0,
  };
}

/** The `05` entries that come before any of it is published. */
export function genesisEntries(signed: SignedGenesis): readonly Uint8Array[] {
  return GENESIS_ROLES.map((role) => trustEntry(role, 1, signed.files[role]));
}
