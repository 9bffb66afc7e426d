/**
 * A tree read from tiles, where every hash handed out is already proven to be in the tree.
 *
 * The right edge of all levels together must give the root, and each full tile must hash to its slot in the tile
 * above it, up to the edge. So a tile is believed only when its parent is, and no read skips a parent: a client that
 * skipped some accepted a flipped bit (golang.org/x/mod before v0.40.0, CVE-2026-56865).
 */
import {
  equalBytes,
  HASH_BYTES,
  type Hash,
  hashChildren,
  MerkleFrontier,
  OperationError,
  rootOfPairs,
  splitPoint,
  VerificationError,
} from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import type { FetchFile } from "./fetch.ts";
import { hashesAt, TILE_BYTES, TILE_WIDTH, type Tile, tileOf, tilePath } from "./tile.ts";
import { edgeTiles, rootOfEdge, type TileEdge } from "./tile-edge.ts";

/** Kept tiles. A proof in a tree of 2^32 entries touches four; reading a whole log in order needs one of each level. */
const CACHED_TILES_MAX = 256;

/** The partial tiles of the tree, verified against its root. @throws VerificationError ERR_LOG_MISMATCH */
export async function readEdge(fetch: FetchFile, head: TreeHead): Promise<TileEdge> {
  const levels: Uint8Array[] = [];
  for (let level = 0; hashesAt(head.size, level) > 0; level++) levels.push(new Uint8Array(0));
  for (const tile of edgeTiles(head.size)) levels[tile.level as number] = await fetchTile(fetch, tile);
  const edge: TileEdge = { size: head.size, levels };
  if (!equalBytes(rootOfEdge(edge), head.root)) {
    throw new VerificationError("ERR_LOG_MISMATCH", `the last tiles do not make the root of the tree of ${head.size}`);
  }
  return edge;
}

/** The bytes of a tile, unverified but of the right length. A partial tile may have given way to the full one. */
async function fetchTile(fetch: FetchFile, tile: Tile): Promise<Uint8Array> {
  const wanted = tile.width * HASH_BYTES;
  const exact = await fetch(tilePath(tile));
  const bytes = exact ?? (tile.width < TILE_WIDTH ? await fetch(tilePath({ ...tile, width: TILE_WIDTH })) : undefined);
  if (!bytes) throw new OperationError("ERR_LOG_FILE", `there is no ${tilePath(tile)}`);
  if (bytes.length !== (exact ? wanted : TILE_BYTES)) {
    throw new VerificationError("ERR_LOG_MISMATCH", `${tilePath(tile)} has ${bytes.length} bytes, not ${wanted}`);
  }
  return bytes.slice(0, wanted);
}

export class TileTree {
  readonly edge: TileEdge;
  readonly #fetch: FetchFile;
  readonly #cache = new Map<string, Promise<Uint8Array>>();

  /** @param edge from readEdge: it is what everything else is proven against */
  constructor(fetch: FetchFile, edge: TileEdge) {
    this.#fetch = fetch;
    this.edge = edge;
  }

  get size(): number {
    return this.edge.size;
  }

  /** The verified hashes of one tile. */
  tile(level: number, index: number): Promise<Uint8Array> {
    const key = `${level}/${index}`;
    let bytes = this.#cache.get(key);
    this.#cache.delete(key);
    bytes ??= this.#read(level, index);
    // A failed read must not be remembered: the next try may reach a better mirror.
    bytes.catch(() => this.#cache.delete(key));
    this.#cache.set(key, bytes);
    if (this.#cache.size > CACHED_TILES_MAX) this.#cache.delete(this.#cache.keys().next().value!);
    return bytes;
  }

  async #read(level: number, index: number): Promise<Uint8Array> {
    const tile = tileOf(this.size, level, index);
    if (!tile) throw new RangeError(`a tree of ${this.size} has no tile ${level}/${index}`);
    if (tile.width < TILE_WIDTH) return this.edge.levels[level]!;
    const bytes = await fetchTile(this.#fetch, tile);
    const parent = await this.tile(level + 1, Math.floor(index / TILE_WIDTH));
    const slot = (index % TILE_WIDTH) * HASH_BYTES;
    if (!equalBytes(rootOfPairs(bytes), parent.subarray(slot, slot + HASH_BYTES))) {
      throw new VerificationError("ERR_LOG_MISMATCH", `${tilePath(tile)} is not the tile that the checkpoint covers`);
    }
    return bytes;
  }

  /** The root over entries [start, end): complete and aligned, or split as RFC 6962 splits. A SubtreeHash. */
  readonly subtree = async (start: number, end: number): Promise<Hash> => {
    if (!(start >= 0 && start < end && end <= this.size)) throw new RangeError(`no subtree [${start}, ${end})`);
    const length = end - start;
    const height = Math.log2(length);
    if (!Number.isInteger(height) || start % length !== 0) {
      const middle = start + splitPoint(length);
      return hashChildren(await this.subtree(start, middle), await this.subtree(middle, end));
    }
    const level = Math.floor(height / 8);
    const first = start / TILE_WIDTH ** level;
    const hashes = await this.tile(level, Math.floor(first / TILE_WIDTH));
    const from = (first % TILE_WIDTH) * HASH_BYTES;
    return rootOfPairs(hashes.subarray(from, from + 2 ** (height % 8) * HASH_BYTES));
  };

  /** The right edge as it was at `size`: what a program needs to go on from there. */
  async frontierAt(size: number): Promise<MerkleFrontier> {
    if (!(size >= 0 && size <= this.size)) throw new RangeError(`${size} is beyond the tree of ${this.size}`);
    const peaks: Hash[] = [];
    for (let start = 0; start < size; ) {
      const length = splitPoint(size - start + 1);
      peaks.push(await this.subtree(start, start + length));
      start += length;
    }
    return new MerkleFrontier(size, peaks);
  }
}
