import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_ROOT, formatHex, parseHex } from "@viafabric/schemas";
import { IndexSet } from "./index-set.ts";
import { decodeBody } from "./rvx1.ts";
import { chunkCount, chunkLeaves, setRoot, updateLeaves, ZERO_CHUNK_LEAF } from "./set-root.ts";
import { freshSeed, randomSet, seeded, vectors } from "./testing.test.ts";

test("the all-zero chunk and the empty universe have the known hashes", () => {
  assert.equal(formatHex(ZERO_CHUNK_LEAF), vectors.container.zeroChunkLeaf);
  assert.equal(formatHex(EMPTY_ROOT), vectors.container.emptyRoot);
  assert.deepEqual(setRoot(IndexSet.EMPTY, 0), EMPTY_ROOT);
});

for (const vector of vectors.bodies) {
  test(`${vector.name} has the vector's root`, () => {
    const set = decodeBody(parseHex(vector.body), vector);
    assert.equal(chunkCount(vector.universe), vector.chunks);
    assert.equal(formatHex(setRoot(set, vector.universe)), vector.setRoot);
  });
}

test("hashing only touched chunks gives the same leaves as hashing all", () => {
  const random = seeded(freshSeed("touched chunks"));
  let n = 100_000;
  let set = IndexSet.EMPTY;
  let leaves = chunkLeaves(set, n);
  for (let i = 0; i < 40; i++) {
    const grown = n + Math.floor(random() * 200_000);
    const next = set.difference(randomSet(random, grown, 20));
    leaves = updateLeaves(leaves, next, grown, next.difference(set));
    assert.deepEqual(leaves, chunkLeaves(next, grown));
    [set, n] = [next, grown];
  }
});

test("a set outside its universe has no root", () => {
  assert.throws(() => setRoot(IndexSet.fromIndices([10]), 10), RangeError);
});
