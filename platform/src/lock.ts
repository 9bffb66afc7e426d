/**
 * One process at a time in a home folder. The lock file names its holder by process id and start time, so that a
 * lock left by a killed process, even one whose id was given out again, does not block the next.
 */
import { link, readFile, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "@viafabric/schemas";
import { isCode, orFileError, PRIVATE_FILE } from "./files.ts";

/**
 * The lock files that this process holds or is taking. So one that names this process and is met all the same is left
 * from a call that failed after it took effect: whoever opens a home again after an error must not be locked out by
 * itself. Threads of one process do not know of each other; only one of them may lock.
 */
const held = new Set<string>();

/** @returns a function that gives the lock back. @throws OperationError ERR_LOCKED, ERR_FILE */
export async function lockFolder(folder: string, name = "lock"): Promise<() => Promise<void>> {
  const file = path.resolve(folder, name);
  if (held.has(file)) throw new OperationError("ERR_LOCKED", `this process is already working in ${folder}`);
  held.add(file);
  try {
    await orFileError(`could not lock ${folder}`, () => take(file, folder));
  } catch (error) {
    held.delete(file);
    throw error;
  }
  return async () => {
    held.delete(file);
    await orFileError(`could not give back the lock of ${folder}`, () => unlink(file));
  };
}

async function take(file: string, folder: string): Promise<void> {
  const own = `${file}.${process.pid}`;
  await writeFile(own, `${process.pid} ${await startTime(process.pid)}\n`, { mode: PRIVATE_FILE });
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        // link(2) either creates the name or fails: two starters can never both win.
        return await link(own, file);
      } catch (error) {
        if (!isCode(error, "EEXIST")) throw error;
        if (await isHeld(file)) throw new OperationError("ERR_LOCKED", `another process is working in ${folder}`);
        await unlink(file).catch(() => {});
      }
    }
    throw new OperationError("ERR_LOCKED", `another process is taking ${folder}`);
  } finally {
    await unlink(own);
  }
}

async function isHeld(file: string): Promise<boolean> {
  const text = await readFile(file, "utf8").catch(() => "");
  const [pid, started] = text.trim().split(" ");
  return (
    pid !== undefined &&
    pid !== String(process.pid) &&
    started !== undefined &&
    (await startTime(Number(pid))) === started
  );
}

/** Field 22 of /proc/PID/stat; empty when there is no such process. */
async function startTime(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
