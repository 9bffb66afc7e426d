/**
 * Reading entries: each one handed out has been hashed and found at its place in a verified tile of level 0.
 *
 * Bundles are fetched a few ahead and given one after the other, so a log of any length is read in the memory of a
 * few bundles.
 */
import { equalBytes, HASH_BYTES, hashLeaves, OperationError, VerificationError } from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import { decodeEntries } from "./entry-bundle.ts";
import type { FetchFile } from "./fetch.ts";
import { TILE_WIDTH, type Tile, tileOf, tilePath } from "./tile.ts";
import { readEdge, TileTree } from "./tile-tree.ts";

/** Bundles on their way at once: hides the latency of a network without holding much. */
const BUNDLES_AHEAD = 8;

export interface EntryRun {
  /** Log index of the first entry. */
  readonly first: number;
  readonly entries: readonly Uint8Array[];
  /** Their leaf hashes, flat. */
  readonly hashes: Uint8Array;
}

/** The entries [from, to) in runs of at most 256. @throws VerificationError ERR_LOG_MISMATCH */
export async function* readRuns(tree: TileTree, fetch: FetchFile, from: number, to: number): AsyncIterable<EntryRun> {
  if (!(from >= 0 && from <= to && to <= tree.size)) throw new RangeError(`[${from}, ${to}) of ${tree.size} entries`);
  const ahead: Promise<EntryRun>[] = [];
  let next = Math.floor(from / TILE_WIDTH);
  while (next * TILE_WIDTH < to || ahead.length > 0) {
    while (next * TILE_WIDTH < to && ahead.length < BUNDLES_AHEAD) {
      const run = readBundle(tree, fetch, next++);
      // A failure further ahead is reported when its turn comes, or never when an earlier one ends the reading.
      run.catch(() => {});
      ahead.push(run);
    }
    const run = await ahead.shift()!;
    const [start, end] = [Math.max(0, from - run.first), Math.min(TILE_WIDTH, to - run.first)];
    yield {
      first: run.first + start,
      entries: run.entries.slice(start, end),
      hashes: run.hashes.subarray(start * HASH_BYTES, end * HASH_BYTES),
    };
  }
}

/** The entries [from, to) of the tree, one at a time. */
export async function* readEntries(
  fetch: FetchFile,
  head: TreeHead,
  from = 0,
  to = head.size,
): AsyncIterable<Uint8Array> {
  const tree = new TileTree(fetch, await readEdge(fetch, head));
  for await (const run of readRuns(tree, fetch, from, to)) yield* run.entries;
}

async function readBundle(tree: TileTree, fetch: FetchFile, index: number): Promise<EntryRun> {
  const bundle = tileOf(tree.size, "entries", index)!;
  const [bytes, hashes] = await Promise.all([fetchBundle(fetch, bundle), tree.tile(0, index)]);
  let entries: readonly Uint8Array[];
  try {
    entries = decodeEntries(bytes.bytes, bytes.width).slice(0, bundle.width);
  } catch (cause) {
    throw new VerificationError("ERR_LOG_MISMATCH", `${tilePath(bundle)} is not an entry bundle`, { cause });
  }
  const found = hashLeaves(entries);
  if (!equalBytes(found, hashes)) {
    let slot = 0;
    while (equalBytes(at(found, slot), at(hashes, slot))) slot++;
    const entry = index * TILE_WIDTH + slot;
    throw new VerificationError("ERR_LOG_MISMATCH", `${tilePath(bundle)}: entry ${entry} is not the one in the tree`);
  }
  return { first: index * TILE_WIDTH, entries, hashes: found };
}

/** A partial bundle may have given way to the full one. */
async function fetchBundle(fetch: FetchFile, bundle: Tile): Promise<{ bytes: Uint8Array; width: number }> {
  const exact = await fetch(tilePath(bundle));
  if (exact) return { bytes: exact, width: bundle.width };
  const full = bundle.width < TILE_WIDTH ? await fetch(tilePath({ ...bundle, width: TILE_WIDTH })) : undefined;
  if (!full) throw new OperationError("ERR_LOG_FILE", `there is no ${tilePath(bundle)}`);
  return { bytes: full, width: TILE_WIDTH };
}

function at(hashes: Uint8Array, slot: number): Uint8Array {
  return hashes.subarray(slot * HASH_BYTES, (slot + 1) * HASH_BYTES);
}
