/**
 * Whether a status event carries the signatures it needs: trustees of the root logged last, a station for its own kit,
 * or a release key of the batch.
 *
 * How many of whom is the revocation room's table. Here the signatures are checked, and a signature that counts for
 * nothing is refused: the log is no place for what nobody can verify.
 */
import { batchesMeeting, type Handling, requiredThreshold } from "@viafabric/revocation";
import {
  decodeEventBody,
  decodeRules,
  EVENT_CONTEXT,
  type EventBody,
  equalBytes,
  findKey,
  type IndexRange,
  type KeyEntry,
  type PublicKey,
  type Purpose,
  type SignedEvent,
  signersOf,
  VerificationError,
  verifyThreshold,
} from "@viafabric/schemas";
import { parseMetadata } from "@viafabric/tuf";
import type { LoggedBatch, SignerState } from "./state.ts";

export interface EventContext {
  readonly authority: Uint8Array;
  readonly quorum: SignerState["quorum"];
  readonly keys: readonly KeyEntry[];
  readonly batches: readonly LoggedBatch[];
  /** Unix seconds. */
  readonly now: number;
}

/** @throws VerificationError; whether it fits the ledger is the ledger's to say */
export function verifyEvent(event: SignedEvent, context: EventContext): EventBody {
  const { authority, quorum, now } = context;
  const body = decodeEventBody(event.body);
  if (!equalBytes(body.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", "the status event is of another authority");
  if (now > body.notAfter)
    throw new VerificationError("ERR_EVENT_LATE", `the event was to be logged by ${body.notAfter}, and it is ${now}`);
  if (quorum.root.length === 0 || quorum.rules.length === 0)
    throw new VerificationError("ERR_SIGNER_ORDER", "no root and no rules are in the log yet");
  const approval = requiredThreshold(body, handlingOf(body.ranges, context.batches), decodeRules(quorum.rules));
  const verify = (keys: readonly PublicKey[], threshold: number): readonly PublicKey[] => {
    return verifyThreshold({ keys, threshold }, EVENT_CONTEXT, authority, event.body, event.signatures);
  };
  if (approval.by === "release") {
    assertAllCount(event, verify(listed(context, approval.keys, "release"), 1));
    return body;
  }
  const trustees = parseMetadata("root", quorum.root).signed.roles.targets.keys;
  const stations = listed(context, approval.stations, "station");
  const byStation = signersOf({ keys: stations, threshold: 1 }, EVENT_CONTEXT, authority, event.body, event.signatures);
  assertAllCount(event, byStation.length > 0 ? byStation : verify(trustees, approval.threshold));
  return body;
}

/** Who handles the batches that the ranges meet. */
export function handlingOf(ranges: readonly IndexRange[], batches: readonly LoggedBatch[]): readonly Handling[] {
  return batchesMeeting(ranges, batches).map((seq) => {
    const { first, count, officers } = batches[seq]!;
    const stations = officers.stations.map((station) => ({ ...station, first: station.first + first }));
    return { first, count, stations, releaseKeys: officers.releaseKeys };
  });
}

function listed({ keys, now }: EventContext, kids: readonly Uint8Array[], purpose: Purpose): readonly PublicKey[] {
  return kids.flatMap((kid) => findKey(keys, kid, purpose, now)?.key ?? []);
}

function assertAllCount(event: SignedEvent, signers: readonly PublicKey[]): void {
  if (signers.length < event.signatures.length) {
    const idle = event.signatures.length - signers.length;
    throw new VerificationError("ERR_SIGNATURE", `${idle} signatures on the event count for nothing: leave them out`);
  }
}
