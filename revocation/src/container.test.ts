import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, formatHex, parseHex, sha256 } from "@viafabric/schemas";
import { chunkLevels, chunkMembers, chunkProof, encodeChunkFile, verifyChunkFile } from "./chunk-file.ts";
import { applyDelta, decodeSetFile, type EpochSet, encodeDelta, encodeSnapshot, verifySnapshot } from "./container.ts";
import { IndexSet } from "./index-set.ts";
import { encodeBody } from "./rvx1.ts";
import { CHUNK_INDICES, chunkLeaves, setRoot } from "./set-root.ts";
import { freshSeed, lcgSet, randomSet, seeded, vectors } from "./testing.test.ts";

const { snapshot, delta, after, chunk1 } = vectors.container;
const at8: EpochSet = { plane: 0, epoch: 8, n: 300_000, set: lcgSet(300_000, 3, 4_294_967) };
const signedOf = (state: EpochSet) => ({ ...state, count: state.set.count, root: setRoot(state.set, state.n) });

test("the snapshot vector", () => {
  assert.equal(at8.set.count, snapshot.count);
  const bytes = encodeSnapshot(at8);
  assert.equal(bytes.length, snapshot.length);
  assert.equal(formatHex(bytes.subarray(0, 68)), snapshot.header);
  assert.equal(formatHex(sha256(bytes)), snapshot.sha256);
  assert.ok(verifySnapshot(bytes, signedOf(at8)).set.equals(at8.set));
});

test("the delta vector, both ways", () => {
  const bytes = parseHex(delta.hex);
  const at9 = applyDelta(at8, bytes);
  assert.equal(at9.set.count, after.count);
  assert.equal(at9.epoch, 9);
  assert.equal(at9.n, 310_000);
  assert.deepEqual(chunkLeaves(at9.set, at9.n).map(formatHex), after.leaves);
  assert.equal(formatHex(setRoot(at9.set, at9.n)), after.root);
  assert.equal(formatHex(encodeDelta(decodeSetFile(bytes))), delta.hex);
  assert.ok(applyDelta(at9, bytes).set.equals(at9.set), "applying it again changes nothing");
});

test("the chunk vector, and a chunk file proves itself", () => {
  const at9 = applyDelta(at8, parseHex(delta.hex));
  const members = chunkMembers(at9.set, 1);
  const body = encodeBody(members, CHUNK_INDICES);
  assert.equal(members.count, chunk1.count);
  assert.equal(formatHex(body), chunk1.body);
  const levels = chunkLevels(chunkLeaves(at9.set, at9.n));
  assert.deepEqual(chunkProof(levels, 1).map(formatHex), chunk1.proof);
  const signed = signedOf(at9);
  for (let chunk = 0; chunk < 3; chunk++) {
    const file = encodeChunkFile(at9.set, levels, 9, chunk);
    assert.ok(verifyChunkFile(file, chunk, signed).equals(chunkMembers(at9.set, chunk)));
    assert.throws(() => verifyChunkFile(file, (chunk + 1) % 3, signed), { code: "ERR_SET_OTHER" });
    refusedAtEachBit(file, (corrupt) => verifyChunkFile(corrupt, chunk, signed), chunkMembers(at9.set, chunk));
  }
});

test("every single-bit corruption of a snapshot is refused, or still gives the signed set", () => {
  const signed = signedOf(at8);
  refusedAtEachBit(encodeSnapshot(at8), (bytes) => verifySnapshot(bytes, signed).set, at8.set);
});

test("every single-bit corruption of a delta is refused, or leads to a set that names another root", () => {
  const at9 = applyDelta(at8, parseHex(delta.hex));
  const bytes = parseHex(delta.hex);
  const apply = (corrupt: Uint8Array) => {
    const state = applyDelta(at8, corrupt);
    // Epochs in the header are not under the file's own root: the statement is what they are compared with.
    return state.epoch === 9 ? state.set : at9.set;
  };
  refusedAtEachBit(bytes, apply, at9.set);
});

function refusedAtEachBit(bytes: Uint8Array, read: (bytes: Uint8Array) => IndexSet, good: IndexSet): void {
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const corrupt = bytes.slice();
    corrupt[bit >> 3]! ^= 1 << (bit & 7);
    let set: IndexSet;
    try {
      set = read(corrupt);
    } catch (error) {
      assert.ok(error instanceof CodedError, `bit ${bit}: ${error}`);
      continue;
    }
    assert.ok(set.equals(good), `bit ${bit} was accepted with another set`);
  }
}

/** A history of epochs and the indices that changed in each. */
function history(random: () => number, epochs: number) {
  const states: EpochSet[] = [{ plane: 1, epoch: 0, n: 0, set: IndexSet.EMPTY }];
  const touched: IndexSet[] = [IndexSet.EMPTY];
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const before = states.at(-1)!;
    const n = before.n + Math.floor(random() * 1000);
    const set = n === 0 ? IndexSet.EMPTY : before.set.difference(randomSet(random, n, 6));
    states.push({ plane: 1, epoch, n, set });
    touched.push(set.difference(before.set));
  }
  return { states, touched };
}

test("a delta from ≤ a ≤ to leads from a to the set at to", () => {
  const random = seeded(freshSeed("deltas"));
  for (let round = 0; round < 100; round++) {
    const { states, touched } = history(random, 8);
    const from = Math.floor(random() * 8);
    const to = from + 1 + Math.floor(random() * (8 - from));
    const end = states[to]!;
    const changed = IndexSet.unionOf(touched.slice(from + 1, to + 1));
    const [add, del] = [changed.intersection(end.set), changed.minus(end.set)];
    const file = encodeDelta({ plane: 1, from, to, n: end.n, add, del, root: setRoot(end.set, end.n) });
    for (let a = from; a <= to; a++) assert.deepEqual(applyDelta(states[a]!, file), end);
    for (const a of [from - 1, to + 1]) {
      if (states[a]) assert.throws(() => applyDelta(states[a]!, file), { code: "ERR_SET_OTHER" });
    }
  }
});

test("what is not the file asked for is refused before it is decoded", () => {
  const signed = signedOf(at8);
  const bytes = encodeSnapshot(at8);
  for (const change of [{ plane: 1 as const }, { epoch: 9 }, { n: 300_001 }, { count: 322 }]) {
    assert.throws(() => verifySnapshot(bytes, { ...signed, ...change }), { code: "ERR_SET_OTHER" });
  }
  assert.throws(() => verifySnapshot(bytes, { ...signed, root: new Uint8Array(32) }), { code: "ERR_SET_ROOT" });
  assert.throws(() => verifySnapshot(parseHex(delta.hex), { ...signed, epoch: 9 }), { code: "ERR_SET_OTHER" });
  assert.throws(() => applyDelta({ ...at8, plane: 1 }, parseHex(delta.hex)), { code: "ERR_SET_OTHER" });
  assert.throws(() => applyDelta({ ...at8, n: 310_001 }, parseHex(delta.hex)), { code: "ERR_SET_OTHER" });
  for (let length = 0; length < 100; length++) {
    assert.throws(() => verifySnapshot(bytes.subarray(0, length), signed), CodedError);
  }
});
