/**
 * Which entries may follow in the log, and the tree they make.
 *
 * The signer grows its own frontier and signs only the root it computed itself, so its checkpoints are consistent with
 * each other whatever the sequencer does. Every entry needs a reason that the signer has verified before:
 *
 * - 05 trust: a root, targets or batches file it accepted, or a statement it signed; each once, in order.
 * - 02 batch: the next seq, a manifest whose tokens it signed, the first batches version that held it; at once
 *   followed by exactly the token leaves (01) that make the manifest's root.
 * - 03 event: enough signatures under the root and rules logged last, in time, once, about logged indices.
 *
 * Everything else is refused, so that a thief of the server can log nothing that looks like an act of the authority.
 */
import { LedgerDraft, type LedgerStep } from "@viafabric/revocation";
import {
  BATCH_TOKENS_MAX,
  type BatchLeaf,
  concat,
  decodeLeaf,
  decodeManifest,
  equalBytes,
  type Hash,
  hashLeaf,
  type Manifest,
  MerkleFrontier,
  manifestHash,
  type SignedEvent,
  sha256,
  type TrustLeaf,
  u32,
  u64,
  VerificationError,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { verifyEvent } from "./events.ts";
import { frontierOf, type LoggedBatch, type Officers, type SignerState } from "./state.ts";

export interface AppendRequest {
  /** Log index of the first entry. */
  readonly from: number;
  readonly entries: readonly Uint8Array[];
}

export interface AppendPlan {
  /** Without the note, which the shell adds once it is signed. */
  readonly state: SignerState;
  /** What its ledger is to apply. */
  readonly steps: readonly LedgerStep[];
  readonly entriesHash: Hash;
  readonly size: number;
  readonly root: Hash;
}

/** The largest batch, and what a sequencer puts beside it. */
export const APPEND_ENTRIES_MAX = 101_024;

/** @throws VerificationError, FormatError; then nothing has changed */
export function planAppend(state: SignerState, trusted: TrustedState, request: AppendRequest, now: number): AppendPlan {
  const { from, entries } = request;
  if (from !== state.log.size)
    throw new VerificationError("ERR_LOG_FORK", `entries from ${from} do not follow the log of ${state.log.size}`);
  if (entries.length > APPEND_ENTRIES_MAX)
    throw new VerificationError("ERR_LEAF_REFUSED", `${entries.length} entries at once`);
  const draft = new Draft(state, trusted, now);
  for (let at = 0; at < entries.length; ) at += draft.add(entries, at);
  const { frontier, ledger } = draft;
  const { size } = frontier;
  return { state: draft.finish(), steps: ledger.steps, entriesHash: hashEntries(request), size, root: frontier.root() };
}

/** Names an append, so that a repetition is known from a fork. */
export function hashEntries({ from, entries }: AppendRequest): Hash {
  return sha256(concat(u64(from), ...entries.flatMap((entry) => [u32(entry.length), entry])));
}

/** The next state, as it grows entry by entry. */
class Draft {
  readonly frontier: MerkleFrontier;
  readonly ledger: LedgerDraft;
  readonly #before: SignerState;
  readonly #trusted: TrustedState;
  readonly #now: number;
  readonly #batches: LoggedBatch[];
  readonly #signedManifests: Map<number, Uint8Array>;
  #unlogged: SignerState["unlogged"];
  #logged: SignerState["logged"];
  #quorum: SignerState["quorum"];

  constructor(state: SignerState, trusted: TrustedState, now: number) {
    this.frontier = frontierOf(state);
    this.#before = state;
    this.#trusted = trusted;
    this.#now = now;
    this.ledger = new LedgerDraft(state.ledger);
    this.#batches = [...state.batches];
    this.#signedManifests = new Map(state.signedManifests);
    this.#unlogged = state.unlogged;
    this.#logged = state.logged;
    this.#quorum = state.quorum;
  }

  /** @returns how many entries were taken: a batch brings its tokens */
  add(entries: readonly Uint8Array[], at: number): number {
    const entry = entries[at]!;
    const leaf = decodeLeaf(entry);
    let taken = 1;
    switch (leaf.type) {
      case "trust":
        this.#addTrust(leaf);
        break;
      case "event":
        this.#addEvent(leaf.event);
        break;
      case "batch":
        taken += this.#addBatch(leaf, entries.slice(at + 1, at + 1 + BATCH_TOKENS_MAX));
        break;
      default:
        throw refused(`a ${leaf.type} entry by itself`);
    }
    for (const added of entries.slice(at, at + taken)) this.frontier.append(hashLeaf(added));
    return taken;
  }

  finish(): SignerState {
    const size = this.#batches.length;
    return {
      ...this.#before,
      unlogged: this.#unlogged,
      logged: this.#logged,
      quorum: this.#quorum,
      openHeads: this.#before.openHeads.filter((head) => head.size > size),
      log: { size: this.frontier.size, peaks: [...this.frontier.peaks] },
      signedManifests: this.#signedManifests,
      batches: this.#batches,
    };
  }

  #addTrust({ kind, number, fileHash }: TrustLeaf): void {
    const next = this.#unlogged.find((file) => file.kind === kind);
    if (!next || next.number !== number || !equalBytes(next.fileHash, fileHash))
      throw refused(`${kind} ${number} is not a file that waits for its leaf`);
    this.#unlogged = this.#unlogged.filter((file) => file !== next);
    this.#logged = { ...this.#logged, [next.kind]: number };
    if (next.kind === "root") this.#quorum = { ...this.#quorum, root: next.content };
    if (next.kind === "targets") this.#quorum = { ...this.#quorum, rules: next.content };
  }

  #addEvent(event: SignedEvent): void {
    const body = verifyEvent(event, {
      quorum: this.#quorum,
      keys: this.#trusted.keys,
      authority: this.#trusted.authority,
      batches: this.#batches,
      now: this.#now,
    });
    this.ledger.addEvent(this.frontier.size, body);
  }

  /** @returns the number of token leaves that belong to the batch */
  #addBatch(leaf: BatchLeaf, following: readonly Uint8Array[]): number {
    const seq = this.#batches.length;
    const bytes = this.#signedManifests.get(seq);
    if (leaf.seq !== seq || !bytes || !equalBytes(manifestHash(bytes), leaf.manifestHash))
      throw refused(`batch ${leaf.seq} is not the next one, or its tokens were not signed here`);
    const head = this.#before.openHeads.find((open) => open.size > seq);
    if (!head || !equalBytes(head.fileHash, leaf.metadataHash))
      throw refused(`batch ${seq} does not name the batches metadata that first held it`);
    // Nobody may find a batch in the log before the approval it rests on.
    if (this.#logged.batches < head.version) throw refused(`batches ${head.version} has no leaf before its batch`);
    const manifest = decodeManifest(bytes);
    const { first, count } = manifest;
    if (following.length < count) throw refused(`${following.length} entries follow batch ${seq}, which has ${count}`);
    const tree = new MerkleFrontier();
    for (const entry of following.slice(0, count)) tree.append(hashLeaf(entry));
    if (!equalBytes(tree.root(), manifest.root))
      throw refused(`the token leaves after batch ${seq} do not make the root of its manifest`);
    this.ledger.addBatch(first, count);
    this.#batches.push({ first, count, officers: officersOf(manifest) });
    this.#signedManifests.delete(seq);
    return count;
  }
}

function officersOf({ releaseKeys, stations, first }: Manifest): Officers {
  return { releaseKeys, stations: stations.map((station) => ({ ...station, first: station.first - first })) };
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_LEAF_REFUSED", reason);
}
