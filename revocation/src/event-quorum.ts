/**
 * Whether a status event carries the signatures that it needs: trustees, a station for its own kit, or a release key.
 *
 * `requiredThreshold` says how many of whom; here the signatures are counted. Trustees and auditors who replay the log
 * decide with the same code, each from files that they read themselves.
 */
import {
  EVENT_CONTEXT,
  type EventBody,
  findKey,
  type IndexRange,
  type KeyEntry,
  type PublicKey,
  type Purpose,
  type Rules,
  type SignedEvent,
  signersOf,
  verifyThreshold,
} from "@viafabric/schemas";
import { type Handling, requiredThreshold } from "./threshold.ts";

/** What was logged last before the event. */
export interface EventContext {
  /** Keys of the root's role `targets`. */
  readonly trustees: readonly PublicKey[];
  readonly rules: Rules;
  readonly keys: readonly KeyEntry[];
}

/**
 * @param body of the event, decoded
 * @param manifests at least those whose index range meets the event's ranges, of logged batches
 * @returns the keys that count
 * @throws VerificationError ERR_THRESHOLD, ERR_AUTHORITY, ERR_EVENT_RANGE
 */
export function verifyEventQuorum(
  event: SignedEvent,
  body: EventBody,
  manifests: readonly Handling[],
  { trustees, rules, keys }: EventContext,
): readonly PublicKey[] {
  const approval = requiredThreshold(body, manifests, rules);
  // An entry has no time of its own, so being listed when it was logged is what can be asked.
  const listed = (kids: readonly Uint8Array[], purpose: Purpose): readonly PublicKey[] => {
    return kids.flatMap((kid) => findKey(keys, kid, purpose)?.key ?? []);
  };
  const verify = (among: readonly PublicKey[], threshold: number): readonly PublicKey[] => {
    const role = { keys: among, threshold };
    return verifyThreshold(role, EVENT_CONTEXT, body.authority, event.body, event.signatures);
  };
  if (approval.by === "release") return verify(listed(approval.keys, "release"), 1);
  const stations = { keys: listed(approval.stations, "station"), threshold: 1 };
  const byStation = signersOf(stations, EVENT_CONTEXT, body.authority, event.body, event.signatures);
  return byStation.length > 0 ? byStation : verify(trustees, approval.threshold);
}

/** The places of the batches that meet the ranges. Both ascend, so each is looked for by halves. */
export function batchesMeeting(ranges: readonly IndexRange[], batches: readonly IndexRange[]): readonly number[] {
  const found = new Set<number>();
  for (const range of ranges) {
    for (let seq = firstEndingAfter(batches, range.first); seq < batches.length; seq++) {
      if (batches[seq]!.first >= range.first + range.count) break;
      found.add(seq);
    }
  }
  return [...found];
}

function firstEndingAfter(batches: readonly IndexRange[], index: number): number {
  let low = 0;
  let high = batches.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { first, count } = batches[middle]!;
    if (first + count > index) high = middle;
    else low = middle + 1;
  }
  return low;
}
