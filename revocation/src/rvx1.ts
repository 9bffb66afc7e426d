/**
 * RVX1 set bodies: a subset of [0, universe) in close to the fewest bytes that information theory allows.
 *
 * The set is a sequence of maximal runs (s, L), each told as the gap g = s - pos + 1 since the one before, a flag
 * whether L > 1, and h = L - 1 if so. A gap goes as its class n = bitlen(g) - 1, coded up or down from k (the class of
 * the mean gap, byte 0 of the body), then its mantissa. Contexts start at the geometric distribution of a uniform set
 * and adapt from there. The universe and the number of elements come from outside, from data that is signed; an
 * empty set is an empty body.
 *
 *     body = k ‖ range-coder output
 *
 * A decoder accepts any k in 0..31 and any body that gives the right set: the set's root is what is signed.
 */
import { concat, FormatError } from "@viafabric/schemas";
import { IndexSet, RunBuilder, UNIVERSE_MAX } from "./index-set.ts";
import { type Contexts, RangeDecoder, RangeEncoder } from "./range-coder.ts";

/** A decoded set of more runs takes over 128 MB: no list of that raggedness is a list of exceptions any more. */
export const RUNS_MAX = 2 ** 24;
/** No body of RUNS_MAX runs is longer: at worst a run costs about 8 bytes. */
export const BODY_BYTES_MAX = 128 * 1024 * 1024;

const CLASS_MAX = 31;
const CONTEXTS = 448;
/** Four sets of 64, chosen by the run before: +0 below k?, +1.. up from k, +16.. down from k - 1. */
const GAP_SETS = [0, 64, 128, 192] as const;
const UP = 1;
const UP_MAX = 14;
const DOWN = 16;
/** The two top mantissa bits, by class and node of their binary tree. */
const MANTISSA = 256;
/** Run flag: after a singleton, after a long run. */
const RUN_FLAG = 400;
const LENGTH_CLASS = 408;

const UP_START = [34079, 49611, 61407, 64881, 65208];
const DOWN_START = [26870, 29819, 31326, 32113, 32440];
const MANTISSA_START = [32768, 33489, 34210, 35652, 38470, 43909, 52691, 61866];

export interface BodyLimits {
  /** Indices are below this; at least 1 unless the set is empty. */
  readonly universe: number;
  /** Number of elements. */
  readonly count: number;
}

/** @param set a subset of [0, universe). The bytes are the same for everyone. */
export function encodeBody(set: IndexSet, universe: number): Uint8Array {
  if (set.count === 0) return new Uint8Array(0);
  if (universe > UNIVERSE_MAX || set.ends.at(-1)! > universe) throw new RangeError("the set leaves its universe");
  const k = bitLength(Math.max(1, Math.floor(universe / set.runCount))) - 1;
  const coder = new RangeEncoder(freshContexts(k));
  let position = 0;
  let gaps: number = GAP_SETS[0];
  let before: 0 | 1 = 0;
  for (let i = 0; i < set.runCount; i++) {
    const gap = set.starts[i]! - position + 1;
    const length = set.ends[i]! - set.starts[i]!;
    const gapClass = encodeGap(coder, gap, k, gaps);
    const long = length > 1 ? 1 : 0;
    coder.bit(RUN_FLAG + before, long);
    if (long === 1) encodeLength(coder, length - 1);
    gaps = nextGapSet(long, gapClass, k);
    before = long;
    position = set.ends[i]! + 1;
  }
  return concat(new Uint8Array([k]), coder.finish());
}

/** @throws FormatError ERR_RVX1. Work is bounded by the runs that `count` allows, at most RUNS_MAX. */
export function decodeBody(body: Uint8Array, { universe, count }: BodyLimits): IndexSet {
  if (universe > UNIVERSE_MAX || count > universe) throw wrong(`${count} elements below ${universe}`);
  if (count === 0) {
    if (body.length > 0) throw wrong("an empty set with a body");
    return IndexSet.EMPTY;
  }
  if (body.length === 0 || body.length > BODY_BYTES_MAX) throw wrong(`a body of ${body.length} bytes`);
  const k = body[0]!;
  if (k > CLASS_MAX) throw wrong(`gap class ${k}`);
  const coder = new RangeDecoder(body, 1, freshContexts(k));
  const runs = new RunBuilder(Math.min(count, 1024));
  let position = 0;
  let left = count;
  let gaps: number = GAP_SETS[0];
  let long = 0;
  while (left > 0) {
    const gapClass = decodeGapClass(coder, k, gaps);
    const start = position + decodeMantissa(coder, gapClass) - 1;
    long = coder.bit(RUN_FLAG + long);
    const length = long === 1 ? decodeLength(coder) + 1 : 1;
    if (start + length > universe) throw wrong("a run leaves the universe");
    if (length > left) throw wrong("more elements than announced");
    if (runs.length === RUNS_MAX) throw wrong(`more than ${RUNS_MAX} runs`);
    runs.push(start, start + length);
    left -= length;
    position = start + length + 1;
    gaps = nextGapSet(long, gapClass, k);
  }
  return runs.build();
}

/** After a long run, or after gaps much shorter than the mean, the next gap follows another law. */
function nextGapSet(long: number, gapClass: number, k: number): number {
  if (long === 1) return GAP_SETS[1];
  if (gapClass < k - 4) return GAP_SETS[2];
  return gapClass < k - 2 ? GAP_SETS[3] : GAP_SETS[0];
}

function encodeGap(coder: RangeEncoder, gap: number, k: number, set: number): number {
  const gapClass = bitLength(gap) - 1;
  if (gapClass < k) {
    coder.bit(set, 1);
    for (let j = k - 1; j > gapClass; j--) coder.bit(set + DOWN + (k - 1 - j), 1);
    if (gapClass > 0) coder.bit(set + DOWN + (k - 1 - gapClass), 0);
  } else {
    coder.bit(set, 0);
    for (let j = k; j < gapClass; j++) coder.bit(set + UP + Math.min(j - k, UP_MAX), 1);
    coder.bit(set + UP + Math.min(gapClass - k, UP_MAX), 0);
  }
  const top = Math.min(2, gapClass);
  let node = 1;
  for (let t = 1; t <= top; t++) {
    const bit = Math.floor(gap / 2 ** (gapClass - t)) % 2 === 1 ? 1 : 0;
    coder.bit(MANTISSA + 4 * gapClass + node, bit);
    node = 2 * node + bit;
  }
  coder.raw(gap % 2 ** (gapClass - top), gapClass - top);
  return gapClass;
}

function decodeGapClass(coder: RangeDecoder, k: number, set: number): number {
  if (coder.bit(set) === 1) {
    if (k === 0) throw wrong("a gap class below 0");
    let gapClass = k - 1;
    while (gapClass > 0 && coder.bit(set + DOWN + (k - 1 - gapClass)) === 1) gapClass--;
    return gapClass;
  }
  let gapClass = k;
  while (coder.bit(set + UP + Math.min(gapClass - k, UP_MAX)) === 1) {
    if (++gapClass > CLASS_MAX) throw wrong(`a gap class above ${CLASS_MAX}`);
  }
  return gapClass;
}

/** The gap of class n: its leading 1, two modelled bits, the rest raw. */
function decodeMantissa(coder: RangeDecoder, gapClass: number): number {
  const top = Math.min(2, gapClass);
  let node = 1;
  for (let t = 0; t < top; t++) node = 2 * node + coder.bit(MANTISSA + 4 * gapClass + node);
  const rest = gapClass - top;
  return rest === 0 ? node : node * 2 ** rest + coder.raw(rest);
}

function encodeLength(coder: RangeEncoder, h: number): void {
  const lengthClass = bitLength(h) - 1;
  for (let i = 0; i < lengthClass; i++) coder.bit(LENGTH_CLASS + i, 1);
  coder.bit(LENGTH_CLASS + lengthClass, 0);
  coder.raw(h % 2 ** lengthClass, lengthClass);
}

function decodeLength(coder: RangeDecoder): number {
  let lengthClass = 0;
  while (coder.bit(LENGTH_CLASS + lengthClass) === 1) {
    if (++lengthClass > CLASS_MAX) throw wrong(`a length class above ${CLASS_MAX}`);
  }
  return 2 ** lengthClass + coder.raw(lengthClass);
}

function freshContexts(k: number): Contexts {
  const probability = new Uint16Array(CONTEXTS).fill(32768);
  const uses = new Uint8Array(CONTEXTS).fill(3);
  for (const set of GAP_SETS) {
    for (let j = 0; j <= UP_MAX; j++) probability[set + UP + j] = UP_START[Math.min(j, 4)]!;
    for (let j = 0; j < DOWN_START.length; j++) probability[set + DOWN + j] = DOWN_START[j]!;
  }
  for (let n = 0; n <= CLASS_MAX; n++) {
    const r = Math.min(7, Math.max(1, n - k + 4));
    const [low, high] = [MANTISSA_START[r - 1]!, MANTISSA_START[r]!];
    probability.set([high, low, low], MANTISSA + 4 * n + 1);
  }
  // A body of k = 31 shifts by 31: still a plain number.
  probability[RUN_FLAG] = 65536 - Math.min(32768, Math.max(64, Math.floor(65536 / 2 ** k)));
  return { probability, uses };
}

/** Number of bits of a positive integer below 2^32. */
function bitLength(value: number): number {
  return 32 - Math.clz32(value);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_RVX1", `not an RVX1 set: ${reason}`);
}
