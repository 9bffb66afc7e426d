/**
 * How much the vault takes on. What is accepted must be finished, so what cannot be is refused before anything is
 * written down: a log whose disk filled while it was writing has lost entries that it had promised.
 *
 * Batches stop long before the disk is full. What is left then is the reserve of what must never wait: suspensions and
 * revocations, statements, and the files that tell nodes of them. They go on until the log itself has no room.
 */
import { OperationError } from "@viafabric/schemas";

/** Several times what the largest proposal takes in the log, its bundles, the database and its journal. */
export const BATCH_FREE_BYTES_MIN = 512 * 2 ** 20;
/** Trustees decide about a few proposals a week; whoever queues more than this is a program gone wrong. */
export const REQUESTS_WAITING_MAX = 100;
/** Ten times as many: nobody must be able to keep a revocation out by asking for batches. */
export const STATUS_EVENTS_OPEN_MAX = 1000;

export function hasRoomForBatches(freeBytes: number): boolean {
  return freeBytes >= BATCH_FREE_BYTES_MIN;
}

/** For the operator: what is the matter, what still works, and what to do. */
export function noRoomMessage(freeBytes: number): string {
  const [free, needed] = [freeBytes, BATCH_FREE_BYTES_MIN].map((bytes) => Math.floor(bytes / 2 ** 20));
  return `batches wait: ${free} MiB are free on the vault's disk and ${needed} MiB are kept for revocations and statements, which go on; make room`;
}

/** @throws OperationError ERR_DISK_FULL */
export function assertRoomForBatches(freeBytes: number): void {
  if (!hasRoomForBatches(freeBytes))
    throw new OperationError("ERR_DISK_FULL", noRoomMessage(freeBytes), { retryable: true });
}

/** @throws OperationError ERR_BACKLOG */
export function assertQueue(what: string, waiting: number, max: number): void {
  if (waiting >= max)
    throw new OperationError("ERR_BACKLOG", `${waiting} ${what} wait already; try again later`, { retryable: true });
}
