/**
 * The ledger's memory as CBOR, so that a signer continues where it stopped instead of replaying years of log.
 *
 * Map: 1 v, 2 N, 3 event leaves applied below, 4 ids of the bodies seen, 5 released runs, 6 holds. Long lists are byte
 * strings of fixed-size records (big-endian): an id 16 bytes, a run u32 first ‖ u32 count, a hold u64 leaf ‖ u8 plane ‖
 * u32 runs ‖ its runs.
 */
import {
  concat,
  decodeCbor,
  encodeCbor,
  Fields,
  FormatError,
  formatHex,
  parseHex,
  readU32,
  readU64,
  u32,
  u64,
} from "@viafabric/schemas";
import { IndexSet, type Run, UNIVERSE_MAX } from "./index-set.ts";

export interface Hold {
  readonly plane: 0 | 1;
  /** What no reinstatement has freed yet; ascending. */
  readonly runs: readonly Run[];
}

export interface LedgerState {
  n: number;
  /** Every event leaf below this log index has been applied. */
  leaves: number;
  readonly seen: Set<string>;
  released: IndexSet;
  /** By leaf index, ascending. */
  readonly holds: Map<number, Hold>;
}

export const EVENT_ID_BYTES = 16;
/** Ten million events with a run each stay below it. */
export const LEDGER_BYTES_MAX = 512 * 1024 * 1024;
const RUN_BYTES = 8;
const HOLD_HEADER_BYTES = 13;

export function encodeLedgerState(state: LedgerState): Uint8Array {
  return encodeCbor(
    new Map<number, number | Uint8Array>([
      [1, 1],
      [2, state.n],
      [3, state.leaves],
      [4, encodeIds(state.seen)],
      [5, encodeReleased(state.released)],
      [6, encodeHolds(state.holds)],
    ]),
  );
}

/** @throws FormatError ERR_LEDGER */
export function decodeLedgerState(bytes: Uint8Array): LedgerState {
  if (bytes.length > LEDGER_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_LEDGER"), [1, 2, 3, 4, 5, 6], "ERR_LEDGER");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const n = fields.integer(2, UNIVERSE_MAX);
  const leaves = fields.integer(3);
  const released = fields.bytes(5);
  return {
    n,
    leaves,
    seen: decodeIds(fields.bytes(4)),
    released: IndexSet.fromRuns(decodeRuns(released, 0, released.length / RUN_BYTES, n)),
    holds: decodeHolds(fields.bytes(6), n, leaves),
  };
}

function encodeIds(seen: ReadonlySet<string>): Uint8Array {
  const bytes = new Uint8Array(seen.size * EVENT_ID_BYTES);
  let at = 0;
  for (const id of seen) {
    bytes.set(parseHex(id, EVENT_ID_BYTES), at);
    at += EVENT_ID_BYTES;
  }
  return bytes;
}

function decodeIds(bytes: Uint8Array): Set<string> {
  if (bytes.length % EVENT_ID_BYTES !== 0) throw wrong("ids of another length");
  const seen = new Set<string>();
  for (let at = 0; at < bytes.length; at += EVENT_ID_BYTES)
    seen.add(formatHex(bytes.subarray(at, at + EVENT_ID_BYTES)));
  return seen;
}

function decodeHolds(bytes: Uint8Array, n: number, leaves: number): Map<number, Hold> {
  const holds = new Map<number, Hold>();
  let after = -1;
  for (let at = 0; at < bytes.length; ) {
    if (at + HOLD_HEADER_BYTES > bytes.length) throw wrong("a hold is cut short");
    const leafIndex = readU64(bytes, at);
    const plane = bytes[at + 8];
    const runs = readU32(bytes, at + 9);
    if (leafIndex <= after || leafIndex >= leaves) throw wrong("holds must ascend below the leaves applied");
    if (plane !== 0 && plane !== 1) throw wrong(`plane ${plane}`);
    holds.set(leafIndex, { plane, runs: decodeRuns(bytes, at + HOLD_HEADER_BYTES, runs, n) });
    after = leafIndex;
    at += HOLD_HEADER_BYTES + runs * RUN_BYTES;
  }
  return holds;
}

function encodeReleased(released: IndexSet): Uint8Array {
  const bytes = new Uint8Array(released.runCount * RUN_BYTES);
  writeRuns(bytes, 0, [...released.runs()]);
  return bytes;
}

function encodeHolds(holds: ReadonlyMap<number, Hold>): Uint8Array {
  let length = 0;
  for (const { runs } of holds.values()) length += HOLD_HEADER_BYTES + runs.length * RUN_BYTES;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const [leafIndex, { plane, runs }] of holds) {
    bytes.set(concat(u64(leafIndex), new Uint8Array([plane]), u32(runs.length)), at);
    writeRuns(bytes, at + HOLD_HEADER_BYTES, runs);
    at += HOLD_HEADER_BYTES + runs.length * RUN_BYTES;
  }
  return bytes;
}

function writeRuns(bytes: Uint8Array, start: number, runs: readonly Run[]): void {
  const view = new DataView(bytes.buffer);
  runs.forEach(({ first, count }, i) => {
    view.setUint32(start + i * RUN_BYTES, first);
    view.setUint32(start + i * RUN_BYTES + 4, count);
  });
}

/** Ascending, apart or touching, below n. */
function decodeRuns(bytes: Uint8Array, start: number, count: number, n: number): readonly Run[] {
  if (!Number.isInteger(count) || start + count * RUN_BYTES > bytes.length) throw wrong("runs are cut short");
  let next = 0;
  return Array.from({ length: count }, (_, i) => {
    const run = { first: readU32(bytes, start + i * RUN_BYTES), count: readU32(bytes, start + i * RUN_BYTES + 4) };
    if (run.first < next || run.count < 1 || run.first + run.count > n) throw wrong("runs must ascend below N");
    next = run.first + run.count;
    return run;
  });
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_LEDGER", `not a status ledger: ${reason}`);
}
