/**
 * `issue`: from the last approval of 10,000 tokens to their publication, against two C threads that only sign as many.
 *
 * Everything is what an operator runs: `via vault serve` with its PostgreSQL, its bounded signer on SoftHSM and its
 * public folder, asked over HTTP. The clock starts when the vault says that the proposal has its quorum, and ends when it
 * says that the batch is published. Between them every token is encoded, signed, verified, sealed and logged.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { formatDidKey, sha256, u32 } from "@viafabric/schemas";
import { type Figure, figureOf, impossible, median, ROUNDS } from "./figure.ts";
import { type Cost, openRig, type Rig } from "./hsm.ts";

const BENCH = "issue";
const TOKENS = 10_000;
const GOAL = 2.5;
const TRUSTEES = 3;
const VIA = fileURLToPath(new URL("../../via", import.meta.url));
/** A list of events costs the vault some milliseconds of the time that is measured, and it answers so many a minute. */
const POLL_MILLISECONDS = 100;
const PUBLISHED_MILLISECONDS_MAX = 120_000;
/** Far from the service that a developer may have running. */
const PORT = "18480";

export async function* issue(): AsyncGenerator<Figure> {
  const folder = await mkdtemp(path.join(tmpdir(), "bench-issue-"));
  const rig = await openRig(folder).catch((error: unknown) => String(error));
  const authority = typeof rig === "string" ? undefined : await BenchAuthority.open(path.join(folder, "via"));
  try {
    if (typeof rig === "string" || !authority)
      yield impossible(BENCH, "approved-to-published", `≤ ${GOAL}`, String(rig));
    else yield* measured(rig, authority);
  } finally {
    await authority?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function* measured(rig: Rig, authority: BenchAuthority): AsyncGenerator<Figure> {
  const { module } = rig.token;
  const seconds: number[] = [];
  const inside: Cost[] = [];
  const program: Cost[] = [];
  await authority.issue(100);
  for (let round = 0; round < ROUNDS; round++) {
    inside.push(await rig.child(module, { what: "c", threads: 2, count: TOKENS }));
    program.push(await rig.program(2, TOKENS));
    seconds.push(await authority.issue(TOKENS));
  }
  const secondsOf = (costs: readonly Cost[]) => median(costs.map((cost) => cost.seconds));
  const value = median(seconds);
  const figure = { bench: BENCH, value, n: TOKENS };
  yield figureOf({
    ...figure,
    figure: "approved-to-published",
    floor: secondsOf(inside),
    atMost: GOAL,
    note: "seconds; floor: two C threads that sign only, with the same module and the same OpenSSL",
  });
  yield figureOf({
    ...figure,
    figure: "approved-to-published-system",
    floor: secondsOf(program),
    note: "seconds; floor: the same C loop as a program, where the module has the system's slower OpenSSL",
  });
  const { vault, signer } = await authority.peaks();
  const rss = (name: string, bytes: number, what: string) =>
    figureOf({
      bench: BENCH,
      figure: name,
      value: bytes,
      n: TOKENS,
      note: `bytes; peak resident memory of the ${what}`,
    });
  yield rss("vault-rss", vault, "vault's process");
  yield rss("signer-rss", signer, "bounded signer with two signing threads");
}

/** Three trustees, of whom two are enough, and a running vault. */
class BenchAuthority {
  readonly #home: string;
  readonly #service: ReturnType<typeof spawn>;
  readonly #url: string;
  #batches = 0;

  private constructor(home: string, service: ReturnType<typeof spawn>, url: string) {
    this.#home = home;
    this.#service = service;
    this.#url = url;
  }

  static async open(home: string): Promise<BenchAuthority> {
    await promisify(execFile)("mkdir", ["-p", "-m", "711", home]);
    const at = (...names: string[]) => path.join(home, ...names);
    await writeFile(at("passphrase"), "only a bench\n", { mode: 0o600 });
    const key = (name: string) => ["--home", at(name), "--passphrase-file", at("passphrase")];
    const names = Array.from({ length: TRUSTEES }, (_, i) => `trustee-${i + 1}`);
    for (const name of names) await via(["trustee", "init", "--name", name, ...key(name)]);
    await via(["writer", "init", "--name", "station", ...key("station")]);
    await via(["writer", "init", "--release", "--name", "release", ...key("release")]);
    const card = (option: string, name: string) => [option, at(name, "card.json")];
    const cards = [...names.map((name) => card("--trustee", name)), card("--station", "station")].flat();
    const threshold = ["--threshold", "2", ...card("--release", "release")];
    await via(["vault", "init", "--home", at("vault"), ...cards, ...threshold]);
    for (const name of names)
      await via(["trustee", "enroll", "--genesis", at("vault", "genesis"), "--yes", ...key(name)]);
    await via(["vault", "genesis", "--home", at("vault")]);
    const serve = ["vault", "serve", "--home", at("vault"), "--port", PORT, "--json"];
    const service = spawn(VIA, serve, { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    for await (const line of createInterface({ input: service.stdout })) {
      said += line;
      // One object over several lines: the service is ready when it is closed.
      if (line === "}") break;
    }
    return new BenchAuthority(home, service, String(JSON.parse(said).url));
  }

  /** @returns seconds from quorum to publication */
  async issue(count: number): Promise<number> {
    const subjects = path.join(this.#home, "subjects.txt");
    const first = this.#batches++ * 1_000_000;
    const dids = Array.from({ length: count }, (_, i) => formatDidKey(sha256(u32(first + i))));
    await writeFile(subjects, `${dids.join("\n")}\n`);
    const vault = ["--home", path.join(this.#home, "vault"), "--vault", this.#url];
    const { event } = await via(["vault", "request", ...vault, "--subjects", subjects]);
    const sign = (name: string) => {
      const key = ["--home", path.join(this.#home, name), "--passphrase-file", path.join(this.#home, "passphrase")];
      return via(["trustee", "sign", String(event), "--yes", "--vault", this.#url, ...key]);
    };
    await sign("trustee-1");
    const [seconds] = await Promise.all([this.#published(String(event)), sign("trustee-2")]);
    return seconds;
  }

  async #published(event: string): Promise<number> {
    let quorum: number | undefined;
    for (const end = performance.now() + PUBLISHED_MILLISECONDS_MAX; performance.now() < end; ) {
      const answer = await fetch(`${this.#url}/events`);
      const { events } = (await answer.json()) as { events: readonly { id: string; state: string }[] };
      const { state } = events.find(({ id }) => id === event)!;
      if (state !== "open") quorum ??= performance.now();
      if (state === "published") return (performance.now() - quorum!) / 1000;
      await sleep(POLL_MILLISECONDS);
    }
    throw new Error(`event ${event} was not published`);
  }

  /** Of the vault and of the signer, which is a child of its. */
  async peaks(): Promise<{ readonly vault: number; readonly signer: number }> {
    const all = await processes();
    const signer = all.find(({ command }) => command.includes("signer-main") && command.includes(this.#home))!;
    return { vault: await peakOf(signer.parent), signer: await peakOf(signer.pid) };
  }

  async close(): Promise<void> {
    const ended = once(this.#service, "exit");
    this.#service.kill("SIGTERM");
    await ended;
    await via(["vault", "remove", "--home", path.join(this.#home, "vault"), "--yes"]);
  }
}

async function via(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const options = { maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await promisify(execFile)(VIA, [...args, "--json"], options);
  return JSON.parse(stdout);
}

async function processes(): Promise<readonly { pid: number; parent: number; command: string }[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const command = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ");
      const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
      return { pid: Number(pid), parent: Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0), command };
    }),
  );
  return found;
}

async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) * 1024;
}
