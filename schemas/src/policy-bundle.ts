/**
 * A policy bundle: any files, under one Merkle manifest that names its lineage.
 *
 * Tokens carry H(policy/lineage.json) for ever. Policies change under it: each manifest names the lineage, its own
 * version and the hash of the manifest before it, so a bundle cannot come from another lineage, and an older one cannot
 * be passed off as new. Nobody needs a new token for a new policy.
 *
 * `root` is the RFC 6962 root over the entries in ascending order of path, leaf data
 * `viafabric/policy-entry/v1` NUL ‖ path ‖ H(file) ‖ u64 length: with a proof of a few hashes one file can be shown to
 * be part of the policy that a node had.
 */
import { concat, equalBytes, formatHex, quote, u64, utf8 } from "./bytes.ts";
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { sha256 } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import { type Hash, hashLeaf, rootOf } from "./merkle.ts";

export interface PolicyEntry {
  readonly path: string;
  readonly hash: Hash;
  readonly length: number;
}

export interface PolicyManifest {
  readonly authority: Uint8Array;
  /** H(policy/lineage.json), which is what tokens carry. */
  readonly lineage: Hash;
  /** 1, 2, 3, … */
  readonly version: number;
  /** H(manifest) of the version before; zeros in version 1. */
  readonly previous: Hash;
  readonly root: Hash;
  /** Ascending by path. */
  readonly entries: readonly PolicyEntry[];
}

/** What a trustee can look through, and what fits into the targets metadata that lists every file. */
export const POLICY_FILES_MAX = 256;
/** Of all files together: minutes on a line of the village, and small beside a proposal of tokens. */
export const POLICY_BYTES_MAX = 4 * 1024 * 1024;
const PATH_LENGTH_MAX = 128;
const DEPTH_MAX = 8;
const VERSION_MAX = 2 ** 32 - 1;
const MANIFEST_BYTES_MAX = 64 * 1024;
const NO_PREVIOUS = new Uint8Array(32);
const SEGMENT = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/;

/** Plain names in at most eight folders: no hidden file, no way out of the folder a bundle is unpacked into. */
export function isPolicyPath(path: string): boolean {
  const segments = path.split("/");
  return path.length <= PATH_LENGTH_MAX && segments.length <= DEPTH_MAX && segments.every((name) => SEGMENT.test(name));
}

/**
 * The same files give the same manifest, whoever makes it.
 * @param previous manifest bytes of the version before. @throws FormatError ERR_POLICY_BUNDLE
 */
export function policyManifestOf(
  authority: Uint8Array,
  lineage: Hash,
  previous: Uint8Array | undefined,
  files: ReadonlyMap<string, Uint8Array>,
): PolicyManifest {
  const entries = [...files]
    .map(([path, bytes]): PolicyEntry => ({ path, hash: sha256(bytes), length: bytes.length }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  assertEntries(entries);
  return {
    authority,
    lineage,
    version: previous ? decodePolicyManifest(previous).version + 1 : 1,
    previous: previous ? sha256(previous) : NO_PREVIOUS,
    root: policyRootOf(entries),
    entries,
  };
}

/** The RFC 6962 root over the entries. */
export function policyRootOf(entries: readonly PolicyEntry[]): Hash {
  return rootOf(entries.map((entry) => hashLeaf(policyLeaf(entry))));
}

/** Leaf data of one file. Hash and length have fixed sizes, so no two entries have the same bytes. */
export function policyLeaf({ path, hash, length }: PolicyEntry): Uint8Array {
  return concat(utf8("viafabric/policy-entry/v1\0"), utf8(path), hash, u64(length));
}

export function encodePolicyManifest(manifest: PolicyManifest): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, manifest.authority],
      [3, manifest.lineage],
      [4, manifest.version],
      [5, manifest.previous],
      [6, manifest.root],
      [7, manifest.entries.map(({ path, hash, length }) => [path, hash, length])],
    ]),
  );
}

/** @throws FormatError ERR_POLICY_BUNDLE, also where the root is not that of the entries */
export function decodePolicyManifest(bytes: Uint8Array): PolicyManifest {
  if (bytes.length > MANIFEST_BYTES_MAX) throw wrong(`a manifest of ${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, CODE), [1, 2, 3, 4, 5, 6, 7], CODE);
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)} of the format`);
  const entries = fields.array(7, POLICY_FILES_MAX).map(asEntry);
  assertEntries(entries);
  const manifest = {
    authority: fields.bytes(2, 32),
    lineage: fields.bytes(3, 32),
    version: fields.integer(4, VERSION_MAX, 1),
    previous: fields.bytes(5, 32),
    root: fields.bytes(6, 32),
    entries,
  };
  if (!equalBytes(manifest.root, policyRootOf(entries))) throw wrong("the root is not that of its entries");
  if ((manifest.version === 1) !== equalBytes(manifest.previous, NO_PREVIOUS))
    throw wrong("version 1, and only version 1, has no version before it");
  return manifest;
}

/** @throws FormatError ERR_POLICY_BUNDLE unless `files` are exactly what the manifest lists */
export function assertPolicyFiles({ entries }: PolicyManifest, files: ReadonlyMap<string, Uint8Array>): void {
  if (files.size !== entries.length) throw wrong(`${files.size} files, where the manifest lists ${entries.length}`);
  for (const { path, hash, length } of entries) {
    const bytes = files.get(path);
    if (!bytes) throw wrong(`${path} is missing`);
    if (bytes.length !== length || !equalBytes(sha256(bytes), hash))
      throw wrong(`${path} is not the file ${formatHex(hash)}`);
  }
}

function assertEntries(entries: readonly PolicyEntry[]): void {
  if (entries.length === 0 || entries.length > POLICY_FILES_MAX)
    throw wrong(`${entries.length} files; a bundle has 1 to ${POLICY_FILES_MAX}`);
  const total = entries.reduce((sum, { length }) => sum + length, 0);
  if (total > POLICY_BYTES_MAX) throw wrong(`${total} bytes; a bundle has at most ${POLICY_BYTES_MAX}`);
  // One name for two files, on a disk that does not tell `A` from `a`, would be one file of the two.
  const names = new Set<string>();
  for (const [i, { path }] of entries.entries()) {
    if (!isPolicyPath(path)) throw wrong(`the path ${quote(path)}`);
    if (i > 0 && entries[i - 1]!.path >= path) throw wrong("paths do not ascend");
    if (names.has(path.toLowerCase())) throw wrong(`two spellings of ${quote(path)}`);
    names.add(path.toLowerCase());
  }
  for (const { path } of entries)
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1))
      if (names.has(path.slice(0, at).toLowerCase())) throw wrong(`${quote(path.slice(0, at))} is a file and a folder`);
}

function asEntry(value: CborValue): PolicyEntry {
  if (!Array.isArray(value) || value.length !== 3) throw wrong("an entry is path, hash and length");
  const [path, hash, length] = value as readonly CborValue[];
  if (typeof path !== "string") throw wrong("a path that is no text");
  if (!(hash instanceof Uint8Array) || hash.length !== 32) throw wrong(`the hash of ${quote(path)}`);
  if (typeof length !== "number" || length < 0) throw wrong(`the length of ${quote(path)}`);
  return { path, hash, length };
}

const CODE = "ERR_POLICY_BUNDLE";

function wrong(reason: string): FormatError {
  return new FormatError(CODE, `not a policy bundle: ${reason}`);
}
