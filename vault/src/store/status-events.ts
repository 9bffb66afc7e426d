/** Releases, suspensions, revocations: a body, and who signed it. */
import type { DetachedSignature } from "@viafabric/schemas";
import type { Prisma } from "../gen/client.ts";
import type { StatusEventRecord, StatusEventState, StatusEventWithSignatures } from "../records.ts";
import { own, PAGE_ROWS_MAX, type Queries, rowOf } from "./rows.ts";

export function statusEventReads(db: Queries) {
  return {
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
  };
}

export function statusEventChanges(tx: Queries) {
  return {
    /** A body is one event however often it is sent. */
    async addStatusEvent(event: Omit<StatusEventRecord, "state" | "leafIndex">): Promise<void> {
      const row = { ...rowOf(event), state: "open", created: BigInt(event.created), notAfter: BigInt(event.notAfter) };
      await tx.statusEvent.createMany({ data: [row], skipDuplicates: true });
    },

    async lockStatusEvent(id: Uint8Array): Promise<StatusEventWithSignatures | undefined> {
      await tx.$queryRaw`SELECT 1 FROM "status_event" WHERE "id" = ${own(id)} FOR UPDATE`;
      return await findStatusEvent(tx, id);
    },

    async addStatusSignature(id: Uint8Array, signature: DetachedSignature, received: number): Promise<void> {
      const row = { eventId: own(id), kid: own(signature.kid), signature: own(signature.signature) };
      await tx.statusSignature.createMany({ data: [{ ...row, received: BigInt(received) }], skipDuplicates: true });
    },
  };
}

export function statusEventWrites(db: Queries) {
  return {
    async moveStatusEvent(id: Uint8Array, state: StatusEventState, leafIndex?: number): Promise<void> {
      const data = { state, ...(leafIndex !== undefined && { leafIndex: BigInt(leafIndex) }) };
      await db.statusEvent.update({ where: { id: own(id) }, data });
    },
  };
}

async function findStatusEvent(db: Queries, id: Uint8Array): Promise<StatusEventWithSignatures | undefined> {
  const row = await db.statusEvent.findUnique({ where: { id: own(id) }, include: { signatures: true } });
  return row ? statusEventOf(row) : undefined;
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
