/**
 * Publishing: immutable files first, then hints, then the pointers, in the one order the formats give.
 *
 * A publication is a value. Making it visible takes no decision and keeps no notes: finishing one that died anywhere
 * is running the same one again, because an immutable file that is already there is left alone and a pointer that is
 * already right is written once more. Until a pointer moves, nobody can see what it will point at; so a reader finds
 * the state before or the state after, and whatever a pointer names is present.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { ensureFolder, putImmutable, writeFileDurable } from "@viafabric/platform";

/** A file below the public folder. `path` uses forward slashes. */
export interface PublishedFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/**
 * What moves. Each is optional, because the hourly statement moves one of them and a batch moves all; the order in
 * which they are written is not the caller's choice.
 */
export interface Pointers {
  readonly checkpoint?: Uint8Array;
  readonly timestamp?: Uint8Array;
  readonly status?: Uint8Array;
}

export interface Publication {
  readonly immutable: readonly PublishedFile[];
  /**
   * What may be replaced in place, because no signature names its bytes: `batches/list/<n>`, which nobody trusts, and
   * proofs of the log, which prove themselves.
   */
  readonly hints: readonly PublishedFile[];
  /**
   * A new root. No pointer names it: clients ask for the next number until there is none. So it is visible the moment
   * it is written, and is written after the metadata that enough of its trustees signed.
   */
  readonly roots: readonly PublishedFile[];
  readonly pointers: Pointers;
}

export const CHECKPOINT_PATH = "log/checkpoint";
export const TIMESTAMP_PATH = "tuf/metadata/timestamp.json";
export const STATUS_PATH = "revocation/latest";

/**
 * The order is what makes readers safe: a statement names a batches version and a log size, so metadata must show the
 * version, and the checkpoint cover the size, before the statement says so. Targets that a rotation brings are signed by
 * the quorums of both roots: under the old root a client takes them, under the new one it needs them.
 */
const BEFORE_ROOTS = [
  ["checkpoint", CHECKPOINT_PATH],
  ["timestamp", TIMESTAMP_PATH],
] as const satisfies PointerOrder;
const AFTER_ROOTS = [["status", STATUS_PATH]] as const satisfies PointerOrder;

type PointerOrder = readonly (readonly [keyof Pointers, string])[];

/** Where publications go: a folder here, an object store elsewhere. */
export interface PublicStorage {
  /** Durable on return. Writing the same bytes again succeeds; other bytes at the same path throw. */
  putImmutable(path: string, bytes: Uint8Array): Promise<void>;
  /** Durable and atomic: a reader sees the old bytes or the new ones. */
  replace(path: string, bytes: Uint8Array): Promise<void>;
}

export const EMPTY_PUBLICATION: Publication = { immutable: [], hints: [], roots: [], pointers: {} };

/** Several publications made visible as one: a later pointer or hint takes the place of an earlier one. */
export function mergePublications(...publications: readonly Publication[]): Publication {
  const hints = new Map(publications.flatMap(({ hints }) => hints.map((file) => [file.path, file] as const)));
  return {
    immutable: publications.flatMap(({ immutable }) => immutable),
    hints: [...hints.values()],
    roots: publications.flatMap(({ roots }) => roots),
    pointers: Object.assign({}, ...publications.map(({ pointers }) => pointers)),
  };
}

export async function publish(storage: PublicStorage, publication: Publication): Promise<void> {
  for (const file of publication.immutable) await storage.putImmutable(checkedPath(file.path), file.bytes);
  // Hints name immutable files, so they follow them; they authenticate nothing, so they precede what does.
  for (const file of publication.hints) await storage.replace(checkedPath(file.path), file.bytes);
  const point = async (order: PointerOrder): Promise<void> => {
    for (const [name, at] of order) {
      const bytes = publication.pointers[name];
      if (bytes !== undefined) await storage.replace(at, bytes);
    }
  };
  await point(BEFORE_ROOTS);
  for (const root of publication.roots) await storage.putImmutable(checkedPath(root.path), root.bytes);
  await point(AFTER_ROOTS);
}

/** The public folder of a home, served as it is by any static server. */
export function publicFolder(folder: string): PublicStorage {
  const ensured = new Set<string>();
  const place = async (relative: string): Promise<string> => {
    const file = path.join(folder, relative);
    const parent = path.dirname(file);
    // A thousand files of one publication share a few folders; making each folder durable once is enough.
    if (!ensured.has(parent)) await ensureFolder(parent);
    ensured.add(parent);
    return file;
  };
  return {
    async putImmutable(relative, bytes) {
      await putImmutable(await place(relative), bytes);
    },
    async replace(relative, bytes) {
      // Written again even when equal: the earlier write may not have become durable before its process died.
      await writeFileDurable(await place(relative), bytes);
    },
  };
}

/** Segments as TUF clients and object stores all accept them; none can climb out of the folder. */
const PATH = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$/;

/** Paths are made by this room, never taken from outside; a bad one is our own bug. */
function checkedPath(relative: string): string {
  assert(PATH.test(relative), `not a path below the public folder: ${relative}`);
  return relative;
}
