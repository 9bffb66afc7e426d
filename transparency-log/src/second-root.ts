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
import { concat, HASH_BYTES, hashLeaves, MerkleFrontier, OperationError, writeSha256 } from "@viafabric/schemas";
import { parseSegment, walkEntries } from "./staging.ts";

const PAIR_BYTES = 2 * HASH_BYTES;
/** Leaves hashed at once: enough for the lanes, and no list of all. */
const RUN_ENTRIES = 1024;

/**
 * Grows a copy of `frontier` by the entries of a segment. It is the addition of two binary numbers: at each height the
 * old tree has one complete subtree or none, two make one of the next height, and what is left over stays.
 */
export function growFrontier(frontier: MerkleFrontier, segment: Uint8Array): MerkleFrontier {
  const { framed } = parseSegment(segment);
  const before = [...frontier.peaks];
  const peaks: Uint8Array[] = [];
  let level = leafHashes(framed);
  const added = level.length / HASH_BYTES;
  for (let size = frontier.size; size > 0 || level.length > 0; size = Math.floor(size / 2)) {
    if (size % 2 === 1) level = concat(before.pop()!, level);
    const left = level.length % PAIR_BYTES;
    if (left > 0) peaks.unshift(level.slice(-HASH_BYTES));
    level = parentsOf(level.subarray(0, level.length - left));
  }
  return new MerkleFrontier(frontier.size + added, peaks);
}

function parentsOf(children: Uint8Array): Uint8Array {
  // The input of a node lies in front of its children: they are copied within one array, and no hash is an object.
  const memory = Buffer.alloc(1 + PAIR_BYTES + children.length);
  memory.set(children, 1 + PAIR_BYTES);
  memory[0] = 1;
  const node = memory.subarray(0, 1 + PAIR_BYTES);
  const parents = Buffer.alloc(children.length / 2);
  for (let at = 0; at < parents.length; at += HASH_BYTES) {
    const from = 1 + PAIR_BYTES + 2 * at;
    memory.copyWithin(1, from, from + PAIR_BYTES);
    writeSha256(node, parents, at);
  }
  return parents;
}

function leafHashes(framed: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  let run: Uint8Array[] = [];
  for (const entry of walkEntries(framed)) {
    run.push(entry);
    if (run.length < RUN_ENTRIES) continue;
    parts.push(hashLeaves(run));
    run = [];
  }
  return concat(...parts, hashLeaves(run));
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

/** Starts with the first question: most logs never have an append that is worth it. One question at a time. */
export function rootThread(): RootThread {
  let worker: Worker | undefined;
  return {
    async ask(file, frontier) {
      worker ??= new Worker(new URL("./second-root-worker.js", import.meta.url));
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
