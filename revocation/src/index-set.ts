/**
 * A set of token indices as sorted, disjoint, maximal runs.
 *
 * Batches and kits make statuses come in runs, so one revoked batch costs eight bytes here. Values are immutable;
 * every operation is linear in the number of runs. For the long-lived sets of a node see `held-set.ts`.
 */

export interface Run {
  readonly first: number;
  readonly count: number;
}

/** One more than the largest index: RVX1 universes reach to 2^32 - 2, so that an end fits 32 bits. */
export const UNIVERSE_MAX = 2 ** 32 - 2;

export class IndexSet {
  static readonly EMPTY: IndexSet = new IndexSet(new Uint32Array(0), new Uint32Array(0));

  /** Run i holds the indices starts[i] ≤ x < ends[i]. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Number of indices. */
  readonly count: number;

  private constructor(starts: Uint32Array, ends: Uint32Array) {
    this.starts = starts;
    this.ends = ends;
    let count = 0;
    for (let i = 0; i < starts.length; i++) count += ends[i]! - starts[i]!;
    this.count = count;
  }

  get runCount(): number {
    return this.starts.length;
  }

  /** In any order, overlapping or touching as they like; empty runs are skipped. */
  static fromRuns(runs: Iterable<Run>): IndexSet {
    const edges: number[] = [];
    for (const { first, count } of runs) {
      if (count > 0) edges.push(startEdge(first), endEdge(first + count));
    }
    return sweep(Float64Array.from(edges));
  }

  static fromIndices(indices: Iterable<number>): IndexSet {
    const edges: number[] = [];
    for (const index of indices) edges.push(startEdge(index), endEdge(index + 1));
    return sweep(Float64Array.from(edges));
  }

  /** [0, size) */
  static below(size: number): IndexSet {
    return IndexSet.fromRuns([{ first: 0, count: size }]);
  }

  static unionOf(sets: readonly IndexSet[]): IndexSet {
    let runs = 0;
    for (const set of sets) runs += set.runCount;
    const edges = new Float64Array(2 * runs);
    let at = 0;
    for (const { starts, ends } of sets) {
      for (let i = 0; i < starts.length; i++) {
        edges[at++] = startEdge(starts[i]!);
        edges[at++] = endEdge(ends[i]!);
      }
    }
    return sweep(edges);
  }

  /** For code that produces ascending maximal runs itself, such as a decoder. Takes the arrays over. */
  static fromSorted(starts: Uint32Array, ends: Uint32Array): IndexSet {
    if (starts.length !== ends.length) throw new RangeError("as many starts as ends");
    for (let i = 0; i < starts.length; i++) {
      const gap = i === 0 || starts[i]! > ends[i - 1]!;
      if (!gap || ends[i]! <= starts[i]!) throw new RangeError(`run ${i} is empty or not apart from the one before`);
    }
    return new IndexSet(starts, ends);
  }

  has(index: number): boolean {
    const run = this.#runAtOrBefore(index);
    return run >= 0 && index < this.ends[run]!;
  }

  /** Whether every index of [first, first + count) is a member. */
  covers({ first, count }: Run): boolean {
    const run = this.#runAtOrBefore(first);
    return count === 0 || (run >= 0 && first + count <= this.ends[run]!);
  }

  /** The runs that overlap [first, end), whole. @returns positions [from, to) in `starts` and `ends` */
  runsWithin(first: number, end: number): readonly [number, number] {
    let from = Math.max(0, this.#runAtOrBefore(first));
    if (from < this.runCount && this.ends[from]! <= first) from++;
    let to = from;
    while (to < this.runCount && this.starts[to]! < end) to++;
    return [from, to];
  }

  *runs(): IterableIterator<Run> {
    for (let i = 0; i < this.runCount; i++) yield { first: this.starts[i]!, count: this.ends[i]! - this.starts[i]! };
  }

  *[Symbol.iterator](): IterableIterator<number> {
    for (let i = 0; i < this.runCount; i++) for (let x = this.starts[i]!; x < this.ends[i]!; x++) yield x;
  }

  equals(other: IndexSet): boolean {
    if (this.count !== other.count || this.runCount !== other.runCount) return false;
    for (let i = 0; i < this.runCount; i++) {
      if (this.starts[i] !== other.starts[i] || this.ends[i] !== other.ends[i]) return false;
    }
    return true;
  }

  union(other: IndexSet): IndexSet {
    return combine(this, other, (a, b) => a || b);
  }

  minus(other: IndexSet): IndexSet {
    return combine(this, other, (a, b) => a && !b);
  }

  intersection(other: IndexSet): IndexSet {
    return combine(this, other, (a, b) => a && b);
  }

  /** The indices that are in exactly one of the two. */
  difference(other: IndexSet): IndexSet {
    return combine(this, other, (a, b) => a !== b);
  }

  /** The last run that starts at or before `index`, -1 when there is none. */
  #runAtOrBefore(index: number): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

// An edge is twice the position, plus 1 where a run ends. Sorted as numbers, a start comes before an end at the same
// place, so touching runs merge; and one native sort serves any number of inputs in any order.
function startEdge(first: number): number {
  if (!(Number.isSafeInteger(first) && first >= 0 && first < UNIVERSE_MAX)) throw new RangeError(`index ${first}`);
  return 2 * first;
}

function endEdge(end: number): number {
  if (!(Number.isSafeInteger(end) && end > 0 && end <= UNIVERSE_MAX)) throw new RangeError(`end of run ${end}`);
  return 2 * end + 1;
}

function sweep(edges: Float64Array): IndexSet {
  edges.sort();
  const out = new RunBuilder(edges.length / 2);
  let depth = 0;
  let start = 0;
  for (const edge of edges) {
    if (edge % 2 === 0) {
      if (depth++ === 0) start = edge / 2;
    } else if (--depth === 0) {
      out.push(start, (edge - 1) / 2);
    }
  }
  return out.build();
}

/** Walks both sets edge by edge and keeps the stretches where `keep` holds. */
function combine(a: IndexSet, b: IndexSet, keep: (inA: boolean, inB: boolean) => boolean): IndexSet {
  const out = new RunBuilder(a.runCount + b.runCount);
  let edgeA = 0;
  let edgeB = 0;
  let kept = false;
  let start = 0;
  // Edge 2i of a set is starts[i], edge 2i + 1 is ends[i]; an odd number of edges passed means inside.
  while (edgeA < 2 * a.runCount || edgeB < 2 * b.runCount) {
    const nextA = edgeAt(a, edgeA);
    const nextB = edgeAt(b, edgeB);
    const at = Math.min(nextA, nextB);
    if (nextA === at) edgeA++;
    if (nextB === at) edgeB++;
    const now = keep(edgeA % 2 === 1, edgeB % 2 === 1);
    if (now && !kept) start = at;
    if (!now && kept) out.push(start, at);
    kept = now;
  }
  return out.build();
}

function edgeAt(set: IndexSet, edge: number): number {
  if (edge >= 2 * set.runCount) return Number.POSITIVE_INFINITY;
  return edge % 2 === 0 ? set.starts[edge >>> 1]! : set.ends[edge >>> 1]!;
}

/** Collects ascending runs in arrays that grow as needed. */
export class RunBuilder {
  #starts: Uint32Array;
  #ends: Uint32Array;
  #length = 0;

  constructor(expected = 16) {
    this.#starts = new Uint32Array(Math.max(1, expected));
    this.#ends = new Uint32Array(Math.max(1, expected));
  }

  get length(): number {
    return this.#length;
  }

  push(start: number, end: number): void {
    if (this.#length === this.#starts.length) {
      this.#starts = grown(this.#starts);
      this.#ends = grown(this.#ends);
    }
    this.#starts[this.#length] = start;
    this.#ends[this.#length++] = end;
  }

  build(): IndexSet {
    return IndexSet.fromSorted(this.#starts.slice(0, this.#length), this.#ends.slice(0, this.#length));
  }
}

function grown(array: Uint32Array): Uint32Array {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
