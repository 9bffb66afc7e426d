/**
 * Names of status files, which of them belong to an epoch, and which ones lead a node to it.
 *
 * At epoch e there is a delta e - 2^j → e for every 2^j that divides e: two files on average. From a to b a node takes
 * the largest such step that starts at a and does not pass b, again and again: at most 2·log2(b - a) files. So every
 * name can be computed, nothing lists files, and all but `latest` are immutable.
 */
import { FormatError, parseDecimal, parseUtf8 } from "@viafabric/schemas";
import { PLANES, type Plane } from "./container.ts";
import { chunkCount } from "./set-root.ts";

/** The longest delta spans 4,096 epochs, half a year of hours; beyond that a snapshot is the better start. */
const DELTA_EXPONENT_MAX = 12;
/** A snapshot every 32 hours: from the newest one a new node needs at most five deltas a plane. */
export const SNAPSHOT_EPOCHS = 32;

export const LATEST_PATH = "revocation/latest";

export interface Step {
  readonly from: number;
  readonly to: number;
}

export type StatusFile =
  | { readonly kind: "delta"; readonly plane: Plane; readonly from: number; readonly to: number; readonly path: string }
  | { readonly kind: "snapshot"; readonly plane: Plane; readonly epoch: number; readonly path: string }
  | {
      readonly kind: "chunk";
      readonly plane: Plane;
      readonly epoch: number;
      readonly chunk: number;
      readonly path: string;
    };

export const statementPath = (epoch: number): string => `revocation/e/${epoch}.txt`;
export const undoPath = (epoch: number): string => `revocation/undo/${epoch}.txt`;
/** tlog-proof with the event leaf as `extra`. */
export const eventPath = (leafIndex: number): string => `revocation/event/${leafIndex}`;
export const snapshotPath = (plane: Plane, epoch: number): string => `revocation/${plane}/s/${epoch}.rvx`;
export const deltaPath = (plane: Plane, { from, to }: Step): string => `revocation/${plane}/d/${from}-${to}.rvx`;
export const chunkPath = (plane: Plane, epoch: number, chunk: number): string =>
  `revocation/${plane}/c/${epoch}/${chunk}.rvc`;

/** The deltas that end at `epoch`, the shortest first. */
export function deltasAt(epoch: number): readonly Step[] {
  const steps: Step[] = [];
  for (let j = 0; j <= DELTA_EXPONENT_MAX && epoch > 0 && epoch % 2 ** j === 0; j++) {
    steps.push({ from: epoch - 2 ** j, to: epoch });
  }
  return steps;
}

/**
 * What to publish at `epoch`: deltas always; snapshots and chunk files every SNAPSHOT_EPOCHS, in epoch 1 and for an
 * epoch that a head names as its floor.
 * @param n the universe at `epoch`
 */
export function filesAt(epoch: number, n: number, floor = false): readonly StatusFile[] {
  return PLANES.flatMap((plane) => {
    const deltas = deltasAt(epoch).map((step): StatusFile => {
      return { kind: "delta", plane, ...step, path: deltaPath(plane, step) };
    });
    return isSnapshotEpoch(epoch) || floor
      ? [...deltas, ...snapshotAt(plane, epoch), ...chunksAt(plane, epoch, n)]
      : deltas;
  });
}

function snapshotAt(plane: Plane, epoch: number): readonly StatusFile[] {
  return [{ kind: "snapshot", plane, epoch, path: snapshotPath(plane, epoch) }];
}

function chunksAt(plane: Plane, epoch: number, n: number): readonly StatusFile[] {
  return Array.from({ length: chunkCount(n) }, (_, chunk) => {
    return { kind: "chunk", plane, epoch, chunk, path: chunkPath(plane, epoch, chunk) };
  });
}

export function isSnapshotEpoch(epoch: number): boolean {
  return epoch === 1 || (epoch > 0 && epoch % SNAPSHOT_EPOCHS === 0);
}

/** The deltas from one epoch to a later one. */
export function deltaSteps(from: number, to: number): readonly Step[] {
  const steps: Step[] = [];
  for (let at = from; at < to; ) {
    let span = 1;
    for (let j = 1; j <= DELTA_EXPONENT_MAX; j++) {
      if (at % 2 ** j === 0 && at + 2 ** j <= to) span = 2 ** j;
    }
    steps.push({ from: at, to: at + span });
    at += span;
  }
  return steps;
}

export interface CatchUp {
  /** The epoch of the snapshot to start from; undefined: from the set held, or the empty set at epoch 0. */
  readonly snapshot?: number;
  readonly deltas: readonly Step[];
}

/**
 * Ways for a node from the epoch it holds to `target`, the better one first; the second is for when a file is missing
 * or leads to a wrong root. Where sizes are known and the deltas outweigh the snapshot, take the second.
 * @param held 0 for a node that holds nothing
 */
export function catchUpPlans(held: number, target: number): readonly CatchUp[] {
  if (held === target) return [];
  const base = Math.floor(target / SNAPSHOT_EPOCHS) * SNAPSHOT_EPOCHS || 1;
  const cold: CatchUp = { snapshot: base, deltas: deltaSteps(base, target) };
  // Deltas that reach back behind the newest snapshot weigh as much as it does sooner or later; a hundred epochs is
  // where a steady trickle of changes still costs less than starting again.
  if (held === 0 || target < held) return [cold];
  const warm: CatchUp = { deltas: deltaSteps(held, target) };
  return target - held <= 4 * SNAPSHOT_EPOCHS ? [warm, cold] : [cold, warm];
}

/** The deltas already published that together tell what changed from the start of `step` up to its last epoch. */
export function sourcesOf({ from, to }: Step): readonly Step[] {
  return deltaSteps(from, to - 1);
}

/** `undo/<epoch>.txt`: the leaf index of every reinstatement so far, ascending, one a line; may be empty. */
export function formatUndoList(leaves: readonly number[]): string {
  return leaves.map((leaf) => `${leaf}\n`).join("");
}

/** A hundred years of daily reinstatements stay far below it. */
export const UNDO_LIST_BYTES_MAX = 16 * 1024 * 1024;

export function parseUndoList(bytes: Uint8Array): readonly number[] {
  if (bytes.length > UNDO_LIST_BYTES_MAX) throw new FormatError("ERR_LENGTH", `an undo list of ${bytes.length} bytes`);
  const lines = parseUtf8(bytes).split("\n");
  if (lines.pop() !== "") throw new FormatError("ERR_LENGTH", "an undo list without its last line feed");
  const leaves = lines.map((line) => parseDecimal(line));
  if (leaves.some((leaf, i) => i > 0 && leaf <= leaves[i - 1]!)) {
    throw new FormatError("ERR_INTEGER", "an undo list that does not ascend");
  }
  return leaves;
}
