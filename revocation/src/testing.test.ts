/** What the tests of this room share: the vectors, seeded randomness, sets made from both. */
import { readFileSync } from "node:fs";
import { IndexSet } from "./index-set.ts";

export interface BodyVector {
  readonly name: string;
  readonly note?: string;
  readonly universe: number;
  readonly count: number;
  readonly runs: number;
  readonly k: number | null;
  readonly body: string;
  readonly bodySha256: string;
  readonly setRoot: string;
  readonly chunks: number;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

export interface Vectors {
  readonly bodies: readonly BodyVector[];
  readonly container: {
    readonly zeroChunkLeaf: string;
    readonly emptyRoot: string;
    readonly snapshot: {
      readonly count: number;
      readonly length: number;
      readonly sha256: string;
      readonly header: string;
    };
    readonly delta: { readonly hex: string };
    readonly after: { readonly count: number; readonly leaves: readonly string[]; readonly root: string };
    readonly chunk1: {
      readonly count: number;
      readonly body: string;
      readonly bodyLength: number;
      readonly sha256: string;
      readonly proof: readonly string[];
    };
    readonly paths: Readonly<Record<string, unknown>>;
  };
}

const VECTORS = new URL("../../test/vectors/revocation/", import.meta.url);

export function readVector(name: string): Buffer {
  return readFileSync(new URL(name, VECTORS));
}

export const vectors = JSON.parse(readVector("vectors.json").toString()) as Vectors;

/** The members of [0, universe) that the vectors' generator picks. */
export function lcgSet(universe: number, seed: number, threshold: number): IndexSet {
  const members: number[] = [];
  let x = seed;
  for (let i = 0; i < universe; i++) {
    x = (Math.imul(1664525, x) + 1013904223) >>> 0;
    if (x < threshold) members.push(i);
  }
  return IndexSet.fromIndices(members);
}

/** mulberry32: small, seeded, good enough to choose test cases. Gives numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A new seed each run, printed so that a failure can be replayed with SEED=… */
export function freshSeed(what: string): number {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
  console.log(`${what}: SEED=${seed}`);
  return seed;
}

/** A set below `universe`: at random uniform, in runs, dense, or nearly full. */
export function randomSet(random: () => number, universe: number, runsMax = 200): IndexSet {
  const runs = Math.floor(random() * runsMax);
  const longest = 1 + Math.floor(random() ** 3 * Math.min(universe, 1000));
  const set = IndexSet.fromRuns(
    Array.from({ length: runs }, () => {
      const first = Math.floor(random() * universe);
      return { first, count: Math.min(universe - first, 1 + Math.floor(random() * longest)) };
    }),
  );
  return random() < 0.2 ? IndexSet.below(universe).minus(set) : set;
}
