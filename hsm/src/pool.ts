/**
 * Many signatures by one key: worker threads with a session each, fed with packed messages.
 *
 * A binding call blocks its thread, and some devices spend their time in calls that have no asynchronous form, so
 * sessions on one thread would wait for each other; threads do not. Messages travel in packs, because a message to a
 * thread costs as much as a fast signature. Faults cost a pack the rest of its messages, which are signed again.
 */
import { strict as assert } from "node:assert";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { type PublicKey, SIGNATURE_BYTES } from "@viafabric/schemas";
import { HsmError } from "./ckr.ts";
import type { Device } from "./device.ts";
import { abandon, openKeySession } from "./key-session.ts";
import { type PoolAnswer, type PoolTask, packSize, packTask } from "./pack.ts";
import type { Persistence } from "./recovery.ts";
import { Tuning } from "./tuning.ts";

export interface SigningPool {
  readonly publicKey: PublicKey;
  /**
   * A verified signature of 64 bytes for each message, in order. One call at a time.
   * @throws OperationError, and no signature, when a fault is final or does not end
   */
  signAll(messages: readonly Uint8Array[]): Promise<readonly Uint8Array[]>;
  close(): Promise<void>;
}

export interface PoolWorkerData {
  readonly path: string;
  readonly id: Uint8Array;
  readonly spki: Uint8Array;
}

/** Every session counts against the token's limit, and every thread holds about 8 MiB. */
export const POOL_WORKERS_MAX = 64;
/** An idle token is asked for a signature this often, so that its failure is known before a batch waits for it. */
const CANARY_MILLISECONDS = 60_000;

export interface PoolOptions {
  readonly device: Device;
  readonly persistence: Persistence;
  readonly id: Uint8Array;
  readonly publicKey: PublicKey;
  /** Fixed; or found out, from as many as there are processors on. Never more than `sessions`. */
  readonly workers?: number | undefined;
  /** How many sessions of the token the pool may hold. */
  readonly sessions: number;
}

/** A call with less for each thread says nothing about how fast they are. */
const MEASURED_MESSAGES_MIN = 16;

export function openPool({ device, persistence, id, publicKey, workers, sessions }: PoolOptions): SigningPool {
  const workerData: PoolWorkerData = { path: device.module.path, id, spki: publicKey.spki };
  const most = Math.min(workers ?? POOL_WORKERS_MAX, sessions, POOL_WORKERS_MAX);
  const tuning = new Tuning(workers ?? availableParallelism(), most);
  const threads: PoolThread[] = [];
  const fitThreads = async (): Promise<void> => {
    while (threads.length < tuning.threads) threads.push(new PoolThread(workerData));
    await Promise.all(threads.splice(tuning.threads).map((thread) => thread.close()));
  };
  void fitThreads();
  let lastUsed = performance.now();
  const canary = setInterval(() => {
    if (performance.now() - lastUsed < CANARY_MILLISECONDS) return;
    // To open a session with its key signs a canary. When it fails, the breaker knows, and so will the next caller.
    const check = persistence.run((era) => {
      abandon(openKeySession(device.module.library, era, id, publicKey).session);
    });
    check.catch(() => {});
  }, CANARY_MILLISECONDS);
  canary.unref();
  return {
    publicKey,
    async signAll(messages) {
      await fitThreads();
      const count = threads.length;
      const [start, cpu] = [performance.now(), process.cpuUsage()];
      const signatures: (Uint8Array | undefined)[] = new Array(messages.length).fill(undefined);
      let next = 0;
      // The first error says what is wrong. It may open the breaker, and then the other threads only hear of that.
      let first: { readonly error: unknown } | undefined;
      const signPack = async (thread: PoolThread, start: number, end: number): Promise<void> => {
        let done = start;
        let faulty = false;
        await persistence.run(async (era, progress) => {
          while (done < end) {
            // After a fault one message shows whether the device is back; a whole pack would show it later.
            const task = packTask(era, messages.slice(done, faulty ? done + 1 : end));
            const { signatures: made, failure } = await thread.ask(task);
            for (let at = 0; at < made.length; at += SIGNATURE_BYTES) {
              assert(signatures[done] === undefined && done < end);
              signatures[done++] = made.slice(at, at + SIGNATURE_BYTES);
            }
            if (made.length > 0) progress();
            faulty = failure !== undefined;
            if (failure) throw new HsmError(failure.code, failure.message, failure);
          }
        });
        assert.equal(done, end);
      };
      const drain = async (thread: PoolThread): Promise<void> => {
        // When one thread gives up, the others stop at the end of their pack: nothing of this call will be released.
        while (next < messages.length && !first) {
          const start = next;
          next += packSize(messages.length - start, count);
          try {
            await signPack(thread, start, next);
          } catch (error) {
            first ??= { error };
          }
        }
      };
      await Promise.all(threads.map(drain));
      lastUsed = performance.now();
      if (first) throw (first as { readonly error: unknown }).error;
      const { user, system } = process.cpuUsage(cpu);
      const work = {
        signatures: messages.length,
        seconds: (lastUsed - start) / 1000,
        cpuSeconds: (user + system) / 1e6,
      };
      if (messages.length >= MEASURED_MESSAGES_MIN * count) tuning.measured(work);
      return signatures.map((signature) => signature!);
    },
    async close() {
      clearInterval(canary);
      await Promise.all(threads.map((thread) => thread.close()));
    },
  };
}

/** A worker that is asked one thing at a time, and replaced when it dies. */
class PoolThread {
  readonly #workerData: PoolWorkerData;
  #worker: Worker | undefined;
  #waiting: { resolve: (answer: PoolAnswer) => void; reject: (error: unknown) => void } | undefined;
  #closed = false;

  constructor(workerData: PoolWorkerData) {
    this.#workerData = workerData;
    this.#worker = this.#start();
  }

  ask(task: PoolTask): Promise<PoolAnswer> {
    if (this.#closed) return Promise.reject(new HsmError("ERR_HSM_DEVICE", "the pool was closed", { fault: "final" }));
    const worker = this.#worker ?? this.#start();
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      worker.ref();
      worker.postMessage(task, [task.packed.buffer as ArrayBuffer]);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (!this.#worker) return;
    const exited = once(this.#worker, "exit");
    this.#worker.ref();
    this.#worker.postMessage("close");
    await exited;
  }

  #start(): Worker {
    const worker = new Worker(new URL("./sign-worker.js", import.meta.url), { workerData: this.#workerData });
    worker.unref();
    worker.on("message", (answer: PoolAnswer) => {
      worker.unref();
      this.#waiting?.resolve(answer);
      this.#waiting = undefined;
    });
    const died = (cause: unknown) => {
      // An error is followed by the exit, when another thread may be at the next task already.
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#waiting?.reject(new HsmError("ERR_HSM_DEVICE", "a signing thread has ended", { cause, fault: "session" }));
      this.#waiting = undefined;
    };
    worker.on("error", died);
    worker.on("exit", () => died(undefined));
    return worker;
  }
}
