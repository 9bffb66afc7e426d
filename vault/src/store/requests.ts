/** What operators asked for, with the signature that asked. */
import type { EventState } from "@viafabric/tuf";
import type { Prisma } from "../gen/client.ts";
import type { RequestRecord, RequestState } from "../records.ts";
import { own, PAGE_ROWS_MAX, type Queries, rowOf } from "./rows.ts";

/** Of reasons kept with a request. */
export const REFUSAL_LENGTH_MAX = 1024;
const WITH_EVENT = { event: { select: { id: true, state: true, endReason: true } } } as const;

export function requestReads(db: Queries) {
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
  };
}

export function requestChanges(tx: Queries) {
  return {
    async addRequest(
      request: Pick<RequestRecord, "id" | "kind" | "kid" | "body" | "proof" | "received">,
    ): Promise<void> {
      await tx.request.create({
        data: { ...rowOf(request), received: BigInt(request.received), state: "waiting" },
      });
    },

    /** A request that waits, or whose event was ended just now. @returns false when it does neither, or is not theirs */
    async withdrawRequests(where: { readonly id: Uint8Array } | { readonly eventId: Uint8Array }, kid: Uint8Array) {
      const named = "id" in where ? { id: own(where.id) } : { eventId: own(where.eventId) };
      const data = { state: "withdrawn" satisfies RequestState };
      const { count } = await tx.request.updateMany({ where: { ...named, kid: own(kid), state: "waiting" }, data });
      return count > 0;
    },
  };
}

export function requestWrites(db: Queries) {
  return {
    async refuseRequest(id: Uint8Array, reason: string): Promise<void> {
      const data = { state: "refused" satisfies RequestState, refusal: reason.slice(0, REFUSAL_LENGTH_MAX) };
      await db.request.updateMany({ where: { id: own(id), state: "waiting" satisfies RequestState }, data });
    },
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
