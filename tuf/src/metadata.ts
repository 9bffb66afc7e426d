/**
 * TUF metadata (specification 1.0, section 4) in the strict profile that every client we know reads alike.
 *
 * A file is { signatures, signed }. Signatures are over the canonical form of `signed`, so this is the one place where
 * what was verified is computed again from what was parsed; TUF leaves no other way. Everything that clients treat
 * differently is refused here: unknown members, names outside ASCII, dates with milliseconds, key ids that are not the
 * hash of their key, one key under two ids, key types that a client might skip.
 */
import {
  type FormatCode,
  FormatError,
  formatHex,
  type PublicKey,
  parseHex,
  parseUtf8,
  quote,
  type Role,
  utf8,
} from "@viafabric/schemas";
import { canonicalJson, escapeControls, type Json, parseCanonicalJson, parseJson } from "./canonical.ts";
import { JsonFields } from "./fields.ts";
import { keyId, parseKeyJson, type TufSignature } from "./keys.ts";

export const SPEC_VERSION = "1.0.31";
export const HEAD_PATH = "batches/head.cbor";
export const STATEMENT_PATH = "revocation/statement";

interface SignedCommon {
  readonly version: number;
  /** Unix seconds. */
  readonly expires: number;
}

export interface Root extends SignedCommon {
  readonly type: "root";
  readonly roles: Readonly<Record<TopRole, Role>>;
}

export interface Targets extends SignedCommon {
  readonly type: "targets";
  readonly targets: ReadonlyMap<string, FileInfo>;
  readonly delegations: readonly Delegation[];
}

export interface Snapshot extends SignedCommon {
  readonly type: "snapshot";
  /** By file name without version: `targets.json`. */
  readonly meta: ReadonlyMap<string, MetaInfo>;
}

export interface Timestamp extends SignedCommon {
  readonly type: "timestamp";
  readonly snapshot: MetaInfo;
}

export type Signed = Root | Targets | Snapshot | Timestamp;
export type MetadataType = Signed["type"];
export type TopRole = "root" | "targets" | "snapshot" | "timestamp";

export interface FileInfo {
  readonly length: number;
  readonly sha256: Uint8Array;
}

export interface MetaInfo extends FileInfo {
  readonly version: number;
}

export interface Delegation {
  readonly name: string;
  readonly role: Role;
  readonly paths: readonly string[];
  readonly terminating: boolean;
}

/** A parsed file. Nothing in it has been verified. */
export interface Metadata<S extends Signed = Signed> {
  readonly signed: S;
  /** What the signatures are over. */
  readonly signedBytes: Uint8Array;
  readonly signatures: readonly TufSignature[];
  /** The file as it was read. */
  readonly file: Uint8Array;
}

/** Below what any client accepts; the targets role lists a handful of files, never batches. */
export const METADATA_BYTES_MAX: Readonly<Record<MetadataType, number>> = {
  root: 128 * 1024,
  targets: 256 * 1024,
  snapshot: 64 * 1024,
  timestamp: 16 * 1024,
};
export const VERSION_MAX = 2 ** 32 - 1;
const KEYS_MAX = 64;
const SIGNATURES_MAX = 64;
const TARGETS_MAX = 1024;
const DELEGATIONS_MAX = 16;
export const TARGET_BYTES_MAX = 16 * 1024 * 1024;
/** DER of a P-256 signature is at most 72 bytes. */
const SIGNATURE_BYTES_MAX = 72;
const TOP_ROLES: readonly TopRole[] = ["root", "targets", "snapshot", "timestamp"];

export function parseMetadata<T extends MetadataType>(
  type: T,
  file: Uint8Array,
): Metadata<Extract<Signed, { type: T }>> {
  if (file.length > METADATA_BYTES_MAX[type]) throw wrong(`${type} metadata of ${file.length} bytes`);
  const fields = recode(() => new JsonFields(parseJson(file), "metadata", ["signatures", "signed"]));
  const signedBytes = recode(() => canonicalJson(fields.value("signed")));
  const signatures = fields.array("signatures", SIGNATURES_MAX).map(asSignature);
  if (new Set(signatures.map((s) => s.keyid)).size < signatures.length) throw wrong("two signatures by one key id");
  return { signed: asSigned(type, fields.value("signed")), signedBytes, signatures, file };
}

/** Reads what is to be signed: canonical bytes without signatures. */
export function parseSigned<T extends MetadataType>(type: T, signedBytes: Uint8Array): Extract<Signed, { type: T }> {
  if (signedBytes.length > METADATA_BYTES_MAX[type]) throw wrong(`a signed part of ${signedBytes.length} bytes`);
  return asSigned(
    type,
    recode(() => parseCanonicalJson(signedBytes)),
  );
}

/** The metadata file, in one spelling for given bytes and signatures. */
export function assemble(signedBytes: Uint8Array, signatures: readonly TufSignature[]): Uint8Array {
  const list = [...signatures]
    .sort((a, b) => (a.keyid < b.keyid ? -1 : 1))
    .map(({ keyid, sig }) => ({ keyid, sig: formatHex(sig) }));
  return utf8(`{"signatures":${JSON.stringify(list)},"signed":${escapeControls(parseUtf8(signedBytes))}}`);
}

/** `3.batches.json`; only the timestamp has no version in its name. */
export function metadataFileName(role: string, version: number): string {
  return role === "timestamp" ? "timestamp.json" : `${version}.${role}.json`;
}

/** Consistent snapshots: `batches/<sha256>.head.cbor`. */
export function targetFileName(path: string, sha256: Uint8Array): string {
  const slash = path.lastIndexOf("/") + 1;
  return `${path.slice(0, slash)}${formatHex(sha256)}.${path.slice(slash)}`;
}

/** YYYY-MM-DDTHH:MM:SSZ, the only spelling that every client reads back to the same bytes. */
export function formatExpires(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(/\.\d{3}Z$/, "Z");
}

export function parseExpires(text: string): number {
  const milliseconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(milliseconds) || formatExpires(milliseconds / 1000) !== text)
    throw wrong(`not a date as YYYY-MM-DDTHH:MM:SSZ: ${quote(text)}`);
  return milliseconds / 1000;
}

/** A name that looks like a number would be reordered by JavaScript, and then the bytes differ. */
export function isRoleName(name: string): boolean {
  return /^[a-z][a-z0-9-]{0,31}$/.test(name) && !isInherited(name);
}

/** Literal segments of plain characters: no pattern that two clients match differently, no way out of a folder. */
export function isTargetPath(path: string): boolean {
  const isPlain = path.length <= 256 && /^[A-Za-z0-9_-][A-Za-z0-9_.-]*(\/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$/.test(path);
  return isPlain && !isInherited(path);
}

/** `constructor`, `__proto__`: a client that looks names up in a plain object finds these where nothing is listed. */
function isInherited(name: string): boolean {
  return name in Object.prototype;
}

function asSigned<T extends MetadataType>(type: T, value: Json): Extract<Signed, { type: T }> {
  return READERS[type](value) as Extract<Signed, { type: T }>;
}

const READERS: Readonly<Record<MetadataType, (value: Json) => Signed>> = {
  root(value) {
    const fields = signedFields(value, "root", ["consistent_snapshot", "keys", "roles"]);
    if (fields.value("consistent_snapshot") !== true) throw fields.wrong("must have consistent snapshots");
    const keys = asKeys(fields.members("keys", KEYS_MAX));
    const roles = new JsonFields(fields.value("roles"), "root roles", TOP_ROLES);
    const used = TOP_ROLES.map((name) => [name, asRole(roles.value(name), keys, name)] as const);
    assertAllUsed(
      keys,
      used.map(([, role]) => role),
    );
    return { ...common(fields), type: "root", roles: Object.fromEntries(used) as Record<TopRole, Role> };
  },
  targets(value) {
    const fields = signedFields(value, "targets", ["targets"], ["delegations"]);
    const targets = new Map<string, FileInfo>();
    for (const [path, info] of fields.members("targets", TARGETS_MAX)) {
      if (!isTargetPath(path)) throw fields.wrong(`lists a path that clients may read differently: ${quote(path)}`);
      targets.set(path, asFileInfo(new JsonFields(info, `target ${path}`, ["hashes", "length"])));
    }
    const delegations = fields.has("delegations") ? asDelegations(fields.value("delegations")) : [];
    return { ...common(fields), type: "targets", targets, delegations };
  },
  snapshot(value) {
    const fields = signedFields(value, "snapshot", ["meta"]);
    const meta = new Map<string, MetaInfo>();
    for (const [name, info] of fields.members("meta", DELEGATIONS_MAX + 1)) {
      if (!name.endsWith(".json") || !isRoleName(name.slice(0, -5))) throw fields.wrong(`lists ${quote(name)}`);
      meta.set(name, asMetaInfo(info, name));
    }
    if (!meta.has("targets.json")) throw fields.wrong("lacks targets.json");
    return { ...common(fields), type: "snapshot", meta };
  },
  timestamp(value) {
    const fields = signedFields(value, "timestamp", ["meta"]);
    const meta = new JsonFields(fields.value("meta"), "timestamp meta", ["snapshot.json"]);
    return { ...common(fields), type: "timestamp", snapshot: asMetaInfo(meta.value("snapshot.json"), "snapshot.json") };
  },
};

function signedFields(
  value: Json,
  type: MetadataType,
  required: readonly string[],
  optional: readonly string[] = [],
): JsonFields {
  const all = ["_type", "spec_version", "version", "expires", ...required];
  const fields = new JsonFields(value, `${type} metadata`, all, optional);
  if (fields.value("_type") !== type) throw fields.wrong(`is of type ${quote(JSON.stringify(fields.value("_type")))}`);
  if (fields.value("spec_version") !== SPEC_VERSION) throw fields.wrong(`is not of specification ${SPEC_VERSION}`);
  return fields;
}

function common(fields: JsonFields): SignedCommon {
  return { version: fields.integer("version", 1, VERSION_MAX), expires: parseExpires(fields.text("expires", 20)) };
}

function asKeys(members: ReadonlyMap<string, Json>): ReadonlyMap<string, PublicKey> {
  const keys = new Map<string, PublicKey>();
  for (const [id, value] of members) {
    const key = recode(() => parseKeyJson(value));
    // Also the guard against one key under two ids: a key has one spelling here, hence one id.
    if (keyId(key) !== id) throw wrong(`key id ${quote(id)} is not the hash of its key`);
    keys.set(id, key);
  }
  return keys;
}

function asRole(value: Json, keys: ReadonlyMap<string, PublicKey>, name: string): Role {
  return roleOf(new JsonFields(value, `role ${name}`, ["keyids", "threshold"]), keys);
}

function roleOf(fields: JsonFields, keys: ReadonlyMap<string, PublicKey>): Role {
  const ids = fields.array("keyids", KEYS_MAX);
  if (new Set(ids).size < ids.length) throw fields.wrong("names a key id twice");
  const roleKeys = ids.map((id) => {
    const key = typeof id === "string" ? keys.get(id) : undefined;
    if (!key) throw fields.wrong(`names a key id without a key: ${quote(String(id))}`);
    return key;
  });
  return { keys: roleKeys, threshold: fields.integer("threshold", 1, roleKeys.length) };
}

function assertAllUsed(keys: ReadonlyMap<string, PublicKey>, roles: readonly Role[]): void {
  const used = new Set(roles.flatMap((role) => role.keys));
  for (const [id, key] of keys) if (!used.has(key)) throw wrong(`key ${id} belongs to no role`);
}

function asDelegations(value: Json): readonly Delegation[] {
  const fields = new JsonFields(value, "delegations", ["keys", "roles"]);
  const keys = asKeys(fields.members("keys", KEYS_MAX));
  const delegations = fields.array("roles", DELEGATIONS_MAX).map((item) => asDelegation(item, keys));
  if (new Set(delegations.map((d) => d.name)).size < delegations.length) throw fields.wrong("name a role twice");
  assertAllUsed(
    keys,
    delegations.map((d) => d.role),
  );
  return delegations;
}

function asDelegation(value: Json, keys: ReadonlyMap<string, PublicKey>): Delegation {
  const fields = new JsonFields(value, "delegated role", ["keyids", "name", "paths", "terminating", "threshold"]);
  const name = fields.text("name", 32);
  if (!isRoleName(name) || (TOP_ROLES as readonly string[]).includes(name))
    throw fields.wrong(`has the name ${quote(name)}`);
  const paths = fields.array("paths", 16).map((path) => {
    if (typeof path !== "string" || !isTargetPath(path)) throw fields.wrong(`has the path ${quote(String(path))}`);
    return path;
  });
  const terminating = fields.value("terminating");
  if (typeof terminating !== "boolean") throw fields.wrong("does not say whether it is terminating");
  return { name, role: roleOf(fields, keys), paths, terminating };
}

function asFileInfo(fields: JsonFields): FileInfo {
  const hashes = new JsonFields(fields.value("hashes"), "hashes", ["sha256"]);
  const sha256 = recode(() => parseHex(hashes.text("sha256", 64), 32));
  return { length: fields.integer("length", 0, TARGET_BYTES_MAX), sha256 };
}

function asMetaInfo(value: Json, name: string): MetaInfo {
  const fields = new JsonFields(value, `entry ${name}`, ["hashes", "length", "version"]);
  return { ...asFileInfo(fields), version: fields.integer("version", 1, VERSION_MAX) };
}

function asSignature(value: Json): TufSignature {
  const fields = new JsonFields(value, "signature", ["keyid", "sig"]);
  const keyid = fields.text("keyid", 64);
  const sig = fields.text("sig", 2 * SIGNATURE_BYTES_MAX);
  return recode(() => ({ keyid: formatHex(parseHex(keyid, 32)), sig: parseHex(sig) }));
}

/** Whatever is malformed inside metadata makes it malformed metadata; the reason stays in the message. */
function recode<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError) || error.code === ("ERR_METADATA" satisfies FormatCode)) throw error;
    throw new FormatError("ERR_METADATA", error.message, { cause: error });
  }
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_METADATA", reason);
}
