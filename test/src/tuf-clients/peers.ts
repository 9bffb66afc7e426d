/** python-tuf and go-tuf: two small programs in test/peers, each one visit of a stock client, started as processes. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { goPeer } from "../peers-go.ts";
import { lockedPython } from "../peers-python.ts";
import type { Outcome, Visit } from "./client.ts";

const run = promisify(execFile);
const PYTHON_CLIENT = fileURLToPath(new URL("../../peers/python/tuf_client.py", import.meta.url));
const VISIT_MS_MAX = 60_000;

export type Peer = { readonly command: readonly [string, ...string[]] } | { readonly missing: string };

export async function pythonTuf(): Promise<Peer> {
  const found = await lockedPython("requirements-tuf.txt");
  return "missing" in found ? found : { command: [found.python, PYTHON_CLIENT] };
}

export async function goTuf(): Promise<Peer> {
  const found = await goPeer(".", "go-tuf");
  return "missing" in found ? found : { command: [found.binary] };
}

/** What to tell node:test's `skip`. @throws Error under CI, where a missing peer is a failure */
export function skipReason(name: string, peer: Peer): string | false {
  if ("command" in peer) return false;
  if (process.env.CI === "true") throw new Error(`${name} is missing: ${peer.missing}`);
  return `SKIPPED, no ${name}: ${peer.missing}`;
}

const EXIT_CODES = { accept: 0, refuse: 1, error: 3 };

export async function visitWithPeer(peer: Peer, visit: Visit): Promise<Outcome> {
  if ("missing" in peer) throw new Error(peer.missing);
  const [program, ...first] = peer.command;
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: "1" };
  const args = [...first, visit.store, visit.root, visit.url, ...visit.targets];
  const { code, stdout } = await run(program, args, { timeout: VISIT_MS_MAX, env }).then(
    (done) => ({ code: 0, stdout: done.stdout }),
    (error: { code?: unknown; stdout?: string; stderr?: string }) => {
      // A trace on standard error would be a bug of the peer, not a verdict.
      if (typeof error.code !== "number" || error.stderr) throw error;
      return { code: error.code, stdout: error.stdout ?? "" };
    },
  );
  const outcome = JSON.parse(stdout) as Outcome;
  if (EXIT_CODES[outcome.verdict] !== code) throw new Error(`exit code ${code} with ${stdout}`);
  return outcome;
}
