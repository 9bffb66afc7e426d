/**
 * The only door to tuf-js: one refresh of the TUF client workflow (specification 5), in a scratch folder.
 *
 * tuf-js follows roots, online roles and delegations. It has no own notion of where files come from here: it fetches
 * through the function it is given, and its errors are told apart into an attack, an expiry and a failed network, which
 * it mixes.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { CodedError, FormatError, OperationError, quote, VerificationError } from "@viafabric/schemas";
import { type Fetcher, TargetFile, Updater } from "tuf-js";
import { DownloadHTTPError } from "tuf-js/dist/error.js";
import { HEAD_PATH, METADATA_BYTES_MAX } from "./metadata.ts";

/**
 * Reads a file of the published tree, e.g. `tuf/metadata/timestamp.json`. Undefined means that there is none.
 * A failed network throws an OperationError. `bytesMax` is checked again by the caller. `held` is what the caller has
 * under this name; a source that has the same may give it back without reading it again.
 */
export type FetchFile = (path: string, bytesMax: number, held?: Uint8Array) => Promise<Uint8Array | undefined>;

export interface RefreshedMetadata {
  /** Those fetched this time, in order. */
  readonly newRoots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly snapshot: Uint8Array;
  readonly timestamp: Uint8Array;
}

/** What tuf-js finds in its folder: file contents by role. `root` is the newest trusted one. */
export type CachedMetadata = { readonly root: Uint8Array } & {
  readonly [role in "timestamp" | "snapshot" | "targets" | "batches"]?: Uint8Array;
};

/** Never resolved: the scheme and host only make tuf-js's URLs complete. */
const BASE = "https://repository.invalid/";
const METADATA_FOLDER = "tuf/metadata/";
const TIMESTAMP_FILE = `${METADATA_FOLDER}timestamp.json`;
/** A node that slept for years still catches up; a server that never ends does not. */
const ROOT_ROTATIONS_MAX = 256;

/** @param now unix seconds. @throws CodedError, never an error of tuf-js */
export async function refreshMetadata(
  cached: CachedMetadata,
  fetch: FetchFile,
  now: number,
): Promise<RefreshedMetadata> {
  const folder = await mkdtemp(path.join(tmpdir(), "via-tuf-"));
  try {
    for (const [role, bytes] of Object.entries(cached))
      if (bytes) await writeFile(path.join(folder, `${role}.json`), bytes);
    const fetcher = new FetcherOver(fetch, cached.timestamp);
    try {
      await runUpdater(folder, fetcher, now);
    } catch (error) {
      throw fetcher.failure ?? classify(error);
    }
    const read = async (role: string) => new Uint8Array(await readFile(path.join(folder, `${role}.json`)));
    return {
      newRoots: fetcher.roots,
      targets: await read("targets"),
      batches: await read("batches"),
      snapshot: await read("snapshot"),
      timestamp: await read("timestamp"),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runUpdater(folder: string, fetcher: Fetcher, now: number): Promise<void> {
  const updater = new Updater({
    metadataDir: folder,
    metadataBaseUrl: BASE + METADATA_FOLDER,
    fetcher,
    config: {
      maxRootRotations: ROOT_ROTATIONS_MAX,
      rootMaxLength: METADATA_BYTES_MAX.root,
      timestampMaxLength: METADATA_BYTES_MAX.timestamp,
      snapshotMaxLength: METADATA_BYTES_MAX.snapshot,
      targetsMaxLength: METADATA_BYTES_MAX.targets,
    },
  });
  // tuf-js reads the machine's clock. Ours has a floor that signed times raise, and tests choose their own, so the
  // one field that holds the time is set; the version of tuf-js is pinned, and a test notices if this stops working.
  Object.assign(Reflect.get(updater, "trustedSet"), { referenceTime: new Date(now * 1000) });
  await updater.refresh();
  // A look-up is what makes tuf-js load the delegated role.
  const info: unknown = await updater.getTargetInfo(HEAD_PATH);
  if (!(info instanceof TargetFile) || info.path !== HEAD_PATH)
    throw new VerificationError("ERR_METADATA_MISMATCH", `the repository lists no ${HEAD_PATH}`);
}

class FetcherOver implements Fetcher {
  readonly roots: Uint8Array[] = [];
  /** What truly went wrong: tuf-js pastes it into the text of another error. */
  failure: CodedError | undefined;
  readonly #fetch: FetchFile;
  readonly #timestamp: Uint8Array | undefined;

  /** @param timestamp the held one: the only metadata file that keeps its name when it changes */
  constructor(fetch: FetchFile, timestamp: Uint8Array | undefined) {
    this.#fetch = fetch;
    this.#timestamp = timestamp;
  }

  async downloadBytes(url: string, bytesMax: number): Promise<Buffer> {
    const name = url.slice(BASE.length);
    const bytes = await this.#read(name, bytesMax);
    if (!bytes) {
      if (!name.endsWith(".root.json")) this.failure = new OperationError("ERR_FETCH", `there is no ${quote(name)}`);
      throw new DownloadHTTPError("not found", 404);
    }
    if (name.endsWith(".root.json")) this.roots.push(bytes);
    return Buffer.from(bytes);
  }

  async downloadFile<T>(_url: string, _bytesMax: number, _handler: (file: string) => Promise<T>): Promise<T> {
    // Targets are fetched and verified by the caller, in memory.
    throw new Error("tuf-js is not asked for target files");
  }

  async #read(name: string, bytesMax: number): Promise<Uint8Array | undefined> {
    try {
      const held = name === TIMESTAMP_FILE ? this.#timestamp : undefined;
      const bytes = await this.#fetch(name, bytesMax, held);
      if (bytes && bytes.length > bytesMax)
        throw new FormatError("ERR_METADATA", `${quote(name)} has ${bytes.length} bytes`);
      return bytes;
    } catch (cause) {
      this.failure =
        cause instanceof CodedError
          ? cause
          : new OperationError("ERR_FETCH", `could not fetch ${quote(name)}`, { cause, retryable: true });
      throw this.failure;
    }
  }
}

/** tuf-js turns every failure of a snapshot or targets file into one class, with the reason pasted into its text. */
function classify(error: unknown): CodedError {
  if (error instanceof CodedError) return error;
  const message = error instanceof Error ? error.message : String(error);
  for (const [pattern, code] of REASONS)
    if (pattern.test(message)) return new VerificationError(code, message, { cause: error });
  return new FormatError("ERR_METADATA", message, { cause: error });
}

const REASONS = [
  [/is expired/, "ERR_METADATA_EXPIRED"],
  [/was signed by \d+\/\d+ keys/, "ERR_THRESHOLD"],
  [/less than current version|Expected version|Missing file/, "ERR_ROLLBACK"],
  [/Expected (length|hash)|does not match|doesn't match|Missing .*\.json in snapshot/, "ERR_METADATA_MISMATCH"],
  [/[Nn]o delegation/, "ERR_DELEGATION"],
] as const;
