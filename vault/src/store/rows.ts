/** What every group of queries shares: how values become columns. */
import type { Prisma } from "../gen/client.ts";

/** One page of anything listed over HTTP. */
export const PAGE_ROWS_MAX = 100;

/** Runs its work whole or not at all. */
export type Transaction = <Result>(work: (tx: Queries) => Promise<Result>) => Promise<Result>;

export type Bytes = Uint8Array<ArrayBuffer>;

/** Prisma wants bytes over an ArrayBuffer of their own. */
export function own(bytes: Uint8Array): Bytes {
  return new Uint8Array(bytes);
}

export type Row<T> = { [K in keyof T]: T[K] extends Uint8Array ? Bytes : T[K] };

export function rowOf<T extends object>(record: T): Row<T> {
  const entries = Object.entries(record).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? own(value) : value,
  ]);
  return Object.fromEntries(entries) as Row<T>;
}

export type Queries = Prisma.TransactionClient;
