/**
 * The right edge of a tree in tiles: for each level the hashes of its rightmost, still partial tile.
 *
 * It is all that is needed to grow the tree, and it is also what its root is made of. In a tree of 70,000 entries the
 * edge is 112 hashes of level 0, 17 of level 1 and 1 of level 2: the digits of the size in base 256.
 */
import {
  concat,
  EMPTY_ROOT,
  HASH_BYTES,
  type Hash,
  hashChildren,
  MerkleFrontier,
  rootOfPairs,
} from "@viafabric/schemas";
import { hashesAt, TILE_BYTES, TILE_WIDTH, type Tile } from "./tile.ts";

export interface TileEdge {
  readonly size: number;
  /** By level; 32 bytes for each hash, none where the rightmost tile is full. */
  readonly levels: readonly Uint8Array[];
}

export const EMPTY_EDGE: TileEdge = { size: 0, levels: [] };

export interface TileBytes {
  readonly tile: Tile;
  readonly bytes: Uint8Array;
}

/** The partial tiles that make up the edge of a tree of `size`, lowest level first. */
export function edgeTiles(size: number): readonly Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0; hashesAt(size, level) > 0; level++) {
    const count = hashesAt(size, level);
    const width = count % TILE_WIDTH;
    if (width > 0) tiles.push({ level, index: Math.floor(count / TILE_WIDTH), width });
  }
  return tiles;
}

/** @param leafHashes flat; the hashes of the entries that follow `edge.size` */
export function growEdge(
  edge: TileEdge,
  leafHashes: Uint8Array,
): { readonly edge: TileEdge; readonly tiles: readonly TileBytes[] } {
  const levels: Uint8Array[] = [];
  const tiles: TileBytes[] = [];
  let incoming = leafHashes;
  for (let level = 0; level < edge.levels.length || incoming.length > 0; level++) {
    const hashes = concat(edge.levels[level] ?? new Uint8Array(0), incoming);
    const full = Math.floor(hashes.length / TILE_BYTES);
    const first = Math.floor(hashesAt(edge.size, level) / TILE_WIDTH);
    const parents = new Uint8Array(full * HASH_BYTES);
    for (let i = 0; i < full; i++) {
      const bytes = hashes.subarray(i * TILE_BYTES, (i + 1) * TILE_BYTES);
      tiles.push({ tile: { level, index: first + i, width: TILE_WIDTH }, bytes });
      parents.set(rootOfPairs(bytes), i * HASH_BYTES);
    }
    const rest = hashes.slice(full * TILE_BYTES);
    // A level that received nothing keeps the partial tile it has already published.
    if (rest.length > 0 && incoming.length > 0) {
      tiles.push({ tile: { level, index: first + full, width: rest.length / HASH_BYTES }, bytes: rest });
    }
    levels.push(rest);
    incoming = parents;
  }
  return { edge: { size: edge.size + leafHashes.length / HASH_BYTES, levels }, tiles };
}

/** The complete subtrees of the tree, largest first. */
export function frontierOf(edge: TileEdge): MerkleFrontier {
  const peaks: Hash[] = [];
  for (const level of edge.levels) {
    // From the right, each 1 bit of the width is a complete subtree of this level's hashes.
    let end = level.length;
    for (let subtree = HASH_BYTES; end > 0; subtree *= 2) {
      if (end % (2 * subtree) === 0) continue;
      peaks.unshift(rootOfPairs(level.subarray(end - subtree, end)));
      end -= subtree;
    }
  }
  return new MerkleFrontier(edge.size, peaks);
}

export function rootOfEdge(edge: TileEdge): Hash {
  const peaks = frontierOf(edge).peaks;
  return peaks.length === 0 ? EMPTY_ROOT : peaks.reduceRight((right, left) => hashChildren(left, right));
}
