/** Kits, and the receipts that stations bring back. */
import type { Prisma } from "../gen/client.ts";
import type { KitRecord, ReceiptRecord } from "../records.ts";
import { own, type Queries, rowOf } from "./rows.ts";

export function kitReads(db: Queries) {
  return {
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
  };
}

export function receiptChanges(tx: Queries) {
  return {
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

function kitOf(row: Prisma.KitGetPayload<object>): KitRecord {
  return { ...row, first: Number(row.first), created: Number(row.created) };
}

function receiptOf(row: Prisma.ReceiptGetPayload<object>): ReceiptRecord {
  return { ...row, index: Number(row.index), received: Number(row.received) };
}
