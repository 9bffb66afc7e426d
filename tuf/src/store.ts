/**
 * The trusted files of a node, kept as one file that is replaced as a whole.
 *
 * tuf-js writes each metadata file in place, so a power cut leaves a torn one and its next start fails for ever. Here a
 * refresh happens in a scratch folder, and only its verified outcome replaces `trust.cbor`, atomically. The pinned root
 * is never in it: what the network can write must not become the anchor.
 */
import path from "node:path";
import { ensureFolder, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import { type CborValue, concat, decodeCbor, encodeCbor, equalBytes, FormatError, sha256 } from "@viafabric/schemas";
import type { TrustFiles } from "./trust.ts";

export type StoredFiles = Omit<TrustFiles, "pinned"> & {
  readonly snapshot: Uint8Array;
  readonly timestamp: Uint8Array;
};

/** Metadata is some 10 kB; profiles and policies may add more. */
const STORE_BYTES_MAX = 32 * 1024 * 1024;
const MAGIC = new Uint8Array([0x56, 0x46, 0x54, 0x31]); // VFT1
const HASH_BYTES = 32;

/** Undefined when there is none, or when it is damaged: both are rebuilt from the pinned root. */
export async function readStore(folder: string): Promise<StoredFiles | undefined> {
  const bytes = await readFileIfPresent(storeFile(folder), STORE_BYTES_MAX);
  if (!bytes) return undefined;
  try {
    return decodeStore(bytes);
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

/** Durable and atomic. */
export async function writeStore(folder: string, files: StoredFiles): Promise<void> {
  await ensureFolder(folder);
  await writeFileDurable(storeFile(folder), encodeStore(files));
}

export function storeFile(folder: string): string {
  return path.join(folder, "trust.cbor");
}

function encodeStore(files: StoredFiles): Uint8Array {
  const body = encodeCbor([
    [...files.roots],
    files.targets,
    files.batches,
    files.snapshot,
    files.timestamp,
    new Map<string, CborValue>(files.targetFiles),
  ]);
  return concat(MAGIC, sha256(body), body);
}

/** The hash tells a damaged file from a forged one: damage is rebuilt quietly, a forged file fails its signatures. */
function decodeStore(bytes: Uint8Array): StoredFiles {
  const body = bytes.subarray(MAGIC.length + HASH_BYTES);
  if (!equalBytes(bytes.subarray(0, MAGIC.length + HASH_BYTES), concat(MAGIC, sha256(body)))) throw damaged();
  const value = decodeCbor(body);
  if (!Array.isArray(value) || value.length !== 6) throw damaged();
  const [roots, targets, batches, snapshot, timestamp, targetFiles] = value as readonly CborValue[];
  if (!Array.isArray(roots) || !(targetFiles instanceof Map)) throw damaged();
  return {
    roots: roots.map(asBytes),
    targets: asBytes(targets),
    batches: asBytes(batches),
    snapshot: asBytes(snapshot),
    timestamp: asBytes(timestamp),
    targetFiles: new Map([...targetFiles].map(([name, file]) => [String(name), asBytes(file)])),
  };
}

function asBytes(value: CborValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw damaged();
  return value;
}

function damaged(): FormatError {
  return new FormatError("ERR_CBOR", "the stored trust is damaged");
}
