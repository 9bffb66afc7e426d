/**
 * The only crash-safe file writing in the house: temporary file, fsync, rename, fsync of the folder.
 *
 * A reader sees the old bytes or the new ones, never a mixture, and what was reported written survives a power cut.
 * After an fsync error the process must not go on as if nothing happened (the page cache may hold what the disk does
 * not), so every error leaves as ERR_FILE and is not retried here.
 */
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, readdir, rename, stat, statfs, unlink } from "node:fs/promises";
import path from "node:path";
import { equalBytes, OperationError } from "@viafabric/schemas";

export const PUBLIC_FILE = 0o644;
export const PRIVATE_FILE = 0o600;
export const PUBLIC_FOLDER = 0o755;
export const PRIVATE_FOLDER = 0o700;

let temporaryCounter = 0;

/** Writes or replaces `file`. Durable and atomic on return. */
export async function writeFileDurable(file: string, bytes: Uint8Array, mode: number = PUBLIC_FILE): Promise<void> {
  const temporary = temporaryName(file);
  await orFileError(`could not write ${file}`, async () => {
    await writeSynced(temporary, bytes, mode);
    try {
      await rename(temporary, file);
    } catch (error) {
      await unlink(temporary);
      throw error;
    }
    await syncFolder(path.dirname(file));
  });
}

/**
 * Creates `file`, durably. The same bytes again succeed, so that a repeated publication is harmless.
 * @throws OperationError ERR_FILE_IMMUTABLE when the file exists with other bytes
 */
export async function putImmutable(file: string, bytes: Uint8Array, mode: number = PUBLIC_FILE): Promise<void> {
  await orFileError(`could not write ${file}`, async () => {
    if ((await sizeIfPresent(file)) === undefined) {
      const temporary = temporaryName(file);
      await writeSynced(temporary, bytes, mode);
      await linkImmutable(temporary, file, bytes);
    } else {
      await checkImmutable(file, bytes);
    }
    await syncFolder(path.dirname(file));
  });
}

/**
 * Gives a complete, synced temporary file its name, and removes the temporary one.
 * link(2) fails where rename(2) would silently replace what another process has just written.
 */
export async function linkImmutable(temporary: string, file: string, bytes: Uint8Array): Promise<void> {
  try {
    await link(temporary, file);
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error;
    await checkImmutable(file, bytes);
  } finally {
    await unlink(temporary);
  }
}

/** @throws OperationError ERR_FILE_IMMUTABLE when `file` does not hold these bytes */
export async function checkImmutable(file: string, bytes: Uint8Array): Promise<void> {
  const existing = await readFileIfPresent(file, Number.MAX_SAFE_INTEGER);
  if (!existing || !equalBytes(existing, bytes)) {
    throw new OperationError("ERR_FILE_IMMUTABLE", `${file} exists with other bytes`);
  }
}

export async function sizeIfPresent(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Undefined when there is no such file. @param bytesMax larger files are refused before they are read. */
export function readFileIfPresent(file: string, bytesMax: number): Promise<Uint8Array | undefined> {
  return orFileError(`could not read ${file}`, async () => {
    let handle: FileHandle;
    try {
      handle = await open(file, constants.O_RDONLY);
    } catch (error) {
      if (isCode(error, "ENOENT") || isCode(error, "ENOTDIR")) return undefined;
      throw error;
    }
    try {
      return await readAll(handle, file, bytesMax);
    } finally {
      await handle.close();
    }
  });
}

async function readAll(handle: FileHandle, file: string, bytesMax: number): Promise<Uint8Array> {
  const { size } = await handle.stat();
  // A pipe says 0: what it gives is counted afterwards.
  const bytes = size > 0 && size <= bytesMax ? await readExactly(handle, size) : undefined;
  if (bytes) return bytes;
  const rest = size > bytesMax ? undefined : await handle.readFile();
  if (rest && rest.length <= bytesMax) return new Uint8Array(rest);
  throw new OperationError("ERR_FILE_TOO_LARGE", `${file} has ${rest?.length ?? size} bytes, more than ${bytesMax}`);
}

/** Undefined when the file turns out to be shorter: it is being written in place, or is no ordinary file. */
async function readExactly(handle: FileHandle, size: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(bytes, at, size - at, at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
  }
  return bytes;
}

/** @throws OperationError ERR_FILE when the file is missing */
export async function readFileBounded(file: string, bytesMax: number): Promise<Uint8Array> {
  const bytes = await readFileIfPresent(file, bytesMax);
  if (!bytes) throw new OperationError("ERR_FILE", `there is no file ${file}`);
  return bytes;
}

/** Creates a folder and its parents; each new name is made durable in its parent. */
export async function ensureFolder(folder: string, mode: number = PUBLIC_FOLDER): Promise<void> {
  await orFileError(`could not create ${folder}`, async () => {
    const first = await mkdir(folder, { recursive: true, mode });
    if (first === undefined) return;
    for (let at = path.resolve(folder); ; at = path.dirname(at)) {
      await syncFolder(path.dirname(at));
      if (at === path.resolve(first)) return;
    }
  });
}

/** What a program of this user may still write to the disk that the folder is on. */
export function freeBytes(folder: string): Promise<number> {
  return orFileError(`could not ask for the free space of ${folder}`, async () => {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  });
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeSynced(file: string, bytes: Uint8Array, mode: number): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, "wx", mode);
    await handle.writeFile(bytes);
    // The umask must not decide who may read what is published, or what is private.
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle?.close();
  }
}

export function temporaryName(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.${temporaryCounter++}.tmp`);
}

/** What temporaryName makes, and nothing else that a person or another program would call a file. */
function isTemporaryName(name: string): boolean {
  return /^\..+\.\d+\.\d+\.tmp$/s.test(name);
}

/**
 * Removes what killed processes have left of unfinished writes, at any depth. They never had a name that anybody reads.
 * Only for whoever holds the lock of this folder's writers: a live writer would lose its file.
 * @returns how many there were
 */
export function removeTemporaries(folder: string): Promise<number> {
  return orFileError(`could not clean up ${folder}`, async () => {
    let removed = 0;
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const at = path.join(folder, entry.name);
      if (entry.isDirectory()) removed += await removeTemporaries(at);
      else if (entry.isFile() && isTemporaryName(entry.name)) {
        await unlink(at);
        removed++;
      }
    }
    return removed;
  });
}

export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}

export async function orFileError<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof OperationError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OperationError("ERR_FILE", `${doing}: ${reason}`, { cause });
  }
}
