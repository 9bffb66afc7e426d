/**
 * Tile coordinates, as in C2SP tlog-tiles.
 *
 * A log of `size` entries is served as files. At level 0 a tile holds the hashes of 256 consecutive entries; at level
 * L+1 it holds one hash for each *full* tile of level L. The rightmost tile of a level may be partial, with 1 to 255
 * hashes; it is a different file from the full tile that later replaces it, so every tile file is immutable once
 * written. The entries themselves lie beside level 0 in bundles of 256, with the same rule.
 *
 *     tile/<L>/<N>[.p/<W>]        N in groups of three digits, all but the last with an x: 1234067 → x001/x234/067
 *     tile/entries/<N>[.p/<W>]
 */
import { FormatError, HASH_BYTES, quote } from "@viafabric/schemas";

export const TILE_WIDTH = 256;
export const TILE_BYTES = TILE_WIDTH * HASH_BYTES;
/** The format's limit. A tree of 2^53 entries never passes level 6. */
export const TILE_LEVEL_MAX = 63;

export interface Tile {
  /** `entries` is the bundle of entries beside the tile of level 0 with the same index. */
  readonly level: number | "entries";
  readonly index: number;
  /** 256 for a full tile; less is the rightmost one. */
  readonly width: number;
}

/** @returns the path below the log's folder */
export function tilePath(tile: Tile): string {
  let groups = lastGroup(tile.index);
  for (let rest = Math.floor(tile.index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups = `x${lastGroup(rest)}/${groups}`;
  }
  return `tile/${tile.level}/${groups}${tile.width === TILE_WIDTH ? "" : `.p/${tile.width}`}`;
}

function lastGroup(index: number): string {
  return String(index % 1000).padStart(3, "0");
}

/** @throws FormatError ERR_TILE_PATH */
export function parseTilePath(path: string): Tile {
  const match = /^tile\/(entries|[0-9]{1,2})\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([0-9]{1,3}))?$/.exec(path);
  if (match) {
    const tile: Tile = {
      level: match[1] === "entries" ? "entries" : Number(match[1]),
      index: Number(match[2]!.replaceAll(/[x/]/g, "")),
      width: match[3] === undefined ? TILE_WIDTH : Number(match[3]),
    };
    const inRange =
      (tile.level === "entries" || tile.level <= TILE_LEVEL_MAX) &&
      Number.isSafeInteger(tile.index) &&
      tile.width >= 1 &&
      tile.width <= TILE_WIDTH;
    // There is one spelling for each tile. Rather than a rule for each wrong one (leading zeros, a partial width of
    // 0 or 256), write the tile again and compare.
    if (inRange && tilePath(tile) === path) return tile;
  }
  throw new FormatError("ERR_TILE_PATH", `not the path of a tile: ${quote(path)}`);
}

/** How many hashes a tree of `size` entries has at `level`: one for each complete subtree of 256^level entries. */
export function hashesAt(size: number, level: number): number {
  return Math.floor(size / TILE_WIDTH ** level);
}

/** The tile `index` of `level` in a tree of `size`; undefined where that tree has none. */
export function tileOf(size: number, level: number | "entries", index: number): Tile | undefined {
  const width = Math.min(TILE_WIDTH, hashesAt(size, level === "entries" ? 0 : level) - index * TILE_WIDTH);
  return width > 0 ? { level, index, width } : undefined;
}

/** The tiles a tree of `newSize` needs that one of `oldSize` did not have, lowest level first. */
export function newTiles(oldSize: number, newSize: number): readonly Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0; hashesAt(newSize, level) > 0; level++) tiles.push(...newOfLevel(oldSize, newSize, level));
  return tiles;
}

/** The entry bundles that a log of `newSize` needs and one of `oldSize` did not have. */
export function newBundles(oldSize: number, newSize: number): readonly Tile[] {
  return [...newOfLevel(oldSize, newSize, "entries")];
}

function* newOfLevel(oldSize: number, newSize: number, level: number | "entries"): Iterable<Tile> {
  const from = hashesAt(oldSize, level === "entries" ? 0 : level);
  const to = hashesAt(newSize, level === "entries" ? 0 : level);
  if (from === to) return;
  for (let index = Math.floor(from / TILE_WIDTH); index * TILE_WIDTH < to; index++) {
    yield { level, index, width: Math.min(TILE_WIDTH, to - index * TILE_WIDTH) };
  }
}
