/**
 * Writing a kit, tag after tag, at the speed of the reader: each tag is reserved in the ledger, written, read back,
 * entered as done, and only then does the reader beep. Several readers can work on one kit.
 *
 * Nothing that goes wrong with a tag or a reader ends the work: it is reported, the tag is put aside or laid down
 * again, and the next one is taken. Only the ledger, or our own mistake, ends it.
 */
import { isLocked, PAGE_BYTES, planWrite, type TagMemory } from "@viafabric/nfc";
import {
  executePlan,
  inspectTag,
  lockTag,
  type NfcReader,
  type TagInspection,
  type TagReader,
} from "@viafabric/nfc/reader";
import { formatHex, type OperationCode, OperationError, type Signer } from "@viafabric/schemas";
import type { Ledger } from "./ledger.ts";
import { type Outcome, signReceipt } from "./receipt.ts";
import { messageOf, type VerifiedKit } from "./verify-kit.ts";

export interface WriteWork {
  readonly verified: VerifiedKit;
  readonly ledger: Ledger;
  readonly signer: Signer;
  readonly options: WriteOptions;
  readonly report: (event: WriteEvent) => void;
  /** Unix seconds. */
  readonly now: () => number;
}

export interface WriteOptions {
  /** Stop after this many tags. */
  readonly count?: number;
  /** Replace other content of a tag. */
  readonly overwrite: boolean;
  /** Make each tag read-only for ever. */
  readonly lock: boolean;
  /** Give up when no tag was laid down for so long. */
  readonly idleMs?: number;
  readonly signal?: AbortSignal;
}

export type WriteEvent =
  | { readonly kind: "written" | "void"; readonly index: number; readonly uid: string; readonly ms: number }
  /** This kit wrote the tag before. */
  | { readonly kind: "already"; readonly index: number; readonly uid: string }
  /** The tag is not used: put it aside. */
  | { readonly kind: "refused"; readonly code: OperationCode; readonly message: string; readonly uid?: string }
  /** The tag or the reader went away in the middle: lay the same tag down again. */
  | { readonly kind: "interrupted"; readonly code: OperationCode; readonly message: string }
  | { readonly kind: "reader-missing"; readonly message: string };

/** A reader that was unplugged is looked for this often. */
const READER_RETRY_MS = 1000;

/** What the loops of all readers share. */
interface Progress {
  /** Tags written or spoiled in this run. */
  done: number;
  tagSeen(): void;
}

/** @throws OperationError ERR_TAG_TIMEOUT, ERR_NO_PCSC, ERR_FILE; the reason of an aborted signal */
export async function writeTags(readers: readonly NfcReader[], work: WriteWork): Promise<void> {
  const { idleMs, signal: outer } = work.options;
  const stop = new AbortController();
  const watch = watchIdle(idleMs, stop);
  const progress: Progress = { done: 0, tagSeen: watch.restart };
  const all = outer ? AbortSignal.any([stop.signal, outer]) : stop.signal;
  const loops = readers.map((reader) => serveReader(reader, work, progress, all));
  try {
    if (isComplete(work, progress)) return;
    // The first loop to end has seen the end of the work, or an error that concerns them all.
    await Promise.race(loops);
  } finally {
    watch.end();
    stop.abort(new DOMException("the work is done", "AbortError"));
    await Promise.allSettled(loops);
  }
}

/** Ends the work when no tag was laid down for so long, whatever the readers are waiting for. */
function watchIdle(idleMs: number | undefined, stop: AbortController): { restart(): void; end(): void } {
  let timer: NodeJS.Timeout | undefined;
  const end = () => clearTimeout(timer);
  const restart = () => {
    end();
    if (idleMs === undefined) return;
    const late = new OperationError("ERR_TAG_TIMEOUT", `no tag was laid down for ${idleMs} ms`, { retryable: true });
    timer = setTimeout(() => stop.abort(late), idleMs);
  };
  restart();
  return { restart, end };
}

async function serveReader(reader: NfcReader, work: WriteWork, progress: Progress, stop: AbortSignal): Promise<void> {
  while (!isComplete(work, progress)) {
    let tag: TagReader | undefined;
    try {
      tag = await reader.waitForTag(stop);
      progress.tagSeen();
      await serveTag(tag, work, progress);
      if (isComplete(work, progress)) return;
    } catch (error) {
      await recover(error, work, stop);
      if (tag) await signal(tag, false);
    }
    await reader.waitForRemoval(stop);
  }
}

function isComplete({ ledger, options }: WriteWork, { done }: Progress): boolean {
  return ledger.isComplete || (options.count !== undefined && done >= options.count);
}

/** What a person can put right by hand is reported; everything else ends the work. */
async function recover(error: unknown, { report }: WriteWork, signal: AbortSignal): Promise<void> {
  if (!(error instanceof OperationError)) throw error;
  const { code, message } = error;
  switch (code) {
    case "ERR_TAG_GONE":
    case "ERR_TAG_CHANGED":
    case "ERR_READER":
      report({ kind: "interrupted", code, message });
      return;
    case "ERR_NO_READER":
      report({ kind: "reader-missing", message });
      await pause(READER_RETRY_MS, signal);
      return;
    default:
      throw error;
  }
}

/** One tag, from the tap to the beep. */
async function serveTag(tag: TagReader, work: WriteWork, progress: Progress): Promise<void> {
  const { ledger, report } = work;
  const started = performance.now();
  const uid = await tag.uid();
  const known = ledger.serialOf(uid);
  if (known && known.state !== "reserved") {
    report({ kind: "already", index: known.index, uid: formatHex(uid) });
    await signal(tag, known.state === "written");
    return;
  }
  const index = known?.index ?? ledger.claim();
  // Everything left is reserved to tags that were pulled away: this is none of them.
  if (index === undefined) return refuse(tag, work, "ERR_SERIAL", "only serials begun on other tags are left", uid);
  try {
    const result = await writeSerial(tag, work, index, known !== undefined);
    if (result === undefined) return;
    progress.done++;
    report({ kind: result, index, uid: formatHex(uid), ms: Math.round(performance.now() - started) });
    await signal(tag, result === "written");
  } finally {
    ledger.giveBack(index);
  }
}

/** @returns undefined when the tag was refused and nothing happened to it */
async function writeSerial(
  tag: TagReader,
  work: WriteWork,
  index: number,
  begun: boolean,
): Promise<Outcome["result"] | undefined> {
  const { verified, ledger, options } = work;
  const message = messageOf(verified, index);
  let inspection: TagInspection;
  try {
    inspection = await inspectTag(tag, message.length);
  } catch (error) {
    if (!(error instanceof OperationError) || error.code !== "ERR_TAG_TYPE") throw error;
    return refuse(tag, work, error.code, error.message);
  }
  const { memory, uid } = inspection;
  if (memory.model !== verified.model) {
    const wanted = verified.model.name;
    return refuse(tag, work, "ERR_TAG_TYPE", `an ${memory.model.name}, but the batch is for ${wanted}`, uid);
  }
  // What stands on a tag that this very serial was begun on is our own half-done work.
  const plan = planWrite(memory, message, { overwrite: begun || options.overwrite });
  if (plan.kind === "refused") return refuse(tag, work, plan.code, plan.reason, uid);
  const imageHash = plan.image.hash;
  if (!begun) await ledger.reserve({ index, uid, imageHash, time: work.now() });
  const done = { index, uid, imageHash };
  try {
    if (plan.kind === "write") await executePlan(tag, inspection, message, plan);
    const locked = options.lock && (await lock(tag, inspection));
    return await finish(work, { ...done, locked, result: "written" });
  } catch (error) {
    if (!(error instanceof OperationError) || error.code !== "ERR_TAG_WRITE") throw error;
    // The chip takes writes and does not hold them. Its serial may be half on it, so it goes to no other tag.
    return finish(work, { ...done, locked: false, result: "void" });
  }
}

async function finish(work: WriteWork, outcome: Omit<Outcome, "time">): Promise<Outcome["result"]> {
  const { ledger, signer, verified } = work;
  const dated = { ...outcome, time: work.now() };
  await ledger.finish(outcome.index, outcome.result, (place) => signReceipt(signer, verified, dated, place));
  return outcome.result;
}

/** Also after a tear between two of the lock's pages: locking is a set of bits that can be set again. */
async function lock(tag: TagReader, inspection: TagInspection): Promise<true> {
  if (!isFullyLocked(inspection.memory)) await lockTag(tag, inspection);
  return true;
}

function isFullyLocked({ model, head, locks }: TagMemory): boolean {
  const bytes = { static: head.subarray(2 * PAGE_BYTES, 3 * PAGE_BYTES), dynamic: locks };
  return Array.from({ length: model.lastUserPage - 2 }, (_, i) => i + 3).every((page) => isLocked(model, page, bytes));
}

async function refuse(
  tag: TagReader,
  { report }: WriteWork,
  code: OperationCode,
  message: string,
  uid?: Uint8Array,
): Promise<undefined> {
  report({ kind: "refused", code, message, ...(uid ? { uid: formatHex(uid) } : {}) });
  await signal(tag, false);
  return undefined;
}

/** Everything that counts has happened: a tag that is gone before its beep is no news. */
async function signal(tag: TagReader, success: boolean): Promise<void> {
  await tag.signal(success).catch(() => {});
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
