/**
 * The database, in the vault's own words; the only door to the Prisma client. `store/` has a file for each thing that it
 * remembers: how it is read, what people may change, what the sequencer writes.
 *
 * Two kinds of writers exist. People, through HTTP: each of their changes is one transaction that also spends the
 * nonce of the request that asked for it (`change`), so a replayed request changes nothing. And the sequencer, one
 * process, one step at a time. Evidence is only ever inserted.
 */
import { PrismaPg } from "@prisma/adapter-pg";
import { OperationError } from "@viafabric/schemas";
import { PrismaClient } from "./gen/client.ts";
import { migrate, readMigrations } from "./migrate.ts";
import { connectionPool, type DatabaseTarget } from "./postgres.ts";
import type { Counts, Sender } from "./records.ts";
import { batchReads, batchWrites, tokenReads } from "./store/batches.ts";
import { eventChanges, eventReads, eventWrites } from "./store/events.ts";
import { kitReads, receiptChanges } from "./store/kits.ts";
import { logReads, logWrites } from "./store/log.ts";
import { notificationWrites } from "./store/notifications.ts";
import { publicationReads, publicationWrites } from "./store/publications.ts";
import { requestChanges, requestReads, requestWrites } from "./store/requests.ts";
import { own, type Queries, type Transaction } from "./store/rows.ts";
import { statusEventChanges, statusEventReads, statusEventWrites } from "./store/status-events.ts";

/** One sequencer, a few requests at a time. */
const CONNECTIONS = 10;
/** A batch of 100,000 tokens is one transaction; on a slow disk it takes a while. */
const TRANSACTION_MILLISECONDS_MAX = 120_000;

export type Store = Awaited<ReturnType<typeof openStore>>;
/** What a handler may do within the one transaction of its request. */
export type Change = ReturnType<typeof changes>;

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
  const transaction: Transaction = (work) =>
    prisma.$transaction(work, { timeout: TRANSACTION_MILLISECONDS_MAX, maxWait: TRANSACTION_MILLISECONDS_MAX });
  return {
    ...reads(prisma),
    ...tokenReads(pool),
    ...sequencerWrites(prisma, transaction),

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
    ...requestChanges(tx),
    ...eventChanges(tx),
    ...statusEventChanges(tx),
    ...receiptChanges(tx),
  };
}

function reads(db: Queries) {
  const requestsWaiting = () => db.request.count({ where: { state: "waiting" } });
  const statusEventsOpen = () => db.statusEvent.count({ where: { state: "open" } });
  return {
    ...requestReads(db),
    ...eventReads(db),
    ...batchReads(db),
    ...statusEventReads(db),
    ...kitReads(db),
    ...logReads(db),
    ...publicationReads(db),
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

function sequencerWrites(db: Queries, transaction: Transaction) {
  return {
    ...requestWrites(db),
    ...eventWrites(transaction),
    ...batchWrites(db),
    ...statusEventWrites(db),
    ...logWrites(db),
    ...publicationWrites(transaction),
    ...notificationWrites(db),

    async bindAuthority(authority: Uint8Array, created: number): Promise<void> {
      const row = { id: 1, authority: own(authority), created: BigInt(created) };
      await db.authority.createMany({ data: [row], skipDuplicates: true });
      const bound = await db.authority.findUniqueOrThrow({ where: { id: 1 } });
      if (Buffer.compare(bound.authority, authority) !== 0)
        throw new OperationError("ERR_DATABASE", "the database belongs to another authority");
    },

    async forgetNonces(now: number): Promise<void> {
      await db.nonce.deleteMany({ where: { expires: { lt: BigInt(now) } } });
    },
  };
}
