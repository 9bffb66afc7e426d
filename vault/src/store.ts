/**
 * The database, in the vault's own words; the only door to the Prisma client.
 *
 * Two kinds of writers exist. People, through HTTP: each of their changes is one transaction that also spends the
 * nonce of the request that asked for it (`change`), so a replayed request changes nothing. And the sequencer, one
 * process, one step at a time. Evidence is only ever inserted.
 */
import { PrismaPg } from "@prisma/adapter-pg";
import {
  BATCH_TOKENS_MAX,
  type DetachedSignature,
  formatBase64,
  formatHex,
  type IndexRange,
  OperationError,
  parseBase64,
  parseHex,
  parsePublicKey,
} from "@viafabric/schemas";
import type { EventState, Proposal, ProposalRole, Rejection, TufSignature, Voices } from "@viafabric/tuf";
import type { Prisma } from "./gen/client.ts";
import { PrismaClient } from "./gen/client.ts";
import { migrate, readMigrations } from "./migrate.ts";
import type { EventHistory } from "./news.ts";
import { connectionPool, type DatabaseTarget } from "./postgres.ts";
import type { Publication } from "./publisher.ts";
import type {
  AttachmentRecord,
  BatchRecord,
  Counts,
  EventMove,
  EventRecord,
  KitRecord,
  LogHeadRecord,
  NotificationRecord,
  NotificationState,
  PlannedEvent,
  PublishedWhat,
  ReceiptRecord,
  RequestRecord,
  RequestState,
  Sender,
  StatusEventRecord,
  StatusEventState,
  StatusEventWithSignatures,
  TokenRecord,
} from "./records.ts";

/** One page of anything listed over HTTP. */
export const PAGE_ROWS_MAX = 100;
/** Rows in one bulk insert: large enough to be quick, small enough for one message. */
const BULK_ROWS = 2000;
/** One sequencer, a few requests at a time. */
const CONNECTIONS = 10;
/** A batch of 100,000 tokens is one transaction; on a slow disk it takes a while. */
const TRANSACTION_MILLISECONDS_MAX = 120_000;

/** Up to 6 MB each; asked for by name where they are needed. */
const WITHOUT_SIGNATURES = { signatures: true } as const;
const IN_ORDER = { orderBy: [{ received: "asc" }, { kid: "asc" }] } as const satisfies Prisma.Event$approvalsArgs;
const WITH_VOICES = {
  approvals: IN_ORDER,
  rejections: IN_ORDER,
  requests: { select: { kid: true } },
} as const satisfies Prisma.EventInclude;
/** With what is signed together with a root. */
const WITH_PARTS = { ...WITH_VOICES, parts: { include: WITH_VOICES } } as const satisfies Prisma.EventInclude;
const WITH_EVENT = { event: { select: { id: true, state: true, endReason: true } } } as const;

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
/** Of reasons kept with a request. */
const REFUSAL_LENGTH_MAX = 1024;

export interface Arrival {
  readonly received: number;
  /** After the file was frozen. */
  readonly late: boolean;
}

export type Store = Awaited<ReturnType<typeof openStore>>;
/** What a handler may do within the one transaction of its request. */
export type Change = ReturnType<typeof changes>;
type Queries = Prisma.TransactionClient;

/** Opens the database and brings its tables up to this release. */
export async function openStore(target: DatabaseTarget) {
  const pool = connectionPool(target, CONNECTIONS);
  const client = await pool.connect();
  try {
    await migrate(client, await readMigrations());
  } finally {
    client.release();
  }
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool) });
  const transaction = <Result>(work: (tx: Queries) => Promise<Result>): Promise<Result> =>
    prisma.$transaction(work, { timeout: TRANSACTION_MILLISECONDS_MAX, maxWait: TRANSACTION_MILLISECONDS_MAX });
  return {
    ...reads(prisma),
    ...bulkReads(pool),
    ...(await sequencerWrites(prisma, transaction)),

    /**
     * Runs `work` and spends the sender's nonce in one transaction: both happen or neither.
     * @throws OperationError ERR_REPLAY when the nonce was spent before
     */
    async change<Result>(sender: Sender, work: (change: Change) => Promise<Result>): Promise<Result> {
      return transaction(async (tx) => {
        const { count } = await tx.nonce.createMany({
          data: [{ kid: own(sender.kid), nonce: own(sender.nonce), expires: BigInt(sender.nonceUntil) }],
          skipDuplicates: true,
        });
        if (count === 0) throw new OperationError("ERR_REPLAY", "the nonce of this request was spent before");
        return work(changes(tx));
      });
    },

    async close(): Promise<void> {
      await prisma.$disconnect();
      await pool.end();
    },
  };
}

function changes(tx: Queries) {
  return {
    async addRequest(
      request: Pick<RequestRecord, "id" | "kind" | "kid" | "body" | "proof" | "received">,
    ): Promise<void> {
      await tx.request.create({
        data: { ...rowOf(request), received: BigInt(request.received), state: "waiting" },
      });
    },

    /** The event, locked until the end of the transaction: two approvals at once are two rows, one after the other. */
    async lockEvent(id: Uint8Array): Promise<EventRecord | undefined> {
      await tx.$queryRaw`SELECT 1 FROM "event" WHERE "id" = ${own(id)} FOR UPDATE`;
      return findEvent(tx, id);
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

    /** A request that waits, or whose event was ended just now. @returns false when it does neither, or is not theirs */
    async withdrawRequests(where: { readonly id: Uint8Array } | { readonly eventId: Uint8Array }, kid: Uint8Array) {
      const named = "id" in where ? { id: own(where.id) } : { eventId: own(where.eventId) };
      const data = { state: "withdrawn" satisfies RequestState };
      const { count } = await tx.request.updateMany({ where: { ...named, kid: own(kid), state: "waiting" }, data });
      return count > 0;
    },

    /** A body is one event however often it is sent. */
    async addStatusEvent(event: Omit<StatusEventRecord, "state" | "leafIndex">): Promise<void> {
      const row = { ...rowOf(event), state: "open", created: BigInt(event.created), notAfter: BigInt(event.notAfter) };
      await tx.statusEvent.createMany({ data: [row], skipDuplicates: true });
    },

    async lockStatusEvent(id: Uint8Array): Promise<StatusEventWithSignatures | undefined> {
      await tx.$queryRaw`SELECT 1 FROM "status_event" WHERE "id" = ${own(id)} FOR UPDATE`;
      return findStatusEvent(tx, id);
    },

    async addStatusSignature(id: Uint8Array, signature: DetachedSignature, received: number): Promise<void> {
      const row = { eventId: own(id), kid: own(signature.kid), signature: own(signature.signature) };
      await tx.statusSignature.createMany({ data: [{ ...row, received: BigInt(received) }], skipDuplicates: true });
    },

    /** The receipts of a kit in order; the kit is locked, so that a chain grows at one end only. */
    async lockReceipts(kitId: Uint8Array): Promise<readonly ReceiptRecord[]> {
      await tx.$queryRaw`SELECT 1 FROM "kit" WHERE "id" = ${own(kitId)} FOR UPDATE`;
      return (await tx.receipt.findMany({ where: { kitId: own(kitId) }, orderBy: { seq: "asc" } })).map(receiptOf);
    },

    async addReceipts(receipts: readonly ReceiptRecord[]): Promise<void> {
      const data = receipts.map((receipt) => ({
        ...rowOf(receipt),
        index: BigInt(receipt.index),
        received: BigInt(receipt.received),
      }));
      await tx.receipt.createMany({ data });
    },
  };
}

function reads(db: Queries) {
  const requestsWaiting = () => db.request.count({ where: { state: "waiting" } });
  const statusEventsOpen = () => db.statusEvent.count({ where: { state: "open" } });
  return {
    async request(id: Uint8Array): Promise<RequestRecord | undefined> {
      const row = await db.request.findUnique({ where: { id: own(id) }, include: WITH_EVENT });
      return row ? requestOf(row) : undefined;
    },

    async requests(limit = PAGE_ROWS_MAX): Promise<readonly RequestRecord[]> {
      const rows = await db.request.findMany({ orderBy: { received: "desc" }, take: limit, include: WITH_EVENT });
      return rows.map(requestOf);
    },

    /** Those of a kind that wait, the one that has waited longest first. */
    async waitingRequests(kind: RequestRecord["kind"], limit: number): Promise<readonly RequestRecord[]> {
      const rows = await db.request.findMany({
        where: { state: "waiting", kind },
        orderBy: [{ received: "asc" }, { id: "asc" }],
        take: limit,
        include: WITH_EVENT,
      });
      return rows.map(requestOf);
    },

    event: (id: Uint8Array) => findEvent(db, id),

    async events(state?: EventState, limit = PAGE_ROWS_MAX): Promise<readonly EventRecord[]> {
      const rows = await db.event.findMany({
        where: { rotationId: null, ...(state && { state }) },
        orderBy: [{ created: "desc" }, { version: "desc" }],
        take: limit,
        include: WITH_PARTS,
      });
      return rows.map(eventOf);
    },

    /** The highest version ever proposed for a role, dead or alive; 0 when there is none. */
    async lastVersion(role: ProposalRole): Promise<number> {
      return (await db.event.aggregate({ where: { role }, _max: { version: true } }))._max.version ?? 0;
    },

    /** Every proposal of a root version that there ever was. */
    async rootProposals(version: number): Promise<readonly EventRecord[]> {
      const where = { role: "root", version };
      return (await db.event.findMany({ where, orderBy: { attempt: "asc" }, include: WITH_PARTS })).map(eventOf);
    },

    /** What is before the trustees, and what ended since then; for telling, without the bytes. */
    async eventHistories(since: number, limit = PAGE_ROWS_MAX): Promise<readonly EventHistory[]> {
      const rows = await db.event.findMany({
        where: { rotationId: null, OR: [{ state: "open" }, { since: { gte: BigInt(since) } }] },
        orderBy: { since: "desc" },
        take: limit,
        omit: { signed: true, metadata: true },
        include: WITH_VOICES,
      });
      return rows.map(historyOf);
    },

    async attachments(eventId: Uint8Array): Promise<readonly AttachmentRecord[]> {
      const rows = await db.attachment.findMany({ where: { eventId: own(eventId) }, orderBy: { name: "asc" } });
      return rows.map(({ name, bytes }) => ({ name, bytes }));
    },

    async attachment(eventId: Uint8Array, name: string): Promise<Uint8Array | undefined> {
      const where = { eventId_name: { eventId: own(eventId), name } };
      return (await db.attachment.findUnique({ where }))?.bytes;
    },

    async batchesOf(eventId: Uint8Array): Promise<readonly BatchRecord[]> {
      const where = { eventId: own(eventId) };
      return (await db.batch.findMany({ where, orderBy: { seq: "asc" }, omit: WITHOUT_SIGNATURES })).map(batchOf);
    },

    async batch(manifestHash: Uint8Array): Promise<BatchRecord | undefined> {
      const where = { manifestHash: own(manifestHash) };
      const row = await db.batch.findUnique({ where, omit: WITHOUT_SIGNATURES });
      return row ? batchOf(row) : undefined;
    },

    /** The issuer's signatures of a batch, 64 bytes for each token in index order; undefined until it signed. */
    async signatures(manifestHash: Uint8Array): Promise<Uint8Array | undefined> {
      const where = { manifestHash: own(manifestHash) };
      return (await db.batch.findUnique({ where, select: { signatures: true } }))?.signatures ?? undefined;
    },

    /** Batches that are in the log, in the order of the head's tree. */
    async loggedBatches(fromSeq: number, limit = PAGE_ROWS_MAX): Promise<readonly BatchRecord[]> {
      const where = { leafIndex: { not: null }, seq: { gte: BigInt(fromSeq) } };
      const rows = await db.batch.findMany({ where, orderBy: { seq: "asc" }, take: limit, omit: WITHOUT_SIGNATURES });
      return rows.map(batchOf);
    },

    /** Logged batches that may hold an index of these ranges: those between the first and the last of them. */
    async batchesMeeting(ranges: readonly IndexRange[]): Promise<readonly BatchRecord[]> {
      const end = Math.max(...ranges.map(({ first, count }) => first + count));
      const start = Math.min(...ranges.map(({ first }) => first));
      const where = {
        leafIndex: { not: null },
        first: { lt: BigInt(end), gt: BigInt(start - BATCH_TOKENS_MAX) },
      };
      return (await db.batch.findMany({ where, orderBy: { seq: "asc" }, omit: WITHOUT_SIGNATURES })).map(batchOf);
    },

    /** Every index range ever shown to a trustee: the end of the last one. */
    async plannedEnd(): Promise<number> {
      const last = await db.batch.findFirst({ orderBy: { first: "desc" }, select: { first: true, count: true } });
      return last ? Number(last.first) + last.count : 0;
    },

    async statusEvents(state?: StatusEventState, limit = PAGE_ROWS_MAX): Promise<readonly StatusEventWithSignatures[]> {
      const rows = await db.statusEvent.findMany({
        where: state ? { state } : {},
        orderBy: [{ created: "asc" }, { id: "asc" }],
        take: limit,
        include: { signatures: true },
      });
      return rows.map(statusEventOf);
    },

    statusEvent: (id: Uint8Array) => findStatusEvent(db, id),

    async kit(id: Uint8Array): Promise<KitRecord | undefined> {
      const row = await db.kit.findUnique({ where: { id: own(id) } });
      return row ? kitOf(row) : undefined;
    },

    /** The part of batch `seq` that is a station's to write. */
    async kitOf(station: Uint8Array, seq: number): Promise<KitRecord | undefined> {
      const where = { station: own(station), batch: { seq: BigInt(seq), leafIndex: { not: null } } };
      const row = await db.kit.findFirst({ where });
      return row ? kitOf(row) : undefined;
    },

    /** How many indices of a range were written, by the last receipt of each. */
    async writtenIndices(first: number, count: number): Promise<number> {
      const rows = await db.$queryRaw<{ n: bigint }[]>`
        SELECT count(*) AS n FROM (
          SELECT DISTINCT ON ("index") "result" FROM "receipt"
          WHERE "index" >= ${BigInt(first)} AND "index" < ${BigInt(first + count)}
          ORDER BY "index", "seq" DESC
        ) AS last WHERE "result" = 'written'`;
      return Number(rows[0]?.n ?? 0);
    },

    async logHead(origin: string): Promise<LogHeadRecord | undefined> {
      const row = await db.logHead.findUnique({ where: { origin } });
      return row ? { size: Number(row.size), root: row.root, note: row.note } : undefined;
    },

    /** What the witness at each address cosigned last, as far as we know. */
    async witnessSizes(): Promise<ReadonlyMap<string, number>> {
      return new Map((await db.witness.findMany()).map(({ url, size }) => [url, Number(size)]));
    },

    /** Whether the proofs of a published event wait for witnesses. */
    async isUnproven(id: Uint8Array): Promise<boolean> {
      return (await db.unproven.count({ where: { id: own(id) } })) > 0;
    },

    /** Ids of signing events and of status events, mixed. */
    async unproven(limit = PAGE_ROWS_MAX): Promise<readonly Uint8Array[]> {
      return (await db.unproven.findMany({ take: limit, orderBy: { id: "asc" } })).map(({ id }) => id);
    },

    /** Where the entries of that name were last about to be appended. */
    async intent(name: string): Promise<number | undefined> {
      const row = await db.intent.findUnique({ where: { name } });
      return row ? Number(row.index) : undefined;
    },

    /** A publication that may not have become visible, with its number. */
    async openPublication(): Promise<{ readonly id: number; readonly publication: Publication } | undefined> {
      const row = await db.publication.findFirst({ where: { done: false }, orderBy: { id: "asc" } });
      if (!row) return undefined;
      const files = await db.publicationFile.findMany({ where: { publicationId: row.id }, orderBy: { place: "asc" } });
      return { id: row.id, publication: publicationOf(files) };
    },

    requestsWaiting,
    statusEventsOpen,

    async counts(): Promise<Counts> {
      const logged = { leafIndex: { not: null } };
      return {
        requestsWaiting: await requestsWaiting(),
        eventsOpen: await db.event.count({ where: { state: "open" } }),
        batchesLogged: await db.batch.count({ where: logged }),
        tokensLogged: (await db.batch.aggregate({ where: logged, _sum: { count: true } }))._sum.count ?? 0,
        statusEventsOpen: await statusEventsOpen(),
        receipts: await db.receipt.count(),
      };
    },
  };
}

/** Past the Prisma client, which takes several times as long for as many rows as a batch has. */
function bulkReads(pool: ReturnType<typeof connectionPool>) {
  return {
    async tokens(manifestHash: Uint8Array, first: number, count: number): Promise<readonly TokenRecord[]> {
      const { rows } = await pool.query<{
        index: string;
        rct_id: Buffer;
        subject: string;
        confirmation: Buffer | null;
        claim_secret: Buffer | null;
      }>(
        `SELECT "index", "rct_id", "subject", "confirmation", "claim_secret" FROM "token"
         WHERE "manifest_hash" = $1 AND "index" >= $2 AND "index" < $3 ORDER BY "index"`,
        [Buffer.from(manifestHash), first, first + count],
      );
      return rows.map((row) => ({
        index: Number(row.index),
        rctId: own(row.rct_id),
        subject: row.subject,
        ...(row.confirmation && { confirmation: own(row.confirmation) }),
        ...(row.claim_secret && { claimSecret: own(row.claim_secret) }),
      }));
    },
  };
}

function sequencerWrites(
  db: Queries,
  transaction: <Result>(work: (tx: Queries) => Promise<Result>) => Promise<Result>,
) {
  return {
    async bindAuthority(authority: Uint8Array, created: number): Promise<void> {
      const row = { id: 1, authority: own(authority), created: BigInt(created) };
      await db.authority.createMany({ data: [row], skipDuplicates: true });
      const bound = await db.authority.findUniqueOrThrow({ where: { id: 1 } });
      if (Buffer.compare(bound.authority, authority) !== 0)
        throw new OperationError("ERR_DATABASE", "the database belongs to another authority");
    },

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
        for (const { batch, tokens } of batches) {
          await tx.batch.create({
            data: {
              manifestHash: own(batch.manifestHash),
              eventId: own(id),
              seq: BigInt(batch.seq),
              first: BigInt(batch.first),
              count: batch.count,
              manifest: own(batch.manifest),
              uidKey: own(batch.uidKey),
            },
          });
          await insertTokens(tx, batch.manifestHash, tokens);
        }
        const { count } = await tx.request.updateMany({
          where: { id: { in: requests.map(own) }, state: "waiting" satisfies RequestState },
          data: { state: "planned" satisfies RequestState, eventId: own(id) },
        });
        if (count !== requests.length)
          throw new OperationError("ERR_DATABASE", "a request was withdrawn while it was planned", { retryable: true });
      });
    },

    async refuseRequest(id: Uint8Array, reason: string): Promise<void> {
      const data = { state: "refused" satisfies RequestState, refusal: reason.slice(0, REFUSAL_LENGTH_MAX) };
      await db.request.updateMany({ where: { id: own(id), state: "waiting" satisfies RequestState }, data });
    },

    /** Moves an event on. @returns false when somebody else moved it first */
    moveEvent: (id: Uint8Array, move: EventMove) => transaction((tx) => moveEvent(tx, id, move)),

    async saveSignatures(manifestHash: Uint8Array, signatures: Uint8Array): Promise<void> {
      await db.batch.update({ where: { manifestHash: own(manifestHash) }, data: { signatures: own(signatures) } });
    },

    async saveLeafIndex(manifestHash: Uint8Array, leafIndex: number): Promise<void> {
      await db.batch.updateMany({ where: { manifestHash: own(manifestHash) }, data: { leafIndex: BigInt(leafIndex) } });
    },

    async moveStatusEvent(id: Uint8Array, state: StatusEventState, leafIndex?: number): Promise<void> {
      const data = { state, ...(leafIndex !== undefined && { leafIndex: BigInt(leafIndex) }) };
      await db.statusEvent.update({ where: { id: own(id) }, data });
    },

    /** Compare-and-swap of the log's head. @returns false when it is no longer at `oldSize` */
    async replaceLogHead(origin: string, oldSize: number, next: LogHeadRecord): Promise<boolean> {
      const row = { size: BigInt(next.size), root: own(next.root), note: own(next.note) };
      const { count } =
        oldSize === 0
          ? await db.logHead.createMany({ data: [{ origin, ...row }], skipDuplicates: true })
          : await db.logHead.updateMany({ where: { origin, size: BigInt(oldSize) }, data: row });
      return count === 1;
    },

    /** Where entries are about to be appended: noted before, so that a crash does not append them twice. */
    async noteIntent(name: string, index: number): Promise<void> {
      const data = { index: BigInt(index) };
      await db.intent.upsert({ where: { name }, create: { name, ...data }, update: data });
    },

    /**
     * Writes a publication down whole before its first file is made, together with what it publishes. An open
     * publication is always finished before anything else happens.
     */
    async addPublication(publication: Publication, created: number, what: PublishedWhat): Promise<void> {
      await transaction(async (tx) => {
        const data = { created: BigInt(created), done: false, what: whatJson(what) };
        const { id } = await tx.publication.create({ data });
        for (const row of publicationRows(publication))
          await tx.publicationFile.create({ data: { ...row, publicationId: id } });
      });
    },

    /** The files are in the public folder now: events are published, kits may be fetched, the copies go. */
    async finishPublication(id: number, at: number): Promise<void> {
      await transaction(async (tx) => {
        const row = await tx.publication.update({ where: { id }, data: { done: true } });
        const { events, statusEvents, unproven = [], proven = [], proveAgain, kits } = whatOf(row.what);
        for (const event of events) await moveEvent(tx, event, { state: "published", at });
        const state = "published";
        await tx.statusEvent.updateMany({ where: { id: { in: statusEvents.map(own) } }, data: { state } });
        await tx.unproven.createMany({ data: unproven.map((waiting) => ({ id: own(waiting) })), skipDuplicates: true });
        await tx.unproven.deleteMany({ where: { id: { in: proven.map(own) } } });
        if (proveAgain) await unproveAll(tx);
        const rows = kits.map((kit) => ({ ...rowOf(kit), first: BigInt(kit.first), created: BigInt(kit.created) }));
        // One that is proven again has its kits already.
        await tx.kit.createMany({ data: rows, skipDuplicates: true });
        await tx.publicationFile.deleteMany({ where: { publicationId: id } });
      });
    },

    async saveWitnessSize(url: string, size: number): Promise<void> {
      const data = { size: BigInt(size) };
      await db.witness.upsert({ where: { url }, create: { url, ...data }, update: data });
    },

    /** News for a channel, once: what is known already stays as it is. */
    async addNotifications(
      rows: readonly { readonly id: string; readonly channel: string; readonly body: string; readonly at: number }[],
      due: number,
    ): Promise<void> {
      const data = rows.map((row) => ({ ...row, at: BigInt(row.at), due: BigInt(due), state: "pending" }));
      await db.notification.createMany({ data, skipDuplicates: true });
    },

    /** The oldest news that is due, claimed: whatever happens now, nobody claims it again by accident. */
    async claimNotification(channels: readonly string[], now: number): Promise<NotificationRecord | undefined> {
      const where = { state: "pending", channel: { in: [...channels] }, due: { lte: BigInt(now) } };
      const row = await db.notification.findFirst({ where, orderBy: [{ at: "asc" }, { id: "asc" }] });
      if (!row) return undefined;
      const { id, channel, body, attempts } = row;
      const { count } = await db.notification.updateMany({
        where: { id, channel, state: "pending" },
        data: { state: "sending", attempts: attempts + 1 },
      });
      return count === 1 ? { id, channel, body, attempts: attempts + 1 } : undefined;
    },

    async endNotification(
      { id, channel }: Pick<NotificationRecord, "id" | "channel">,
      end: { readonly state: NotificationState; readonly problem?: string; readonly due: number },
    ): Promise<void> {
      const { state, problem, due } = end;
      const data = { state, due: BigInt(due), problem: problem ?? null };
      await db.notification.update({ where: { id_channel: { id, channel } }, data });
    },

    /** Those that were being sent when the process before this one ended. @returns how many */
    async abandonNotifications(): Promise<number> {
      const data = { state: "unknown" satisfies NotificationState, problem: "the vault ended while it was sent" };
      return (await db.notification.updateMany({ where: { state: "sending" }, data })).count;
    },

    /** Old rows of what is no news any more. @param news ids that are told again once their rows are gone */
    async forgetNotifications(before: number, news: readonly string[]): Promise<void> {
      const where = { at: { lt: BigInt(before) }, state: { not: "sending" }, id: { notIn: [...news] } };
      await db.notification.deleteMany({ where });
    },

    async forgetNonces(now: number): Promise<void> {
      await db.nonce.deleteMany({ where: { expires: { lt: BigInt(now) } } });
    },
  };
}

/** Every batch and status event that is public waits for a proof, whatever it has. */
async function unproveAll(tx: Queries): Promise<void> {
  await tx.$executeRaw`
    INSERT INTO "unproven" ("id")
    SELECT "event_id" FROM "batch" JOIN "event" ON "event"."id" = "batch"."event_id"
      WHERE "leaf_index" IS NOT NULL AND "event"."state" = 'published'
    UNION SELECT "id" FROM "status_event" WHERE "state" = 'published'
    ON CONFLICT DO NOTHING`;
}

async function findEvent(db: Queries, id: Uint8Array): Promise<EventRecord | undefined> {
  const row = await db.event.findUnique({ where: { id: own(id) }, include: WITH_PARTS });
  return row && row.rotationId === null ? eventOf(row) : undefined;
}

/** An event and the requests behind it go on together. @returns false when somebody else moved it first */
async function moveEvent(tx: Queries, id: Uint8Array, move: EventMove): Promise<boolean> {
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

function historyOf(row: Omit<PartRow, "signed" | "metadata">): EventHistory {
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

async function findStatusEvent(db: Queries, id: Uint8Array): Promise<StatusEventWithSignatures | undefined> {
  const row = await db.statusEvent.findUnique({ where: { id: own(id) }, include: { signatures: true } });
  return row ? statusEventOf(row) : undefined;
}

/** Ten times quicker than one insert a row; hexadecimal, because arrays of bytes do not pass through the client. */
async function insertTokens(tx: Queries, manifestHash: Uint8Array, tokens: readonly TokenRecord[]): Promise<void> {
  const hex = (bytes: Uint8Array | undefined): string | null => (bytes ? Buffer.from(bytes).toString("hex") : null);
  for (let at = 0; at < tokens.length; at += BULK_ROWS) {
    const rows = tokens.slice(at, at + BULK_ROWS);
    await tx.$executeRawUnsafe(
      `INSERT INTO "token" ("manifest_hash", "index", "rct_id", "subject", "confirmation", "claim_secret")
       SELECT decode($1, 'hex'), i::bigint, decode(r, 'hex'), s, decode(c, 'hex'), decode(k, 'hex')
       FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS t(i, r, s, c, k)`,
      hex(manifestHash),
      rows.map((token) => String(token.index)),
      rows.map((token) => hex(token.rctId)),
      rows.map((token) => token.subject),
      rows.map((token) => hex(token.confirmation)),
      rows.map((token) => hex(token.claimSecret)),
    );
  }
}

type Bytes = Uint8Array<ArrayBuffer>;

/** Prisma wants bytes over an ArrayBuffer of their own. */
function own(bytes: Uint8Array): Bytes {
  return new Uint8Array(bytes);
}

type Row<T> = { [K in keyof T]: T[K] extends Uint8Array ? Bytes : T[K] };

function rowOf<T extends object>(record: T): Row<T> {
  const entries = Object.entries(record).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? own(value) : value,
  ]);
  return Object.fromEntries(entries) as Row<T>;
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

type PartRow = Prisma.EventGetPayload<{ include: typeof WITH_VOICES }>;
type EventRow = Prisma.EventGetPayload<{ include: typeof WITH_PARTS }>;

function eventOf(row: EventRow): EventRecord {
  const part = (role: string) => row.parts.find((each) => each.role === role);
  const [targets, batches] = [part("targets"), part("batches")];
  return {
    ...partOf(row),
    ...(targets && batches && { parts: { targets: partOf(targets), batches: partOf(batches) } }),
  };
}

function partOf(row: PartRow): EventRecord {
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

function voicesOf({ approvals, rejections }: PartRow, late: boolean): Voices {
  return {
    approvals: approvals
      .filter((row) => row.late === late)
      .map(({ keyId, signature }) => ({ keyid: keyId, sig: signature })),
    rejections: rejections
      .filter((row) => row.late === late)
      .map(({ keyId, reason, signature }) => ({ keyid: keyId, reason, signature })),
  };
}

function requestOf(row: Prisma.RequestGetPayload<{ include: typeof WITH_EVENT }>): RequestRecord {
  const { id, kind, kid, body, proof, received, state, refusal, event } = row;
  return {
    id,
    kind: kind as RequestRecord["kind"],
    kid,
    body,
    proof,
    received: Number(received),
    state: state as RequestState,
    ...(refusal && { refusal }),
    ...(event && {
      event: {
        id: event.id,
        state: event.state as EventState,
        ...(event.endReason !== null && { endReason: event.endReason }),
      },
    }),
  };
}

function batchOf(row: Prisma.BatchGetPayload<{ omit: typeof WITHOUT_SIGNATURES }>): BatchRecord {
  const { manifestHash, eventId, seq, first, count, manifest, uidKey, leafIndex } = row;
  return {
    manifestHash,
    eventId,
    seq: Number(seq),
    first: Number(first),
    count,
    manifest,
    uidKey,
    ...(leafIndex !== null && { leafIndex: Number(leafIndex) }),
  };
}

function statusEventOf(
  row: Prisma.StatusEventGetPayload<{ include: { signatures: true } }>,
): StatusEventWithSignatures {
  const { id, body, action, state, created, notAfter, leafIndex, signatures } = row;
  return {
    id,
    body,
    action,
    state: state as StatusEventState,
    created: Number(created),
    notAfter: Number(notAfter),
    ...(leafIndex !== null && { leafIndex: Number(leafIndex) }),
    signatures: signatures.map(({ kid, signature }) => ({ kid, signature })),
  };
}

function kitOf(row: Prisma.KitGetPayload<object>): KitRecord {
  return { ...row, first: Number(row.first), created: Number(row.created) };
}

function receiptOf(row: Prisma.ReceiptGetPayload<object>): ReceiptRecord {
  return { ...row, index: Number(row.index), received: Number(row.received) };
}

interface WhatJson {
  readonly events: readonly string[];
  readonly statusEvents: readonly string[];
  readonly unproven?: readonly string[];
  readonly proven?: readonly string[];
  readonly proveAgain?: boolean;
  readonly kits: readonly (Omit<KitRecord, "id" | "manifestHash" | "station"> & {
    readonly id: string;
    readonly manifestHash: string;
    readonly station: string;
  })[];
}

function whatJson({ events, statusEvents, unproven, proven, proveAgain, kits }: PublishedWhat): Prisma.InputJsonValue {
  const json: WhatJson = {
    events: events.map(formatHex),
    statusEvents: statusEvents.map(formatHex),
    unproven: (unproven ?? []).map(formatHex),
    proven: (proven ?? []).map(formatHex),
    proveAgain: proveAgain ?? false,
    kits: kits.map((kit) => ({
      ...kit,
      id: formatHex(kit.id),
      manifestHash: formatHex(kit.manifestHash),
      station: formatHex(kit.station),
    })),
  };
  return json as unknown as Prisma.InputJsonValue;
}

function whatOf(value: Prisma.JsonValue): PublishedWhat {
  const { events, statusEvents, unproven, proven, proveAgain, kits } = value as unknown as WhatJson;
  const ids = (list: readonly string[] = []) => list.map((id) => parseHex(id));
  return {
    events: ids(events),
    statusEvents: ids(statusEvents),
    unproven: ids(unproven),
    proven: ids(proven),
    proveAgain: proveAgain ?? false,
    kits: kits.map((kit) => ({
      ...kit,
      id: parseHex(kit.id),
      manifestHash: parseHex(kit.manifestHash),
      station: parseHex(kit.station),
    })),
  };
}

function publicationRows({ immutable, hints, roots, pointers }: Publication) {
  const named = Object.entries(pointers).map(([path, bytes]) => ({ kind: "pointer", path, bytes: own(bytes) }));
  const files = [
    ...immutable.map(({ path, bytes }) => ({ kind: "immutable", path, bytes: own(bytes) })),
    ...hints.map(({ path, bytes }) => ({ kind: "hint", path, bytes: own(bytes) })),
    ...roots.map(({ path, bytes }) => ({ kind: "root", path, bytes: own(bytes) })),
    ...named,
  ];
  return files.map((file, place) => ({ ...file, place }));
}

function publicationOf(rows: readonly { kind: string; path: string; bytes: Uint8Array }[]): Publication {
  const of = (kind: string) => rows.filter((row) => row.kind === kind).map(({ path, bytes }) => ({ path, bytes }));
  return {
    immutable: of("immutable"),
    hints: of("hint"),
    roots: of("root"),
    pointers: Object.fromEntries(of("pointer").map(({ path, bytes }) => [path, bytes])),
  };
}
