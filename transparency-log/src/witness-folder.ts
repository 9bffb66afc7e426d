/**
 * A witness's memory in a folder: for each log the cosigned checkpoint, in one file, where the monitoring address
 * shows it. It is verified whenever it is read; one that does not verify is never taken for "nothing cosigned yet".
 */
import path from "node:path";
import {
  ensureFolder,
  lockFolder,
  PRIVATE_FILE,
  PRIVATE_FOLDER,
  readFileIfPresent,
  writeFileDurable,
} from "@viafabric/platform";
import {
  CodedError,
  equalBytes,
  NOTE_BYTES_MAX,
  type NoteVerifier,
  OperationError,
  openNote,
  quote,
} from "@viafabric/schemas";
import { parseCheckpoint, type TreeHead } from "./checkpoint.ts";
import type { CosignedHead, KnownLog, WitnessStore } from "./cosigner.ts";
import { monitoringPath } from "./witness-protocol.ts";

export interface FolderWitnessStore extends WitnessStore {
  close(): Promise<void>;
}

/**
 * @param witness whose cosignature each checkpoint must carry
 * @throws OperationError ERR_LOCKED: two processes with one memory could cosign two histories
 */
export async function openWitnessFolder(folder: string, witness: NoteVerifier): Promise<FolderWitnessStore> {
  await ensureFolder(folder, PRIVATE_FOLDER);
  const unlock = await lockFolder(folder);
  const fileOf = (log: KnownLog) => path.join(folder, monitoringPath(log.origin));
  const read = async (log: KnownLog): Promise<CosignedHead | undefined> => {
    const note = await readFileIfPresent(fileOf(log), NOTE_BYTES_MAX);
    return note && verified(note, log, witness);
  };
  let queue: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work);
    queue = result.catch(() => {});
    return result;
  };
  return {
    read,
    replace: (log, old, next) =>
      inTurn(async () => {
        // Nothing is cached: after a failed write the file says what is held, whichever it is.
        if (!isSame(await read(log), old)) return false;
        await ensureFolder(path.dirname(fileOf(log)), PRIVATE_FOLDER);
        await writeFileDurable(fileOf(log), next.note, PRIVATE_FILE);
        return true;
      }),
    async close() {
      await queue;
      await unlock();
    },
  };
}

function isSame(held: TreeHead | undefined, expected: TreeHead | undefined): boolean {
  if (!held || !expected) return held === expected;
  return held.size === expected.size && equalBytes(held.root, expected.root);
}

function verified(note: Uint8Array, log: KnownLog, witness: NoteVerifier): CosignedHead {
  try {
    const { text, signatures } = openNote(note, [...log.verifiers, witness]);
    const { origin, size, root } = parseCheckpoint(text);
    const own = signatures.some(({ verifier }) => verifier === witness);
    if (own && signatures.length > 1 && origin === log.origin) return { size, root, note };
  } catch (cause) {
    if (!(cause instanceof CodedError)) throw cause;
    throw damaged(log, cause);
  }
  throw damaged(log);
}

function damaged(log: KnownLog, cause?: unknown): OperationError {
  return new OperationError(
    "ERR_WITNESS_STATE",
    `what was cosigned last of ${quote(log.origin)} is damaged, or was cosigned with another key`,
    { cause },
  );
}
