import assert from "node:assert/strict";
import { test } from "node:test";
import { FormatError, formatHex, parseHex, sha256 } from "@viafabric/schemas";
import { IndexSet, UNIVERSE_MAX } from "./index-set.ts";
import { decodeBody, encodeBody } from "./rvx1.ts";
import { type BodyVector, freshSeed, lcgSet, randomSet, seeded, vectors } from "./testing.test.ts";

/** The sets of the vectors, told a second time so that encoder and decoder are held apart. */
const MEMBERS: Record<string, IndexSet> = {
  empty: IndexSet.EMPTY,
  "single-0": IndexSet.fromIndices([0]),
  "first-of-1M": IndexSet.fromIndices([0]),
  "last-of-1M": IndexSet.fromIndices([999_999]),
  "all-16": IndexSet.below(16),
  "all-1M": IndexSet.below(1_000_000),
  "ietf-16": IndexSet.fromIndices([0, 3, 4, 5, 7, 8, 9, 13, 15]),
  "alternating-64": IndexSet.fromIndices(Array.from({ length: 32 }, (_, i) => 2 * i)),
  "ietf-2e20": IndexSet.fromIndices([0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345]),
  "batch-500": IndexSet.fromRuns([{ first: 12_345_000, count: 500 }]),
  "two-batches": IndexSet.fromRuns([
    { first: 12_345_000, count: 500 },
    { first: 13_122_500, count: 500 },
  ]),
  "far-gap": IndexSet.fromIndices([5, 4_294_967_290]),
  "lcg-0.1%-1M": lcgSet(1_000_000, 1, 4_294_967),
  "lcg-1%-1M": lcgSet(1_000_000, 7, 42_949_673),
  "lcg-5%-300k": lcgSet(300_000, 11, 214_748_365),
  "lcg-1%-plus-2-batches": lcgSet(1_000_000, 7, 42_949_673).union(
    IndexSet.fromRuns([
      { first: 400_000, count: 500 },
      { first: 812_500, count: 500 },
    ]),
  ),
};

test("every vector has a set, and every set a vector", () => {
  assert.deepEqual(
    vectors.bodies.map((v) => v.name),
    Object.keys(MEMBERS),
  );
});

for (const vector of vectors.bodies) {
  const set = MEMBERS[vector.name]!;
  test(`${vector.name} encodes to the vector's bytes`, () => {
    assert.equal(set.count, vector.count);
    assert.equal(set.runCount, vector.runs);
    const body = encodeBody(set, vector.universe);
    assert.equal(formatHex(sha256(body)), vector.bodySha256);
    assert.equal(formatHex(body), vector.body);
  });

  test(`${vector.name} decodes to the vector's set`, () => {
    const decoded = decodeBody(parseHex(vector.body), vector);
    assert.ok(decoded.equals(set));
    const members = [...decoded].slice(0, vector.first.length);
    assert.deepEqual(members, vector.first);
  });
}

test("random sets of any universe come back", () => {
  const random = seeded(freshSeed("round trips"));
  for (let i = 0; i < 3000; i++) {
    const universe = Math.ceil(2 ** (random() * 32));
    const bounded = Math.min(universe, UNIVERSE_MAX);
    const set = randomSet(random, bounded);
    const body = encodeBody(set, bounded);
    assert.ok(decodeBody(body, { universe: bounded, count: set.count }).equals(set), `universe ${bounded}`);
  }
});

test("any k decodes, so that an encoder of another age is still read", () => {
  // A body made for a universe of half the size has another k: its bytes differ, its set does not.
  const set = lcgSet(10_000, 5, 42_949_673);
  const [small, large] = [encodeBody(set, 10_000), encodeBody(set, 1_000_000)];
  assert.notEqual(small[0], large[0]);
  assert.ok(decodeBody(large, { universe: 10_000, count: set.count }).equals(set));
});

test("every single-bit corruption ends: refused, or some set of the announced size within its universe", () => {
  // Another body may well give the same set (bits past what the coder needs, another k): roots are signed, not bodies.
  const small = vectors.bodies.filter((v) => v.body.length > 0 && v.body.length < 6000);
  assert.ok(small.length > 10);
  for (const vector of small) corruptEachBit(vector);
});

function corruptEachBit(vector: BodyVector): void {
  const body = parseHex(vector.body);
  for (let bit = 0; bit < 8 * body.length; bit++) {
    const corrupt = body.slice();
    corrupt[bit >> 3]! ^= 1 << (bit & 7);
    try {
      const decoded = decodeBody(corrupt, vector);
      assert.equal(decoded.count, vector.count);
      assert.ok(decoded.ends.at(-1)! <= vector.universe);
    } catch (error) {
      assert.ok(error instanceof FormatError && error.code === "ERR_RVX1", `bit ${bit}: ${error}`);
    }
  }
}

test("random bytes end in an error or a set", () => {
  const random = seeded(freshSeed("random bodies"));
  for (let i = 0; i < 2000; i++) {
    const body = Uint8Array.from({ length: 1 + Math.floor(random() * 40) }, () => Math.floor(random() * 256));
    body[0]! %= 33;
    const universe = 1 + Math.floor(random() * 100_000);
    const count = Math.floor(random() * universe);
    try {
      assert.equal(decodeBody(body, { universe, count }).count, count);
    } catch (error) {
      assert.ok(error instanceof FormatError, String(error));
    }
  }
});

const refused = (body: number[], universe: number, count: number) =>
  assert.throws(() => decodeBody(Uint8Array.from(body), { universe, count }), { code: "ERR_RVX1" });

test("mandatory rejections", () => {
  refused([32, 0], 100, 1);
  refused([0], 100, 0);
  refused([], 100, 1);
  refused([3], 100, 101);
  refused([0], 4_294_967_295, 1);
  // k = 0 and a first bit of 1: a gap class below 0.
  refused([0, 0xff, 0xff, 0xff, 0xff], 100, 1);
  // One element announced, a batch of 500 inside.
  refused([...parseHex("1ae05276023b2a98")], 100_000_000, 1);
  refused([...parseHex("1ae05276023b2a98")], 12_345_400, 500);
});

// log2 C(1e8, R) / 8; the bench measures larger sets beside other formats.
for (const [count, entropy] of [
  [10_000, 18_411.9],
  [100_000, 142_596],
] as const) {
  test(`${count} scattered indices of a hundred million cost within half a percent of their entropy`, () => {
    const random = seeded(20_260_101);
    const members = new Set<number>();
    while (members.size < count) members.add(Math.floor(random() * 100_000_000));
    const body = encodeBody(IndexSet.fromIndices(members), 100_000_000);
    assert.ok(body.length <= 1.005 * entropy, `${body.length} bytes`);
  });
}
