/**
 * The second computation of each new root, before anything is signed.
 *
 * A single flipped bit between hashing and signing has ended public logs for good. So the segment is read back from
 * the disk and its root computed by other code than the tiles': leaf by leaf, over a compact range. The two share the
 * two implementations of SHA-256 so that each hash is computed by both: here leaves in lanes of WebAssembly and nodes
 * by node:crypto, there the other way round. For a large append that is most of a second, in a thread of its own while
 * the first computation runs.
 */
import { Worker } from "node:worker_threads";
import { concat, HASH_BYTES, hashLeaves, MerkleFrontier, OperationError, writeSha256 } from "@viafabric/schemas";
import { parseSegment, walkEntries } from "./staging.ts";

const NODE_BYTES = 1 + 2 * HASH_BYTES;
/** A tree of 2^53 entries has at most as many complete subtrees, and one more while an entry is added. */
const PEAKS_MAX = 54;
/** Leaves hashed at once: enough for the lanes, and no list of all. */
const RUN_ENTRIES = 1024;

/** Grows a copy of `frontier` by the entries of a segment. */
export function growFrontier(frontier: MerkleFrontier, segment: Uint8Array): MerkleFrontier {
  // The input of a node, and behind it the peaks side by side: the two that make a node are always the last two, and
  // a hash is never an object of its own.
  const memory = Buffer.alloc(NODE_BYTES + PEAKS_MAX * HASH_BYTES, 1);
  const node = memory.subarray(0, NODE_BYTES);
  memory.set(concat(...frontier.peaks), NODE_BYTES);
  let end = NODE_BYTES + frontier.peaks.length * HASH_BYTES;
  let { size } = frontier;
  for (const leaves of leafHashes(parseSegment(segment).framed)) {
    for (let at = 0; at < leaves.length; at += HASH_BYTES) {
      memory.set(leaves.subarray(at, at + HASH_BYTES), end);
      end += HASH_BYTES;
      for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
        memory.copyWithin(1, end - 2 * HASH_BYTES, end);
        end -= HASH_BYTES;
        writeSha256(node, memory, end - HASH_BYTES);
      }
      size++;
    }
  }
  const peaks: Uint8Array[] = [];
  for (let at = NODE_BYTES; at < end; at += HASH_BYTES)
    peaks.push(Uint8Array.from(memory.subarray(at, at + HASH_BYTES)));
  return new MerkleFrontier(size, peaks);
}

/** Some at a time. */
function* leafHashes(framed: Uint8Array): Iterable<Uint8Array> {
  let run: Uint8Array[] = [];
  for (const entry of walkEntries(framed)) {
    run.push(entry);
    if (run.length < RUN_ENTRIES) continue;
    yield hashLeaves(run);
    run = [];
  }
  if (run.length > 0) yield hashLeaves(run);
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
