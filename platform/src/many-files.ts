/**
 * Many immutable files at once, each as safe as putImmutable makes one.
 *
 * A disk commits its journal once for all that was written before, so all files of a group are written first and
 * synced then: the first sync does the work of the others. One file after the other takes several times as long.
 */
import { type FileHandle, open, unlink } from "node:fs/promises";
import path from "node:path";
import {
  checkImmutable,
  ensureFolder,
  linkImmutable,
  orFileError,
  PUBLIC_FILE,
  sizeIfPresent,
  syncFolder,
  temporaryName,
} from "./files.ts";

/** A file below a folder. `path` uses forward slashes. */
export interface RelativeFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Open at once: well below the limit of 1024 that processes usually have. */
const GROUP_FILES = 256;
/** More only queue for the same four threads of the runtime. */
const WRITERS = 16;

interface Staged {
  readonly file: string;
  readonly temporary: string;
  readonly bytes: Uint8Array;
  readonly handle: FileHandle;
}

/**
 * Durable on return. The same files again succeed; after an error some may be there and others not.
 * @throws OperationError ERR_FILE_IMMUTABLE when one exists with other bytes
 */
export async function putImmutableMany(folder: string, files: readonly RelativeFile[]): Promise<void> {
  const placed = files.map((file) => ({ file: path.join(folder, file.path), bytes: file.bytes }));
  const parents = [...new Set(placed.map(({ file }) => path.dirname(file)))];
  await each(parents, (parent) => ensureFolder(parent));
  await orFileError(`could not write to ${folder}`, async () => {
    for (let at = 0; at < placed.length; at += GROUP_FILES) await putGroup(placed.slice(at, at + GROUP_FILES));
    await each(parents, syncFolder);
  });
}

async function putGroup(files: readonly { readonly file: string; readonly bytes: Uint8Array }[]): Promise<void> {
  const staged: Staged[] = [];
  try {
    await each(files, async ({ file, bytes }) => {
      if ((await sizeIfPresent(file)) !== undefined) return checkImmutable(file, bytes);
      const temporary = temporaryName(file);
      const handle = await open(temporary, "wx", PUBLIC_FILE);
      staged.push({ file, temporary, bytes, handle });
      await handle.writeFile(bytes);
      // The umask must not decide who may read what is published.
      await handle.chmod(PUBLIC_FILE);
    });
    await each(staged, ({ handle }) => handle.sync());
  } catch (error) {
    await each(staged, ({ handle }) => handle.close());
    await each(staged, ({ temporary }) => unlink(temporary));
    throw error;
  }
  await each(staged, ({ handle }) => handle.close());
  await each(staged, ({ temporary, file, bytes }) => linkImmutable(temporary, file, bytes));
}

/** Some at a time. An error is thrown only when nothing is at work any more, so that the caller can clean up. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(WRITERS, items.length) }, worker));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
