/** A status event that enough people signed, on its way into the log: once, in time, and only if it fits what is there. */
import {
  decodeEventBody,
  decodeLeaf,
  EVENT_CONTEXT,
  encodeLeaf,
  equalBytes,
  formatHex,
  kidText,
  type SignedEvent,
  signersOf,
  VerificationError,
} from "@viafabric/schemas";
import type { Desk } from "./desk.ts";
import type { StatusEventWithSignatures } from "./records.ts";
import { manifestsFor, rolesFor } from "./status-approval.ts";

/** What became of an event; `waiting`: it needs more signatures. */
export type EventOutcome = "waiting" | "logged" | "expired" | "refused";

export async function logStatusEvent(
  desk: Desk,
  event: StatusEventWithSignatures,
): Promise<{ readonly outcome: EventOutcome; readonly reason?: string }> {
  const { store, now } = desk.deps;
  const name = `status/${formatHex(event.id)}`;
  const done = await findLogged(desk, name, event);
  if (done !== undefined) {
    await store.moveStatusEvent(event.id, "logged", done);
    return { outcome: "logged" };
  }
  if (now() > event.notAfter) {
    await store.moveStatusEvent(event.id, "expired");
    return { outcome: "expired" };
  }
  const signed = await approvedEvent(desk, event);
  if (!signed) return { outcome: "waiting" };
  try {
    await desk.history.replayTo(desk.log.head, desk.log.size);
    desk.history.ledger.checkEvent(desk.log.size, decodeEventBody(event.body));
    const index = await desk.appendOnce(name, [encodeLeaf({ type: "event", event: signed })]);
    await store.moveStatusEvent(event.id, "logged", index);
    return { outcome: "logged" };
  } catch (error) {
    // The ledger or the signer says no: asking again tomorrow would not change it. Anything else is tried again.
    if (!(error instanceof VerificationError)) throw error;
    await store.moveStatusEvent(event.id, "refused");
    return { outcome: "refused", reason: `${error.code}: ${error.message}` };
  }
}

/** With exactly the signatures that count: the log is no place for others. Undefined while there are too few. */
async function approvedEvent(desk: Desk, event: StatusEventWithSignatures): Promise<SignedEvent | undefined> {
  const body = decodeEventBody(event.body);
  const { trusted } = desk.need();
  const manifests = manifestsFor(body, await desk.deps.store.batchesMeeting(body.ranges));
  for (const role of rolesFor(body, manifests, trusted, desk.deps.now())) {
    const signers = signersOf(role, EVENT_CONTEXT, trusted.authority, event.body, event.signatures);
    if (signers.length < role.threshold) continue;
    const kids = new Set(signers.map(kidText));
    return { body: event.body, signatures: event.signatures.filter(({ kid }) => kids.has(formatHex(kid))) };
  }
  return undefined;
}

/** Where the body already stands in the log, after a crash; other signatures may have come since. */
async function findLogged(desk: Desk, name: string, event: StatusEventWithSignatures): Promise<number | undefined> {
  const meant = await desk.deps.store.intent(name);
  if (meant === undefined || meant >= desk.log.size) return undefined;
  const leaf = decodeLeaf(await desk.entryAt(meant));
  return leaf.type === "event" && equalBytes(leaf.event.body, event.body) ? meant : undefined;
}
