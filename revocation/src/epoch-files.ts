/**
 * The set files of one epoch, from the planes before and after it.
 *
 * A delta over several epochs must list everything that changed at least once on the way, also what changed back. That
 * is not in the two ends, so it is read from the shorter deltas published before.
 */

import { rootOf } from "@viafabric/schemas";
import { chunkLevels, encodeChunkFile } from "./chunk-file.ts";
import { decodeSetFile, type EpochSet, encodeDelta, encodeSnapshot, PLANES, type Plane } from "./container.ts";
import { deltaPath, filesAt, type StatusFile, type Step, sourcesOf } from "./files.ts";
import { IndexSet } from "./index-set.ts";
import type { Planes } from "./ledger.ts";
import { chunkLeaves } from "./set-root.ts";
import { type PlaneState, planeStates, type Statement } from "./statement.ts";

/** All planes at one epoch. Epoch 0 is `EPOCH_ZERO`. */
export interface EpochPlanes {
  readonly epoch: number;
  readonly n: number;
  readonly planes: Planes;
}

export const EPOCH_ZERO: EpochPlanes = {
  epoch: 0,
  n: 0,
  planes: [IndexSet.EMPTY, IndexSet.EMPTY, IndexSet.EMPTY],
};

/** Reads a file published earlier. It was checked when it was published, and is here read as our own. */
export type ReadPublished = (path: string) => Promise<Uint8Array | undefined>;

export interface PublishedFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Counts and roots as the statement of the epoch signs them. */
export function planeRoots({ n, planes }: EpochPlanes): Statement["planes"] {
  return planeStates((plane): PlaneState => {
    return { count: planes[plane].count, root: rootOf(chunkLeaves(planes[plane], n)) };
  });
}

/**
 * @param previous the planes of the epoch before. @param next those of the epoch to publish
 * @param floor whether a head names this epoch as its floor, so that its snapshots must exist
 */
export async function epochFiles(
  previous: EpochPlanes,
  next: EpochPlanes,
  read: ReadPublished,
  floor = false,
): Promise<readonly PublishedFile[]> {
  if (next.epoch !== previous.epoch + 1) throw new RangeError(`epoch ${next.epoch} after ${previous.epoch}`);
  const wanted = filesAt(next.epoch, next.n, floor);
  const files: PublishedFile[] = [];
  for (const plane of PLANES) {
    const state: EpochSet = { plane, epoch: next.epoch, n: next.n, set: next.planes[plane] };
    const leaves = chunkLeaves(state.set, state.n);
    const levels = chunkLevels(leaves);
    const root = rootOf(leaves);
    const changedNow = previous.planes[plane].difference(state.set);
    for (const file of wanted.filter((candidate) => candidate.plane === plane)) {
      files.push({ path: file.path, bytes: await encodeFile(file) });
    }

    async function encodeFile(file: StatusFile): Promise<Uint8Array> {
      if (file.kind === "snapshot") return encodeSnapshot(state, root);
      if (file.kind === "chunk") return encodeChunkFile(state.set, levels, state.epoch, file.chunk);
      const touched = IndexSet.unionOf([changedNow, ...(await changesOf(plane, file, read))]);
      const [add, del] = [touched.intersection(state.set), touched.minus(state.set)];
      return encodeDelta({ plane, from: file.from, to: file.to, n: state.n, add, del, root });
    }
  }
  return files;
}

/** What changed at least once in the epochs of `step` before its last, as published deltas tell. */
async function changesOf(plane: Plane, step: Step, read: ReadPublished): Promise<readonly IndexSet[]> {
  const changes: IndexSet[] = [];
  for (const source of sourcesOf(step)) {
    const path = deltaPath(plane, source);
    const bytes = await read(path);
    if (!bytes) throw new RangeError(`${path} should have been published already`);
    const { add, del } = decodeSetFile(bytes);
    changes.push(add.union(del));
  }
  return changes;
}
