/** Where the log stands, and the witnesses. */
import type { LogHeadRecord } from "../records.ts";
import { own, type Queries } from "./rows.ts";

export function logReads(db: Queries) {
  return {
    async logHead(origin: string): Promise<LogHeadRecord | undefined> {
      const row = await db.logHead.findUnique({ where: { origin } });
      return row ? { size: Number(row.size), root: row.root, note: row.note } : undefined;
    },

    /** What the witness at each address cosigned last, as far as we know. */
    async witnessSizes(): Promise<ReadonlyMap<string, number>> {
      return new Map((await db.witness.findMany()).map(({ url, size }) => [url, Number(size)]));
    },

    /** Where the entries of that name were last about to be appended. */
    async intent(name: string): Promise<number | undefined> {
      const row = await db.intent.findUnique({ where: { name } });
      return row ? Number(row.index) : undefined;
    },
  };
}

export function logWrites(db: Queries) {
  return {
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

    async saveWitnessSize(url: string, size: number): Promise<void> {
      const data = { size: BigInt(size) };
      await db.witness.upsert({ where: { url }, create: { url, ...data }, update: data });
    },
  };
}
