/**
 * A disk for tests that fails one call of a process, or kills it there: `fixtures/bad-disk.c`, compiled and preloaded
 * into a child, and its control file.
 */
import { execFile } from "node:child_process";
import { closeSync, existsSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

const PHASES = { before: 1, halfway: 2, after: 3 } as const;
export type Phase = keyof typeof PHASES;
/** A full disk stays full: after ENOSPC whatever needs room fails, until somebody looks after it. */
export type Blow = "EIO" | "ENOSPC" | "kill";

export interface Fault {
  /** Which call from now on, the first being 1. */
  readonly at: number;
  readonly phase: Phase;
  readonly blow: Blow;
}

const WORDS = 6;
const KILL = 0xffffffff;

export interface BadDisk {
  /** Only what lies below is counted. */
  readonly folder: string;
  /** For the child. */
  readonly environment: Readonly<Record<string, string>>;
  /** The calls of the child so far, each as its name and paths. */
  trace(): Promise<readonly string[]>;
  /** Counts from zero again; without a fault the disk is good. Only while no call is under way. */
  set(fault?: Fault): void;
  /** How many calls there were, and whether one was struck. */
  counters(): { readonly calls: number; readonly struck: boolean };
  remove(): Promise<void>;
}

/** @param traced writes every call down, which takes time. @throws when there is no C compiler */
export async function makeBadDisk(traced = false): Promise<BadDisk> {
  const tools = await mkdtemp(path.join(tmpdir(), "bad-disk-"));
  // What a killed process has written is there in memory too, and thousands of syncs cost nothing.
  const folder = await mkdtemp(path.join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "bad-disk-"));
  const library = path.join(tools, "bad-disk.so");
  const source = fileURLToPath(new URL("../fixtures/bad-disk.c", import.meta.url));
  await run("cc", ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"]);
  const control = path.join(tools, "control");
  writeFileSync(control, new Uint8Array(WORDS * 4));
  const file = openSync(control, "r+");
  const trace = path.join(tools, "trace");
  if (traced) writeFileSync(trace, "");
  return {
    folder,
    environment: {
      LD_PRELOAD: library,
      BAD_DISK_FOLDER: folder,
      BAD_DISK_CONTROL: control,
      ...(traced && { BAD_DISK_TRACE: trace }),
      // One thread: the calls come in the same order each time.
      UV_THREADPOOL_SIZE: "1",
      // Most of the time goes into starting processes.
      NODE_COMPILE_CACHE: path.join(tools, "cache"),
    },
    trace: async () => (await readFile(trace, "utf8")).split("\n").slice(0, -1),
    set(fault) {
      const words = new Uint32Array(WORDS);
      if (fault) words.set([fault.at, PHASES[fault.phase], errorOf(fault.blow), Number(fault.blow === "ENOSPC")]);
      writeSync(file, words, 0, words.byteLength, 0);
    },
    counters() {
      const words = new Uint32Array(2);
      readSync(file, words, 0, words.byteLength, (WORDS - words.length) * 4);
      return { calls: words[0]!, struck: words[1] === 1 };
    },
    async remove() {
      closeSync(file);
      for (const made of [tools, folder]) await rm(made, { recursive: true });
    },
  };
}

function errorOf(blow: Blow): number {
  if (blow === "kill") return KILL;
  return blow === "EIO" ? constants.errno.EIO : constants.errno.ENOSPC;
}
