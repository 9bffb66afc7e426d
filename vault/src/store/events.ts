/**
 * Signing events: the frozen proposal, the voices on it, and what is signed together with a root. An event moves
 * forward only, and the requests behind it move with it.
 */
import { formatBase64, OperationError, parseBase64, parsePublicKey } from "@viafabric/schemas";
import type { EventState, Proposal, ProposalRole, Rejection, TufSignature, Voices } from "@viafabric/tuf";
import type { Prisma } from "../gen/client.ts";
import type { EventHistory } from "../news.ts";
import type { AttachmentRecord, EventMove, EventRecord, PlannedEvent, RequestState } from "../records.ts";
import { addBatch } from "./batches.ts";
import { REFUSAL_LENGTH_MAX } from "./requests.ts";
import { type Bytes, own, PAGE_ROWS_MAX, type Queries, type Transaction } from "./rows.ts";

const IN_ORDER = [{ received: "asc" }, { kid: "asc" }] as const satisfies Prisma.ApprovalOrderByWithRelationInput[];

/** What an event can come from: forward only. A trigger holds the same table. */
const BEFORE = {
  ready: ["open"],
  published: ["ready"],
  expired: ["open"],
  superseded: ["open", "ready"],
  rejected: ["open"],
} as const satisfies Record<EventMove["state"], readonly EventState[]>;

/** What becomes of the requests that an event was to answer. */
const REQUEST_AFTER: Readonly<Partial<Record<EventState, RequestState>>> = {
  published: "published",
  expired: "waiting",
  superseded: "waiting",
  rejected: "rejected",
};

export interface Arrival {
  readonly received: number;
  /** After the file was frozen. */
  readonly late: boolean;
}

export function eventReads(db: Queries) {
  return {
    event: (id: Uint8Array) => findEvent(db, id),

    async events(state?: EventState, limit = PAGE_ROWS_MAX): Promise<readonly EventRecord[]> {
      const rows = await db.event.findMany({
        where: { rotationId: null, ...(state && { state }) },
        orderBy: [{ created: "desc" }, { version: "desc" }],
        take: limit,
      });
      return withParts(db, rows);
    },

    /** The highest version ever proposed for a role, dead or alive; 0 when there is none. */
    async lastVersion(role: ProposalRole): Promise<number> {
      return (await db.event.aggregate({ where: { role }, _max: { version: true } }))._max.version ?? 0;
    },

    /** Every proposal of a root version that there ever was. */
    async rootProposals(version: number): Promise<readonly EventRecord[]> {
      const where = { role: "root", version };
      return withParts(db, await db.event.findMany({ where, orderBy: { attempt: "asc" } }));
    },

    /** What is before the trustees, and what ended since then; for telling, without the bytes. */
    async eventHistories(since: number, limit = PAGE_ROWS_MAX): Promise<readonly EventHistory[]> {
      const rows = await db.event.findMany({
        where: { rotationId: null, OR: [{ state: "open" }, { since: { gte: BigInt(since) } }] },
        orderBy: { since: "desc" },
        take: limit,
        omit: { signed: true, metadata: true },
      });
      return (await withVoices(db, rows)).map(historyOf);
    },

    async attachments(eventId: Uint8Array): Promise<readonly AttachmentRecord[]> {
      const rows = await db.attachment.findMany({ where: { eventId: own(eventId) }, orderBy: { name: "asc" } });
      return rows.map(({ name, bytes }) => ({ name, bytes }));
    },

    async attachment(eventId: Uint8Array, name: string): Promise<Uint8Array | undefined> {
      const where = { eventId_name: { eventId: own(eventId), name } };
      return (await db.attachment.findUnique({ where }))?.bytes;
    },
  };
}

/** What a person may add to an event, or do to it. */
export function eventChanges(tx: Queries) {
  return {
    /** The event, locked until the end of the transaction: two approvals at once are two rows, one after the other. */
    async lockEvent(id: Uint8Array): Promise<EventRecord | undefined> {
      await tx.$queryRaw`SELECT 1 FROM "event" WHERE "id" = ${own(id)} FOR UPDATE`;
      return await findEvent(tx, id);
    },

    /** @param kid of the key: it counts once. */
    async addApproval(id: Uint8Array, kid: Uint8Array, approval: TufSignature, when: Arrival): Promise<void> {
      const row = { eventId: own(id), kid: own(kid), keyId: approval.keyid, signature: own(approval.sig) };
      await tx.approval.createMany({ data: [{ ...row, ...arrival(when) }], skipDuplicates: true });
    },

    async addRejection(id: Uint8Array, kid: Uint8Array, rejection: Rejection, when: Arrival): Promise<void> {
      const { keyid, reason, signature } = rejection;
      const row = { eventId: own(id), kid: own(kid), keyId: keyid, reason, signature: own(signature) };
      await tx.rejection.createMany({ data: [{ ...row, ...arrival(when) }], skipDuplicates: true });
    },

    /** Of an event locked in this transaction. */
    moveEvent: (id: Uint8Array, move: EventMove) => moveEvent(tx, id, move),
  };
}

export function eventWrites(transaction: Transaction) {
  return {
    /** A frozen plan, and the requests it answers: all or nothing, so none when one of them was withdrawn meanwhile. */
    async addEvent(
      { proposal, parts, attachments, batches }: PlannedEvent,
      requests: readonly Uint8Array[] = [],
    ): Promise<void> {
      await transaction(async (tx) => {
        const { id, role, version } = proposal;
        const attempt = role === "root" ? await tx.event.count({ where: { role, version } }) : 0;
        await tx.event.create({ data: { ...eventRow(proposal), attempt } });
        for (const part of Object.values(parts ?? {}))
          await tx.event.create({ data: { ...eventRow(part), rotationId: own(id) } });
        for (const { name, bytes } of attachments)
          await tx.attachment.create({ data: { eventId: own(id), name, bytes: own(bytes) } });
        for (const planned of batches) await addBatch(tx, id, planned);
        const { count } = await tx.request.updateMany({
          where: { id: { in: requests.map(own) }, state: "waiting" satisfies RequestState },
          data: { state: "planned" satisfies RequestState, eventId: own(id) },
        });
        if (count !== requests.length)
          throw new OperationError("ERR_DATABASE", "a request was withdrawn while it was planned", { retryable: true });
      });
    },

    /** Moves an event on. @returns false when somebody else moved it first */
    moveEvent: (id: Uint8Array, move: EventMove) => transaction((tx) => moveEvent(tx, id, move)),
  };
}

async function findEvent(db: Queries, id: Uint8Array): Promise<EventRecord | undefined> {
  const row = await db.event.findUnique({ where: { id: own(id), rotationId: null } });
  return row ? (await withParts(db, [row]))[0] : undefined;
}

/** Events as they are known, each with what is signed together with it. */
async function withParts(db: Queries, rows: readonly EventRow[]): Promise<readonly EventRecord[]> {
  const parts = await db.event.findMany({ where: { rotationId: { in: rows.map(({ id }) => id) } } });
  const all = await withVoices(db, [...rows, ...parts]);
  return all.slice(0, rows.length).map((row) => {
    const part = (role: string) => all.find((each) => each.role === role && sameId(each.rotationId, row.id));
    const [targets, batches] = [part("targets"), part("batches")];
    return {
      ...recordOf(row),
      ...(targets && batches && { parts: { targets: recordOf(targets), batches: recordOf(batches) } }),
    };
  });
}

/**
 * Adds who spoke and who asked. One query after the other: the relations of an `include` are asked for at once, and
 * in a transaction that is one connection, which answers one at a time.
 */
async function withVoices<Row extends { readonly id: Bytes }>(
  db: Queries,
  rows: readonly Row[],
): Promise<readonly (Row & VoiceRows)[]> {
  const where = { eventId: { in: rows.map(({ id }) => id) } };
  const approvals = await db.approval.findMany({ where, orderBy: [...IN_ORDER] });
  const rejections = await db.rejection.findMany({ where, orderBy: [...IN_ORDER] });
  const requests = await db.request.findMany({ where, select: { kid: true, eventId: true } });
  return rows.map((row) => ({
    ...row,
    approvals: approvals.filter(({ eventId }) => sameId(eventId, row.id)),
    rejections: rejections.filter(({ eventId }) => sameId(eventId, row.id)),
    requests: requests.filter(({ eventId }) => sameId(eventId, row.id)),
  }));
}

function sameId(a: Uint8Array | null, b: Uint8Array): boolean {
  return a !== null && Buffer.compare(a, b) === 0;
}

/** An event and the requests behind it go on together. @returns false when somebody else moved it first */
export async function moveEvent(tx: Queries, id: Uint8Array, move: EventMove): Promise<boolean> {
  const { state, at, metadata, parts, reason } = move;
  const { count } = await tx.event.updateMany({
    where: { id: own(id), state: { in: [...BEFORE[state]] } },
    data: {
      state,
      since: BigInt(at),
      ...(metadata && { metadata: own(metadata) }),
      ...(reason !== undefined && { endReason: reason }),
    },
  });
  if (count === 0) return false;
  for (const [role, file] of Object.entries(parts ?? {}))
    await tx.event.updateMany({ where: { rotationId: own(id), role }, data: { state, metadata: own(file) } });
  await tx.event.updateMany({ where: { rotationId: own(id) }, data: { state, since: BigInt(at) } });
  const after = REQUEST_AFTER[state];
  if (!after) return true;
  const refusal = after === "rejected" && reason !== undefined ? reason.slice(0, REFUSAL_LENGTH_MAX) : undefined;
  await tx.request.updateMany({
    where: { eventId: own(id), state: "planned" satisfies RequestState },
    data: { state: after, ...(refusal !== undefined && { refusal }) },
  });
  return true;
}

function historyOf(row: Omit<EventRow, "signed" | "metadata"> & VoiceRows): EventHistory {
  const [quorum] = row.quorums as unknown as readonly QuorumJson[];
  const spoken = (voice: { keyId: string; received: bigint; late: boolean }) => {
    return { keyid: voice.keyId, received: Number(voice.received), late: voice.late };
  };
  return {
    id: row.id,
    role: row.role as ProposalRole,
    version: row.version,
    state: row.state as EventState,
    since: Number(row.since),
    created: Number(row.created),
    expires: Number(row.expires),
    threshold: quorum!.threshold,
    ...(row.endReason !== null && { endReason: row.endReason }),
    approvals: row.approvals.map(spoken),
    rejections: row.rejections.map((voice) => ({ ...spoken(voice), reason: voice.reason })),
  };
}

function arrival({ received, late }: Arrival) {
  return { received: BigInt(received), late };
}

interface QuorumJson {
  readonly threshold: number;
  readonly keys: readonly string[];
}

function eventRow(proposal: Proposal): Prisma.EventUncheckedCreateInput {
  const { id, role, version, signed, created, expires, quorums } = proposal;
  const json = quorums.map(({ keys, threshold }) => ({ threshold, keys: keys.map((key) => formatBase64(key.spki)) }));
  return {
    id: own(id),
    role,
    version,
    signed: own(signed),
    created: BigInt(created),
    expires: BigInt(expires),
    quorums: json,
    state: "open",
    since: BigInt(created),
  };
}

type EventRow = Prisma.EventGetPayload<object>;

interface VoiceRows {
  readonly approvals: readonly Prisma.ApprovalGetPayload<object>[];
  readonly rejections: readonly Prisma.RejectionGetPayload<object>[];
  readonly requests: readonly { readonly kid: Bytes }[];
}

function recordOf(row: EventRow & VoiceRows): EventRecord {
  const quorums = (row.quorums as unknown as readonly QuorumJson[]).map(({ threshold, keys }) => ({
    threshold,
    keys: keys.map((key) => parsePublicKey(parseBase64(key))),
  }));
  const state = row.state as EventState;
  return {
    proposal: {
      id: row.id,
      role: row.role as ProposalRole,
      version: row.version,
      signed: row.signed,
      created: Number(row.created),
      expires: Number(row.expires),
      quorums,
    },
    ...voicesOf(row, false),
    late: voicesOf(row, true),
    ...((state === "published" || state === "superseded" || state === "expired") && { outcome: state }),
    state,
    since: Number(row.since),
    ...(row.endReason !== null && { endReason: row.endReason }),
    ...(row.metadata && { metadata: row.metadata }),
    requestedBy: row.requests.map(({ kid }) => kid),
  };
}

function voicesOf({ approvals, rejections }: VoiceRows, late: boolean): Voices {
  return {
    approvals: approvals
      .filter((row) => row.late === late)
      .map(({ keyId, signature }) => ({ keyid: keyId, sig: signature })),
    rejections: rejections
      .filter((row) => row.late === late)
      .map(({ keyId, reason, signature }) => ({ keyid: keyId, reason, signature })),
  };
}
