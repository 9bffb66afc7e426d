/**
 * The union rule: what a node has once seen revoked or suspended stays so until a reinstatement is shown.
 *
 * A thief of the status key can sign a set with names missing from it. So a node keeps the union of what it was told
 * of planes 0 and 1, and lets an index go only for a logged `reinstate` event that k trustees signed and whose leaf is
 * not older than the newest floor or statement that held the index (FORMATS "Log leaves", 03).
 *
 * Who calls this has verified each reinstatement first: inclusion in the log, signatures, threshold.
 */
import { IndexSet, type Run } from "./index-set.ts";

/** Some indices of a plane, and the log size of the newest floor or statement that held them. */
export interface HeldLayer {
  readonly logSize: number;
  readonly set: IndexSet;
}

/** A plane as a node keeps it: disjoint layers, the newest statement last. */
export type Held = readonly HeldLayer[];

export interface Reinstatement {
  readonly leafIndex: number;
  readonly ranges: readonly Run[];
}

/** Every index that is refused. */
export function heldUnion(held: Held): IndexSet {
  return IndexSet.unionOf(held.map((layer) => layer.set));
}

/** The node's next state. `next` is the verified set of a floor or statement that is not older than those held. */
export function carryOver(held: Held, next: HeldLayer, reinstatements: readonly Reinstatement[]): Held {
  const kept = held.map(({ logSize, set }) => ({ logSize, set: set.minus(next.set).minus(freed(logSize)) }));
  return [...kept.filter(({ set }) => set.count > 0), next];

  function freed(logSize: number): IndexSet {
    const valid = reinstatements.filter(({ leafIndex }) => leafIndex >= logSize);
    return IndexSet.fromRuns(valid.flatMap(({ ranges }) => ranges));
  }
}

/** What vanished from the newest set without a reinstatement: the reason to ask for the undo list, or for an alarm. */
export function unexplained(held: Held): IndexSet {
  return heldUnion(held.slice(0, -1));
}
