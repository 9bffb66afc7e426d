/** What `via audit` is pointed at: a folder or a web address, of the published tree or of the log alone. */

import { readFileIfPresent } from "@viafabric/platform";
import { CodedError, OperationError, parseUtf8, parseVerifierKey, quote } from "@viafabric/schemas";
import { CHECKPOINT_PATH, type LogPolicy, parsePolicy, policyOfLog } from "@viafabric/transparency-log";
import { type FetchFile, folderFetch, httpFetch, MIRRORS_MAX, subFolder } from "@viafabric/transparency-log/client";
import type { AuditSource } from "./audit-log.ts";

/** A verifier key is one line. */
const VKEY_BYTES_MAX = 4096;
const POLICY_BYTES_MAX = 64 * 1024;

/** @throws OperationError ERR_LOG_FILE when there is no log at the source */
export async function openSource(text: string): Promise<AuditSource> {
  const tree = fetchOf(text);
  const log = subFolder(tree, "log");
  if (await log(CHECKPOINT_PATH)) return { log, published: tree };
  if (await tree(CHECKPOINT_PATH)) return { log: tree, published: undefined };
  throw new OperationError("ERR_LOG_FILE", `${quote(text)} has neither log/checkpoint nor checkpoint`);
}

export function fetchOf(text: string): FetchFile {
  return /^https?:\/\//.test(text) ? httpFetch(text) : folderFetch(text);
}

/** A copy that could not be read. */
export interface Unreadable {
  readonly source: string;
  readonly code: string;
  readonly message: string;
}

export interface ReadFrom<T> {
  readonly value: T;
  readonly source: string;
  /** Of the copies asked before. */
  readonly failures: readonly Unreadable[];
}

/** The copy has no log, or nobody answers. Whatever else an audit ends with says something about the copy. */
const UNREADABLE: readonly string[] = ["ERR_FETCH", "ERR_LOG_FILE", "ERR_FILE"];

/**
 * The whole work over the first copy that can be read. What does not verify there is what the audit is for, so it ends
 * the search: another copy must not make it good. Nor is one copy completed from another; `compare` sets two side by side.
 * @param told of a copy that could not be read, before the next is tried
 * @throws what the last one failed with, where none could be read; anything else at once
 */
export async function readFirst<T>(
  sources: readonly string[],
  work: (source: string) => Promise<T>,
  told: (failure: Unreadable) => void,
): Promise<ReadFrom<T>> {
  if (sources.length > MIRRORS_MAX || new Set(sources).size < sources.length)
    throw new OperationError("ERR_USAGE", `name 1 to ${MIRRORS_MAX} different sources, not ${sources.length}`);
  const failures: Unreadable[] = [];
  for (const [i, source] of sources.entries()) {
    try {
      return { value: await work(source), source, failures };
    } catch (error) {
      const unreadable = error instanceof CodedError && UNREADABLE.includes(error.code);
      if (!unreadable || i === sources.length - 1) throw error;
      const failure = { source, code: error.code, message: error.message };
      failures.push(failure);
      told(failure);
    }
  }
  throw new OperationError("ERR_USAGE", "name a source");
}

/** @param vkey the key itself, or a file that holds it; @param policyFile a log policy with witnesses */
export async function readPolicy(vkey: string | undefined, policyFile: string | undefined): Promise<LogPolicy> {
  if (policyFile !== undefined && vkey !== undefined) {
    throw new OperationError("ERR_USAGE", "a policy names the log's key: give --vkey or --policy, not both");
  }
  if (policyFile !== undefined) return parsePolicy(await read(policyFile, POLICY_BYTES_MAX));
  if (vkey === undefined) throw new OperationError("ERR_USAGE", "whose log is it? give --vkey or --policy");
  // A name of a file may contain a plus too, so a file that exists is a file.
  const file = await readFileIfPresent(vkey, VKEY_BYTES_MAX);
  if (!file && !vkey.includes("+"))
    throw new OperationError("ERR_USAGE", `no verifier key and no file: ${quote(vkey)}`);
  return policyOfLog(parseVerifierKey((file ? parseUtf8(file) : vkey).replace(/\r?\n$/, "")));
}

async function read(file: string, bytesMax: number): Promise<Uint8Array> {
  const bytes = await readFileIfPresent(file, bytesMax);
  if (!bytes) throw new OperationError("ERR_USAGE", `there is no file ${quote(file)}`);
  return bytes;
}
