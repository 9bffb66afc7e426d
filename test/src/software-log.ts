/** A log of one machine with a key in software: real folders, real locks, a signer that computes each root itself. */
import path from "node:path";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import {
  formatNote,
  hashLeaf,
  MerkleFrontier,
  NOTE_BYTES_MAX,
  type NoteVerifier,
  noteVerifier,
  OperationError,
  parseNote,
  type Signer,
  signNote,
} from "@viafabric/schemas";
import {
  formatCheckpoint,
  parseCheckpoint,
  policyOfLog,
  type TreeHead,
  verifyCheckpoint,
} from "@viafabric/transparency-log";
import { type CheckpointLock, type Log, openLog, type SignCheckpoint } from "@viafabric/transparency-log/log";

/** The newest head in a file of its own. The log's folder lock keeps a second writer away. */
export function fileLock(file: string, verifier: NoteVerifier): CheckpointLock {
  return {
    async read() {
      const note = await readFileIfPresent(file, NOTE_BYTES_MAX);
      if (!note) return undefined;
      const { size, root } = verifyCheckpoint(policyOfLog(verifier), note);
      return { size, root, note };
    },
    async replace(oldSize, next) {
      // What was read when the log was opened was verified then, and the lock on the folder keeps others away since.
      const note = await readFileIfPresent(file, NOTE_BYTES_MAX);
      const size = note ? parseCheckpoint(parseNote(note).text).size : 0;
      if (size !== oldSize) throw new OperationError("ERR_LOG_STATE", `the lock holds ${size}, not ${oldSize}`);
      await writeFileDurable(file, next.note, PRIVATE_FILE);
    },
  };
}

export async function signHead(signer: Signer, origin: string, head: TreeHead): Promise<Uint8Array> {
  const text = formatCheckpoint({ origin, ...head });
  return formatNote({ text, signatures: [await signNote(text, origin, signer)] });
}

/** Follows the log from its first entry on. */
export function softwareSigner(signer: Signer, origin: string): SignCheckpoint {
  const frontier = new MerkleFrontier();
  return async (entries, from) => {
    if (from !== frontier.size) throw new OperationError("ERR_LOG_STATE", `the signer is at ${frontier.size}`);
    for (const entry of entries) frontier.append(hashLeaf(entry));
    return signHead(signer, origin, { size: frontier.size, root: frontier.root() });
  };
}

export interface SoftwareLog {
  readonly log: Log;
  readonly verifier: NoteVerifier;
  /** The published folder. */
  readonly folder: string;
}

/** @param home a folder of the caller; the log, its journal and its lock lie in it */
export async function openSoftwareLog(home: string, signer: Signer, origin: string): Promise<SoftwareLog> {
  const verifier = noteVerifier(origin, signer.publicKey);
  const folder = path.join(home, "log");
  const stagingFolder = path.join(home, "private");
  await ensureFolder(stagingFolder, PRIVATE_FOLDER);
  const lock = fileLock(path.join(stagingFolder, "head"), verifier);
  const sign = softwareSigner(signer, origin);
  return { log: await openLog({ verifier, lock, sign, folder, stagingFolder }), verifier, folder };
}
