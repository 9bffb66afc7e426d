/** Trustees, release officers and stations: suspend, revoke, reinstate, release. */
import {
  ACTIONS,
  decodeEventBody,
  EVENT_CONTEXT,
  type EventBody,
  equalBytes,
  formatBase64,
  formatHex,
  formatWords,
  isValidSignature,
  OperationError,
  parseBase64,
  parseHex,
  type Role,
  SIGNATURE_BYTES,
  sha256,
  signingInput,
  VerificationError,
} from "@viafabric/schemas";
import type { FastifyInstance } from "fastify";
import { assertQueue, STATUS_EVENTS_OPEN_MAX } from "../admission.ts";
import type { AppDependencies } from "../app.ts";
import { type Author, authorOf } from "../auth.ts";
import type { StatusEventState, StatusEventWithSignatures } from "../records.ts";
import { eligibleKey, manifestsFor, rolesFor } from "../status-approval.ts";
import { PAGE_ROWS_MAX } from "../store/rows.ts";
import { base64, HEX_32, list, object, type Paths, responses, SECONDS, text, WHOLE } from "./fields.ts";

const EVENT_BYTES_MAX = 32 * 1024;
/** An event that nobody completes is forgotten by itself, and cannot be completed years later. */
const EVENT_SECONDS_MAX = 90 * 86_400;
const STATES = ["open", "logged", "published", "expired", "refused"] as const satisfies StatusEventState[];

const FIELDS = {
  id: HEX_32,
  words: text(512),
  state: { type: "string", enum: STATES },
  action: { type: "string", enum: ACTIONS },
  ranges: list(list(WHOLE, 2, 2), 1024),
  reason: text(1024),
  notAfter: SECONDS,
  created: SECONDS,
  leafIndex: WHOLE,
  threshold: WHOLE,
  body: base64(EVENT_BYTES_MAX),
  signatures: list(object({ kid: HEX_32, signature: base64(SIGNATURE_BYTES) }), 64),
};
const EVENT = object(FIELDS, ["leafIndex"]);
/** `proven`: false while its proof waits until enough witnesses have cosigned the log. */
const DETAIL = object({ ...FIELDS, proven: { type: "boolean" } }, ["leafIndex"]);

const WHO = ["trustee", "release", "station"] as const;

export function statusRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.get<{ Querystring: { state?: StatusEventState } }>(
    "/status-events",
    {
      schema: {
        summary: "Status events, oldest first",
        querystring: object({ state: { type: "string", enum: STATES } }, ["state"]),
        response: responses(object({ events: list(EVENT, PAGE_ROWS_MAX) })),
      },
    },
    async ({ query }) => {
      const events = await store.statusEvents(query.state);
      return { events: await Promise.all(events.map((event) => eventJson(deps, event))) };
    },
  );

  app.get<{ Params: Paths }>(
    "/status-events/:id",
    { schema: { summary: "One status event", params: object({ id: HEX_32 }), response: responses(DETAIL) } },
    async ({ params }) => {
      const id = parseHex(params.id, 32);
      const event = await store.statusEvent(id);
      if (!event) throw missing(params.id);
      return { ...(await eventJson(deps, event)), proven: !(await store.isUnproven(id)) };
    },
  );

  app.post<{ Body: { body: string; signature: string } }>(
    "/status-events",
    {
      config: { who: WHO },
      bodyLimit: 2 * EVENT_BYTES_MAX,
      schema: {
        summary: "Propose a status event with the first signature on it",
        body: object({ body: base64(EVENT_BYTES_MAX), signature: base64(SIGNATURE_BYTES) }),
        response: responses(EVENT),
      },
    },
    async (request) => {
      const author = authorOf(request);
      const bytes = parseBase64(request.body.body);
      const body = decodeEventBody(bytes);
      const now = deps.now();
      assertTimely(body, now);
      const signature = { kid: author.key.kid, signature: parseBase64(request.body.signature, SIGNATURE_BYTES) };
      verifySignature(deps, author, await rolesOf(deps, body), bytes, signature.signature);
      if (body.action === "release") await assertWritten(deps, body);
      const id = sha256(bytes);
      // Who signs one that is there already adds nothing to the queue.
      if (!(await store.statusEvent(id)))
        assertQueue("status events", await store.statusEventsOpen(), STATUS_EVENTS_OPEN_MAX);
      const row = { id, body: bytes, action: body.action, created: now, notAfter: body.notAfter };
      const event = await store.change(author.sender, async (change) => {
        await change.addStatusEvent(row);
        assertOpen(await change.lockStatusEvent(id), now);
        await change.addStatusSignature(id, signature, now);
        return change.lockStatusEvent(id);
      });
      deps.wake();
      return eventJson(deps, event!);
    },
  );

  app.post<{ Params: Paths; Body: { signature: string } }>(
    "/status-events/:id/signatures",
    {
      config: { who: WHO },
      schema: {
        summary: "Sign a status event that somebody proposed",
        params: object({ id: HEX_32 }),
        body: object({ signature: base64(SIGNATURE_BYTES) }),
        response: responses(EVENT),
      },
    },
    async (request) => {
      const author = authorOf(request);
      const id = parseHex(request.params.id, 32);
      const now = deps.now();
      const found = await store.statusEvent(id);
      if (!found) throw missing(request.params.id);
      const signature = { kid: author.key.kid, signature: parseBase64(request.body.signature, SIGNATURE_BYTES) };
      verifySignature(deps, author, await rolesOf(deps, decodeEventBody(found.body)), found.body, signature.signature);
      const event = await store.change(author.sender, async (change) => {
        assertOpen(await change.lockStatusEvent(id), now);
        await change.addStatusSignature(id, signature, now);
        return change.lockStatusEvent(id);
      });
      deps.wake();
      return eventJson(deps, event!);
    },
  );
}

async function rolesOf(deps: AppDependencies, body: EventBody): Promise<readonly Role[]> {
  const trust = deps.trust();
  if (!equalBytes(body.authority, trust.authority))
    throw new VerificationError("ERR_AUTHORITY", "the status event is of another authority");
  return rolesFor(body, manifestsFor(body, await deps.store.batchesMeeting(body.ranges)), trust, deps.now());
}

function verifySignature(
  deps: AppDependencies,
  author: Author,
  roles: readonly Role[],
  body: Uint8Array,
  signature: Uint8Array,
): void {
  const key = eligibleKey(roles, author.key.kid);
  if (!key) throw new VerificationError("ERR_UNAUTHORIZED", `a ${author.who} has no say in this status event`);
  if (!isValidSignature(key, signingInput(EVENT_CONTEXT, deps.trust().authority, body), signature))
    throw new VerificationError("ERR_SIGNATURE", "the signature is not over this status event");
}

function assertTimely({ notAfter }: EventBody, now: number): void {
  if (now > notAfter) throw new OperationError("ERR_CLOSED", `the event was to be logged until ${notAfter}`);
  if (notAfter > now + EVENT_SECONDS_MAX)
    throw new OperationError("ERR_CLOSED", `not_after is more than ${EVENT_SECONDS_MAX} seconds ahead`);
}

function assertOpen(event: StatusEventWithSignatures | undefined, now: number): void {
  if (event?.state === "open" && now <= event.notAfter) return;
  throw new OperationError("ERR_CLOSED", `the status event is ${event?.state === "open" ? "expired" : event?.state}`);
}

/** Off until released, and nothing is released that nobody reported as written. */
async function assertWritten({ store }: AppDependencies, { ranges }: EventBody): Promise<void> {
  for (const { first, count } of ranges) {
    const written = await store.writtenIndices(first, count);
    if (written < count)
      throw new OperationError(
        "ERR_CLOSED",
        `${written} of ${count} tags from index ${first} on are reported as written`,
      );
  }
}

function missing(id: string): OperationError {
  return new OperationError("ERR_NOT_FOUND", `there is no status event ${id}`);
}

async function eventJson(deps: AppDependencies, event: StatusEventWithSignatures) {
  const body = decodeEventBody(event.body);
  const [role] = await rolesOf(deps, body);
  return {
    id: formatHex(event.id),
    words: formatWords(event.id),
    state: event.state,
    action: body.action,
    ranges: body.ranges.map(({ first, count }) => [first, count]),
    reason: body.reason,
    notAfter: event.notAfter,
    created: event.created,
    ...(event.leafIndex !== undefined && { leafIndex: event.leafIndex }),
    threshold: role!.threshold,
    body: formatBase64(event.body),
    signatures: event.signatures.map(({ kid, signature }) => ({
      kid: formatHex(kid),
      signature: formatBase64(signature),
    })),
  };
}
