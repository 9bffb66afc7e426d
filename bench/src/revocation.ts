/** Figures of the status sets: their size against information theory, their speed, and a node's day of updates. */
import { deflateSync } from "node:zlib";
import {
  chunkBitmap,
  chunkCount,
  decodeBody,
  deltaPath,
  type EpochPlanes,
  encodeBody,
  epochFiles,
  holdSet,
  IndexSet,
  SET_HEADER_BYTES,
} from "@viafabric/revocation";
import { concat } from "@viafabric/schemas";
import { type Figure, figureOf, secondsOf, seeded } from "./figure.ts";

const UNIVERSE = 100_000_000;
const SEED = 20_260_101;

export async function* revocationSize(): AsyncGenerator<Figure> {
  const bench = "revocation-size";
  for (const count of [10_000, 100_000, 1_000_000, 5_000_000]) {
    const set = uniformSet(count, SEED);
    yield figureOf({
      bench,
      figure: `uniform-${count}`,
      value: checkedBody(set).length,
      floor: entropyBytes(UNIVERSE, count),
      atMost: 1.005,
      n: count,
      seed: SEED,
      note: `bytes of the body; floor log2 C(1e8, R) / 8; ${besides(set)}`,
    });
  }
  const clustered = clusteredSet(1_000_000, 0.3, 500, SEED);
  yield figureOf({
    bench,
    figure: "clustered-1000000",
    value: checkedBody(clustered).length,
    floor: entropyBytes(UNIVERSE, clustered.count),
    atMost: 0.76,
    n: clustered.count,
    seed: SEED,
    note: `30 % in runs of 500; floor as if uniform; ${besides(clustered)}`,
  });
}

export async function* revocationSpeed(): AsyncGenerator<Figure> {
  const bench = "revocation-speed";
  const count = 1_000_000;
  const set = uniformSet(count, SEED);
  const body = encodeBody(set, UNIVERSE);
  const decode = secondsOf(() => decodeBody(body, { universe: UNIVERSE, count }));
  const common = { bench, n: count, seed: SEED };
  yield figureOf({
    ...common,
    figure: "decode",
    value: (decode / count) * 1e9,
    atMost: 200,
    note: `ns per element; ${(decode * 1000).toFixed(0)} ms in all`,
  });
  const held = holdSet(set, UNIVERSE);
  const random = seeded(SEED + 1);
  const queries = Uint32Array.from({ length: count }, () => Math.floor(random() * UNIVERSE));
  let hits = 0;
  const lookups = secondsOf(() => {
    hits = 0;
    for (const query of queries) if (held.has(query)) hits++;
  });
  yield figureOf({
    ...common,
    figure: "lookup",
    value: (lookups / queries.length) * 1e9,
    atMost: 100,
    note: `ns per look-up of a random index; ${hits} members among them`,
  });
  yield figureOf({
    ...common,
    figure: "memory",
    value: held.bytes / 1e6,
    atMost: 2.6,
    note: `MB that a node keeps, as ${held.shape}`,
  });
}

/** One day of hourly epochs: 1,000 scattered revocations, as many suspensions, twenty batches released, of 1e8. */
export async function* revocationDay(): AsyncGenerator<Figure> {
  const bench = "revocation-day";
  const perDay = 1000;
  // Another seed than the starting set's, or the day would revoke what is revoked already.
  const random = seeded(SEED + 1);
  const files = new Map<string, Uint8Array>();
  // From epoch 64 on every delta of the day starts within the day.
  let state: EpochPlanes = {
    epoch: 64,
    n: UNIVERSE,
    planes: [uniformSet(100_000, SEED), IndexSet.EMPTY, LAST_MILLION],
  };
  let polled = 0;
  for (let hour = 0; hour < 24; hour++) {
    const share = Math.floor((perDay * (hour + 1)) / 24) - Math.floor((perDay * hour) / 24);
    const [revoked, suspended, unreleased] = state.planes;
    const batches = hour < 20 ? [{ first: LAST_MILLION.starts[0]! + hour * 500, count: 500 }] : [];
    const next: EpochPlanes = {
      epoch: state.epoch + 1,
      n: UNIVERSE,
      planes: [
        revoked.union(scattered(share, random)),
        suspended.union(scattered(share, random)),
        unreleased.minus(IndexSet.fromRuns(batches)),
      ],
    };
    for (const { path, bytes } of await epochFiles(state, next, async (name) => files.get(name)))
      files.set(path, bytes);
    polled += files.get(deltaPath(0, { from: state.epoch, to: next.epoch }))!.length;
    state = next;
  }
  const common = { bench, n: perDay, seed: SEED };
  yield figureOf({
    ...common,
    figure: "plane-0-deltas",
    value: polled,
    floor: entropyBytes(UNIVERSE, perDay),
    atMost: 2.2,
    note: "bytes of the 24 hourly delta files, headers included; floor: the entropy of the day's revocations",
  });
  const deltas = [...files].filter(([path]) => path.includes("/d/"));
  const bodies = deltas.reduce((sum, [, bytes]) => sum + bytes.length - SET_HEADER_BYTES, 0);
  yield figureOf({
    ...common,
    figure: "all-bodies",
    value: bodies / 1000,
    atMost: 45,
    note: `kB of the bodies of all ${deltas.length} deltas that the day publishes, all planes and all lengths`,
  });
}

const LAST_MILLION = IndexSet.fromRuns([{ first: UNIVERSE - 1_000_000, count: 1_000_000 }]);

function scattered(count: number, random: () => number): IndexSet {
  return IndexSet.fromIndices(Array.from({ length: count }, () => Math.floor(random() * UNIVERSE)));
}

/** Exactly `count` different indices, each set as likely as any other. */
function uniformSet(count: number, seed: number): IndexSet {
  const random = seeded(seed);
  const bits = new Uint8Array(UNIVERSE / 8);
  const indices = new Float64Array(count);
  for (let chosen = 0; chosen < count; ) {
    const index = Math.floor(random() * UNIVERSE);
    const bit = 1 << (index & 7);
    if ((bits[index >>> 3]! & bit) !== 0) continue;
    bits[index >>> 3]! |= bit;
    indices[chosen++] = index;
  }
  return IndexSet.fromIndices(indices);
}

/** `share` of the elements in runs of `length`, the rest scattered. */
function clusteredSet(count: number, share: number, length: number, seed: number): IndexSet {
  const random = seeded(seed);
  const batches = Array.from({ length: (count * share) / length }, () => {
    return { first: Math.floor((random() * UNIVERSE) / length) * length, count: length };
  });
  return IndexSet.fromRuns(batches).union(uniformSet(count * (1 - share), seed + 1));
}

/** A size is worth nothing unless the body decodes to the set. */
function checkedBody(set: IndexSet): Uint8Array {
  const body = encodeBody(set, UNIVERSE);
  const decoded = decodeBody(body, { universe: UNIVERSE, count: set.count });
  if (!decoded.equals(set)) throw new Error("a body that does not decode to its set");
  return body;
}

/** What other formats take for the same set. */
function besides(set: IndexSet): string {
  const bitmaps = Array.from({ length: chunkCount(UNIVERSE) }, (_, chunk) => chunkBitmap(set, chunk));
  return `zlib list ${deflateSync(concat(...bitmaps), { level: 9 }).length} B, Roaring ${roaringBytes(set)} B`;
}

/** The size by the Roaring format's specification: per 65,536 indices the smallest of array, bitmap and runs. */
function roaringBytes(set: IndexSet): number {
  const containers = new Map<number, { elements: number; runs: number }>();
  for (const { first, count } of set.runs()) {
    for (let at = first; at < first + count; ) {
      const key = Math.floor(at / 65536);
      const end = Math.min(first + count, (key + 1) * 65536);
      const container = containers.get(key) ?? { elements: 0, runs: 0 };
      containers.set(key, { elements: container.elements + end - at, runs: container.runs + 1 });
      at = end;
    }
  }
  let bytes = 4 + Math.ceil(containers.size / 8);
  for (const { elements, runs } of containers.values()) bytes += 8 + Math.min(2 * elements, 8192, 2 + 4 * runs);
  return bytes;
}

/** log2 C(n, k) / 8 */
function entropyBytes(n: number, k: number): number {
  return (logFactorial(n) - logFactorial(k) - logFactorial(n - k)) / Math.LN2 / 8;
}

/** Stirling's series: exact to more digits than are printed. */
function logFactorial(x: number): number {
  return x * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI * x) + 1 / (12 * x) - 1 / (360 * x ** 3);
}
