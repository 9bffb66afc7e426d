/**
 * The end of a growing log in memory: the edge of its tiles and the entries of its last, partial bundle.
 *
 * Pure. `growTip` says which files an append makes; who writes them is not decided here.
 */
import { concat, equalBytes, HASH_BYTES, type Hash, hashLeaves, VerificationError } from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import { decodeEntries, encodeEntries } from "./entry-bundle.ts";
import { newBundles, TILE_WIDTH, tilePath } from "./tile.ts";
import { EMPTY_EDGE, growEdge, rootOfEdge, type TileBytes, type TileEdge } from "./tile-edge.ts";

export interface LogTip {
  readonly edge: TileEdge;
  /** The last bundle when it is partial, as published; empty when the last one is full. */
  readonly bundle: Uint8Array;
}

export const EMPTY_TIP: LogTip = { edge: EMPTY_EDGE, bundle: new Uint8Array(0) };

export interface NewFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

export interface GrownTip {
  readonly tip: LogTip;
  readonly head: TreeHead;
  /** Bundles and tiles, all immutable. */
  readonly files: readonly NewFile[];
}

/**
 * @param framed the entries once more, as encodeEntries frames them: the bundles are parts of it
 * @param hashes their leaf hashes
 */
export function growTip(
  tip: LogTip,
  entries: readonly Uint8Array[],
  framed = encodeEntries(entries),
  hashes = hashLeaves(entries),
): GrownTip {
  const { edge, tiles } = growEdge(tip.edge, hashes);
  const bundles = growBundles(tip, entries, framed);
  // A copy, because a view would keep all of `framed` in memory.
  const last = edge.size % TILE_WIDTH > 0 ? bundles.at(-1)?.bytes.slice() : undefined;
  return {
    tip: { edge, bundle: last ?? new Uint8Array(0) },
    head: { size: edge.size, root: rootOfEdge(edge) },
    files: [...bundles, ...tiles.map(tileFile)],
  };
}

export function tileFile({ tile, bytes }: TileBytes): NewFile {
  return { path: tilePath(tile), bytes };
}

function growBundles(tip: LogTip, entries: readonly Uint8Array[], framed: Uint8Array): readonly NewFile[] {
  const { size } = tip.edge;
  const files: NewFile[] = [];
  let entry = 0;
  let at = 0;
  for (const bundle of newBundles(size, size + entries.length)) {
    const start = at;
    const end = bundle.index * TILE_WIDTH + bundle.width - size;
    for (; entry < end; entry++) at += 2 + entries[entry]!.length;
    const own = framed.subarray(start, at);
    files.push({ path: tilePath(bundle), bytes: start === 0 ? concat(tip.bundle, own) : own });
  }
  return files;
}

/**
 * The first bundle of a growth once more: its older entries were not in the segment that the roots are computed from,
 * they have waited in memory since they were written last. @throws VerificationError ERR_LOG_MISMATCH
 */
export function verifyFirstBundle({ files }: GrownTip): void {
  const [bundle] = files;
  const tile = bundle && files.find(({ path }) => path === bundle.path.replace("tile/entries/", "tile/0/"));
  const width = tile ? tile.bytes.length / HASH_BYTES : 0;
  if (!bundle || !tile || !equalBytes(hashLeaves(decodeEntries(bundle.bytes, width)), tile.bytes)) {
    throw new VerificationError("ERR_LOG_MISMATCH", "the first new entry bundle does not hold the entries in the tree");
  }
}

/** @throws VerificationError ERR_LOG_MISMATCH, FormatError ERR_TILE */
export function verifyTip(edge: TileEdge, bundle: Uint8Array): LogTip {
  const hashes: Hash = edge.levels[0] ?? new Uint8Array(0);
  if (!equalBytes(hashLeaves(decodeEntries(bundle, hashes.length / HASH_BYTES)), hashes)) {
    throw new VerificationError("ERR_LOG_MISMATCH", "the last entry bundle does not hold the entries in the tree");
  }
  return { edge, bundle };
}
