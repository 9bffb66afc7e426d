/** Batches and their tokens. */
import { BATCH_TOKENS_MAX, type IndexRange } from "@viafabric/schemas";
import type { Prisma } from "../gen/client.ts";
import type { connectionPool } from "../postgres.ts";
import type { BatchRecord, PlannedEvent, TokenRecord } from "../records.ts";
import { own, PAGE_ROWS_MAX, type Queries } from "./rows.ts";

/** Rows in one bulk insert: large enough to be quick, small enough for one message. */
const BULK_ROWS = 2000;
/** Up to 6 MB each; asked for by name where they are needed. */
const WITHOUT_SIGNATURES = { signatures: true } as const;

export function batchReads(db: Queries) {
  return {
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
  };
}

/** Past the Prisma client, which takes several times as long for as many rows as a batch has. */
export function tokenReads(pool: ReturnType<typeof connectionPool>) {
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

export function batchWrites(db: Queries) {
  return {
    async saveSignatures(manifestHash: Uint8Array, signatures: Uint8Array): Promise<void> {
      await db.batch.update({ where: { manifestHash: own(manifestHash) }, data: { signatures: own(signatures) } });
    },

    async saveLeafIndex(manifestHash: Uint8Array, leafIndex: number): Promise<void> {
      await db.batch.updateMany({ where: { manifestHash: own(manifestHash) }, data: { leafIndex: BigInt(leafIndex) } });
    },
  };
}

/** With the event that proposes it. */
export async function addBatch(
  tx: Queries,
  eventId: Uint8Array,
  { batch, tokens }: PlannedEvent["batches"][number],
): Promise<void> {
  await tx.batch.create({
    data: {
      manifestHash: own(batch.manifestHash),
      eventId: own(eventId),
      seq: BigInt(batch.seq),
      first: BigInt(batch.first),
      count: batch.count,
      manifest: own(batch.manifest),
      uidKey: own(batch.uidKey),
    },
  });
  await insertTokens(tx, batch.manifestHash, tokens);
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
