/**
 * Builds what is to be signed: canonical bytes of root, targets, delegated roles, snapshot and timestamp.
 *
 * Everything built is read back with the strict parser before it leaves, so no builder can make what a verifier of ours
 * refuses.
 */
import { formatHex, type PublicKey, type Role, sha256 } from "@viafabric/schemas";
import { canonicalJson, type Json, type JsonObject } from "./canonical.ts";
import { keyId, keyJson } from "./keys.ts";
import {
  type FileInfo,
  formatExpires,
  HEAD_PATH,
  type MetadataType,
  parseSigned,
  SPEC_VERSION,
  STATEMENT_PATH,
  type TopRole,
} from "./metadata.ts";

interface Common {
  readonly version: number;
  /** Unix seconds. */
  readonly expires: number;
}

/** Target files by path: their bytes, or length and hash where the bytes are elsewhere. */
export type TargetFiles = ReadonlyMap<string, Uint8Array | FileInfo>;

/** Metadata files by role name, e.g. `targets`. */
export type MetadataFiles = ReadonlyMap<string, { readonly version: number; readonly file: Uint8Array }>;

export function buildRoot(root: Common & { readonly roles: Readonly<Record<TopRole, Role>> }): Uint8Array {
  const { roles } = root;
  return build("root", root, {
    consistent_snapshot: true,
    keys: keysJson(Object.values(roles)),
    roles: Object.fromEntries(Object.entries(roles).map(([name, role]) => [name, roleJson(role)])),
  });
}

/**
 * The targets role with its two delegations, each terminating and each for one path.
 * @param targets.revocations a role of threshold 1; absent where statements are not distributed through TUF
 */
export function buildTargets(
  targets: Common & { readonly targets: TargetFiles; readonly batches: Role; readonly revocations?: Role },
): Uint8Array {
  const { batches, revocations } = targets;
  const delegated: readonly (readonly [string, Role, string])[] = [
    ["batches", batches, HEAD_PATH],
    ...(revocations ? [["revocations", revocations, STATEMENT_PATH] as const] : []),
  ];
  return build("targets", targets, {
    targets: targetsJson(targets.targets),
    delegations: {
      keys: keysJson(delegated.map(([, role]) => role)),
      roles: delegated.map(([name, role, path]) => ({ name, ...roleJson(role), paths: [path], terminating: true })),
    },
  });
}

/** A delegated targets role, without delegations of its own. */
export function buildDelegated(role: Common & { readonly targets: TargetFiles }): Uint8Array {
  return build("targets", role, { targets: targetsJson(role.targets) });
}

/** @param batches.head bytes of the one target of this role */
export function buildBatches(batches: Common & { readonly head: Uint8Array }): Uint8Array {
  return buildDelegated({ ...batches, targets: new Map([[HEAD_PATH, batches.head]]) });
}

/** @param revocations.statement the day's status statement, a signed note */
export function buildRevocations(revocations: Common & { readonly statement: Uint8Array }): Uint8Array {
  return buildDelegated({ ...revocations, targets: new Map([[STATEMENT_PATH, revocations.statement]]) });
}

/** @param snapshot.roles targets and every delegated role. An entry once listed stays: clients take its loss for an attack. */
export function buildSnapshot(snapshot: Common & { readonly roles: MetadataFiles }): Uint8Array {
  const entries = [...snapshot.roles].map(([name, meta]) => [`${name}.json`, metaJson(meta)] as const);
  return build("snapshot", snapshot, { meta: Object.fromEntries(entries) });
}

export function buildTimestamp(
  timestamp: Common & { readonly snapshot: { readonly version: number; readonly file: Uint8Array } },
): Uint8Array {
  return build("timestamp", timestamp, { meta: { "snapshot.json": metaJson(timestamp.snapshot) } });
}

function build(type: MetadataType, { version, expires }: Common, rest: JsonObject): Uint8Array {
  const bytes = canonicalJson({
    _type: type,
    spec_version: SPEC_VERSION,
    version,
    expires: formatExpires(expires),
    ...rest,
  });
  parseSigned(type, bytes);
  return bytes;
}

function keysJson(roles: readonly Role[]): JsonObject {
  const keys = roles.flatMap((role): readonly PublicKey[] => role.keys);
  return Object.fromEntries(keys.map((key) => [keyId(key), keyJson(key)]));
}

function roleJson(role: Role): { readonly keyids: readonly string[]; readonly threshold: number } {
  return { keyids: role.keys.map(keyId).sort(), threshold: role.threshold };
}

function targetsJson(files: TargetFiles): JsonObject {
  return Object.fromEntries([...files].map(([path, file]) => [path, infoJson(fileInfo(file))]));
}

function metaJson({ version, file }: { readonly version: number; readonly file: Uint8Array }): Json {
  return { version, ...infoJson(fileInfo(file)) };
}

function infoJson(info: FileInfo): { readonly length: number; readonly hashes: { readonly sha256: string } } {
  return { length: info.length, hashes: { sha256: formatHex(info.sha256) } };
}

export function fileInfo(file: Uint8Array | FileInfo): FileInfo {
  return file instanceof Uint8Array ? { length: file.length, sha256: sha256(file) } : file;
}
