/**
 * Staging segments: the write-ahead journal of a log, one file for each append.
 *
 *     name    <old size>-<new size>-<hex root of the new tree>.segment
 *     bytes   old root (32) ‖ entries framed as in an entry bundle
 *
 * A segment is durable before anything is signed and goes only when every file made from it is. The name says what
 * the append leads to, so recovery can tell which segments a signed checkpoint covers without opening them.
 */
import { concat, FormatError, formatHex, HASH_BYTES, type Hash, parseDecimal, parseHex } from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import { decodeEntries, encodeEntries } from "./entry-bundle.ts";

export interface SegmentName {
  readonly name: string;
  readonly oldSize: number;
  readonly head: TreeHead;
}

export interface Segment {
  readonly oldRoot: Hash;
  readonly entries: readonly Uint8Array[];
}

export function segmentName(oldSize: number, head: TreeHead): SegmentName {
  return { name: `${oldSize}-${head.size}-${formatHex(head.root)}.segment`, oldSize, head };
}

/** @returns undefined for any other file */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^([0-9]+)-([0-9]+)-([0-9a-f]{64})\.segment$/.exec(name);
  if (!match) return undefined;
  const segment = segmentName(parseDecimal(match[1]!), { size: parseDecimal(match[2]!), root: parseHex(match[3]!) });
  return segment.name === name && segment.oldSize < segment.head.size ? segment : undefined;
}

export function encodeSegment(segment: Segment): Uint8Array {
  return concat(segment.oldRoot, encodeEntries(segment.entries));
}

export function decodeSegment(name: SegmentName, bytes: Uint8Array): Segment {
  if (bytes.length < HASH_BYTES) throw new FormatError("ERR_LENGTH", `${name.name} is cut short`);
  const entries = decodeEntries(bytes.subarray(HASH_BYTES), name.head.size - name.oldSize);
  return { oldRoot: bytes.slice(0, HASH_BYTES), entries };
}

/**
 * The segments that lead to `head` without a gap, in order: what was signed and may not have been written out yet.
 * They may reach further back than needed, never less.
 */
export function chainTo(head: TreeHead, segments: readonly SegmentName[]): readonly SegmentName[] {
  const chain: SegmentName[] = [];
  const byEnd = new Map(segments.map((segment) => [segment.head.size, segment]));
  let last = segments.find((s) => s.head.size === head.size && formatHex(s.head.root) === formatHex(head.root));
  while (last) {
    chain.unshift(last);
    last = byEnd.get(last.oldSize);
  }
  return chain;
}
