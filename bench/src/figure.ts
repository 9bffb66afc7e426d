/**
 * What a bench says: one line of JSON per figure.
 *
 * A goal applies to a ratio against a floor that was measured in the same run, so that it holds on any machine; where
 * a figure has no floor the goal applies to the value. What a machine cannot give is `null`, with the reason.
 */

export interface Figure {
  readonly bench: string;
  readonly figure: string;
  readonly value: number | null;
  readonly floor: number | null;
  readonly ratio: number | null;
  readonly goal: string;
  /** Null where nothing could be judged. */
  readonly ok: boolean | null;
  /** How many items were measured. */
  readonly n: number;
  readonly seed: number;
  readonly note: string;
}

export type Bench = () => AsyncGenerator<Figure>;

export interface Measured {
  readonly bench: string;
  readonly figure: string;
  readonly value: number;
  readonly floor?: number;
  /** The most that the ratio (or, without a floor, the value) may be. Undefined: printed, not judged. */
  readonly atMost?: number;
  /** The least it may be. */
  readonly atLeast?: number;
  readonly n: number;
  readonly seed?: number;
  readonly note: string;
}

export function figureOf(measured: Measured): Figure {
  const { bench, figure, value, floor, atMost, atLeast, n, note } = measured;
  const ratio = floor === undefined ? null : value / floor;
  const judged = ratio ?? value;
  const goals = [atMost === undefined ? [] : `≤ ${atMost}`, atLeast === undefined ? [] : `≥ ${atLeast}`].flat();
  const ok = goals.length === 0 ? null : judged <= (atMost ?? judged) && judged >= (atLeast ?? judged);
  return {
    bench,
    figure,
    value: rounded(value),
    floor: floor === undefined ? null : rounded(floor),
    ratio: ratio === null ? null : rounded(ratio),
    goal: goals.join(", "),
    ok,
    n,
    seed: measured.seed ?? 0,
    note,
  };
}

/** For what this machine cannot give. */
export function impossible(bench: string, figure: string, goal: string, reason: string): Figure {
  return { bench, figure, value: null, floor: null, ratio: null, goal, ok: null, n: 0, seed: 0, note: reason };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** How often a time is taken; the median counts. */
export const ROUNDS = 5;

/** Seconds that `work` takes, median of five, after one run to warm up. */
export function secondsOf(work: () => void): number {
  work();
  return median(Array.from({ length: ROUNDS }, () => secondsOnce(work)));
}

/** Seconds that `work` takes this once: for benches that alternate with their floor. */
export function secondsOnce(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e9;
}

/** mulberry32: seeded numbers in [0, 1), for inputs that come out the same in every run. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
