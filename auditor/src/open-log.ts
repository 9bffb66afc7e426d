/** One look at a log: a source and whose log it is, to the newest checkpoint that verifies. */
import { readFileIfPresent } from "@viafabric/platform";
import { NOTE_BYTES_MAX, OperationError } from "@viafabric/schemas";
import { type Checkpoint, type LogPolicy, verifyCheckpoint } from "@viafabric/transparency-log";
import { openTree, readCheckpoint, type TileTree } from "@viafabric/transparency-log/client";
import type { AuditSource } from "./audit-log.ts";
import { fetchOf, openSource, readPolicy } from "./source.ts";
import { startTrust } from "./trust-start.ts";
import { readPinned } from "./whole.ts";

/** How a command line says whose log it is. */
export interface WhoseLog {
  readonly vkey?: string;
  readonly policy?: string;
  readonly root?: string;
  readonly authority?: string;
}

export interface SeenCheckpoint {
  readonly note: Uint8Array;
  readonly checkpoint: Checkpoint;
  /** The tree behind it; undefined where the checkpoint is all there is. */
  readonly tree: (() => Promise<TileTree>) | undefined;
}

/** @param text a source that shows its metadata, where the policy is to come from the pinned root */
export async function policyFor(text: string, { vkey, policy, root, authority }: WhoseLog): Promise<LogPolicy> {
  if (root === undefined) return readPolicy(vkey, policy);
  if (vkey !== undefined || policy !== undefined) {
    throw new OperationError("ERR_USAGE", "the pinned root decides whose log it is: give --root, --policy or --vkey");
  }
  const pinned = await readPinned({ root, ...(authority !== undefined && { authority }) });
  return (await startTrust(fetchOf(text), pinned)).policy;
}

/** @param text a folder or address with a log, or a file that holds a checkpoint */
export async function seeCheckpoint(text: string, policy: LogPolicy): Promise<SeenCheckpoint> {
  const file = await checkpointFile(text);
  if (file) return { note: file, checkpoint: verifyCheckpoint(policy, file), tree: undefined };
  return seeLog(await openSource(text), policy);
}

export async function seeLog({ log }: AuditSource, policy: LogPolicy): Promise<SeenCheckpoint> {
  const { checkpoint, note } = await readCheckpoint(log, policy);
  return { note, checkpoint, tree: () => openTree(log, checkpoint) };
}

async function checkpointFile(text: string): Promise<Uint8Array | undefined> {
  if (/^https?:\/\//.test(text)) return undefined;
  // A folder cannot be read as a file.
  return readFileIfPresent(text, NOTE_BYTES_MAX).catch(() => undefined);
}
