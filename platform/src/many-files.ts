/**
 * Many immutable files at once, each as safe as putImmutable makes one.
 *
 * A disk commits its journal once for all who wait for it, so writing some in parallel and making each folder durable
 * once at the end takes a fraction of the time of one after the other.
 */
import path from "node:path";
import { OperationError } from "@viafabric/schemas";
import { ensureFolder, putImmutableUnsynced, syncFolder } from "./files.ts";

/** A file below a folder. `path` uses forward slashes. */
export interface RelativeFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** More only queue for the same four threads of the runtime. */
const WRITERS = 16;

/**
 * Durable on return. The same files again succeed; after an error some may be there and others not.
 * @throws OperationError ERR_FILE_IMMUTABLE when one exists with other bytes
 */
export async function putImmutableMany(folder: string, files: readonly RelativeFile[]): Promise<void> {
  const parents = new Set(files.map((file) => path.dirname(path.join(folder, file.path))));
  for (const parent of parents) await ensureFolder(parent);
  let next = 0;
  const write = async (): Promise<void> => {
    while (next < files.length) {
      const file = files[next++]!;
      await putImmutableUnsynced(path.join(folder, file.path), file.bytes);
    }
  };
  const writers = await Promise.allSettled(Array.from({ length: Math.min(WRITERS, files.length) }, write));
  // Only when no writer is still at work: the caller may go on to clean up or to try again.
  for (const writer of writers) if (writer.status === "rejected") throw writer.reason;
  try {
    for (const parent of parents) await syncFolder(parent);
  } catch (cause) {
    throw new OperationError("ERR_FILE", `could not make ${folder} durable`, { cause });
  }
}
