/**
 * Status events: what suspends, revokes, reinstates or releases tokens (FORMATS "Log leaves", 03).
 *
 * The body is what people sign, as type `event`; the leaf holds the body with its signatures, so everyone can count
 * the threshold again. Whether a threshold is met is not decided here.
 */
import { compareBytes } from "./bytes.ts";
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { SIGNATURE_BYTES } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import type { DetachedSignature } from "./keys.ts";
import { INDEX_MAX } from "./manifest.ts";

export const ACTIONS = ["suspend", "revoke", "reinstate", "release"] as const;
export type Action = (typeof ACTIONS)[number];

export interface IndexRange {
  readonly first: number;
  readonly count: number;
}

export interface EventBody {
  readonly authority: Uint8Array;
  readonly action: Action;
  /** Ascending, not overlapping, never empty. */
  readonly ranges: readonly IndexRange[];
  readonly reason: string;
  /** Unix seconds: the last time at which the event may be logged. */
  readonly notAfter: number;
  /** Leaf indices of the events that a reinstatement undoes; empty for every other action. */
  readonly undoes: readonly number[];
  /** 16 random bytes: two equal wishes are still two events. */
  readonly nonce: Uint8Array;
}

export interface SignedEvent {
  /** The exact bytes that were signed. */
  readonly body: Uint8Array;
  /** Ascending by kid, each key once. */
  readonly signatures: readonly DetachedSignature[];
}

/** The type name under which event bodies are signed. */
export const EVENT_CONTEXT = "event";
export const EVENT_RANGES_MAX = 1024;
export const EVENT_SIGNATURES_MAX = 32;
export const EVENT_REASON_LENGTH_MAX = 200;
const EVENT_BODY_BYTES_MAX = 32 * 1024;

export function encodeEventBody(event: EventBody): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, event.authority],
      [3, event.action],
      [4, event.ranges.map((range) => [range.first, range.count])],
      [5, event.reason],
      [6, event.notAfter],
      [7, [...event.undoes]],
      [8, event.nonce],
    ]),
  );
}

/** @throws FormatError ERR_EVENT */
export function decodeEventBody(bytes: Uint8Array): EventBody {
  if (bytes.length > EVENT_BODY_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_EVENT"), [1, 2, 3, 4, 5, 6, 7, 8], "ERR_EVENT");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const action = ACTIONS.find((known) => known === fields.text(3));
  if (!action) throw wrong("an unknown action");
  const undoes = fields.array(7, EVENT_RANGES_MAX).map(asLeafIndex);
  if (action === "reinstate" ? undoes.length === 0 : undoes.length > 0)
    throw wrong("undoes belongs to reinstate, and only there");
  if (undoes.some((leaf, i) => i > 0 && leaf <= undoes[i - 1]!)) throw wrong("undoes must ascend");
  return {
    authority: fields.bytes(2, 32),
    action,
    ranges: decodeRanges(fields.value(4)),
    reason: fields.text(5, EVENT_REASON_LENGTH_MAX),
    notAfter: fields.integer(6),
    undoes,
    nonce: fields.bytes(8, 16),
  };
}

export function decodeRanges(value: CborValue): readonly IndexRange[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > EVENT_RANGES_MAX) throw wrong("a list of ranges");
  let next = 0;
  return value.map((item: CborValue) => {
    if (!Array.isArray(item) || item.length !== 2) throw wrong("a range is [first, count]");
    const [first, count] = item;
    if (typeof first !== "number" || typeof count !== "number" || count < 1 || first < next)
      throw wrong("ranges must ascend");
    next = first + count;
    if (next > INDEX_MAX + 1) throw wrong("a range beyond the 32-bit indices");
    return { first, count };
  });
}

/** The CBOR after the type byte of an event leaf. */
export function encodeSignedEvent(event: SignedEvent): Uint8Array {
  const sorted = [...event.signatures].sort((a, b) => compareBytes(a.kid, b.kid));
  return encodeCbor([event.body, sorted.map((s) => [s.kid, s.signature])]);
}

export function asSignedEvent(value: readonly CborValue[]): SignedEvent {
  const [body, list] = value;
  if (!(body instanceof Uint8Array) || !Array.isArray(list)) throw wrong("an event is [body, signatures]");
  if (list.length === 0 || list.length > EVENT_SIGNATURES_MAX) throw wrong(`${list.length} signatures`);
  decodeEventBody(body);
  const signatures = list.map((item: CborValue): DetachedSignature => {
    const [kid, signature] = Array.isArray(item) && item.length === 2 ? item : [];
    if (!(kid instanceof Uint8Array) || kid.length !== 32) throw wrong("a key id that is not 32 bytes");
    if (!(signature instanceof Uint8Array) || signature.length !== SIGNATURE_BYTES)
      throw wrong("a signature that is not 64 bytes");
    return { kid, signature };
  });
  if (signatures.some((s, i) => i > 0 && compareBytes(signatures[i - 1]!.kid, s.kid) >= 0))
    throw wrong("signatures must ascend by key");
  return { body, signatures };
}

function asLeafIndex(value: CborValue): number {
  if (typeof value !== "number" || value < 0) throw wrong("a leaf index");
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_EVENT", `not a status event: ${reason}`);
}
