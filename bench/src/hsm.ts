/**
 * `hsm-sign` and `hsm-latency`: what the signing pool adds to the module's own cost, against C threads that call
 * the same module in a loop, alternating in one run.
 *
 * SoftHSM is the module, so the first is a matter of processor time and is judged by it; the second slows the module
 * down to 5 ms a signature, as a device on a network would be, and is a matter of waiting.
 */
import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { generateKeys, initSoftHsmToken, type SoftHsmToken } from "@viafabric/hsm";
import { buildShim, compile, type Shim } from "@viafabric/hsm/measure";
import { formatHex, type PublicKey, utf8 } from "@viafabric/schemas";
import { type Figure, figureOf, impossible, median, ROUNDS } from "./figure.ts";

export interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

export interface Job {
  readonly what: "c" | "bare" | "pool" | "verify";
  readonly threads: number;
  readonly count: number;
  readonly journal?: boolean;
}

export interface Place {
  readonly folder: string;
  readonly module: string;
  readonly tokenLabel: string;
  readonly pinFile: string;
  /** sign-loop.c, compiled. */
  readonly loop: string;
}

const KEY_ID = "issuer";
const SIGNATURES = 10_000;
const DELAY_MICROSECONDS = 5000;
/** How many signatures each session of a slow device makes: about a second and a half. */
const SLOW_SIGNATURES = 300;

export async function* hsmSign(): AsyncGenerator<Figure> {
  const bench = "hsm-sign";
  yield* withRig(bench, "≥ 0.95", async function* (rig) {
    const n = SIGNATURES;
    const { module } = rig.token;
    const cases = {
      c1: () => rig.program(1, n),
      inside1: () => rig.child(module, { what: "c", threads: 1, count: n }),
      bare1: () => rig.child(module, { what: "bare", threads: 1, count: n }),
      verify1: () => rig.child(module, { what: "verify", threads: 1, count: n }),
      verified1: () => rig.child(module, { what: "pool", threads: 1, count: n, journal: true }),
      c2: () => rig.program(2, n),
      inside2: () => rig.child(module, { what: "c", threads: 2, count: n }),
      bare2: () => rig.child(module, { what: "bare", threads: 2, count: n }),
    };
    const costs = await alternating(cases);
    const perCpu = (name: keyof typeof cases) => n / median(costs[name].map((cost) => cost.cpuSeconds));
    const perSecond = (name: keyof typeof cases) => (n / median(costs[name].map((cost) => cost.seconds))).toFixed(0);
    const figure = (name: keyof typeof cases, floor: keyof typeof cases, what: string) => ({
      bench,
      value: perCpu(name),
      floor: perCpu(floor),
      n,
      note: `${what}; signatures per CPU-second; by the clock ${perSecond(name)}/s against ${perSecond(floor)}/s`,
    });
    // SoftHSM in this process is bound to Node's own OpenSSL, twice as fast at this as the system's: the strict floor.
    const inside = "floor: C in the same process, with the same OpenSSL";
    yield figureOf({ figure: "bare", atLeast: 0.95, ...figure("bare1", "inside1", `one thread; ${inside}`) });
    yield figureOf({ figure: "verified", atLeast: 0.6, ...figure("verified1", "inside1", `with journal; ${inside}`) });
    yield figureOf({
      figure: "verified-possible",
      ...figure("verified1", "inside1", "the same"),
      value: 1 / (1 / perCpu("inside1") + 1 / perCpu("verify1")),
      note: `what that loop would reach if it verified each signature and did nothing else; ${inside}`,
    });
    yield figureOf({ figure: "two-workers", atLeast: 0.95, ...figure("bare2", "inside2", `two threads; ${inside}`) });
    const system = "floor: the C loop as a program, where the module has the system's OpenSSL";
    yield figureOf({ figure: "bare-system", ...figure("bare1", "c1", system) });
    yield figureOf({ figure: "verified-system", ...figure("verified1", "c1", system) });
    yield figureOf({ figure: "two-workers-system", ...figure("bare2", "c2", system) });
  });
}

export async function* hsmLatency(): AsyncGenerator<Figure> {
  const bench = "hsm-latency";
  yield* withRig(bench, "≥ 0.9", async function* (rig) {
    rig.shim.set({ delayMicroseconds: DELAY_MICROSECONDS });
    const { module } = rig.shim;
    for (const [sessions, atLeast] of [
      [8, 0.9],
      [32, 0.85],
    ] as const) {
      const n = sessions * SLOW_SIGNATURES;
      const costs = await alternating({
        c: () => rig.child(module, { what: "c", threads: sessions, count: n }),
        bare: () => rig.child(module, { what: "bare", threads: sessions, count: n }),
        pool: () => rig.child(module, { what: "pool", threads: sessions, count: n }),
      });
      const rate = (of: readonly Cost[]) => n / median(of.map((cost) => cost.seconds));
      const ideal = sessions / (DELAY_MICROSECONDS / 1e6);
      const [c, bare] = [costs.c, costs.bare].map((each) => rate(each).toFixed(0));
      yield figureOf({
        bench,
        figure: `sessions-${sessions}`,
        value: rate(costs.pool),
        floor: ideal,
        atLeast,
        n,
        note: `verified signatures a second at 5 ms each; without verifying: ${bare}/s, as many C threads: ${c}/s`,
      });
    }
  });
}

/** Each case in turn, so that what else the machine does falls on all of them alike. */
async function alternating<Name extends string>(
  cases: Readonly<Record<Name, () => Promise<Cost>>>,
): Promise<Readonly<Record<Name, readonly Cost[]>>> {
  const names = Object.keys(cases) as Name[];
  const costs = Object.fromEntries(names.map((name): [Name, Cost[]] => [name, []])) as Record<Name, Cost[]>;
  for (let round = 0; round < ROUNDS; round++) for (const name of names) costs[name].push(await cases[name]());
  return costs;
}

export interface Rig {
  readonly token: SoftHsmToken;
  readonly shim: Shim;
  /** The C loop as a program. */
  program(threads: number, count: number): Promise<Cost>;
  child(module: string, job: Job): Promise<Cost>;
}

async function* withRig(
  bench: string,
  goal: string,
  figures: (rig: Rig) => AsyncGenerator<Figure>,
): AsyncGenerator<Figure> {
  const folder = await mkdtemp(path.join(tmpdir(), "bench-hsm-"));
  try {
    let rig: Rig;
    try {
      rig = await openRig(folder);
    } catch (error) {
      yield impossible(bench, "all", goal, error instanceof Error ? error.message : String(error));
      return;
    }
    yield* figures(rig);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A token with an issuer key, a module that can be slowed down, and the C loop. */
export async function openRig(folder: string): Promise<Rig> {
  const token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "bench" });
  const id = utf8(KEY_ID);
  const [key] = (await generateKeys(token, [{ id, label: KEY_ID, algorithm: "ed25519" }])) as readonly [PublicKey];
  const shim = await buildShim(folder, token.module);
  const loop = path.join(folder, "sign-loop.so");
  const source = fileURLToPath(new URL("../fixtures/sign-loop.c", import.meta.url));
  await compile(source, loop, ["-shared", "-fPIC"]);
  const program = path.join(folder, "sign-loop");
  await compile(source, program, []);
  const pin = (await readFile(token.pinFile, "utf8")).trim();
  const env = { ...process.env, SOFTHSM2_CONF: token.confFile };
  return {
    token,
    shim,
    async program(threads, count) {
      const args = [token.module, token.tokenLabel, pin, KEY_ID, String(threads), String(count)];
      const { stdout } = await promisify(execFile)(program, args, { env });
      const [seconds, cpuSeconds] = stdout.trim().split(" ").map(Number);
      return { seconds: seconds!, cpuSeconds: cpuSeconds! };
    },
    async child(module, job) {
      const child = fork(fileURLToPath(new URL("./hsm-child.js", import.meta.url)), { env });
      const place: Place = { folder, module, tokenLabel: token.tokenLabel, pinFile: token.pinFile, loop };
      child.send({ place, spki: formatHex(key.spki), id: formatHex(id), job });
      const exited = once(child, "exit").then(() => Promise.reject(new Error("the signing process died")));
      const [cost] = (await Promise.race([once(child, "message"), exited])) as [Cost];
      exited.catch(() => {});
      child.disconnect();
      return cost;
    },
  };
}
