/**
 * Entry bundles (C2SP tlog-tiles): up to 256 entries in one file, each as a big-endian u16 length and its bytes.
 *
 * Entry k of bundle N hashes, without its length, to slot k of tile N at level 0.
 */
import { ENTRY_BYTES_MAX, FormatError, readU16 } from "@viafabric/schemas";
import { TILE_WIDTH } from "./tile.ts";

export { ENTRY_BYTES_MAX };
export const BUNDLE_BYTES_MAX = TILE_WIDTH * (2 + ENTRY_BYTES_MAX);

/**
 * Also the framing of a staging segment, which holds any number of entries.
 * @param before bytes to leave free in front. @throws FormatError ERR_LOG_ENTRY
 */
export function encodeEntries(entries: readonly Uint8Array[], before = 0): Uint8Array {
  let length = before;
  for (const entry of entries) length += 2 + entry.length;
  const out = new Uint8Array(length);
  let at = before;
  for (const entry of entries) {
    if (entry.length > ENTRY_BYTES_MAX) throw new FormatError("ERR_LOG_ENTRY", `an entry of ${entry.length} bytes`);
    out[at] = entry.length >>> 8;
    out[at + 1] = entry.length & 255;
    out.set(entry, at + 2);
    at += 2 + entry.length;
  }
  return out;
}

/** @returns views into `bytes`. @throws FormatError ERR_TILE when there are not exactly `count` entries */
export function decodeEntries(bytes: Uint8Array, count: number): readonly Uint8Array[] {
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length && entries.length < count) {
    const start = at + 2;
    const end = start <= bytes.length ? start + readU16(bytes, at) : start;
    if (end > bytes.length) throw new FormatError("ERR_TILE", `entry ${entries.length} of a bundle is cut short`);
    entries.push(bytes.subarray(start, end));
    at = end;
  }
  if (entries.length !== count || at !== bytes.length) {
    throw new FormatError("ERR_TILE", `a bundle does not hold exactly ${count} entries`);
  }
  return entries;
}
