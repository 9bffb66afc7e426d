/**
 * An append-only journal of records, each durable before `append` returns.
 *
 *     record = u32 length ‖ first 8 bytes of SHA-256(bytes) ‖ bytes
 *
 * A crash can leave a torn last record: it was never acknowledged, so opening drops it. Damage further in is not a
 * crash, and is refused with ERR_JOURNAL.
 */
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { concat, equalBytes, OperationError, readU32, sha256, u32 } from "@viafabric/schemas";
import { PRIVATE_FILE, syncFolder, writeFileDurable } from "./files.ts";

const HEADER_BYTES = 12;
/** A record larger than this is a bug, or damage in the length field. */
export const RECORD_BYTES_MAX = 256 * 1024 * 1024;

export interface Journal {
  readonly records: readonly Uint8Array[];
  /** Durable on return. Calls are written in order. */
  append(bytes: Uint8Array): Promise<void>;
  /** This one record in place of all before it. Durable and atomic: a crash leaves the old records or the new one. */
  replace(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export async function openJournal(file: string, mode: number = PRIVATE_FILE): Promise<Journal> {
  const handle = await open(file, "a+", mode);
  try {
    const content = new Uint8Array(await handle.readFile());
    const { records, end } = parseRecords(file, content);
    if (end < content.length) await handle.truncate(end);
    await handle.sync();
    await syncFolder(path.dirname(file));
    return makeJournal(file, mode, handle, records);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A new journal with its first record, or none: a crash leaves no journal without a record behind. */
export async function createJournal(file: string, first: Uint8Array, mode: number = PRIVATE_FILE): Promise<Journal> {
  await writeFileDurable(file, recordOf(first), mode);
  return openJournal(file, mode);
}

function makeJournal(file: string, mode: number, opened: FileHandle, records: Uint8Array[]): Journal {
  let handle = opened;
  let tail: Promise<void> = Promise.resolve();
  let failed: unknown;
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const result = tail.then(async () => {
      // After a failed write the end of the file is unknown; going on could bury damage under good records.
      if (failed) throw new OperationError("ERR_FILE", `${file} failed earlier; restart to go on`, { cause: failed });
      try {
        await work();
      } catch (cause) {
        failed = cause;
        throw new OperationError("ERR_FILE", `could not write to ${file}`, { cause });
      }
    });
    tail = result.catch(() => {});
    return result;
  };
  return {
    records,
    append: (bytes) =>
      inTurn(async () => {
        await handle.appendFile(recordOf(bytes));
        await handle.datasync();
        records.push(bytes);
      }),
    replace: (bytes) =>
      inTurn(async () => {
        await writeFileDurable(file, recordOf(bytes), mode);
        // The old handle is of a file that has lost its name.
        await handle.close();
        handle = await open(file, "a+", mode);
        records.splice(0, records.length, bytes);
      }),
    async close() {
      await tail;
      await handle.close();
    },
  };
}

function recordOf(bytes: Uint8Array): Uint8Array {
  // What could not be read again must not be written.
  if (bytes.length > RECORD_BYTES_MAX) throw new OperationError("ERR_FILE", `a record of ${bytes.length} bytes`);
  return concat(u32(bytes.length), sha256(bytes).subarray(0, 8), bytes);
}

function parseRecords(file: string, content: Uint8Array): { records: Uint8Array[]; end: number } {
  const records: Uint8Array[] = [];
  let at = 0;
  while (at + HEADER_BYTES <= content.length) {
    const length = readU32(content, at);
    const end = at + HEADER_BYTES + length;
    if (end > content.length) break;
    const bytes = content.slice(at + HEADER_BYTES, end);
    if (length > RECORD_BYTES_MAX || !equalBytes(sha256(bytes).subarray(0, 8), content.subarray(at + 4, at + 12))) {
      if (end === content.length) break;
      throw new OperationError("ERR_JOURNAL", `${file} is damaged at byte ${at}`);
    }
    records.push(bytes);
    at = end;
  }
  return { records, end: at };
}
