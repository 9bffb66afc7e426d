/** What is being made public: written down whole before its first file, finished before anything else happens. */
import { formatHex, parseHex } from "@viafabric/schemas";
import type { Prisma } from "../gen/client.ts";
import type { Publication } from "../publisher.ts";
import type { KitRecord, PublishedWhat } from "../records.ts";
import { moveEvent } from "./events.ts";
import { own, PAGE_ROWS_MAX, type Queries, rowOf, type Transaction } from "./rows.ts";

export function publicationReads(db: Queries) {
  return {
    /** Whether the proofs of a published event wait for witnesses. */
    async isUnproven(id: Uint8Array): Promise<boolean> {
      return (await db.unproven.count({ where: { id: own(id) } })) > 0;
    },

    /** Ids of signing events and of status events, mixed. */
    async unproven(limit = PAGE_ROWS_MAX): Promise<readonly Uint8Array[]> {
      return (await db.unproven.findMany({ take: limit, orderBy: { id: "asc" } })).map(({ id }) => id);
    },

    /** A publication that may not have become visible, with its number. */
    async openPublication(): Promise<{ readonly id: number; readonly publication: Publication } | undefined> {
      const row = await db.publication.findFirst({ where: { done: false }, orderBy: { id: "asc" } });
      if (!row) return undefined;
      const files = await db.publicationFile.findMany({ where: { publicationId: row.id }, orderBy: { place: "asc" } });
      return { id: row.id, publication: publicationOf(files) };
    },
  };
}

export function publicationWrites(transaction: Transaction) {
  return {
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
