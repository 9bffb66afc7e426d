/** Trustees: what is proposed, and their approvals and rejections of it. */
import {
  equalBytes,
  formatBase64,
  formatHex,
  formatWords,
  OperationError,
  parseHex,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import {
  approve,
  approveRotation,
  attachFormer,
  EVENT_STATES,
  type EventState,
  type FormerRotation,
  fileOf,
  holderOf,
  PROPOSED_BATCHES_MAX,
  type Proposal,
  REJECTION_REASON_LENGTH_MAX,
  type Rejection,
  ROTATION_ROLES,
  type Rotated,
  reject,
  type SigningEvent,
  stateOf,
  type TufSignature,
} from "@viafabric/tuf";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { AppDependencies } from "../app.ts";
import { authorOf } from "../auth.ts";
import type { AttachmentRecord, EventRecord, Parts } from "../records.ts";
import { PAGE_ROWS_MAX } from "../store/rows.ts";
import type { Change } from "../store.ts";
import { HEX_32, hex, list, object, type Paths, responses, SECONDS, text, WHOLE } from "./fields.ts";

/** DER of a P-256 signature. */
const SIGNATURE_BYTES_MAX = 72;

const BASE64 = { type: "string", contentEncoding: "base64" } as const;
const SIGNATURE = hex(SIGNATURE_BYTES_MAX);
const APPROVALS = list(object({ keyid: HEX_32, signature: hex(SIGNATURE_BYTES_MAX) }), 64);
const REJECTIONS = list(object({ keyid: HEX_32, reason: text(1024), signature: hex(SIGNATURE_BYTES_MAX) }), 64);
const COUNTS = {
  state: { type: "string", enum: EVENT_STATES },
  approved: WHOLE,
  rejected: WHOLE,
  /** Approvals and rejections after the file was frozen. */
  late: WHOLE,
} as const;

const SUMMARY = {
  ...COUNTS,
  id: HEX_32,
  words: text(512),
  role: text(16),
  version: WHOLE,
  created: SECONDS,
  expires: SECONDS,
  since: SECONDS,
  endReason: { type: "string" },
  threshold: WHOLE,
  trustees: WHOLE,
  rejections: REJECTIONS,
} as const;
const OPTIONAL = ["endReason"];

const DETAIL = {
  ...SUMMARY,
  signed: { type: "string", contentEncoding: "base64" },
  quorums: list(object({ threshold: WHOLE, keys: list({ type: "string" }, 64) }), 2),
  approvals: APPROVALS,
  /** False while proofs and kits wait until enough witnesses have cosigned the log. */
  proven: { type: "boolean" },
  lateVoices: object({ approvals: APPROVALS, rejections: REJECTIONS }),
  requestedBy: list(HEX_32, PROPOSED_BATCHES_MAX),
  /** Whether the approval of those who asked counts. */
  ownApprovals: { type: "boolean" },
  attachments: { type: "object", additionalProperties: { type: "string", contentEncoding: "base64" } },
  /** Of a root: what is signed together with it. */
  parts: object({ targets: BASE64, batches: BASE64 }),
} as const;

const STATE = responses(object(COUNTS));

export function eventRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.get<{ Querystring: { state?: EventState } }>(
    "/events",
    {
      schema: {
        summary: "Signing events, newest first",
        querystring: object({ state: SUMMARY.state }, ["state"]),
        response: responses(object({ events: list(object(SUMMARY, OPTIONAL), PAGE_ROWS_MAX) })),
      },
    },
    async ({ query }) => ({ events: (await store.events(query.state)).map((event) => summaryJson(event, deps.now())) }),
  );

  app.get<{ Params: Paths }>(
    "/events/:id",
    {
      schema: {
        summary: "A proposal with everything needed to check it",
        description: "Nothing in it needs to be believed: a trustee's tool computes every hash again.",
        params: object({ id: HEX_32 }),
        response: responses(object(DETAIL, [...OPTIONAL, "parts"])),
      },
    },
    async ({ params }) => {
      const id = parseHex(params.id, 32);
      const event = await store.event(id);
      if (!event) throw missing(params.id);
      const attachments = [...(await store.attachments(id)), ...(await formerRotations(event))];
      const proven = !(await store.isUnproven(id));
      return { ...detailJson(event, attachments, deps.now()), ownApprovals: deps.ownApprovals, proven };
    },
  );

  app.post<{ Params: Paths; Body: ApprovalBody }>(
    "/events/:id/approvals",
    {
      config: { who: ["trustee", "joining"] },
      schema: {
        summary: "Approve a proposal",
        description:
          "A TUF signature over the proposal's canonical bytes; of a rotation one over each part. It may be another " +
          "trustee's, brought along.",
        params: object({ id: HEX_32 }),
        body: object(
          { keyid: HEX_32, signature: SIGNATURE, parts: object({ targets: SIGNATURE, batches: SIGNATURE }) },
          ["parts"],
        ),
        response: STATE,
      },
    },
    async (request) =>
      voice(request, async (change, event, now) => {
        const { kid } = holderOf(event.proposal, request.body.keyid);
        if (!deps.ownApprovals && event.requestedBy.some((asked) => equalBytes(asked, kid)))
          throw new VerificationError("ERR_OWN_REQUEST", `key ${formatHex(kid)} asked for this proposal itself`);
        const { next, parts, approvals } = approvedBy(event, request.body, now);
        const when = { received: now, late: next.late.approvals.length > event.late.approvals.length };
        for (const { proposal, approval } of approvals) await change.addApproval(proposal.id, kid, approval, when);
        // The k-th signature freezes the file: whatever arrives later is not in it.
        if (event.state === "open" && stateOf(next, now) === "ready")
          await change.moveEvent(event.proposal.id, {
            state: "ready",
            at: now,
            metadata: fileOf(next),
            ...(parts && { parts: { targets: fileOf(parts.targets), batches: fileOf(parts.batches) } }),
          });
        return next;
      }),
  );

  app.post<{ Params: Paths; Body: { keyid: string; reason: string; signature: string } }>(
    "/events/:id/rejections",
    {
      config: { who: ["trustee", "joining"] },
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
      return voice(request, async (change, event, now) => {
        const next = { ...event, ...reject(event, deps.trust().authority, rejection, now) };
        const when = { received: now, late: next.late.rejections.length > event.late.rejections.length };
        await change.addRejection(event.proposal.id, holderOf(event.proposal, keyid).kid, rejection, when);
        if (event.state === "open" && stateOf(next, now) === "rejected")
          await change.moveEvent(event.proposal.id, { state: "rejected", at: now, reason: reasonsOf(next) });
        return next;
      });
    },
  );

  app.post<{ Params: Paths }>(
    "/events/:id/withdrawal",
    {
      config: { who: ["operator"] },
      schema: {
        summary: "Take back what one asked for, while it is before the trustees",
        description:
          "The proposal is superseded: nobody can sign it any more. What others asked for with it is planned again.",
        params: object({ id: HEX_32 }),
        response: STATE,
      },
    },
    async (request) =>
      voice(request, async (change, event, now) => {
        const { id } = event.proposal;
        const { kid } = authorOf(request).key;
        const reason = `withdrawn by operator ${formatHex(kid)}`;
        const state = stateOf(event, now);
        if (state !== "open" || !(await change.moveEvent(id, { state: "superseded", at: now, reason })))
          throw new VerificationError("ERR_PROPOSAL_CLOSED", `proposal ${formatHex(id)} is ${state}`);
        if (!(await change.withdrawRequests({ eventId: id }, kid)))
          throw new VerificationError("ERR_UNAUTHORIZED", "only whoever asked for a proposal withdraws it");
        return { ...event, outcome: "superseded" };
      }),
  );

  /** What was proposed for the same root version and is dead, with everything said against it until now. */
  async function formerRotations({ proposal: { role, version, id } }: EventRecord): Promise<AttachmentRecord[]> {
    if (role !== "root") return [];
    const others = (await store.rootProposals(version)).filter((other) => !equalBytes(other.proposal.id, id));
    const former = others.map(({ proposal, parts, rejections, late }): FormerRotation => {
      const hashOf = (part: EventRecord | undefined) => sha256(part?.proposal.signed ?? new Uint8Array(0));
      const hashes = {
        root: sha256(proposal.signed),
        targets: hashOf(parts?.targets),
        batches: hashOf(parts?.batches),
      };
      return { hashes, rejections: [...rejections, ...late.rejections] };
    });
    return [...attachFormer(former)].map(([name, bytes]) => ({ name, bytes }));
  }

  /** One change of one event: nobody else changes it meanwhile, so of two at one moment the second sees the first. */
  async function voice(
    request: FastifyRequest<{ Params: Paths }>,
    speak: (change: Change, event: EventRecord, now: number) => Promise<SigningEvent>,
  ) {
    const id = parseHex(request.params.id, 32);
    const now = deps.now();
    const next = await store.change(authorOf(request).sender, async (change) => {
      const event = await change.lockEvent(id);
      if (!event) throw missing(request.params.id);
      return speak(change, event, now);
    });
    deps.wake();
    return countsJson(next, now);
  }
}

interface ApprovalBody {
  readonly keyid: string;
  readonly signature: string;
  readonly parts?: { readonly targets: string; readonly batches: string };
}

interface Approved {
  readonly next: SigningEvent;
  readonly parts?: Parts<SigningEvent>;
  readonly approvals: readonly { readonly proposal: Proposal; readonly approval: TufSignature }[];
}

/** The event with the approval added; of a rotation its parts as well, in the same breath. */
function approvedBy(event: EventRecord, body: ApprovalBody, now: number): Approved {
  const of = (text: string): TufSignature => ({ keyid: body.keyid, sig: parseHex(text) });
  if ((body.parts === undefined) !== (event.parts === undefined))
    throw new VerificationError("ERR_SIGNATURE", "a rotation, and nothing else, takes a signature of each part");
  const approval = of(body.signature);
  if (!body.parts || !event.parts)
    return { next: approve(event, approval, now), approvals: [{ proposal: event.proposal, approval }] };
  const events: Rotated<SigningEvent> = { root: event, ...event.parts };
  const all = { root: approval, targets: of(body.parts.targets), batches: of(body.parts.batches) };
  const { root, ...parts } = approveRotation(events, all, now);
  const approvals = ROTATION_ROLES.map((role) => ({ proposal: events[role].proposal, approval: all[role] }));
  return { next: root, parts, approvals };
}

function missing(id: string): OperationError {
  return new OperationError("ERR_NOT_FOUND", `there is no signing event ${id}`);
}

/** What the trustees said, in the words of those who said no. */
function reasonsOf({ rejections }: SigningEvent): string {
  return rejections.map(({ keyid, reason }) => `${keyid.slice(0, 8)}…: ${reason}`).join("; ");
}

function countsJson(event: SigningEvent, now: number) {
  return {
    state: stateOf(event, now),
    approved: event.approvals.length,
    rejected: event.rejections.length,
    late: event.late.approvals.length + event.late.rejections.length,
  };
}

function summaryJson(event: EventRecord, now: number) {
  const { id, role, version, created, expires, quorums } = event.proposal;
  return {
    ...countsJson(event, now),
    id: formatHex(id),
    words: formatWords(id),
    role,
    version,
    created,
    expires,
    since: event.since,
    ...(event.endReason !== undefined && { endReason: event.endReason }),
    threshold: quorums[0]!.threshold,
    trustees: quorums[0]!.keys.length,
    rejections: event.rejections.map(rejectionJson),
  };
}

function detailJson(event: EventRecord, attachments: readonly AttachmentRecord[], now: number) {
  return {
    ...summaryJson(event, now),
    signed: formatBase64(event.proposal.signed),
    quorums: event.proposal.quorums.map(({ threshold, keys }) => ({
      threshold,
      keys: keys.map((key) => formatBase64(key.spki)),
    })),
    approvals: event.approvals.map(approvalJson),
    lateVoices: {
      approvals: event.late.approvals.map(approvalJson),
      rejections: event.late.rejections.map(rejectionJson),
    },
    requestedBy: [...new Set(event.requestedBy.map(formatHex))],
    attachments: Object.fromEntries(attachments.map(({ name, bytes }) => [name, formatBase64(bytes)])),
    ...(event.parts && {
      parts: {
        targets: formatBase64(event.parts.targets.proposal.signed),
        batches: formatBase64(event.parts.batches.proposal.signed),
      },
    }),
  };
}

function approvalJson({ keyid, sig }: TufSignature) {
  return { keyid, signature: formatHex(sig) };
}

function rejectionJson({ keyid, reason, signature }: Rejection) {
  return { keyid, reason, signature: formatHex(signature) };
}
