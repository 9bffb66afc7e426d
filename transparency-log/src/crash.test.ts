/** Each step of an append fails, before and after it took effect; what is left must be a log. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, equalBytes, formatHex } from "@viafabric/schemas";
import { readCheckpoint, readEntries } from "./client.ts";
import {
  decimals,
  logSigner,
  logVerifier,
  mapFetch,
  memoryFiles,
  memoryLock,
  memoryStaging,
  rememberingSigner,
  signedCheckpoint,
  signerOf,
} from "./fixtures.test.ts";
import { type AppendUntil, FREE_BYTES_MIN, type LockedHead, type LogPorts, openLogOn } from "./log.ts";
import { policyOfLog } from "./policy.ts";

class Crash extends Error {}

/** The world of one log: it outlives the process that writes to it. */
function world() {
  const [files, staging, lock, sign] = [memoryFiles(), memoryStaging(), memoryLock(), rememberingSigner()];
  return { files, staging, lock, sign, verifier: logVerifier };
}

/** The same world, in which the step with this number kills the process; so does every later one. */
function failing(real: LogPorts, failAt: number, tookPlace: boolean): LogPorts & { steps: () => number } {
  let steps = 0;
  const step = async <T>(work: () => Promise<T>): Promise<T> => {
    steps++;
    if (steps < failAt) return work();
    if (steps === failAt && tookPlace) await work();
    throw new Crash(`step ${steps}`);
  };
  return {
    ...real,
    steps: () => steps,
    files: {
      read: real.files.read,
      // Each file is a step of its own: a crash can come between any two.
      async putImmutable(files) {
        for (const file of files) await step(() => real.files.putImmutable([file]));
      },
      replace: (path, bytes) => step(() => real.files.replace(path, bytes)),
      freeBytes: () => real.files.freeBytes(),
    },
    staging: {
      list: () => real.staging.list(),
      read: (name) => step(() => real.staging.read(name)),
      write: (name, bytes) => step(() => real.staging.write(name, bytes)),
      remove: (name) => step(() => real.staging.remove(name)),
      grow: (name, frontier) => step(() => real.staging.grow(name, frontier)),
      freeBytes: () => real.staging.freeBytes(),
      close: () => real.staging.close(),
    },
    lock: {
      read: () => real.lock.read(),
      replace: (oldSize, next) => step(() => real.lock.replace(oldSize, next)),
    },
    sign: (entries, from) => step(() => real.sign(entries, from)),
  };
}

/** A reader's view: whatever is published verifies to its last entry. */
async function publishedSize(files: { map: ReadonlyMap<string, Uint8Array> }): Promise<number> {
  if (!files.map.has("checkpoint")) return 0;
  const fetch = mapFetch(files.map);
  const { checkpoint } = await readCheckpoint(fetch, policyOfLog(logVerifier));
  let index = 0;
  for await (const entry of readEntries(fetch, checkpoint)) {
    assert.ok(equalBytes(entry, decimals(index, index + 1)[0]!), `entry ${index}`);
    index++;
  }
  return index;
}

const attempt = (work: () => Promise<unknown>) =>
  work().then(
    () => "done",
    (error: unknown) => {
      assert.ok(error instanceof Crash || (error instanceof CodedError && error.code === "ERR_LOG_FAILED"), `${error}`);
      return "crashed";
    },
  );

const RANGES: readonly (readonly [from: number, to: number])[] = [
  [0, 3],
  [250, 256],
  [250, 260],
  [256, 800],
  [511, 513],
];

for (const [from, to] of RANGES) {
  for (const tookPlace of [false, true]) {
    for (const until of ["published", "written", "committed"] as const satisfies readonly AppendUntil[]) {
      test(`append ${from} to ${to}, ${until}, survives a crash ${tookPlace ? "after" : "before"} any step`, async () => {
        for (let failAt = 1; ; failAt++) {
          const real = world();
          if (from > 0) await (await openLogOn(real)).append(decimals(0, from));
          const broken = failing(real, failAt, tookPlace);
          const outcome = await attempt(async () => {
            const log = await openLogOn({ ...broken, until });
            await log.append(decimals(from, to));
            await log.publish();
            await log.close();
          });
          const seen = await publishedSize(real.files);
          assert.ok(seen === from || seen === to, `a reader sees the old log or the new one, not ${seen}`);

          // Opening may crash as well, at any of its steps.
          for (let again = 1; ; again++) {
            const opening = failing(real, again, tookPlace);
            if ((await attempt(() => openLogOn(opening).then((log) => log.close()))) === "done") break;
            const size = await publishedSize(real.files);
            assert.ok(size === from || size === to);
          }
          const log = await openLogOn(real);
          assert.ok(log.size === from || log.size === to);
          // The caller's rule: look at the size, and append what is not there.
          if (log.size === from) await log.append(decimals(from, to));
          await log.append(decimals(to, to + 1));
          await log.close();
          assert.equal(await publishedSize(real.files), to + 1, "nothing lost, nothing twice");
          assert.deepEqual([...real.staging.map.keys()], [], "nothing left behind");
          if (outcome === "done") break;
        }
      });
    }
  }
}

test("two appends that were committed but not written are both finished", async () => {
  const real = world();
  // Files cannot be written at all; commits can.
  const stuck: LogPorts = { ...real, files: { ...real.files, putImmutable: () => new Promise(() => {}) } };
  const log = await openLogOn(stuck);
  await log.append(decimals(0, 300), "committed");
  await log.append(decimals(300, 310), "committed");
  assert.equal(real.staging.map.size, 2);
  assert.equal(await publishedSize(real.files), 0);
  assert.equal((await openLogOn(real)).size, 310);
  assert.equal(await publishedSize(real.files), 310);
  assert.equal(real.staging.map.size, 0);
});

test("a refusal of the signer leaves the log as it was", async () => {
  const real = world();
  let refusing = true;
  const ports = { ...real, sign: rememberingSigner(() => refusing) };
  const log = await openLogOn(ports);
  await assert.rejects(log.append(decimals(0, 5)), { code: "ERR_THRESHOLD" });
  assert.equal(real.staging.map.size, 0);
  refusing = false;
  await log.append(decimals(0, 7));
  assert.equal(await publishedSize(real.files), 7);
});

test("a staged append that the signer refuses after a crash never happened", async () => {
  const real = world();
  const broken = failing(real, 3, false);
  assert.equal(await attempt(() => openLogOn(broken).then((log) => log.append(decimals(0, 5)))), "crashed");
  assert.equal(real.staging.map.size, 1);
  const log = await openLogOn({ ...real, sign: rememberingSigner(() => true) });
  assert.equal(log.size, 0);
  assert.equal(real.staging.map.size, 0);
});

test("a checkpoint that the log did not compute itself is never locked or published", async () => {
  const wrong = [
    (head: LockedHead) => signedCheckpoint({ ...head, size: head.size + 1 }),
    (head: LockedHead) => signedCheckpoint({ ...head, root: new Uint8Array(32) }),
    (head: LockedHead) => signedCheckpoint(head, { signer: signerOf(9) }),
    (head: LockedHead) => signedCheckpoint(head, { origin: "other.example/log", signer: logSigner }),
  ];
  for (const change of wrong) {
    const real = world();
    const sign = rememberingSigner();
    const good = await openLogOn(world());
    await good.append(decimals(0, 4));
    const log = await openLogOn({
      ...real,
      sign: async (entries, from) => change({ ...good.head, note: await sign(entries, from) }),
    });
    await assert.rejects(log.append(decimals(0, 4)), CodedError);
    assert.equal(real.lock.held, undefined);
    assert.equal(real.files.map.size, 0);
    await assert.rejects(log.append(decimals(0, 4)), { code: "ERR_LOG_FAILED" });
  }
});

/** A healthy log, then one thing that is not as it was left. */
async function damaged(
  message: RegExp,
  damage: (real: ReturnType<typeof world>) => void | Promise<void>,
  size = 300,
): Promise<void> {
  const real = world();
  const log = await openLogOn(real);
  await log.append(decimals(0, size - 1));
  await log.append(decimals(size - 1, size));
  await damage(real);
  const before = new Map(real.files.map);
  await assert.rejects(openLogOn(real), { code: "ERR_LOG_STATE", message });
  assert.deepEqual(real.files.map, before, "nothing was touched");
}

test("opening refuses when lock and files contradict each other, and says what to do", async () => {
  await damaged(/published, but the lock holds none: .* bring back its newest state$/, (real) => {
    real.lock.held = undefined;
  });
  await damaged(/checkpoint 300 is published, but the lock holds 299: .* restored from a backup/, async (real) => {
    const old = world();
    await (await openLogOn(old)).append(decimals(0, 299));
    real.lock.held = old.lock.held;
  });
  await damaged(/the published root .* has forked; keep both and tell the trustees$/, async (real) => {
    const fork = world();
    await (await openLogOn(fork)).append(decimals(1, 301));
    real.lock.held = fork.lock.held;
  });
  await damaged(/the lock's note states another tree than the lock/, (real) => {
    real.lock.held = { ...real.lock.held!, size: 299 };
  });
  // A snapshot of the published files: the lock goes on from where they end, and no segment leads there.
  await damaged(/the published files do not hold the tree of 310; restore them from a mirror/, async (real) => {
    const snapshot = new Map(real.files.map);
    const later = await openLogOn(real);
    await later.append(decimals(300, 310));
    real.files.map.clear();
    for (const [path, bytes] of snapshot) real.files.map.set(path, bytes);
  });
  await damaged(/the published checkpoint is not one of this log/, (real) => {
    const note = real.files.map.get("checkpoint")!.slice();
    note[20]! ^= 1;
    real.files.map.set("checkpoint", note);
  });
  await damaged(/2 staged appends follow entry 300; find out which one was signed, keep only that$/, (real) => {
    for (const digit of ["1", "2"]) real.staging.map.set(`300-30${digit}.segment`, new Uint8Array(32));
  });
});

test("opening reads the right edge and the last bundle again, partial or full", async () => {
  const edges: readonly (readonly [number, readonly string[]])[] = [
    [300, ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"]],
    [512, ["tile/1/000.p/2", "tile/0/001", "tile/entries/001"]],
  ];
  for (const [size, paths] of edges) {
    for (const path of paths) {
      const restore = new RegExp(`do not hold the tree of ${size}; restore them from a mirror`);
      await damaged(restore, (real) => void real.files.map.delete(path), size);
      for (const at of [0, -1]) {
        const flip = (real: ReturnType<typeof world>) => {
          const bytes = real.files.map.get(path)!.slice();
          bytes[at < 0 ? bytes.length + at : at]! ^= 1;
          real.files.map.set(path, bytes);
        };
        await damaged(restore, flip, size);
      }
    }
  }
});

test("an append without room is refused before it is begun, and the log goes on", async () => {
  const real = world();
  const free = { files: Number.POSITIVE_INFINITY, staging: Number.POSITIVE_INFINITY };
  const log = await openLogOn({
    ...real,
    files: { ...real.files, freeBytes: async () => free.files },
    staging: { ...real.staging, freeBytes: async () => free.staging },
  });
  await log.append(decimals(0, 10));
  const before = new Map(real.files.map);
  for (const disk of ["files", "staging"] as const) {
    free[disk] = FREE_BYTES_MIN;
    await assert.rejects(log.append(decimals(10, 20)), { code: "ERR_DISK_FULL", message: /make room$/ });
    free[disk] = Number.POSITIVE_INFINITY;
  }
  assert.deepEqual([real.files.map, real.staging.map.size, log.size], [before, 0, 10]);
  // What is left alone is enough for what an append writes besides its entries.
  free.files = FREE_BYTES_MIN + 1000;
  await log.append(decimals(10, 20));
  assert.equal(await publishedSize(real.files), 20);
});

test("two writers cannot both append: the second finds the lock moved", async () => {
  const real = world();
  const [one, two] = [await openLogOn(real), await openLogOn(real)];
  await one.append(decimals(0, 5));
  await assert.rejects(two.append(decimals(0, 6)), { code: "ERR_LOG_STATE" });
  assert.equal(formatHex(real.lock.held!.root), formatHex(one.head.root));
  assert.equal(await publishedSize(real.files), 5);
});
