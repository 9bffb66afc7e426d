import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "@viafabric/schemas";
import { catchUp } from "./catch-up.ts";
import { verifyChunkFile } from "./chunk-file.ts";
import { PLANES, type Plane } from "./container.ts";
import { EPOCH_ZERO, type EpochPlanes, epochFiles, planeRoots } from "./epoch-files.ts";
import { catchUpPlans, chunkPath, deltaSteps, deltasAt, filesAt, formatUndoList, parseUndoList } from "./files.ts";
import { holdSet } from "./held-set.ts";
import { IndexSet } from "./index-set.ts";
import { chunkCount } from "./set-root.ts";
import { freshSeed, randomSet, seeded, vectors } from "./testing.test.ts";
import { carryOver, type Held, heldUnion, unexplained } from "./union-rule.ts";

const pairs = (steps: readonly { from: number; to: number }[]) => steps.map(({ from, to }) => [from, to]);

test("the path vectors", () => {
  for (const [name, expected] of Object.entries(vectors.container.paths)) {
    const [from, to] = name.replace(" length", "").split("-").map(Number) as [number, number];
    const steps = pairs(deltaSteps(from, to));
    if (typeof expected === "number") assert.equal(steps.length, expected);
    else assert.deepEqual(steps, expected);
  }
  assert.deepEqual(pairs(deltaSteps(0, 24)), [
    [0, 16],
    [16, 24],
  ]);
  assert.equal(deltaSteps(7, 8760).length, 15);
});

test("every step of every path was published, and paths are short", () => {
  const random = seeded(freshSeed("paths"));
  for (let i = 0; i < 2000; i++) {
    const from = Math.floor(random() * 10_000);
    const to = from + Math.floor(random() ** 3 * 10_000);
    let at = from;
    const steps = deltaSteps(from, to);
    for (const step of steps) {
      assert.equal(step.from, at);
      assert.ok(deltasAt(step.to).some((published) => published.from === step.from));
      at = step.to;
    }
    assert.equal(at, to);
    assert.ok(steps.length <= 2 * Math.ceil(Math.log2(to - from + 1)) + 3);
  }
});

test("what an epoch publishes", () => {
  assert.deepEqual(
    filesAt(24, 10)
      .map((file) => file.path)
      .filter((path) => path.startsWith("revocation/0/")),
    ["revocation/0/d/23-24.rvx", "revocation/0/d/22-24.rvx", "revocation/0/d/20-24.rvx", "revocation/0/d/16-24.rvx"],
  );
  assert.deepEqual(
    filesAt(25, 200_000, true)
      .map((file) => file.path)
      .slice(-4),
    ["revocation/2/d/24-25.rvx", "revocation/2/s/25.rvx", "revocation/2/c/25/0.rvc", "revocation/2/c/25/1.rvc"],
  );
  assert.equal(filesAt(1, 0).length, 6);
  assert.equal(deltasAt(0).length, 0);
  assert.equal(deltasAt(8192).length, 13);
});

test("catching up: deltas for a short absence, a snapshot first for a long one or a new node", () => {
  assert.deepEqual(catchUpPlans(7, 7), []);
  assert.deepEqual(catchUpPlans(0, 1), [{ snapshot: 1, deltas: [] }]);
  assert.deepEqual(catchUpPlans(0, 3), [
    {
      snapshot: 1,
      deltas: [
        { from: 1, to: 2 },
        { from: 2, to: 3 },
      ],
    },
  ]);
  assert.deepEqual(catchUpPlans(0, 64), [{ snapshot: 64, deltas: [] }]);
  assert.deepEqual(catchUpPlans(40, 41)[0], { deltas: [{ from: 40, to: 41 }] });
  assert.equal(catchUpPlans(40, 41)[1]?.snapshot, 32);
  assert.equal(catchUpPlans(40, 1000)[0]?.snapshot, 992);
});

const FLOOR_EPOCH = 40;

/** Seventy epochs of growth and changes, with every file they published. */
async function publishedHistory(random: () => number) {
  const files = new Map<string, Uint8Array>();
  const history: EpochPlanes[] = [EPOCH_ZERO];
  const read = async (path: string) => files.get(path);
  for (let epoch = 1; epoch <= 70; epoch++) {
    const before = history.at(-1)!;
    const n = before.n + Math.floor(random() * 5000);
    const revoked = before.planes[0].difference(randomSet(random, n, 4));
    const suspended = before.planes[1].difference(randomSet(random, n, 4));
    const released = IndexSet.below(before.n)
      .minus(before.planes[2])
      .union(randomSet(random, n, 3));
    const next: EpochPlanes = { epoch, n, planes: [revoked, suspended, IndexSet.below(n).minus(released)] };
    for (const file of await epochFiles(before, next, read, epoch === FLOOR_EPOCH)) {
      assert.ok(!files.has(file.path), "every file is written once");
      files.set(file.path, file.bytes);
    }
    history.push(next);
  }
  return { history, files, read };
}

const signedOf = (at: EpochPlanes, plane: Plane) => ({ plane, epoch: at.epoch, n: at.n, ...planeRoots(at)[plane] });
const heldOf = (at: EpochPlanes, plane: Plane) => ({ plane, epoch: at.epoch, n: at.n, set: at.planes[plane] });

test("a node catches up from any epoch with nothing but published files", async () => {
  const { history, read } = await publishedHistory(seeded(freshSeed("catching up")));
  for (const target of [1, 31, 40, 64, 70].map((epoch) => history[epoch]!)) {
    for (const plane of PLANES) {
      const signed = signedOf(target, plane);
      for (const start of history.slice(1, target.epoch + 1)) {
        assert.ok((await catchUp(heldOf(start, plane), signed, read)).set.equals(target.planes[plane]));
      }
      assert.ok((await catchUp(undefined, signed, read)).set.equals(target.planes[plane]));
    }
  }
});

test("each chunk file of a floor epoch proves itself", async () => {
  const { history, files } = await publishedHistory(seeded(freshSeed("chunk files")));
  const floor = history[FLOOR_EPOCH]!;
  for (const plane of PLANES) {
    for (let chunk = 0; chunk < chunkCount(floor.n); chunk++) {
      verifyChunkFile(files.get(chunkPath(plane, FLOOR_EPOCH, chunk))!, chunk, signedOf(floor, plane));
    }
  }
});

test("a spoiled or missing file is passed over another plan, and only the signed set comes out", async () => {
  const { history, files, read } = await publishedHistory(seeded(freshSeed("spoiled files")));
  const [held, signed] = [heldOf(history[69]!, 0), signedOf(history[70]!, 0)];
  const without = (part: string) => async (path: string) => (path.includes(part) ? undefined : files.get(path));
  const spoiled = (part: string) => async (path: string) => (path.includes(part) ? utf8("RVX1") : files.get(path));
  for (const mirror of [without("/s/"), spoiled("/s/"), without("/69-70"), spoiled("/69-70"), spoiled("/68-70")]) {
    assert.ok((await catchUp(held, signed, mirror)).set.equals(history[70]!.planes[0]));
  }
  await assert.rejects(catchUp(undefined, signed, without("")), { code: "ERR_SET_MISSING" });
  await assert.rejects(catchUp(held, signed, spoiled("")), { code: "ERR_RVX1" });
  await assert.rejects(catchUp(held, { ...signed, root: new Uint8Array(32) }, read), { code: "ERR_SET_ROOT" });
});

test("epochs are published one after the other", async () => {
  const read = async () => undefined;
  await assert.rejects(epochFiles(EPOCH_ZERO, { ...EPOCH_ZERO, epoch: 2 }, read), RangeError);
  await assert.rejects(epochFiles({ ...EPOCH_ZERO, epoch: 1 }, { ...EPOCH_ZERO, epoch: 2 }, read), RangeError);
});

test("a held set answers like the set it holds, in the smallest of three shapes", () => {
  const random = seeded(freshSeed("held sets"));
  const shapes = new Set<string>();
  for (let round = 0; round < 200; round++) {
    const n = 1 + Math.floor(random() * 5000);
    const dense = random();
    const scattered = IndexSet.fromIndices(Array.from({ length: n }, (_, i) => i).filter(() => random() < dense ** 4));
    const set = random() < 0.5 ? scattered : randomSet(random, n, 5);
    const held = holdSet(set, n);
    shapes.add(held.shape);
    assert.equal(held.count, set.count);
    assert.ok(held.bytes <= Math.ceil(n / 8));
    for (let i = 0; i < n + 600; i++) assert.equal(held.has(i), set.has(i), `${held.shape} ${i}`);
    assert.ok(held.toSet().equals(set));
  }
  assert.deepEqual([...shapes].sort(), ["bitmap", "buckets", "runs"]);
});

test("undo lists have one spelling", () => {
  for (const leaves of [[], [0], [3, 17, 2 ** 40]]) {
    assert.deepEqual(parseUndoList(utf8(formatUndoList(leaves))), leaves);
  }
  for (const wrong of ["1", "01\n", "2\n1\n", "1\n1\n", "\n", "1\r\n", "x\n"]) {
    assert.throws(() => parseUndoList(utf8(wrong)), { name: "FormatError" });
  }
});

const only = (...indices: number[]) => IndexSet.fromIndices(indices);
const freeing = (leafIndex: number, first: number) => [{ leafIndex, ranges: [{ first, count: 1 }] }];

test("what was once held stays refused until a reinstatement that is new enough", () => {
  const at100: Held = carryOver([], { logSize: 100, set: only(1, 2, 3) }, []);
  const rolledBack = carryOver(at100, { logSize: 110, set: only(3) }, []);
  assert.deepEqual([...heldUnion(rolledBack)], [1, 2, 3], "a set with names missing frees nobody");
  assert.deepEqual([...unexplained(rolledBack)], [1, 2]);
  const old = carryOver(rolledBack, { logSize: 120, set: only(3) }, freeing(99, 1));
  assert.deepEqual([...heldUnion(old)], [1, 2, 3], "the statement at 100 knew of leaf 99 and still held index 1");
  const freed = carryOver(old, { logSize: 130, set: only(3) }, freeing(100, 1));
  assert.deepEqual([...heldUnion(freed)], [2, 3]);
  const again = carryOver(freed, { logSize: 140, set: only(1, 3) }, freeing(100, 1));
  assert.deepEqual([...heldUnion(again)], [1, 2, 3], "suspended again after it was freed");
  const stays = carryOver(again, { logSize: 150, set: only(3) }, freeing(139, 1));
  assert.deepEqual([...heldUnion(stays)], [1, 2, 3]);
  assert.deepEqual([...unexplained(stays)], [1, 2]);
});
