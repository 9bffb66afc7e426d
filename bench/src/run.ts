/** Temporary folders, and programs of ours as processes of their own. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/** How often the memory of a program is looked at; the kernel keeps the highest value. */
const LOOK_MS = 20;

export async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), "viafabric-bench-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export interface Ran {
  readonly output: string;
  readonly rssBytes: number;
  readonly code: number;
}

/** Runs a program of ours, and watches the most memory it took. @param exitCodes any other is a failure */
export async function runNode(args: readonly string[], exitCodes: readonly number[] = [0]): Promise<Ran> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise<number | null>((resolve, reject) => child.once("exit", resolve).once("error", reject));
  let [running, rssBytes] = [true, 0];
  const watch = (async () => {
    while (running) {
      const status = await readFile(`/proc/${child.pid}/status`, "latin1").catch(() => "");
      rssBytes = Math.max(rssBytes, 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0));
      await sleep(LOOK_MS);
    }
  })();
  const output = await text(child.stdout);
  const code = await exited;
  running = false;
  await watch;
  if (code === null || !exitCodes.includes(code)) throw new Error(`${args[0]} ended with ${code}: ${output}`);
  return { output, rssBytes, code };
}
