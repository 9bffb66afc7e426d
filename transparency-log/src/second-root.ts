/**
 * The second computation of each new root, before anything is signed.
 *
 * A single flipped bit between hashing and signing has ended public logs for good. So the segment is read back from
 * the disk and its root computed by other code than the tiles': height by height, over a compact range. The two share the
 * two implementations of SHA-256 so that each hash is computed by both: here leaves in lanes of WebAssembly and nodes
 * by node:crypto, there the other way round. For a large append that is most of a second, in a thread of its own while
 * the first computation runs.
 */
import { Worker } from "node:worker_threads";
import { HASH_BYTES, hashLeaves, MerkleFrontier, OperationError, writeSha256 } from "@viafabric/schemas";
import { parseSegment, walkEntries } from "./staging.ts";

const PAIR_BYTES = 2 * HASH_BYTES;
/** Leaves hashed at once: enough for the lanes, and no list of all. */
const RUN_ENTRIES = 1024;
/** In the memory of one computation: the input of a node, room for one hash, and the hashes of one height. */
const NODE_BYTES = 1 + PAIR_BYTES;
const HASHES = NODE_BYTES + HASH_BYTES;

/** Kept from one append to the next: new memory for each would pile up faster than it is collected. */
let memory = Buffer.alloc(0);

/**
 * Grows a copy of `frontier` by the entries of a segment. It is the addition of two binary numbers: at each height the
 * old tree has one complete subtree or none, two make one of the next height, and what is left over stays.
 */
export function growFrontier(frontier: MerkleFrontier, segment: Uint8Array): MerkleFrontier {
  const { framed } = parseSegment(segment).entries;
  const before = [...frontier.peaks];
  const peaks: Uint8Array[] = [];
  const added = writeLeafHashes(framed);
  const node = memory.subarray(0, NODE_BYTES);
  let end = HASHES + added * HASH_BYTES;
  for (let size = frontier.size; size > 0 || end > HASHES; size = Math.floor(size / 2)) {
    let at = HASHES;
    if (size % 2 === 1) {
      at -= HASH_BYTES;
      memory.set(before.pop()!, at);
    }
    // Parents overwrite their children: a parent's place is never behind them.
    let to = HASHES;
    for (; at + PAIR_BYTES <= end; at += PAIR_BYTES) {
      memory.copyWithin(1, at, at + PAIR_BYTES);
      writeSha256(node, memory, to);
      to += HASH_BYTES;
    }
    if (at < end) peaks.unshift(Uint8Array.from(memory.subarray(at, end)));
    end = to;
  }
  return new MerkleFrontier(frontier.size + added, peaks);
}

/** @returns how many */
function writeLeafHashes(framed: Uint8Array): number {
  let count = 0;
  for (let at = 0; at + 2 <= framed.length; at += 2 + ((framed[at]! << 8) | framed[at + 1]!)) count++;
  const bytes = HASHES + count * HASH_BYTES;
  if (memory.length < bytes) memory = Buffer.alloc(bytes);
  memory[0] = 1;
  let end = HASHES;
  const flush = (run: readonly Uint8Array[]) => {
    memory.set(hashLeaves(run), end);
    end += run.length * HASH_BYTES;
  };
  let run: Uint8Array[] = [];
  for (const entry of walkEntries(framed)) {
    run.push(entry);
    if (run.length < RUN_ENTRIES) continue;
    flush(run);
    run = [];
  }
  flush(run);
  return count;
}

/** What the thread is asked, and what it answers. */
export interface RootQuestion {
  readonly file: string;
  readonly size: number;
  readonly peaks: readonly Uint8Array[];
}

export type RootAnswer = { readonly size: number; readonly peaks: readonly Uint8Array[] } | { readonly error: string };

export interface RootThread {
  ask(file: string, frontier: MerkleFrontier): Promise<MerkleFrontier>;
  close(): Promise<void>;
}

/** What it makes is gone at once: room for more of that would only be memory that nobody else has. */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 8 };

/** Starts with the first question: most logs never have an append that is worth it. One question at a time. */
export function rootThread(): RootThread {
  let worker: Worker | undefined;
  return {
    async ask(file, frontier) {
      worker ??= new Worker(new URL("./second-root-worker.js", import.meta.url), { resourceLimits: WORKER_LIMITS });
      const answer = await questionTo(worker, { file, size: frontier.size, peaks: frontier.peaks });
      if ("error" in answer) throw new OperationError("ERR_FILE", `could not read back ${file}: ${answer.error}`);
      return new MerkleFrontier(answer.size, answer.peaks);
    },
    async close() {
      await worker?.terminate();
    },
  };
}

function questionTo(worker: Worker, question: RootQuestion): Promise<RootAnswer> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => {
      worker.off("message", onMessage).off("error", onError).off("exit", onExit);
      // An idle thread must not keep the process alive.
      worker.unref();
      finish();
    };
    const onMessage = (answer: RootAnswer) => settle(() => resolve(answer));
    const onError = (cause: unknown) =>
      settle(() => reject(new OperationError("ERR_LOG_STATE", "the second computation of a root failed", { cause })));
    const onExit = () => onError(new Error("the thread ended"));
    worker.ref();
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
    worker.postMessage(question);
  });
}
