/**
 * Many signatures by one key: worker threads with a session each, fed with packed messages.
 *
 * A binding call blocks its thread, and some devices spend their time in calls that have no asynchronous form, so
 * sessions on one thread would wait for each other; threads do not. Messages travel in packs, because a message to a
 * thread costs as much as a fast signature.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { concat, type OperationCode, OperationError, type PublicKey, SIGNATURE_BYTES } from "@viafabric/schemas";
import { ckrError } from "./ckr.ts";
import type { Handle } from "./pkcs11.ts";

export interface SigningPool {
  readonly publicKey: PublicKey;
  /** A verified signature of 64 bytes for each message, in order. One call at a time. */
  signAll(messages: readonly Uint8Array[]): Promise<readonly Uint8Array[]>;
  close(): Promise<void>;
}

export interface PoolWorkerData {
  readonly path: string;
  readonly slot: Uint8Array;
  readonly id: Uint8Array;
  readonly spki: Uint8Array;
}

export interface PoolTask {
  readonly packed: Uint8Array;
  /** Where each message ends in `packed`. */
  readonly ends: Uint32Array;
}

export type PoolAnswer =
  | { readonly ok: true; readonly signatures: Uint8Array }
  | {
      readonly ok: false;
      readonly code: OperationCode | undefined;
      readonly ckr: number | undefined;
      readonly reason: string;
    };

/** Every session counts against the token's limit, and every thread holds about 8 MiB. */
export const POOL_WORKERS_MAX = 64;
/** Long enough to hide the cost of a pack, short enough that the last packs end at about the same time. */
const PACK_MESSAGES = 32;

export function openPool(
  token: { readonly path: string; readonly slot: Handle },
  id: Uint8Array,
  publicKey: PublicKey,
  workerCount: number,
): SigningPool {
  const workerData: PoolWorkerData = {
    path: token.path,
    slot: new Uint8Array(token.slot),
    id,
    spki: publicKey.spki,
  };
  const file = new URL("./sign-worker.js", import.meta.url);
  const count = Math.max(1, Math.min(workerCount, POOL_WORKERS_MAX));
  const threads = Array.from({ length: count }, () => new PoolThread(new Worker(file, { workerData })));
  return {
    publicKey,
    async signAll(messages) {
      const signatures: Uint8Array[] = new Array(messages.length);
      let next = 0;
      let failed = false;
      const drain = async (thread: PoolThread): Promise<void> => {
        // When one thread fails, the others stop at the end of their pack: nothing of this call will be released.
        while (next < messages.length && !failed) {
          const first = next;
          next += PACK_MESSAGES;
          try {
            const part = messages.slice(first, first + PACK_MESSAGES);
            const signed = await thread.ask(pack(part));
            part.forEach((_, i) => {
              signatures[first + i] = signed.slice(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES);
            });
          } catch (error) {
            failed = true;
            throw error;
          }
        }
      };
      const outcomes = await Promise.allSettled(threads.map(drain));
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
      return signatures;
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.close()));
    },
  };
}

function pack(messages: readonly Uint8Array[]): PoolTask {
  const ends = new Uint32Array(messages.length);
  let end = 0;
  messages.forEach((message, i) => {
    end += message.length;
    ends[i] = end;
  });
  return { packed: concat(...messages), ends };
}

class PoolThread {
  readonly #worker: Worker;
  #waiting: { resolve: (signatures: Uint8Array) => void; reject: (error: unknown) => void } | undefined;
  #dead: unknown;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.unref();
    worker.on("message", (answer: PoolAnswer) => this.#settle(answer));
    worker.on("error", (cause) => this.#die(cause));
    worker.on("exit", () => this.#die(undefined));
  }

  ask(task: PoolTask): Promise<Uint8Array> {
    if (this.#dead) return Promise.reject(this.#dead);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#worker.ref();
      this.#worker.postMessage(task, [task.packed.buffer as ArrayBuffer]);
    });
  }

  async close(): Promise<void> {
    if (this.#dead) return;
    const exited = once(this.#worker, "exit");
    this.#worker.ref();
    this.#worker.postMessage("close");
    await exited;
  }

  #settle(answer: PoolAnswer): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#worker.unref();
    if (answer.ok) waiting?.resolve(answer.signatures);
    else if (answer.code) waiting?.reject(new OperationError(answer.code, answer.reason));
    else waiting?.reject(ckrError("sign", answer.ckr, answer.reason));
  }

  #die(cause: unknown): void {
    this.#dead ??= new OperationError("ERR_HSM_DEVICE", "a signing thread has ended", { cause });
    this.#waiting?.reject(this.#dead);
    this.#waiting = undefined;
  }
}
