/**
 * Bringing a node up to date from any copy of the published files: a web server, a mirror, a folder, a stick.
 *
 * The source is never trusted. Each part is verified before it replaces what the node holds, so a refresh that fails
 * half-way leaves a node that still decides, with an older but true state.
 */
import {
  applyDelta,
  catchUp,
  type EpochSet,
  eventPath,
  IndexSet,
  LATEST_PATH,
  type Plane,
  parseStatement,
  parseUndoList,
  type Statement,
  signedSet,
  snapshotPath,
  statementPath,
  undoPath,
} from "@viafabric/revocation";
import {
  buildConsistencyProof,
  buildInclusionProof,
  CodedError,
  equalBytes,
  type Hash,
  OperationError,
  parseHex,
  parseNote,
  quote,
} from "@viafabric/schemas";
import { parseProof, verifyCheckpoint, witnessQuorumTime } from "@viafabric/transparency-log";
import {
  type FetchFile,
  type Mirror,
  type MirrorFailure,
  openTree,
  subFolder,
  tryMirrors,
} from "@viafabric/transparency-log/client";
import { raiseClockFloor, refreshTrust } from "@viafabric/tuf/client";
import {
  advanceStatus,
  type BundleFiles,
  Refusal,
  type SignedSets,
  type StatusState,
  type Trust,
  verifyBundle,
} from "@viafabric/verifier";
import { type FoundBatch, findBatch } from "./find-batch.ts";
import {
  type HeldStatus,
  heldSequences,
  loadBundle,
  loadStatus,
  type NodeHome,
  storeBundle,
  storeStatus,
  trustFolder,
  trustOf,
} from "./home.ts";

export interface RefreshOptions {
  /** Batches to hold, or every batch under the head. */
  readonly batches: readonly number[] | "all";
  /** Unix seconds. */
  readonly now: number;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface RefreshReport {
  /** The mirror that was followed, and what the others failed with. */
  readonly mirror: string;
  readonly failures: readonly MirrorFailure[];
  /** Whether the newest statement of any mirror is one that should have had a successor. */
  readonly overdue: boolean;
  readonly trust: Trust;
  readonly status: StatusState;
  readonly held: readonly number[];
  /** Batches that could not be taken in, with the code of the reason. */
  readonly refused: readonly { readonly seq: number; readonly code: string; readonly message: string }[];
}

/** A statement chain longer than this (a year of hours) is not followed link by link: start again from the root. */
const CHAIN_STATEMENTS_MAX = 9_000;
/** The floor is at most as old as the head that carries it. */
const REINSTATEMENTS_MAX = 100_000;

/** A mirror copies once in a while; one that is an hour behind is no reason to ask the next. */
const MIRROR_LAG_SECONDS = 3600;

type Refreshed = Omit<RefreshReport, "mirror" | "failures" | "overdue">;

/**
 * From the first mirror that shows a living state and all bundles wanted; an older one is taken where none shows more.
 * @throws Refusal, VerificationError, FormatError, OperationError; the node keeps what it had of every part
 */
export async function refreshNode(
  home: NodeHome,
  mirrors: readonly Mirror[],
  options: RefreshOptions,
): Promise<RefreshReport> {
  const isOverdue = ({ status }: Refreshed) => {
    return options.now > status.verified.statement.next + MIRROR_LAG_SECONDS;
  };
  const { value, mirror, failures } = await tryMirrors(
    mirrors,
    (fetch) => refreshFrom(home, fetch, options),
    (refreshed) => !isOverdue(refreshed) && refreshed.refused.length === 0,
  );
  return { ...value, mirror, failures, overdue: isOverdue(value) };
}

export interface HoldReport {
  readonly mirror: string;
  readonly failures: readonly MirrorFailure[];
  readonly batch: FoundBatch;
}

/**
 * Brings the node up to date and takes the bundle of the batch that covers a token's index.
 * @throws Refusal batch-not-held where no batch does; what refreshNode throws
 */
export async function holdIndex(
  home: NodeHome,
  mirrors: readonly Mirror[],
  index: number,
  now: number,
): Promise<HoldReport> {
  const { value, mirror, failures } = await tryMirrors(mirrors, async (fetch) => {
    const { trust } = await refreshFrom(home, fetch, { batches: [], now });
    const batch = await findBatch(trust.head, index, fetch);
    const { refused } = await refreshBundles(home, trust, fetch, { batches: [batch.seq], now });
    const failure = refused.find(({ seq }) => seq === batch.seq);
    if (failure) throw new CodedError(failure.code, `batch ${failure.seq}: ${failure.message}`);
    return batch;
  });
  return { mirror, failures, batch: value };
}

async function refreshFrom(home: NodeHome, fetch: FetchFile, options: RefreshOptions): Promise<Refreshed> {
  const manifests = subFolder(fetch, "batches");
  const state = await refreshTrust({
    folder: trustFolder(home),
    pinned: home.pinned,
    ...(home.settings.lineage !== undefined && { lineage: parseHex(home.settings.lineage, 32) }),
    fetch,
    prove: async (oldSize, next) => {
      return buildConsistencyProof(oldSize, next.size, (await openTree(manifests, next)).subtree);
    },
    now: options.now,
  });
  const trust = trustOf(state, home.settings);
  if (trust.policy.quorum === undefined && !home.settings.development) {
    throw new Refusal(
      "witness-quorum-missing",
      "this authority requires no witness: a split view of its log would go unseen. Initialise with --development to accept that",
    );
  }
  const status = await refreshStatus(home, trust, fetch);
  const { held, refused } = await refreshBundles(home, trust, fetch, options);
  return { trust, status, held, refused };
}

async function refreshStatus(home: NodeHome, trust: Trust, fetch: FetchFile): Promise<StatusState> {
  const held = await loadHeldStatus(home, trust);
  const previous = held?.state;
  const note = await need(fetch, LATEST_PATH, held?.note);
  const statement = statementOf(note);
  if (previous?.verified.text === parseNote(note).text) return previous;
  const floor = await fetchFloor(trust, fetch);
  const sets = await fetchSets(statement, previous, fetch);
  const between = previous ? await fetchBetween(previous.verified.statement.epoch, statement.epoch, fetch) : [];
  const reinstatements = needsReinstatements(previous, floor, sets)
    ? await fetchReinstatements(statement.epoch, fetch)
    : [];
  const status = advanceStatus(trust, previous, { note, between, sets, floor, reinstatements });
  await storeStatus(home, note, status);
  return status;
}

/** A damaged status file is like none: the floor in the head still binds. */
async function loadHeldStatus(home: NodeHome, trust: Trust): Promise<HeldStatus | undefined> {
  try {
    return await loadStatus(home, trust);
  } catch (error) {
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}

function statementOf(note: Uint8Array): Statement {
  try {
    return parseStatement(parseNote(note).text);
  } catch (cause) {
    throw new Refusal("status-invalid", "revocation/latest is not a status statement", { cause });
  }
}

async function fetchSets(
  statement: Statement,
  previous: StatusState | undefined,
  fetch: FetchFile,
): Promise<SignedSets> {
  const read = async (plane: Plane) => {
    try {
      return await catchUp(previous?.sets[plane], signedSet(statement, plane), fetch);
    } catch (cause) {
      if (!(cause instanceof CodedError) || cause instanceof OperationError) throw cause;
      const reason = `no published way leads to plane ${plane} of epoch ${statement.epoch}: ${cause.message}`;
      throw new Refusal("status-invalid", reason, { cause });
    }
  };
  return [await read(0), await read(1), await read(2)];
}

async function fetchFloor(trust: Trust, fetch: FetchFile): Promise<readonly [IndexSet, IndexSet] | undefined> {
  const { epoch } = trust.head.floor;
  if (epoch === 0) return undefined;
  const empty = (plane: Plane): EpochSet => ({ plane, epoch: 0, n: 0, set: IndexSet.EMPTY });
  const read = async (plane: Plane) => applyDelta(empty(plane), await need(fetch, snapshotPath(plane, epoch))).set;
  try {
    return [await read(0), await read(1)];
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    throw new Refusal("floor-missing", `the snapshots of floor epoch ${epoch} are missing or damaged`, {
      cause: error,
    });
  }
}

async function fetchBetween(held: number, target: number, fetch: FetchFile): Promise<Uint8Array[]> {
  if (target - held > CHAIN_STATEMENTS_MAX) {
    throw new Refusal(
      "status-chain-broken",
      `${target - held} statements behind: initialise the node again from its pinned root`,
    );
  }
  const notes: Uint8Array[] = [];
  for (let epoch = held + 1; epoch < target; epoch++) notes.push(await need(fetch, statementPath(epoch)));
  return notes;
}

/** Whether anything that the node would keep has left the signed sets. */
function needsReinstatements(
  previous: StatusState | undefined,
  floor: readonly [IndexSet, IndexSet] | undefined,
  sets: SignedSets,
): boolean {
  const seen = [previous?.revoked, previous?.suspended];
  return ([0, 1] as const).some((plane) => {
    return [seen[plane], floor?.[plane]].some((held) => held && held.minus(sets[plane].set).count > 0);
  });
}

async function fetchReinstatements(epoch: number, fetch: FetchFile): Promise<Uint8Array[]> {
  const list = await fetch(undoPath(epoch));
  const leaves = list ? parseUndoList(list).slice(-REINSTATEMENTS_MAX) : [];
  const proofs: Uint8Array[] = [];
  for (const leaf of leaves) {
    // A missing proof frees nobody; it does not stop the node from learning of new revocations.
    const proof = await fetch(eventPath(leaf));
    if (proof) proofs.push(proof);
  }
  return proofs;
}

async function refreshBundles(
  home: NodeHome,
  trust: Trust,
  fetch: FetchFile,
  options: RefreshOptions,
): Promise<Pick<RefreshReport, "held" | "refused">> {
  const { head } = trust;
  const before = await heldSequences(home);
  const chosen = options.batches === "all" ? Array.from({ length: head.size }, (_, seq) => seq) : options.batches;
  const wanted = [...new Set([...chosen, ...before])].filter((seq) => seq < head.size).sort((a, b) => a - b);
  const held: number[] = [];
  const refused: { seq: number; code: string; message: string }[] = [];
  if (wanted.length === 0) return { held, refused };
  const { subtree } = await openTree(subFolder(fetch, "batches"), head);
  for (const [i, seq] of wanted.entries()) {
    try {
      const manifestProof = await buildInclusionProof(seq, head.size, subtree);
      const files = await takeBundle(home, trust, fetch, seq, manifestProof);
      const witnessed = witnessQuorumTime(
        trust.policy,
        verifyCheckpoint(trust.policy, parseProof(files.logProof).checkpoint),
      );
      if (witnessed !== undefined) await raiseClockFloor(trustFolder(home), witnessed, options.now);
      held.push(seq);
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      refused.push({ seq, code: error.code, message: error.message });
    }
    options.onProgress?.(i + 1, wanted.length);
  }
  return { held, refused };
}

/**
 * A held bundle is kept, and only its place under the new head is proven again; unless other witnesses count by now, and
 * its `log.proof` is another one.
 */
async function takeBundle(
  home: NodeHome,
  trust: Trust,
  fetch: FetchFile,
  seq: number,
  manifestProof: readonly Hash[],
): Promise<BundleFiles> {
  const stored = await loadHeldBundle(home, seq);
  const files = stored && isUsable(trust, stored.files, manifestProof) ? stored.files : await fetchBundle(fetch, seq);
  const batch = verifyBundle(trust, files, manifestProof);
  if (batch.manifest.seq !== seq)
    throw new Refusal("manifest-not-in-head", `batch ${seq} holds the manifest of ${batch.manifest.seq}`);
  if (batch.logRefusal) throw new Refusal(batch.logRefusal);
  const same = stored?.files === files && isSameProof(stored.manifestProof, manifestProof);
  if (!same) await storeBundle(home, seq, { files, manifestProof });
  return files;
}

async function loadHeldBundle(home: NodeHome, seq: number): ReturnType<typeof loadBundle> {
  try {
    return await loadBundle(home, seq);
  } catch (error) {
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}

function isUsable(trust: Trust, files: BundleFiles, manifestProof: readonly Hash[]): boolean {
  try {
    return verifyBundle(trust, files, manifestProof).logRefusal === undefined;
  } catch (error) {
    if (error instanceof Refusal) return false;
    throw error;
  }
}

function isSameProof(a: readonly Hash[], b: readonly Hash[]): boolean {
  return a.length === b.length && a.every((hash, i) => equalBytes(hash, b[i]!));
}

async function fetchBundle(fetch: FetchFile, seq: number): Promise<BundleFiles> {
  const folder = subFolder(fetch, `batch/${seq}`);
  const tokens = await folder("tokens.bin");
  return {
    manifest: await need(folder, "manifest.cbor"),
    leaves: await need(folder, "leaves.bin"),
    ...(tokens ? { tokens } : {}),
    logProof: await need(folder, "log.proof"),
  };
}

async function need(fetch: FetchFile, path: string, held?: Uint8Array): Promise<Uint8Array> {
  const bytes = await fetch(path, undefined, held);
  if (!bytes) throw new OperationError("ERR_FETCH", `the source has no ${quote(path)}`);
  return bytes;
}
