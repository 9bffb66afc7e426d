import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexSet, UNIVERSE_MAX } from "./index-set.ts";
import { freshSeed, randomSet, seeded } from "./testing.test.ts";

const runsOf = (set: IndexSet) => [...set.runs()].map((run) => [run.first, run.count]);

test("runs in any order, touching or overlapping, become maximal runs", () => {
  const set = IndexSet.fromRuns([
    { first: 20, count: 5 },
    { first: 3, count: 2 },
    { first: 5, count: 1 },
    { first: 22, count: 10 },
    { first: 40, count: 0 },
  ]);
  assert.deepEqual(runsOf(set), [
    [3, 3],
    [20, 12],
  ]);
  assert.equal(set.count, 15);
});

test("set operations agree with Set on every index", () => {
  const random = seeded(freshSeed("set operations"));
  for (let round = 0; round < 300; round++) {
    const universe = 1 + Math.floor(random() * 300);
    const [a, b] = [randomSet(random, universe, 20), randomSet(random, universe, 20)];
    const [inA, inB] = [new Set(a), new Set(b)];
    const expected = (keep: (i: number) => boolean) =>
      IndexSet.fromIndices(Array.from({ length: universe }, (_, i) => i).filter(keep));
    assert.ok(a.union(b).equals(expected((i) => inA.has(i) || inB.has(i))));
    assert.ok(a.minus(b).equals(expected((i) => inA.has(i) && !inB.has(i))));
    assert.ok(a.intersection(b).equals(expected((i) => inA.has(i) && inB.has(i))));
    assert.ok(a.difference(b).equals(expected((i) => inA.has(i) !== inB.has(i))));
    assert.ok(IndexSet.unionOf([a, b, a]).equals(a.union(b)));
    for (let i = 0; i < universe; i++) assert.equal(a.has(i), inA.has(i));
    const first = Math.floor(random() * universe);
    const count = Math.floor(random() * 10);
    const all = Array.from({ length: count }, (_, i) => inA.has(first + i)).every(Boolean);
    assert.equal(a.covers({ first, count }), all);
  }
});

test("the ends of the universe", () => {
  const full = IndexSet.below(UNIVERSE_MAX);
  assert.equal(full.count, UNIVERSE_MAX);
  assert.ok(full.has(0) && full.has(UNIVERSE_MAX - 1) && !full.has(UNIVERSE_MAX));
  assert.throws(() => IndexSet.fromIndices([UNIVERSE_MAX]), RangeError);
  assert.throws(() => IndexSet.fromIndices([-1]), RangeError);
  assert.throws(() => IndexSet.fromIndices([0.5]), RangeError);
});

test("runs given as sorted must be sorted, apart and not empty", () => {
  const from = (starts: number[], ends: number[]) => () =>
    IndexSet.fromSorted(Uint32Array.from(starts), Uint32Array.from(ends));
  assert.throws(from([5], [5]), RangeError);
  assert.throws(from([0, 2], [2, 3]), RangeError);
  assert.throws(from([4, 0], [5, 1]), RangeError);
  assert.throws(from([0], []), RangeError);
});
