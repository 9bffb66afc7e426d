/**
 * Staging segments: the write-ahead journal of a log, one file for each append.
 *
 *     name    <old size>-<new size>.segment
 *     bytes   old root (32) ‖ SHA-256 of the rest (32) ‖ entries framed as in an entry bundle
 *
 * A segment is durable before anything is signed and goes only when every file made from it is. It is written while
 * the new root is still being computed, so it does not state it; replaying it must lead to the locked one.
 */
import { equalBytes, FormatError, HASH_BYTES, type Hash, sha256 } from "@viafabric/schemas";
import { decodeEntries, encodeEntries } from "./entry-bundle.ts";

export interface SegmentName {
  readonly name: string;
  readonly oldSize: number;
  readonly newSize: number;
}

export interface Segment {
  readonly oldRoot: Hash;
  readonly entries: FramedEntries;
}

/** Entries, framed as in an entry bundle, and the hash they had when they were accepted. */
export interface FramedEntries {
  readonly framed: Uint8Array;
  readonly hash: Hash;
}

export function segmentName(oldSize: number, newSize: number): SegmentName {
  return { name: `${oldSize}-${newSize}.segment`, oldSize, newSize };
}

/** @returns undefined for any other file */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^([0-9]{1,16})-([0-9]{1,16})\.segment$/.exec(name);
  if (!match) return undefined;
  const segment = segmentName(Number(match[1]), Number(match[2]));
  return segment.name === name && segment.oldSize < segment.newSize ? segment : undefined;
}

export const SEGMENT_HEADER_BYTES = 2 * HASH_BYTES;

/** @returns the segment, and views of the entries in it */
export function formatSegment(oldRoot: Hash, entries: readonly Uint8Array[]): { bytes: Uint8Array } & FramedEntries {
  const bytes = encodeEntries(entries, SEGMENT_HEADER_BYTES);
  const framed = bytes.subarray(SEGMENT_HEADER_BYTES);
  const hash = sha256(framed);
  bytes.set(oldRoot);
  bytes.set(hash, HASH_BYTES);
  return { bytes, framed, hash };
}

/**
 * The hash is there because an interrupted append is signed from this file alone: a bit that flipped on the disk
 * would be a different entry, and nobody else would know.
 * @throws FormatError ERR_LOG_SEGMENT
 */
export function parseSegment(bytes: Uint8Array): Segment {
  const framed = bytes.subarray(SEGMENT_HEADER_BYTES);
  const hash = bytes.slice(HASH_BYTES, 2 * HASH_BYTES);
  if (bytes.length < SEGMENT_HEADER_BYTES || !isIntact({ framed, hash })) {
    throw new FormatError("ERR_LOG_SEGMENT", "a staging segment does not hold what was written to it");
  }
  return { oldRoot: bytes.slice(0, HASH_BYTES), entries: { framed, hash } };
}

export function isIntact({ framed, hash }: FramedEntries): boolean {
  return equalBytes(sha256(framed), hash);
}

export function entriesOf(name: SegmentName, segment: Segment): readonly Uint8Array[] {
  return decodeEntries(segment.entries.framed, name.newSize - name.oldSize);
}

/** One entry after the other, without a list of them: a second way of reading what decodeEntries reads. */
export function* walkEntries(framed: Uint8Array): Iterable<Uint8Array> {
  let at = 0;
  while (at < framed.length) {
    const end = at + 2 + ((framed[at]! << 8) | framed[at + 1]!);
    if (!(end <= framed.length)) throw new FormatError("ERR_LOG_SEGMENT", "an entry of a staging segment is cut short");
    yield framed.subarray(at + 2, end);
    at = end;
  }
}

/**
 * The segments that lead to `size` without a gap, in order: what was signed and may not have been written out yet.
 * They may reach further back than needed, never less.
 */
export function chainTo(size: number, segments: readonly SegmentName[]): readonly SegmentName[] {
  const byEnd = new Map(segments.map((segment) => [segment.newSize, segment]));
  const chain: SegmentName[] = [];
  for (let last = byEnd.get(size); last; last = byEnd.get(last.oldSize)) chain.unshift(last);
  return chain;
}
