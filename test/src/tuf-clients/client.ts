/**
 * What the four TUF clients have in common here: started for one refresh over a store that they keep, they download
 * the listed targets, and accept or refuse.
 */
import { readdir, stat, truncate } from "node:fs/promises";
import path from "node:path";

export interface Visit {
  /** The folder that the client alone writes to, kept from one visit to the next. */
  readonly store: string;
  /** The pinned root, outside the store. */
  readonly root: string;
  /** What is served, `metadata/…` and `targets/…`, by HTTP and to a reader in this process. */
  readonly url: string;
  readonly read: (name: string) => Promise<Uint8Array | undefined>;
  /** Target paths to download. */
  readonly targets: readonly string[];
  /** Unix seconds, for a client that can be told. */
  readonly now: number;
}

export interface Outcome {
  /** `error`: the world failed, not the repository. No verdict. */
  readonly verdict: "accept" | "refuse" | "error";
  readonly error?: string;
  /** SHA-256 of what was downloaded, by target path. */
  readonly targets?: Readonly<Record<string, string>>;
}

export type VisitRepository = (visit: Visit) => Promise<Outcome>;

/** What a power cut does to files that were not written with care. */
export async function cutStore(store: string): Promise<void> {
  for (const entry of await readdir(store, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    await truncate(file, (await stat(file)).size >> 1);
  }
}
