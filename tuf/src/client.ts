/**
 * The trusted client: what a node, a writer, an auditor or a trustee's tool believes about its authority.
 *
 * A refresh is judged three times: by tuf-js, so that we accept nothing another TUF client would refuse; by our own
 * strict verifier, which counts distinct public keys; and against the state accepted before, which no server can make
 * us forget. Only then does it replace the stored state, as one file.
 */
import { ensureFolder, lockFolder } from "@viafabric/platform";
import { CodedError, equalBytes, type Hash, OperationError, sha256, VerificationError } from "@viafabric/schemas";
import { loadClockFloor, raiseClockFloor } from "./clock.ts";
import { type FileInfo, HEAD_PATH, parseMetadata, TARGET_BYTES_MAX, type Targets, targetFileName } from "./metadata.ts";
import { assertLineage, POLICY_FILES, POLICY_MANIFEST_PATH, verifyPolicySuccession } from "./policy.ts";
import { readStore, type StoredFiles, storeFile, writeStore } from "./store.ts";
import { type ProveHead, verifySuccession } from "./succession.ts";
import { type TrustedState, verifyTrust } from "./trust.ts";
import { type FetchFile, refreshMetadata } from "./updater.ts";
import { type PinnedRoot, verifyFile } from "./verify.ts";

export { assertClock, CLOCK_FLOOR_MIN, loadClockFloor, nextClockFloor, raiseClockFloor } from "./clock.ts";
export type { ProveHead } from "./succession.ts";
export type { FetchFile } from "./updater.ts";

export interface RefreshOptions {
  /** Where the accepted state is kept; created when missing. */
  readonly folder: string;
  readonly pinned: PinnedRoot;
  readonly fetch: FetchFile;
  readonly prove: ProveHead;
  /** H(policy/lineage.json), where it was pinned with the root. */
  readonly lineage?: Hash;
  /** Whether the files of the policy bundle are wanted, besides its manifest; a station needs none. Default: yes. */
  readonly policyFiles?: boolean;
  /** Unix seconds, as the clock says. What expires is judged by the clock floor where that is later. */
  readonly now: number;
  /** For those alone who end an expiry by signing: takes what is published whether or not it has expired. */
  readonly evenExpired?: boolean;
}

const TARGETS_FOLDER = "tuf/targets/";
const BEFORE_EVERY_EXPIRY = 0;

/**
 * Fetches what is new, verifies everything, and keeps it. On any error the state accepted before stays.
 * @throws VerificationError ERR_THRESHOLD, ERR_ROLLBACK, ERR_HEAD_FORK, ERR_METADATA_EXPIRED, ERR_METADATA_MISMATCH,
 * ERR_AUTHORITY, ERR_DELEGATION, ERR_PROOF, ERR_POLICY_LINEAGE; FormatError; OperationError ERR_FETCH, ERR_LOCKED
 */
export async function refreshTrust(options: RefreshOptions): Promise<TrustedState> {
  const { folder, pinned, fetch } = options;
  await ensureFolder(folder);
  const unlock = await lockFolder(folder, "trust.lock");
  let stored: Awaited<ReturnType<typeof readVerified>>;
  try {
    stored = await readVerified(folder, pinned);
    const now = options.evenExpired ? BEFORE_EVERY_EXPIRY : Math.max(options.now, await loadClockFloor(folder));
    const accepted = stored?.files;
    const metadata = await refreshMetadata(
      {
        root: accepted?.roots.at(-1) ?? pinned.file,
        ...(accepted && {
          timestamp: accepted.timestamp,
          snapshot: accepted.snapshot,
          targets: accepted.targets,
          batches: accepted.batches,
        }),
      },
      fetch,
      now,
    );
    const { newRoots, ...rest } = metadata;
    const roots = [...(accepted?.roots ?? []), ...newRoots];
    const listed = listedFiles(rest.targets, rest.batches, options.policyFiles ?? true);
    const targetFiles = await fetchTargets(listed, accepted?.targetFiles, fetch);
    const files: StoredFiles = { ...rest, roots, targetFiles };
    const state = verifyTrust({ ...files, pinned }, now);
    if (options.lineage) assertLineage(state.policy, options.lineage);
    if (stored) {
      await verifySuccession(stored.state, state, options.prove);
      await verifyPolicySuccession(stored.state.policy, state.policy, (hash) => {
        return fetch(TARGETS_FOLDER + targetFileName(POLICY_MANIFEST_PATH, hash), TARGET_BYTES_MAX);
      });
    }
    if (!stored || !isSame(stored.files, files)) await writeStore(folder, files);
    await raiseClockFloor(folder, state.head.issued, options.now);
    return state;
  } catch (error) {
    throw stored && error instanceof VerificationError ? sinceAccepted(error, stored.state) : error;
  } finally {
    await unlock();
  }
}

/** Whoever is shown an expired state asks first since when nothing new has come. */
function sinceAccepted(error: VerificationError, { batchesVersion, head }: TrustedState): VerificationError {
  if (error.code !== "ERR_METADATA_EXPIRED") return error;
  const known = `accepted here before: batches ${batchesVersion}, issued ${new Date(head.issued * 1000).toISOString()}`;
  return new VerificationError(error.code, `${error.message}; ${known}`, { cause: error });
}

/**
 * The state accepted last, verified again from its files, without a network. Expiry is not judged: a verdict does.
 * @throws OperationError ERR_TRUST_MISSING when there is none, or it is damaged
 */
export async function loadTrust(folder: string, pinned: PinnedRoot): Promise<TrustedState> {
  const stored = await readVerified(folder, pinned);
  if (!stored) throw new OperationError("ERR_TRUST_MISSING", `${storeFile(folder)} is missing or damaged`);
  return stored.state;
}

/** Undefined when nothing usable is stored; then the refresh starts from the pinned root again. */
async function readVerified(
  folder: string,
  pinned: PinnedRoot,
): Promise<{ readonly files: StoredFiles; readonly state: TrustedState } | undefined> {
  const files = await readStore(folder);
  if (!files) return undefined;
  try {
    // A newer pinned root may have been installed since: the roots up to it are no longer part of the chain.
    const { version } = parseMetadata("root", pinned.file).signed;
    const roots = files.roots.filter((root) => parseMetadata("root", root).signed.version > version);
    const current = { ...files, roots };
    return { files: current, state: verifyTrust({ ...current, pinned }) };
  } catch (error) {
    // Not ours any more, e.g. of another authority. It was never the anchor, so nothing is lost by starting again.
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}

function listedFiles(
  targetsFile: Uint8Array,
  batchesFile: Uint8Array,
  withPolicy: boolean,
): ReadonlyMap<string, FileInfo> {
  const listed = [...targetsOf(targetsFile).targets].filter(([path]) => withPolicy || !path.startsWith(POLICY_FILES));
  const head = targetsOf(batchesFile).targets.get(HEAD_PATH);
  return new Map([...listed, ...(head ? [[HEAD_PATH, head] as const] : [])]);
}

/** Every listed file; those already held with the listed hash are not fetched again. */
async function fetchTargets(
  listed: ReadonlyMap<string, FileInfo>,
  held: ReadonlyMap<string, Uint8Array> | undefined,
  fetch: FetchFile,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const [path, info] of listed) {
    const kept = held?.get(path);
    const bytes = kept && isListed(kept, info) ? kept : await fetchTarget(path, info, fetch);
    files.set(path, bytes);
  }
  return files;
}

async function fetchTarget(path: string, info: FileInfo, fetch: FetchFile): Promise<Uint8Array> {
  const name = TARGETS_FOLDER + targetFileName(path, info.sha256);
  const bytes = await fetch(name, info.length);
  if (!bytes) throw new OperationError("ERR_FETCH", `there is no ${name}`);
  verifyFile(path, bytes, info);
  return bytes;
}

function isListed(bytes: Uint8Array, info: FileInfo): boolean {
  return bytes.length === info.length && equalBytes(sha256(bytes), info.sha256);
}

function targetsOf(file: Uint8Array): Targets {
  return parseMetadata("targets", file).signed;
}

/** An idle refresh brings at most a new timestamp; the disk is written only when something changed. */
function isSame(a: StoredFiles, b: StoredFiles): boolean {
  return (
    a.roots.length === b.roots.length &&
    (["targets", "batches", "snapshot", "timestamp"] as const).every((role) => equalBytes(a[role], b[role]))
  );
}
