/**
 * Status as it is published: the files of an epoch, the statement that signs them, proofs of the events behind them
 * (FORMATS "Status").
 *
 * The statement comes from the bounded signer, which replayed the log itself; the vault replayed it too. Both must have
 * come to the same sets, or nothing is published: a statement whose sets nobody can serve would stop every node.
 */
import {
  type EpochPlanes,
  encodeSnapshot,
  epochFiles,
  eventPath,
  formatUndoList,
  PLANES,
  type ReadPublished,
  signedSet,
  snapshotPath,
  statementPath,
  undoPath,
  type VerifiedStatement,
  verifySet,
  verifyStatement,
  verifySuccessor,
} from "@viafabric/revocation";
import { type KeyEntry, utf8 } from "@viafabric/schemas";
import { formatProof } from "@viafabric/transparency-log";
import type { Publication, PublishedFile } from "./publisher.ts";

export interface StatusChange {
  /** Whose statement it must be. */
  readonly authority: Uint8Array;
  readonly keys: readonly KeyEntry[];
  /** The newest published statement, and the planes it signed; undefined and `EPOCH_ZERO` before the first. */
  readonly held: VerifiedStatement | undefined;
  readonly previous: EpochPlanes;
  /** The planes by the vault's own replay of the log. */
  readonly next: EpochPlanes;
  /** What the signer signed. */
  readonly note: Uint8Array;
  /** Leaf indices of every reinstatement logged so far, ascending. */
  readonly reinstatements: readonly number[];
}

/**
 * @param read files published earlier: longer deltas are put together from shorter ones
 * @throws VerificationError ERR_SET_OTHER, ERR_SET_ROOT where signer and vault came to different sets; those of
 * verifyStatement and verifySuccessor
 */
export async function statusPublication(
  change: StatusChange,
  read: ReadPublished,
): Promise<{ readonly verified: VerifiedStatement; readonly publication: Publication }> {
  const { next, note } = change;
  const verified = verifyStatement(note, change);
  if (change.held) verifySuccessor(change.held, verified);
  const { statement } = verified;
  for (const plane of PLANES) {
    verifySet({ plane, epoch: next.epoch, n: next.n, set: next.planes[plane] }, signedSet(statement, plane));
  }
  const immutable = [
    ...(await epochFiles(change.previous, next, read)),
    { path: undoPath(statement.epoch), bytes: utf8(formatUndoList(change.reinstatements)) },
    { path: statementPath(statement.epoch), bytes: note },
  ];
  return { verified, publication: { immutable, hints: [], roots: [], pointers: { status: note } } };
}

/**
 * Snapshots of planes 0 and 1 at an epoch that a head is about to name as its floor. They are published before
 * trustees see the head: a fresh node must be able to fetch what it may not fall below, for as long as the head lives.
 */
export function floorFiles(state: EpochPlanes): readonly PublishedFile[] {
  // Epoch 0 is the empty set, which everybody has.
  if (state.epoch === 0) return [];
  return ([0, 1] as const).map((plane) => {
    const set = { plane, epoch: state.epoch, n: state.n, set: state.planes[plane] };
    return { path: snapshotPath(plane, state.epoch), bytes: encodeSnapshot(set) };
  });
}

/** `revocation/event/<leaf>`: that an event is in the log, with the event itself as `extra`. */
export function eventFile(
  entry: Uint8Array,
  inclusion: { readonly index: number; readonly hashes: readonly Uint8Array[] },
  checkpoint: Uint8Array,
): PublishedFile {
  return { path: eventPath(inclusion.index), bytes: formatProof({ extra: entry, ...inclusion, checkpoint }) };
}
