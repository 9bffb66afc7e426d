/**
 * Looking at a log again and again: it must extend what it showed before.
 *
 * The newest checkpoint that verified is kept in the state folder. A source that is behind it is no alarm as long as
 * what it shows is the beginning of what was seen: mirrors lag. One that shows another history is.
 */
import path from "node:path";
import { ensureFolder, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import {
  CodedError,
  EMPTY_ROOT,
  equalBytes,
  NOTE_BYTES_MAX,
  OperationError,
  parseNote,
  quote,
  VerificationError,
} from "@viafabric/schemas";
import { type LogPolicy, parseCheckpoint } from "@viafabric/transparency-log";
import { openTree } from "@viafabric/transparency-log/client";
import type { AuditSource } from "./audit-log.ts";
import { compare, type Fork, saveFork } from "./compare.ts";
import { policyFor, type SeenCheckpoint, seeLog, type WhoseLog } from "./open-log.ts";
import { openSource } from "./source.ts";

export type Sight =
  | { readonly result: "first" | "same" | "grown" | "behind"; readonly size: number; readonly before: number }
  | { readonly result: "fork"; readonly size: number; readonly before: number; readonly evidence: string };

/** One look. @throws VerificationError for a checkpoint that does not verify; OperationError when nothing was seen */
export async function look(source: AuditSource, policy: LogPolicy, folder: string): Promise<Sight> {
  await ensureFolder(folder);
  const file = path.join(folder, "checkpoint");
  const note = await readFileIfPresent(file, NOTE_BYTES_MAX);
  const seen = await seeLog(source, policy);
  const { size } = seen.checkpoint;
  if (!note) {
    await writeFileDurable(file, seen.note);
    return { result: "first", size, before: 0 };
  }
  // Verified when it was kept; the log's key may have changed since.
  const kept = { note, checkpoint: parseCheckpoint(parseNote(note).text), tree: undefined };
  const before = kept.checkpoint.size;
  const fork = async (evidence: Fork): Promise<Sight> => {
    return { result: "fork", size, before, evidence: await saveFork(folder, evidence) };
  };
  if (size < before) {
    return (await isBeginning(source, kept, seen))
      ? { result: "behind", size, before }
      : fork({ notes: [kept.note, seen.note] });
  }
  const compared = await compare(kept, seen);
  if (compared.result === "fork") return fork(compared.evidence);
  if (compared.result === "same") return { result: "same", size, before };
  await writeFileDurable(file, seen.note);
  return { result: "grown", size, before };
}

/** What a look came to, for people and programs. `refused`: what the source shows does not verify. */
export interface Alarm {
  readonly result: Sight["result"] | "refused" | "unreadable";
  readonly size?: number;
  readonly before?: number;
  readonly evidence?: string;
  readonly error?: string;
  readonly message?: string;
}

/** @param patient a source that cannot be read is said and looked at again, instead of thrown */
export async function sightOf(text: string, options: WhoseLog & { state: string }, patient: boolean): Promise<Alarm> {
  try {
    return await look(await openSource(text), await policyFor(text, options), options.state);
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    const { code, message } = error;
    if (!(error instanceof OperationError)) return { result: "refused", error: code, message };
    if (!patient || code === "ERR_USAGE") throw error;
    return { result: "unreadable", error: code, message };
  }
}

const EVERY_SECONDS_MAX = 7 * 86_400;

export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!/^[1-9][0-9]*$/.test(text) || seconds > EVERY_SECONDS_MAX) {
    throw new OperationError("ERR_USAGE", `not a number of seconds: ${quote(text)}`);
  }
  return seconds;
}

/** Tiles never change, so a source that lags can still show the tree that was seen, unless it never had it. */
async function isBeginning({ log }: AuditSource, kept: SeenCheckpoint, seen: SeenCheckpoint): Promise<boolean> {
  try {
    const tree = await openTree(log, kept.checkpoint);
    const { size, root } = seen.checkpoint;
    return equalBytes(size === 0 ? EMPTY_ROOT : (await tree.frontierAt(size)).root(), root);
  } catch (error) {
    if (error instanceof OperationError && error.code === "ERR_LOG_FILE") {
      const reason = `it shows ${seen.checkpoint.size} entries and cannot show the ${kept.checkpoint.size} seen before`;
      throw new VerificationError("ERR_ROLLBACK", reason, { cause: error });
    }
    if (error instanceof VerificationError) return false;
    throw error;
  }
}

const WEBHOOK_SECONDS_MAX = 15;

/** Posts the alarm as JSON. @throws OperationError ERR_FETCH: whoever relies on it must hear that it failed */
export async function callWebhook(url: string, alarm: Readonly<Record<string, unknown>>): Promise<void> {
  let status: number;
  try {
    const signal = AbortSignal.timeout(WEBHOOK_SECONDS_MAX * 1000);
    const headers = { "content-type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(alarm), signal });
    await response.body?.cancel();
    status = response.status;
  } catch (cause) {
    throw new OperationError("ERR_FETCH", `could not call the webhook ${url}`, { cause, retryable: true });
  }
  if (status >= 300) throw new OperationError("ERR_FETCH", `the webhook ${url} answered ${status}`);
}
