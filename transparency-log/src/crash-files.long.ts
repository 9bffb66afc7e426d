/**
 * Each file-system call of an append goes wrong, on real files: it fails with EIO, the disk is full from then on, or the
 * process is killed, before the call took effect and after it (a write also halfway).
 *
 * The calls are those that strace sees; the bad disk must have seen the same ones, and the log's ports must have
 * announced them. Whatever happens, the log is whole again when it is opened next, in the same process after an error
 * and in another one after a kill: nothing that was signed or acknowledged is lost, and no index is used twice.
 */
import assert from "node:assert/strict";
import { cp, mkdir, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { equalBytes, formatHex } from "@viafabric/schemas";
import type { Batch, Task } from "./append-child-testkit.ts";
import { Appenders, type Outside, outsideOf, startAppender } from "./append-parent-testkit.ts";
import { type BadDisk, type Fault, makeBadDisk } from "./bad-disk-testkit.ts";
import { openTree, proveInclusion, readCheckpoint, readEntries } from "./client.ts";
import { folderFetch } from "./fetch.ts";
import { decimals, logVerifier, memoryLock, rememberingSigner } from "./fixtures.test.ts";
import { folderFiles, folderStaging, openLogOn } from "./log.ts";
import { policyOfLog, verifyCheckpoint } from "./policy.ts";
import { fileCallsOf } from "./port-calls-testkit.ts";
import { formatProof, verifyProof } from "./proof.ts";
import { hasStrace, readStrace, straced } from "./strace-testkit.ts";

interface Scenario {
  readonly name: string;
  /** Sizes after each append that was made before. */
  readonly before: readonly number[];
  /** Of `before`, the last append was signed and locked, but its files were not written. */
  readonly interrupted?: boolean;
  readonly batches: readonly Batch[];
  /** Whether the calls of opening suffer too; they are the same in each scenario without an interrupted append. */
  readonly opening: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  { name: "first entry", before: [], batches: [[0, 1]], opening: true },
  { name: "mid tile", before: [100], batches: [[100, 105]], opening: false },
  { name: "tile boundary", before: [250], batches: [[250, 260]], opening: false },
  {
    name: "several batches",
    before: [255],
    batches: [
      [255, 256],
      [256, 257],
    ],
    opening: false,
  },
  {
    name: "after an interrupted append",
    before: [250, 258],
    interrupted: true,
    batches: [[258, 260]],
    opening: true,
  },
];
/** The first call of an append. */
const FIRST_CALL = /^statfs public$/;
const LANES = 2;

const folders = (home: string) => ({ folder: path.join(home, "public"), stagingFolder: path.join(home, "private") });

/** A home with the appends of `before` in it. */
async function prepare(home: string, { before, interrupted }: Scenario): Promise<ReturnType<typeof memoryLock>> {
  const lock = memoryLock();
  if (before.length === 0) return lock;
  const { folder, stagingFolder } = folders(home);
  const [files, staging] = [await folderFiles(folder), await folderStaging(stagingFolder)];
  const ports = { files, staging, lock, sign: rememberingSigner(), verifier: logVerifier };
  const [last] = before.slice(-1);
  const log = await openLogOn(ports);
  for (const size of interrupted ? before.slice(0, -1) : before) await log.append(decimals(log.size, size));
  if (!interrupted) return lock;
  const stuck = await openLogOn({ ...ports, files: { ...files, putImmutable: () => new Promise(() => {}) } });
  await stuck.append(decimals(stuck.size, last!), "committed");
  return lock;
}

/** What anybody reads, without the help of the one who writes. @returns the size */
async function readPublished(home: string, { acknowledged }: Outside): Promise<number> {
  const fetch = folderFetch(path.join(home, "public"));
  const policy = policyOfLog(logVerifier);
  const promised = acknowledged.map((note) => verifyCheckpoint(policy, note));
  if ((await fetch("checkpoint")) === undefined) {
    assert.deepEqual(promised, [], "an acknowledged append is published");
    return 0;
  }
  const { checkpoint } = await readCheckpoint(fetch, policy);
  let index = 0;
  for await (const entry of readEntries(fetch, checkpoint)) {
    assert.ok(equalBytes(entry, decimals(index, index + 1)[0]!), `entry ${index}`);
    index++;
  }
  for (const [i, head] of promised.entries()) {
    assert.ok(head.size <= checkpoint.size, `the head of ${head.size} that was handed out is lost`);
    const hashes = await proveInclusion(fetch, head, head.size - 1);
    const proof = formatProof({ index: head.size - 1, hashes, checkpoint: acknowledged[i]! });
    verifyProof(policy, decimals(head.size - 1, head.size)[0]!, proof);
  }
  return index;
}

/** All that was ever signed is one history, and nothing is left lying about in private. */
async function checkWhole(home: string, size: number, outside: Outside): Promise<void> {
  assert.equal(await readPublished(home, outside), size);
  assert.equal(outside.lock.held?.size, size);
  const tree = await openTree(folderFetch(path.join(home, "public")), outside.lock.held!);
  for (const head of outside.signed) {
    const root = (await tree.frontierAt(head.size)).root();
    assert.equal(formatHex(root), formatHex(head.root), `the head of ${head.size} that was signed is lost`);
  }
  // A killed process can leave the name it meant to put into the lock: twelve bytes that nobody reads.
  const left = (await readdir(path.join(home, "private"))).filter((name) => !/^lock\.\d+$/.test(name));
  assert.deepEqual(left, []);
}

/** The faults of one call. */
function* faultsAt(call: string, at: number): Iterable<Fault> {
  for (const blow of ["EIO", "ENOSPC", "kill"] as const) {
    yield { at, phase: "before", blow };
    if (call.startsWith("write ")) yield { at, phase: "halfway", blow };
    yield { at, phase: "after", blow };
  }
}

const normal = (call: string) => call.replaceAll(/\.\d+\.\d+\.tmp/g, ".tmp").replaceAll(/\/lock\.\d+/g, "/lock.PID");

/** Each call of the scenario, as strace, the bad disk and the ports have it. */
async function traceOf(scenario: Scenario): Promise<readonly string[]> {
  const disk = await makeBadDisk(true);
  try {
    const home = path.join(disk.folder, "home");
    await mkdir(home);
    const lock = await prepare(home, scenario);
    const present = new Set([home, ...(await readdir(home, { recursive: true })).map((name) => path.join(home, name))]);
    const seen = path.join(disk.folder, "..", `${path.basename(disk.folder)}.strace`);
    const strace = await hasStrace();
    const appender = startAppender(disk.environment, strace ? straced(seen) : []);
    const outside = await outsideOf(lock, scenario.before);
    const task = { folder: home, batches: scenario.batches, reported: true };
    const done = await appender.run(task, outside);
    await appender.end();
    assert.deepEqual(done?.errors, [], done?.uncoded);
    const calls = (await disk.trace()).map(normal);
    const names = (all: readonly string[]) => all.map(normal).sort();
    if (strace)
      assert.deepEqual(names(await readStrace(seen, disk.folder)), names(calls), "the bad disk sees every call");
    await rm(seen, { force: true });
    assert.deepEqual(names(fileCallsOf(done!.reported, present)), names(calls), "the ports announce every call");
    return calls.map((call) => call.replaceAll(`${home}/`, ""));
  } finally {
    await disk.remove();
  }
}

/** One lane: a bad disk, a process on it, and one fault after the other. */
class Lane {
  readonly #disk: BadDisk;
  readonly #appenders: Appenders;
  #homes = 0;

  constructor(disk: BadDisk) {
    this.#disk = disk;
    this.#appenders = new Appenders(disk.environment);
  }

  /** @returns whether the call was reached at all */
  async suffer(
    prepared: string,
    lock: ReturnType<typeof memoryLock>,
    scenario: Scenario,
    fault: Fault,
  ): Promise<boolean> {
    const home = path.join(this.#disk.folder, String(this.#homes++));
    await cp(prepared, home, { recursive: true });
    const outside = await outsideOf(lock, scenario.before);
    const task: Task = { folder: home, batches: scenario.batches, reported: false };
    const sizes = [0, ...scenario.before, ...scenario.batches.map(([, to]) => to)];
    const appender = this.#appenders.current;

    this.#disk.set(fault);
    let struck = false;
    const repair = () => {
      struck ||= this.#disk.counters().struck;
      this.#disk.set();
    };
    const done = await appender.run(task, outside, repair);
    repair();
    if (fault.blow === "kill") assert.equal(done, undefined, "the process was killed");
    else assert.equal(done?.uncoded, undefined, done?.uncoded);
    if (fault.blow === "EIO") assert.ok(done!.errors.length <= 1, `it goes on by itself: ${done!.errors}`);
    assert.ok(sizes.includes(await readPublished(home, outside)), "a reader sees whole appends");

    // Whoever comes next finds a log, finishes it, and goes on.
    const size = sizes.at(-1)!;
    const next = { ...task, batches: [...scenario.batches, [size, size + 1] as const] };
    const again = await this.#appenders.current.run(next, outside);
    assert.deepEqual(again?.errors, [], again?.uncoded);
    await checkWhole(home, size + 1, outside);
    await rm(home, { recursive: true });
    return struck;
  }

  async end(): Promise<void> {
    await this.#appenders.end();
    await this.#disk.remove();
  }
}

for (const scenario of SCENARIOS) {
  test(`${scenario.name}: every file-system call fails, and nothing is lost`, async (t) => {
    const calls = await traceOf(scenario);
    const first = scenario.opening ? 0 : calls.findIndex((call) => FIRST_CALL.test(call));
    assert.ok(first >= 0);
    const cases = calls.flatMap((call, i) =>
      i < first ? [] : [...faultsAt(call, i + 1)].map((fault) => ({ call, fault })),
    );
    const lanes = await Promise.all(Array.from({ length: LANES }, async () => new Lane(await makeBadDisk())));
    const source = await makeBadDisk();
    const prepared = path.join(source.folder, "home");
    let [next, struck] = [0, 0];
    const work = async (lane: Lane): Promise<void> => {
      while (next < cases.length) {
        const { call, fault } = cases[next++]!;
        try {
          assert.ok(await lane.suffer(prepared, lock, scenario, fault), "never reached");
          struck++;
        } catch (cause) {
          next = cases.length;
          throw new Error(`${fault.blow} ${fault.phase} call ${fault.at}, ${call}`, { cause });
        }
      }
    };
    let lock: ReturnType<typeof memoryLock>;
    try {
      await mkdir(prepared);
      lock = await prepare(prepared, scenario);
      const outcomes = await Promise.allSettled(lanes.map(work));
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    } finally {
      for (const lane of lanes) await lane.end();
      await source.remove();
    }
    t.diagnostic(`${calls.length - first} file-system calls, ${struck} faults, all survived`);
  });
}
