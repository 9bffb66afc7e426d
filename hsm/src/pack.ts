/** Packs of messages on their way to a signing thread, and what comes back. */
import { concatAll, type OperationCode, SIGNATURE_BYTES } from "@viafabric/schemas";
import type { Fault } from "./ckr.ts";
import type { Era } from "./device.ts";
import type { KeySession } from "./key-session.ts";
import { signWith } from "./keys.ts";

export interface PoolTask {
  /** The slot's handle arrives as plain bytes. */
  readonly era: Omit<Era, "slot"> & { readonly slot: Uint8Array };
  readonly packed: Uint8Array;
  /** Where each message ends in `packed`. */
  readonly ends: Uint32Array;
}

export interface PoolAnswer {
  /** One after the other, for the first messages of the pack: for all of them unless there is a failure. */
  readonly signatures: Uint8Array;
  readonly failure?: { readonly fault: Fault; readonly code: OperationCode; readonly message: string };
}

/** A thread that makes more than this between two answers keeps a recovery waiting. */
export const PACK_MESSAGES_MAX = 64;

/**
 * How many messages the next pack holds. Packs shrink towards the end, so that no thread is still at a long one when
 * the others have finished; before that they are long enough for the way to the thread to cost nothing.
 */
export function packSize(left: number, threads: number): number {
  return Math.max(1, Math.min(PACK_MESSAGES_MAX, Math.ceil(left / (2 * threads))));
}

export function packTask(era: Era, messages: readonly Uint8Array[]): PoolTask {
  const ends = new Uint32Array(messages.length);
  let end = 0;
  messages.forEach((message, i) => {
    end += message.length;
    ends[i] = end;
  });
  return { era: { ...era, slot: new Uint8Array(era.slot) }, packed: concatAll(messages), ends };
}

/**
 * Signs a pack in order.
 * @param signatures filled as they are made
 * @param made told of each one at once; it throws to stop
 */
export function signPack(
  { session, key }: KeySession,
  { packed, ends }: PoolTask,
  signatures: Uint8Array,
  made: (message: Uint8Array, signature: Uint8Array) => void,
): void {
  let start = 0;
  ends.forEach((end, i) => {
    const message = packed.subarray(start, end);
    const signature = signWith(session, key, message);
    made(message, signature);
    signatures.set(signature, i * SIGNATURE_BYTES);
    start = end;
  });
}
