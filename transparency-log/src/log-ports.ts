/** What a log needs from the world, and the folders of one machine that provide it. */
import { readdir, stat, unlink } from "node:fs/promises";
import path from "node:path";
import {
  ensureFolder,
  freeBytes,
  orFileError,
  PRIVATE_FILE,
  PRIVATE_FOLDER,
  putImmutableMany,
  type RelativeFile,
  readFileBounded,
  removeTemporaries,
  writeFileDurable,
} from "@viafabric/platform";
import type { MerkleFrontier } from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import { type FetchFile, folderFetch } from "./fetch.ts";
import { growFrontier, rootThread } from "./second-root.ts";
import { SEGMENT_HEADER_BYTES } from "./staging.ts";

/** The newest head that was signed. Apart from the published files, and never restored from a backup. */
export interface LockedHead extends TreeHead {
  /** The signed checkpoint. */
  readonly note: Uint8Array;
}

/**
 * Where the newest signed head lives. It is what makes a fork impossible: two sequencers, or one that was restored
 * from an old backup, cannot both replace the same head.
 */
export interface CheckpointLock {
  /** Undefined before the first append. Never answers with an older head than it answered or accepted before. */
  read(): Promise<LockedHead | undefined>;
  /**
   * Durable on return, atomic, and only if the size held is still `oldSize` (0: none is held); throws otherwise.
   * After an error the caller does not know whether it took place, and reads again.
   */
  replace(oldSize: number, next: LockedHead): Promise<void>;
}

/**
 * Signs the checkpoint of the tree that `entries`, the first at log index `from`, make.
 *
 * It is given the entries rather than a root so that the signer computes the root itself. It must answer a repeated
 * request with the same checkpoint: a crash can lose an answer, and the log then asks again. A FormatError or
 * VerificationError means that it refuses these entries and has signed nothing; any other error, that nobody knows.
 */
export type SignCheckpoint = (entries: readonly Uint8Array[], from: number) => Promise<Uint8Array>;

/** The published files. */
export interface LogFiles {
  readonly read: FetchFile;
  /** Durable on return. Existing equal files are fine, others throw; after an error some may be there. */
  putImmutable(files: readonly RelativeFile[]): Promise<void>;
  /** Durable and atomic. */
  replace(path: string, bytes: Uint8Array): Promise<void>;
  /** What can still be written there. */
  freeBytes(): Promise<number>;
}

/** The journal of appends in progress, private to the log. */
export interface StagingFiles {
  list(): Promise<readonly string[]>;
  read(name: string): Promise<Uint8Array>;
  /** Durable and atomic. */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /** May come back after a crash, unless something was written since. */
  remove(name: string): Promise<void>;
  /** A copy of `frontier`, grown by the entries of the segment as the disk has it. */
  grow(name: string, frontier: MerkleFrontier): Promise<MerkleFrontier>;
  /** What can still be written there. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}

/** One append: 2^20 entries of the largest kind would not fit in memory, so their bytes are limited as well. */
export const APPEND_ENTRIES_MAX = 2 ** 20;
export const APPEND_BYTES_MAX = 2 ** 29;
/** From here on a second thread is worth waking: it takes as long as hashing this much. */
const THREAD_BYTES_MIN = 2 ** 18;

export async function folderFiles(folder: string): Promise<LogFiles> {
  await ensureFolder(folder);
  return {
    read: folderFetch(folder),
    putImmutable: (files) => putImmutableMany(folder, files),
    replace: (file, bytes) => writeFileDurable(path.join(folder, file), bytes),
    freeBytes: () => freeBytes(folder),
  };
}

export async function folderStaging(folder: string): Promise<StagingFiles> {
  await ensureFolder(folder, PRIVATE_FOLDER);
  const list = () => orFileError(`could not read the folder ${folder}`, () => readdir(folder));
  const remove = (name: string) =>
    orFileError(`could not remove ${name} from ${folder}`, () => unlink(path.join(folder, name)));
  // A crash can leave the temporary file of a write that nobody was told about.
  await removeTemporaries(folder);
  const thread = rootThread();
  const read = (name: string) => readFileBounded(path.join(folder, name), APPEND_BYTES_MAX + SEGMENT_HEADER_BYTES);
  return {
    list,
    read,
    write: (name, bytes) => writeFileDurable(path.join(folder, name), bytes, PRIVATE_FILE),
    remove,
    async grow(name, frontier) {
      const { size } = await orFileError(`could not read ${name} in ${folder}`, () => stat(path.join(folder, name)));
      if (size >= THREAD_BYTES_MIN) return thread.ask(path.join(folder, name), frontier);
      return growFrontier(frontier, await read(name));
    },
    freeBytes: () => freeBytes(folder),
    close: () => thread.close(),
  };
}
