/**
 * One process at a time in a home folder. The lock file names its holder by process id and start time, so that a
 * lock left by a killed process, even one whose id was given out again, does not block the next.
 */
import { link, readFile, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "@viafabric/schemas";
import { isCode } from "./files.ts";

/** @returns a function that gives the lock back. @throws OperationError ERR_LOCKED */
export async function lockFolder(folder: string, name = "lock"): Promise<() => Promise<void>> {
  const file = path.join(folder, name);
  const own = `${file}.${process.pid}`;
  await writeFile(own, `${process.pid} ${await startTime(process.pid)}\n`, { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        // link(2) either creates the name or fails: two starters can never both win.
        await link(own, file);
        return () => unlink(file);
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
  return pid !== undefined && started !== undefined && (await startTime(Number(pid))) === started;
}

/** Field 22 of /proc/PID/stat; empty when there is no such process. */
async function startTime(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
