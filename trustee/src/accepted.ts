/**
 * The state this trustee accepts: what a quorum has signed and published, extending what was accepted here before.
 *
 * A vault that shows an older state, another history or a log that was rewritten is refused; nobody's word for what
 * "the previous version" was is asked for.
 */
import { PRIVATE_FILE, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import { StatusLedger, setRoot, verifyStatement } from "@viafabric/revocation";
import {
  EMPTY_ROOT,
  equalBytes,
  type Head,
  type MerkleFrontier,
  OperationError,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { type LogPolicy, parsePolicy } from "@viafabric/transparency-log";
import {
  type FetchFile,
  type Mirror,
  openTree,
  proveConsistency,
  readCheckpoint,
  readEntries,
  subFolder,
  type TileTree,
  tileSubtree,
  tryMirrors,
} from "@viafabric/transparency-log/client";
import { METADATA_BYTES_MAX, type PinnedRoot, parseMetadata, type TrustedState, verifyRootChain } from "@viafabric/tuf";
import { assertClock, loadTrust, refreshTrust } from "@viafabric/tuf/client";
import { type Home, readFirstRoot } from "./home.ts";
import { decodeReplay, encodeReplay, type ReplayState, replay, startReplay } from "./replay.ts";

export interface Accepted {
  readonly trust: TrustedState;
  /** What was accepted before this refresh; undefined the first time. */
  readonly before: TrustedState | undefined;
  /** The manifest tree under the accepted head. */
  readonly manifests: MerkleFrontier;
  readonly log: VerifiedLog;
  /** Nothing that is current is published: only what ends that may be signed. */
  readonly expired: boolean;
}

/** The log as its checkpoint has it, proven to extend what the accepted head names. */
export interface VerifiedLog {
  readonly size: number;
  readonly root: Uint8Array;
  /** @throws VerificationError ERR_PROPOSAL_MISMATCH unless the log had this root at this size */
  verifyAt(head: Head["log"]): Promise<void>;
  /** Replays to the floor and compares. @throws VerificationError ERR_PROPOSAL_MISMATCH, ERR_LOG_UNSOUND */
  verifyFloor(head: Head): Promise<void>;
}

/** Ten million batches and events; our own file. */
const REPLAY_BYTES_MAX = 1024 * 1024 * 1024;
const STATEMENT_BYTES_MAX = 2048;

/**
 * @param mirrors of the published tree. @param now unix seconds
 * @param seenBy `quorum`: only a log that enough witnesses have cosigned. `anybody`: the log's own word will do, where
 * waiting for other people's servers would be worse
 * @throws OperationError ERR_CLOCK
 */
export async function acceptPublished(
  home: Home,
  mirrors: readonly Mirror[],
  now: number,
  seenBy: SeenBy = "quorum",
): Promise<Accepted> {
  // Lifetimes are signed by this clock, and what it calls living may be long over.
  await assertClock(home.trust, now);
  const current = ({ expired }: Accepted): boolean => !expired;
  return (await tryMirrors(mirrors, (fetch) => acceptFrom(home, fetch, now, seenBy), current)).value;
}

type SeenBy = "quorum" | "anybody";

async function acceptFrom(home: Home, fetch: FetchFile, now: number, seenBy: SeenBy): Promise<Accepted> {
  const pinned = await pinnedRoot(home, fetch);
  const before = await loadTrust(home.trust, pinned).catch((error: unknown) => {
    if (error instanceof OperationError && error.code === "ERR_TRUST_MISSING") return undefined;
    throw error;
  });
  const batches = subFolder(fetch, "batches");
  const prove = (oldSize: number, head: Pick<Head, "size" | "root">) => proveConsistency(batches, oldSize, head);
  const options = { folder: home.trust, pinned, fetch, prove, now };
  let expired = false;
  const trust = await refreshTrust(options).catch((error: unknown) => {
    if (!(error instanceof VerificationError) || error.code !== "ERR_METADATA_EXPIRED") throw error;
    // Everybody else waits for the trustees to sign again. They cannot wait for themselves.
    expired = true;
    return refreshTrust({ ...options, evenExpired: true });
  });
  const { head } = trust;
  const manifests = (await openTree(batches, head)).frontierAt(head.size);
  const policy = parsePolicy(utf8(trust.policyText));
  const log = await openLog(home, fetch, trust, seenBy === "quorum" ? policy : { ...policy, quorum: undefined });
  // The accepted head was signed by a quorum; a log that does not contain what it names was rewritten since.
  await log.verifyAt(head.log);
  return { trust, before, manifests: await manifests, log, expired };
}

/** What was accepted last, without a network. @throws OperationError ERR_TRUST_MISSING */
export async function loadAccepted(home: Home): Promise<TrustedState> {
  return loadTrust(home.trust, { file: await readPublishedRoot(home) });
}

/** Root v1 as it was published and accepted, without a network. @throws OperationError ERR_TRUST_MISSING */
export async function readPublishedRoot(home: Home): Promise<Uint8Array> {
  const { signed } = await readFirstRoot(home);
  const file = await readFileIfPresent(rootFile(home), METADATA_BYTES_MAX.root);
  if (!file || !equalBytes(parseMetadata("root", file).signedBytes, signed))
    throw new OperationError("ERR_TRUST_MISSING", "nothing was accepted yet; run status with --vault");
  return file;
}

/** Root v1 as published, the only file whose signed part hashes to the authority. */
async function pinnedRoot(home: Home, fetch: FetchFile): Promise<PinnedRoot> {
  const { authority } = await readFirstRoot(home);
  const kept = await readFileIfPresent(rootFile(home), METADATA_BYTES_MAX.root);
  const file = kept ?? (await fetch("tuf/metadata/1.root.json"));
  if (!file) throw new OperationError("ERR_FETCH", "there is no tuf/metadata/1.root.json: is the authority published?");
  const pinned = { file, authority };
  verifyRootChain(pinned, []);
  if (!kept) await writeFileDurable(rootFile(home), file);
  return pinned;
}

async function openLog(home: Home, fetch: FetchFile, trust: TrustedState, policy: LogPolicy): Promise<VerifiedLog> {
  const source = subFolder(fetch, "log");
  const { checkpoint } = await readCheckpoint(source, policy);
  const tree: TileTree = await openTree(source, checkpoint);
  const rootAt = async (size: number) => (size === 0 ? EMPTY_ROOT : (await tree.frontierAt(size)).root());
  const verifyAt = async (named: Head["log"]): Promise<void> => {
    if (named.size > checkpoint.size) throw mismatch(`it names a log of ${named.size}; the log has ${checkpoint.size}`);
    if (!equalBytes(await rootAt(named.size), named.root))
      throw mismatch(`it names another root of the log at size ${named.size}`);
  };
  const sources = {
    authority: trust.authority,
    fetch,
    manifests: tileSubtree(subFolder(fetch, "batches"), trust.head),
    manifestCount: trust.head.size,
  };
  const replayTo = async (size: number): Promise<ReplayState> => {
    const kept = await readReplay(home);
    const from = kept && kept.size <= size ? kept : startReplay();
    const state = await replay(from, readEntries(source, checkpoint, from.size, size), sources);
    await writeFileDurable(home.replay, encodeReplay(state), PRIVATE_FILE);
    return state;
  };
  return {
    size: checkpoint.size,
    root: checkpoint.root,
    verifyAt,
    async verifyFloor(head) {
      const { floor } = head;
      if (floor.epoch === 0) {
        // Only the head of the first meeting has no statement below it.
        if (head.size > 0 || floor.n > 0 || floor.logSize > 0) throw mismatch("it has no floor");
        return;
      }
      if (floor.logSize > head.log.size) throw mismatch("its floor lies beyond the log it names");
      const note = await fetch(`revocation/e/${floor.epoch}.txt`);
      if (!note) throw new OperationError("ERR_FETCH", `there is no statement of epoch ${floor.epoch}`);
      if (note.length > STATEMENT_BYTES_MAX) throw mismatch("its floor's statement is too long");
      const { statement } = verifyStatement(note, trust);
      await verifyAt(statement.log);
      const ledger = StatusLedger.decode((await replayTo(floor.logSize)).ledger);
      const [revoked, suspended] = ledger.planes();
      const computed = {
        n: ledger.n,
        revokedRoot: setRoot(revoked, ledger.n),
        suspendedRoot: setRoot(suspended, ledger.n),
      };
      if (statement.log.size !== floor.logSize || floor.n !== computed.n)
        throw mismatch(`its floor is not that of epoch ${floor.epoch}`);
      for (const plane of ["revokedRoot", "suspendedRoot"] as const)
        if (!equalBytes(floor[plane], computed[plane]))
          throw mismatch(`its floor's ${plane} is not what the log makes at size ${floor.logSize}`);
    },
  };
}

async function readReplay(home: Home): Promise<ReplayState | undefined> {
  const bytes = await readFileIfPresent(home.replay, REPLAY_BYTES_MAX);
  return bytes && decodeReplay(bytes);
}

function rootFile(home: Home): string {
  return `${home.accepted}/root.json`;
}

function mismatch(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_MISMATCH", reason);
}
