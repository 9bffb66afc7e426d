/**
 * What the sequencer has in front of it: the open log, what is published, and the replay of statuses.
 *
 * Opening the desk is the recovery: a publication that was decided is finished, the witnesses are asked whether they
 * have seen more of the log than there is here, the log finishes or drops an append that was interrupted, and
 * everything else is read again from what is published. Nothing else is remembered between two runs but the database.
 */
import path from "node:path";
import type { SignerClient } from "@viafabric/hsm/signer";
import { readFileIfPresent } from "@viafabric/platform";
import { SET_FILE_BYTES_MAX } from "@viafabric/revocation";
import type { MerkleFrontier } from "@viafabric/schemas";
import { equalBytes, noteVerifier, OperationError, type PublicKey, utf8 } from "@viafabric/schemas";
import { frontierOf, parsePolicy } from "@viafabric/transparency-log";
import type { FetchFile } from "@viafabric/transparency-log/client";
import { folderFetch, proveConsistency, readEdge, readEntries } from "@viafabric/transparency-log/client";
import { type CheckpointLock, type Log, openLog } from "@viafabric/transparency-log/log";
import type { Gathered } from "@viafabric/transparency-log/witness";
import type { Settings } from "./genesis.ts";
import type { IssuedBatch } from "./issue.ts";
import { type Published, readPublished } from "./published.ts";
import { type PublicStorage, publicFolder, publish } from "./publisher.ts";
import { StatusHistory } from "./status-history.ts";
import type { Store } from "./store.ts";
import { assertNoSplit, Witnesses } from "./witnesses.ts";

export interface DeskDependencies {
  readonly store: Store;
  readonly signer: SignerClient;
  readonly publicFolder: string;
  /** Of the log: private, and on a disk of this machine. */
  readonly stagingFolder: string;
  /** Transcripts of key ceremonies, by number. */
  readonly transcriptsFolder: string;
  /** Where a witness's contradiction is kept. */
  readonly splitFile: string;
  /** Root v1 with its signatures. */
  readonly pinnedRoot: Uint8Array;
  readonly logKey: PublicKey;
  readonly settings: Settings;
  /** Under which secrets are stored. */
  readonly secretKey: Uint8Array;
  readonly random: (length: number) => Uint8Array;
  /** On the disks of the vault; the smallest counts. */
  readonly freeBytes: () => Promise<number>;
  /** Unix seconds. */
  readonly now: () => number;
}

export class Desk {
  readonly deps: DeskDependencies;
  readonly log: Log;
  readonly history: StatusHistory;
  readonly storage: PublicStorage;
  /** The files of the log, and of the tree of manifests. */
  readonly logFiles: FetchFile;
  readonly manifestFiles: FetchFile;
  #published: Published | undefined;
  #issued: readonly IssuedBatch[] = [];
  /** Of the policy in force: another one names others. */
  #witnesses: { readonly policyText: string; readonly witnesses: Witnesses } | undefined;

  private constructor(deps: DeskDependencies, log: Log, published: Published | undefined) {
    this.deps = deps;
    this.log = log;
    this.storage = publicFolder(deps.publicFolder);
    this.logFiles = folderFetch(path.join(deps.publicFolder, "log"));
    this.manifestFiles = folderFetch(path.join(deps.publicFolder, "batches"));
    this.history = new StatusHistory(this.logFiles, (hash) => manifestOf(deps.store, hash));
    this.#published = published;
  }

  /** @throws VerificationError ERR_WITNESS_SPLIT while a contradiction is unexplained */
  static async open(deps: DeskDependencies): Promise<Desk> {
    await assertNoSplit(deps.splitFile);
    const decided = await deps.store.openPublication();
    if (decided) await publish(publicFolder(deps.publicFolder), decided.publication);
    const published = await readPublished(deps.publicFolder, deps.pinnedRoot);
    const origin = deps.settings.logOrigin;
    // A log that was restored from a backup looks sound from here. Those who cosigned it know better, and must be asked
    // before the first signature: opening the log may finish an append.
    const witnesses = published && (await openWitnesses(deps, published.trusted.policyText));
    const held = await deps.store.logHead(origin);
    if (held) await witnesses?.confirm(held.note);
    const log = await openLog({
      verifier: noteVerifier(origin, deps.logKey),
      folder: path.join(deps.publicFolder, "log"),
      stagingFolder: deps.stagingFolder,
      lock: checkpointLock(deps.store, origin),
      sign: (entries, from) => deps.signer.append({ from, entries }),
      // The checkpoint is one of the pointers of a publication, and moves in its order.
      until: "written",
    });
    const desk = new Desk(deps, log, published);
    if (published && witnesses) desk.#witnesses = { policyText: published.trusted.policyText, witnesses };
    try {
      if (published) await desk.#hold(published);
      if (decided) await deps.store.finishPublication(decided.id, deps.now());
    } catch (error) {
      await log.close();
      throw error;
    }
    return desk;
  }

  async close(): Promise<void> {
    await this.log.close();
  }

  /** Undefined before genesis is published. */
  get published(): Published | undefined {
    return this.#published;
  }

  /** @throws OperationError ERR_HOME before genesis */
  need(): Published {
    if (!this.#published) throw new OperationError("ERR_HOME", "genesis has not been published yet");
    return this.#published;
  }

  /**
   * Appends entries that must stand in the log once. Where they were meant to go is noted before, and looked at before
   * they are appended again. @returns the index of the first
   */
  async appendOnce(name: string, entries: readonly Uint8Array[]): Promise<number> {
    const meant = await this.deps.store.intent(name);
    if (meant !== undefined && (await this.#holds(meant, entries))) return meant;
    await this.deps.store.noteIntent(name, this.log.size);
    return (await this.log.append(entries)).firstIndex;
  }

  /** Makes what was decided visible, reads it back, and only then calls it published. */
  async publishDecided(): Promise<void> {
    const { store, now } = this.deps;
    const decided = await store.openPublication();
    if (!decided) return;
    await publish(this.storage, decided.publication);
    const published = await readPublished(this.deps.publicFolder, this.deps.pinnedRoot);
    if (published) await this.#hold(published);
    await store.finishPublication(decided.id, now());
    this.#issued = [];
  }

  /** The witnesses of the policy in force. @param policyText of a policy that is about to be */
  async witnesses(policyText = this.need().trusted.policyText): Promise<Witnesses> {
    if (this.#witnesses?.policyText !== policyText) {
      this.#witnesses = { policyText, witnesses: await openWitnesses(this.deps, policyText) };
    }
    return this.#witnesses.witnesses;
  }

  /** Why proofs and kits wait. */
  get missingWitnesses(): string | undefined {
    return this.#witnesses?.witnesses.missing;
  }

  /** The log as it is, with the cosignatures that can be had now. @throws VerificationError ERR_WITNESS_SPLIT */
  async cosign(policyText?: string): Promise<Gathered> {
    const witnesses = await this.witnesses(policyText);
    const { head, checkpoint } = this.log;
    return witnesses.gather({
      note: checkpoint!,
      prove: (oldSize) => proveConsistency(this.logFiles, oldSize, head),
    });
  }

  async entryAt(index: number): Promise<Uint8Array> {
    for await (const entry of readEntries(this.logFiles, this.log.head, index, index + 1)) return entry;
    throw new OperationError("ERR_LOG_STATE", `the log has no entry ${index}`);
  }

  /** A file published earlier. */
  readPublic(name: string): Promise<Uint8Array | undefined> {
    return readFileIfPresent(path.join(this.deps.publicFolder, name), SET_FILE_BYTES_MAX);
  }

  /** What was logged a moment ago need not be put together again to be published. */
  keepIssued(batches: readonly IssuedBatch[]): void {
    this.#issued = batches;
  }

  issuedBatch(manifestHash: Uint8Array): IssuedBatch | undefined {
    return this.#issued.find(({ record }) => equalBytes(record.manifestHash, manifestHash));
  }

  /** The right edge of the tree of manifests under the published head. */
  async manifests(): Promise<MerkleFrontier> {
    const { head } = this.need().trusted;
    return frontierOf(await readEdge(this.manifestFiles, head));
  }

  async #hold(published: Published): Promise<void> {
    this.#published = published;
    const { statement } = published.statement;
    if (this.history.held?.statement.epoch === statement.epoch) return;
    await this.history.replayTo(this.log.head, statement.log.size);
    this.history.hold(published.statement, this.history.planesAt(statement.epoch));
  }

  async #holds(at: number, entries: readonly Uint8Array[]): Promise<boolean> {
    const { head } = this.log;
    if (at + entries.length > head.size) return false;
    let i = 0;
    for await (const entry of readEntries(this.logFiles, head, at, at + entries.length)) {
      if (!equalBytes(entry, entries[i++]!)) return false;
    }
    return true;
  }
}

function openWitnesses(
  { settings, logKey, store, splitFile, now }: DeskDependencies,
  text: string,
): Promise<Witnesses> {
  const log = noteVerifier(settings.logOrigin, logKey);
  return Witnesses.open({ policy: parsePolicy(utf8(text)), log, store, splitFile, now });
}

/** The head row of the log: replaced only by whoever knows the one before. */
function checkpointLock(store: Store, origin: string): CheckpointLock {
  return {
    read: () => store.logHead(origin),
    async replace(oldSize, next) {
      if (!(await store.replaceLogHead(origin, oldSize, next)))
        throw new OperationError("ERR_LOG_STATE", `the log ${origin} is no longer at ${oldSize} entries`);
    },
  };
}

async function manifestOf(store: Store, hash: Uint8Array): Promise<Uint8Array> {
  const batch = await store.batch(hash);
  if (!batch) throw new OperationError("ERR_DATABASE", "the log holds a batch that the database does not know");
  return batch.manifest;
}
