/**
 * The Python peers in test/peers/python, and where to find an interpreter that has what they need.
 *
 * Packages are installed once, by hash, into a cache folder of their own. A machine without Python, or without a way to
 * its packages, can still run the other tests; under CI a missing peer is a failure, because there nobody would notice.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const folder = path.join(root, "test/peers/python");

/** Oldest Python that the peers and the locked wheels are made for. */
const PROBE = "import sys; assert sys.version_info >= (3, 11)";
const PACKAGES_PROBE = `${PROBE}
from importlib.metadata import version
for line in open(sys.argv[1]):
    name, _, wanted = line.rstrip(" \\\\\\n").partition("==")
    assert not wanted or version(name) == wanted`;

export type Peer = { readonly python: string } | { readonly missing: string };

/** Any Python 3.11 or later: enough for decode_rvx1.py. */
export async function plainPython(): Promise<Peer> {
  return works("python3", [PROBE]);
}

/**
 * A Python with the locked packages, installed now if need be.
 * @param lock requirements-tuf.txt for tuf_client.py
 */
export async function lockedPython(
  lock: "requirements.txt" | "requirements-tuf.txt" = "requirements.txt",
): Promise<Peer> {
  const requirements = path.join(folder, lock);
  const plain = await plainPython();
  if ("missing" in plain) return plain;
  const installed = await works("python3", [PACKAGES_PROBE, requirements]);
  if ("python" in installed) return installed;
  const id = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16);
  const venv = path.join(root, "node_modules/.cache/viafabric", `python-${id}`);
  const python = path.join(venv, "bin/python");
  const complete = path.join(venv, "complete");
  if (existsSync(complete)) return works(python, [PACKAGES_PROBE, requirements]);
  try {
    await rm(venv, { recursive: true, force: true });
    await mkdir(path.dirname(venv), { recursive: true });
    await run("python3", ["-m", "venv", venv]);
    const locked = ["--require-hashes", "--only-binary", ":all:", "-r", requirements];
    await run(python, ["-m", "pip", "install", "--quiet", ...locked], { timeout: 300_000 });
    await writeFile(complete, "");
  } catch (error) {
    return { missing: `its packages could not be installed: ${firstLine(error)}` };
  }
  return works(python, [PACKAGES_PROBE, requirements]);
}

async function works(python: string, [program, ...args]: readonly [string, ...string[]]): Promise<Peer> {
  try {
    await run(python, ["-c", program, ...args]);
    return { python };
  } catch (error) {
    return { missing: `${python} cannot be used: ${firstLine(error)}` };
  }
}

/** What to tell node:test's `skip`. @throws Error under CI, where a missing peer is a failure */
export function skipReason(peer: Peer): string | false {
  if ("python" in peer) return false;
  if (process.env.CI === "true") throw new Error(`the Python peer is missing: ${peer.missing}`);
  return `SKIPPED, no Python peer: ${peer.missing}`;
}

export interface PeerAnswer {
  readonly exitCode: number;
  /** The one JSON object that a peer prints. */
  readonly result: Readonly<Record<string, unknown>>;
}

export async function runPeer(peer: Peer, program: string, args: readonly string[]): Promise<PeerAnswer> {
  if ("missing" in peer) throw new Error(peer.missing);
  const options = { timeout: 300_000, maxBuffer: 1024 * 1024, env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" } };
  const answer = await run(peer.python, [path.join(folder, program), ...args], options).then(
    ({ stdout }) => ({ exitCode: 0, stdout }),
    (error: { code?: unknown; stdout?: string; stderr?: string }) => {
      // A trace on standard error would be a bug of the peer, not a verdict.
      if (typeof error.code !== "number" || error.stderr) throw error;
      return { exitCode: error.code, stdout: error.stdout ?? "" };
    },
  );
  return { exitCode: answer.exitCode, result: JSON.parse(answer.stdout) };
}

function firstLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message?: string };
  return (stderr?.trim() || message || String(error)).split("\n").at(-1)!;
}
