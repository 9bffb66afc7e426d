/** What `via audit` is pointed at: a folder or a web address, of the published tree or of the log alone. */

import { readFileIfPresent } from "@viafabric/platform";
import { OperationError, parseUtf8, parseVerifierKey, quote } from "@viafabric/schemas";
import { CHECKPOINT_PATH, type LogPolicy, parsePolicy, policyOfLog } from "@viafabric/transparency-log";
import { type FetchFile, folderFetch, httpFetch, subFolder } from "@viafabric/transparency-log/client";
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
