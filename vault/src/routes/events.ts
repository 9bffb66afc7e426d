/** Trustees: what is proposed, and their approvals and rejections of it. */
import { formatBase64, formatHex, formatWords, OperationError, parseHex, VerificationError } from "@viafabric/schemas";
import {
  approve,
  type EventState,
  fileOf,
  keyId,
  type Proposal,
  REJECTION_REASON_LENGTH_MAX,
  type Rejection,
  reject,
  stateOf,
  type TufSignature,
} from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { authorOf } from "../auth.ts";
import type { AttachmentRecord, EventRecord } from "../records.ts";
import { PAGE_ROWS_MAX } from "../store.ts";
import { HEX_32, hex, list, object, type Paths, responses, SECONDS, text, WHOLE } from "./fields.ts";

const STATES = ["open", "ready", "published", "expired", "superseded", "rejected"] as const satisfies EventState[];
/** DER of a P-256 signature. */
const SIGNATURE_BYTES_MAX = 72;

const SUMMARY = {
  id: HEX_32,
  words: text(512),
  role: text(16),
  version: WHOLE,
  state: { type: "string", enum: STATES },
  created: SECONDS,
  expires: SECONDS,
  threshold: WHOLE,
  trustees: WHOLE,
  approved: WHOLE,
  rejected: WHOLE,
} as const;

const DETAIL = {
  ...SUMMARY,
  signed: { type: "string", contentEncoding: "base64" },
  quorums: list(object({ threshold: WHOLE, keys: list({ type: "string" }, 64) }), 2),
  approvals: list(object({ keyid: HEX_32, signature: hex(SIGNATURE_BYTES_MAX) }), 64),
  rejections: list(object({ keyid: HEX_32, reason: text(1024), signature: hex(SIGNATURE_BYTES_MAX) }), 64),
  attachments: { type: "object", additionalProperties: { type: "string", contentEncoding: "base64" } },
} as const;

const STATE = responses(object({ state: SUMMARY.state, approved: WHOLE, rejected: WHOLE }));

export function eventRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.get<{ Querystring: { state?: EventState } }>(
    "/events",
    {
      schema: {
        summary: "Signing events, newest first",
        querystring: object({ state: SUMMARY.state }, ["state"]),
        response: responses(object({ events: list(object(SUMMARY), PAGE_ROWS_MAX) })),
      },
    },
    async ({ query }) => ({ events: (await store.events(query.state)).map(summaryJson) }),
  );

  app.get<{ Params: Paths }>(
    "/events/:id",
    {
      schema: {
        summary: "A proposal with everything needed to check it",
        description: "Nothing in it needs to be believed: a trustee's tool computes every hash again.",
        params: object({ id: HEX_32 }),
        response: responses(object(DETAIL)),
      },
    },
    async ({ params }) => {
      const id = parseHex(params.id, 32);
      const event = await store.event(id);
      if (!event) throw missing(params.id);
      return detailJson(event, await store.attachments(id));
    },
  );

  app.post<{ Params: Paths; Body: { keyid: string; signature: string } }>(
    "/events/:id/approvals",
    {
      config: { who: ["trustee"] },
      schema: {
        summary: "Approve a proposal",
        description: "A TUF signature over the proposal's canonical bytes. It may be another trustee's, brought along.",
        params: object({ id: HEX_32 }),
        body: object({ keyid: HEX_32, signature: hex(SIGNATURE_BYTES_MAX) }),
        response: STATE,
      },
    },
    async (request) => {
      const approval: TufSignature = { keyid: request.body.keyid, sig: parseHex(request.body.signature) };
      const id = parseHex(request.params.id, 32);
      const now = deps.now();
      const next = await store.change(authorOf(request).sender, async (change) => {
        const event = await change.lockEvent(id);
        if (!event) throw missing(request.params.id);
        assertUndecided(event);
        const approved = { ...event, ...approve(event, approval, now) };
        await change.addApproval(id, kidOf(event.proposal, approval.keyid), approval, now);
        // The k-th signature freezes the file: whatever arrives later is not in it.
        if (stateOf(approved, now) === "ready") await change.endEvent(id, "ready", fileOf(approved));
        return approved;
      });
      deps.wake();
      return countsJson(next, now);
    },
  );

  app.post<{ Params: Paths; Body: { keyid: string; reason: string; signature: string } }>(
    "/events/:id/rejections",
    {
      config: { who: ["trustee"] },
      schema: {
        summary: "Reject a proposal",
        description: "n − k + 1 rejections end it; its version and its index range are burned.",
        params: object({ id: HEX_32 }),
        body: object({
          keyid: HEX_32,
          reason: text(REJECTION_REASON_LENGTH_MAX),
          signature: hex(SIGNATURE_BYTES_MAX),
        }),
        response: STATE,
      },
    },
    async (request) => {
      const { keyid, reason, signature } = request.body;
      const rejection: Rejection = { keyid, reason, signature: parseHex(signature) };
      const id = parseHex(request.params.id, 32);
      const now = deps.now();
      const next = await store.change(authorOf(request).sender, async (change) => {
        const event = await change.lockEvent(id);
        if (!event) throw missing(request.params.id);
        assertUndecided(event);
        const rejected = { ...event, ...reject(event, deps.trust().authority, rejection, now) };
        await change.addRejection(id, kidOf(event.proposal, keyid), rejection, now);
        if (stateOf(rejected, now) === "rejected") await change.endEvent(id, "rejected");
        return rejected;
      });
      deps.wake();
      return countsJson(next, now);
    },
  );
}

function missing(id: string): OperationError {
  return new OperationError("ERR_NOT_FOUND", `there is no signing event ${id}`);
}

/** Frozen, dead or published: the sequencer has it, and no signature changes anything. */
function assertUndecided({ state, proposal }: EventRecord): void {
  if (state === "open") return;
  throw new VerificationError("ERR_PROPOSAL_CLOSED", `proposal ${formatHex(proposal.id)} is ${state}`);
}

function kidOf(proposal: Proposal, keyid: string): Uint8Array {
  return proposal.quorums.flatMap(({ keys }) => keys).find((key) => keyId(key) === keyid)!.kid;
}

function countsJson(event: EventRecord, now: number) {
  return { state: stateOf(event, now), approved: event.approvals.length, rejected: event.rejections.length };
}

function summaryJson(event: EventRecord) {
  const { id, role, version, created, expires, quorums } = event.proposal;
  return {
    id: formatHex(id),
    words: formatWords(id),
    role,
    version,
    state: event.state,
    created,
    expires,
    threshold: quorums[0]!.threshold,
    trustees: quorums[0]!.keys.length,
    approved: event.approvals.length,
    rejected: event.rejections.length,
  };
}

function detailJson(event: EventRecord, attachments: readonly AttachmentRecord[]) {
  return {
    ...summaryJson(event),
    signed: formatBase64(event.proposal.signed),
    quorums: event.proposal.quorums.map(({ threshold, keys }) => ({
      threshold,
      keys: keys.map((key) => formatBase64(key.spki)),
    })),
    approvals: event.approvals.map(({ keyid, sig }) => ({ keyid, signature: formatHex(sig) })),
    rejections: event.rejections.map(({ keyid, reason, signature }) => ({
      keyid,
      reason,
      signature: formatHex(signature),
    })),
    attachments: Object.fromEntries(attachments.map(({ name, bytes }) => [name, formatBase64(bytes)])),
  };
}
