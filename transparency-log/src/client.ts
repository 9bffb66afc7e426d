/**
 * Reading a log from a source that nobody trusts.
 *
 * Begin with readCheckpoint; what the other functions return is proven against the size and root they are given.
 */
import {
  buildConsistencyProof,
  buildInclusionProof,
  type Hash,
  type MerkleFrontier,
  OperationError,
  type SubtreeHash,
} from "@viafabric/schemas";
import { CHECKPOINT_PATH, type TreeHead } from "./checkpoint.ts";
import type { FetchFile } from "./fetch.ts";
import { type LogPolicy, type VerifiedCheckpoint, verifyCheckpoint } from "./policy.ts";
import { readEdge, TileTree } from "./tile-tree.ts";

export * from "./entries.ts";
export * from "./fetch.ts";
export * from "./mirrors.ts";
export * from "./tile-tree.ts";

/** @returns the newest checkpoint, and the note it was read from for whoever hands out proofs */
export async function readCheckpoint(
  fetch: FetchFile,
  policy: LogPolicy,
): Promise<{ readonly checkpoint: VerifiedCheckpoint; readonly note: Uint8Array }> {
  const note = await fetch(CHECKPOINT_PATH);
  if (!note) throw new OperationError("ERR_LOG_FILE", "there is no checkpoint");
  return { checkpoint: verifyCheckpoint(policy, note), note };
}

export async function openTree(fetch: FetchFile, head: TreeHead): Promise<TileTree> {
  return new TileTree(fetch, await readEdge(fetch, head));
}

/** For the proof builders of schemas; every hash is verified against the root first. */
export function tileSubtree(fetch: FetchFile, head: TreeHead): SubtreeHash {
  const tree = openTree(fetch, head);
  tree.catch(() => {});
  return async (start, end) => (await tree).subtree(start, end);
}

export async function proveInclusion(fetch: FetchFile, head: TreeHead, index: number): Promise<Hash[]> {
  return buildInclusionProof(index, head.size, (await openTree(fetch, head)).subtree);
}

/** That the tree of `head` extends the one of `oldSize`. */
export async function proveConsistency(fetch: FetchFile, oldSize: number, head: TreeHead): Promise<Hash[]> {
  return buildConsistencyProof(oldSize, head.size, (await openTree(fetch, head)).subtree);
}

/** The complete subtrees at `size`, by default at the end of the tree. */
export async function frontierAt(fetch: FetchFile, head: TreeHead, size = head.size): Promise<MerkleFrontier> {
  return (await openTree(fetch, head)).frontierAt(size);
}
