/**
 * The Go peers: programs of other people that read our log (test/peers/go-log) and our TUF repositories
 * (test/peers/go-tuf), cosign it or ask for a cosignature (test/peers/go-witness), built from their locked modules.
 *
 * A machine without Go, or without a way to the modules, can still run the other tests; under CI a missing peer is a
 * failure, because there nobody would notice. A peer that does not compile is a failure everywhere.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

export const LITEWITNESS = "filippo.io/torchwood/cmd/litewitness";
export const OMNIWITNESS = "github.com/transparency-dev/witness/cmd/omniwitness";
export const SIGSUM_REQUEST = "sigsum.org/sigsum-go/tests/mk-add-checkpoint-request";

/** Modules are downloaded and compiled once: on a cold machine with two cores that takes minutes. */
const BUILD_MS = 900_000;
const RUN_MS = 300_000;
/** The toolchain that is there, and no other; nothing is compiled that go.sum does not lock. */
const GO_ENVIRONMENT = { ...process.env, GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly -trimpath -buildvcs=false" };

export type GoPeer = { readonly binary: string } | { readonly missing: string };

/**
 * @param program the package to build; by default our own
 * @param folder the module in test/peers
 */
export async function goPeer(program = ".", folder: "go-log" | "go-tuf" | "go-witness" = "go-log"): Promise<GoPeer> {
  const options = {
    cwd: path.join(root, "test/peers", folder),
    env: GO_ENVIRONMENT,
    timeout: BUILD_MS,
    maxBuffer: 64 * 1024 * 1024,
  };
  try {
    // Fetches what is not there yet, and compiles nothing.
    await run("go", ["list", "-deps", program], options);
  } catch (error) {
    return { missing: `Go or its modules cannot be had: ${lastLine(error)}` };
  }
  const binaries = path.join(root, "node_modules/.cache/viafabric", folder);
  await mkdir(binaries, { recursive: true });
  const binary = path.join(binaries, program === "." ? folder : path.basename(program));
  await run("go", ["build", "-o", binary, program], options);
  return { binary };
}

/** What to tell node:test's `skip`. @throws Error under CI, where a missing peer is a failure */
export function skipReason(peer: GoPeer): string | false {
  if ("binary" in peer) return false;
  if (process.env.CI === "true") throw new Error(`the Go peer is missing: ${peer.missing}`);
  return `SKIPPED, no Go peer: ${peer.missing}`;
}

export interface GoAnswer {
  readonly ok: boolean;
  readonly error?: string;
  readonly [key: string]: unknown;
}

export async function runGo(peer: GoPeer, ...args: readonly string[]): Promise<GoAnswer> {
  const options = { timeout: RUN_MS, maxBuffer: 64 * 1024 * 1024 };
  const stdout = await run(binaryOf(peer), args, options).then(
    (done) => done.stdout,
    (error: { code?: unknown; stdout?: string }) => {
      // Exit code 1 is a no; anything else is a bug of the peer.
      if (error.code !== 1 || !error.stdout) throw error;
      return error.stdout;
    },
  );
  return JSON.parse(stdout);
}

/** A peer that serves until it is ended. */
export interface RunningPeer {
  readonly process: ChildProcess;
  /** Resolves with the first line that matches, of either output. */
  line(pattern: RegExp): Promise<string>;
  end(): Promise<void>;
}

export function startGo(peer: GoPeer, args: readonly string[], cwd: string): RunningPeer {
  const child = spawn(binaryOf(peer), args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const told = () => {
    for (const wake of waiting) wake();
  };
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      told();
    });
  }
  const exited = once(child, "exit").then(told, told);
  return {
    process: child,
    async line(pattern) {
      for (;;) {
        const found = lines.find((line) => pattern.test(line));
        if (found !== undefined) return found;
        if (child.exitCode !== null || child.signalCode !== null) {
          throw new Error(`${path.basename(child.spawnfile)} ended:\n${lines.join("\n")}`);
        }
        await new Promise<void>((resolve) => {
          const wake = () => {
            waiting.delete(wake);
            resolve();
          };
          waiting.add(wake);
        });
      }
    },
    async end() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGINT");
      await exited;
    },
  };
}

function binaryOf(peer: GoPeer): string {
  if ("missing" in peer) throw new Error(peer.missing);
  return peer.binary;
}

function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message?: string };
  return (stderr?.trim() || message || String(error)).split("\n").at(-1)!;
}
