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
  /** Bundles and tiles, all immutable. Made when asked for: while a root is computed nobody needs them. */
  files(): readonly NewFile[];
}

export function growTip(tip: LogTip, entries: readonly Uint8Array[]): GrownTip {
  const { edge, tiles } = growEdge(tip.edge, hashLeaves(entries));
  const bundles = growBundles(tip, entries);
  const last = bundles.at(-1);
  const partial = edge.size % TILE_WIDTH > 0 && last ? last.bytes : new Uint8Array(0);
  return {
    tip: { edge, bundle: partial },
    head: { size: edge.size, root: rootOfEdge(edge) },
    files: () => [...bundles, ...tiles.map(tileFile)],
  };
}

export function tileFile({ tile, bytes }: TileBytes): NewFile {
  return { path: tilePath(tile), bytes };
}

function growBundles(tip: LogTip, entries: readonly Uint8Array[]): readonly NewFile[] {
  const { size } = tip.edge;
  const files: NewFile[] = [];
  for (const bundle of newBundles(size, size + entries.length)) {
    const start = bundle.index * TILE_WIDTH - size;
    const own = encodeEntries(entries.slice(Math.max(0, start), start + bundle.width));
    files.push({ path: tilePath(bundle), bytes: start < 0 ? concat(tip.bundle, own) : own });
  }
  return files;
}

/** @throws VerificationError ERR_LOG_MISMATCH, FormatError ERR_TILE */
export function verifyTip(edge: TileEdge, bundle: Uint8Array): LogTip {
  const hashes: Hash = edge.levels[0] ?? new Uint8Array(0);
  if (!equalBytes(hashLeaves(decodeEntries(bundle, hashes.length / HASH_BYTES)), hashes)) {
    throw new VerificationError("ERR_LOG_MISMATCH", "the last entry bundle does not hold the entries in the tree");
  }
  return { edge, bundle };
}
