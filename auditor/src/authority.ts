/**
 * What the authority did, judged entry by entry from public files alone: who approved each batch, who signed each
 * event, what each statement says. The same rules as the bounded signer's, which nobody outside can watch at work.
 *
 * - a head is signed by the approvers logged before it, names the log as it is, and holds exactly the logged manifests
 * - a batch is under the first head that held its place, and its issuer key is listed
 * - a status event meets its threshold under the root, rules and keys logged before it
 * - a statement is chained, logged, and states what the replay makes
 */
import {
  batchesMeeting,
  encodeSnapshot,
  eventPath,
  type Handling,
  parseStatement,
  signedSet,
  snapshotPath,
  statementPath,
  verifyEventQuorum,
  verifySnapshot,
} from "@viafabric/revocation";
import {
  type CborValue,
  CodedError,
  decodeEventBody,
  decodeManifest,
  EMPTY_ROOT,
  type ErrorCode,
  type EventLeaf,
  equalBytes,
  findKey,
  type Hash,
  type Head,
  type HolderEventLeaf,
  hashLeaf,
  type IndexRange,
  type Manifest,
  MerkleFrontier,
  OperationError,
  parseNote,
  sha256,
  type TrustLeaf,
  utf8,
  VerificationError,
  verifyTranscript,
} from "@viafabric/schemas";
import type { LogPolicy } from "@viafabric/transparency-log";
import type { Judge, JudgeTools } from "./audit-log.ts";
import { checkProof, evidence, notJudged, trustPaths } from "./evidence.ts";
import type { LoggedBatch } from "./log-rules.ts";
import { Series } from "./series.ts";
import { StatusReplay } from "./status-replay.ts";
import { type Pin, TrustHistory } from "./trust-history.ts";

/** Lines of one file of the list of batches. */
const LIST_LINES = 256;

interface BatchRow extends IndexRange {
  readonly manifestHash: Hash;
}

/** A head whose batches are not all logged yet. */
interface OpenHead {
  readonly version: number;
  readonly size: number;
  readonly root: Hash;
  readonly fileHash: Hash;
}

export class Authority implements Judge {
  readonly trust: TrustHistory;
  readonly status: StatusReplay;
  readonly batches: BatchRow[] = [];
  /** seq, log index of the batch leaf, tokens */
  readonly series = new Series();
  readonly #tools: JudgeTools;
  readonly #pin: Pin;
  #manifests = new MerkleFrontier();
  #open: OpenHead[] = [];
  /** The lines of the last page of the list; an empty one where the manifest does not tell it. */
  #list: string[] = [];
  /** Batches whose manifest is missing or wrong, which was said. */
  readonly #unknown = new Set<number>();

  constructor(tools: JudgeTools, pin: Pin) {
    this.#tools = tools;
    this.#pin = pin;
    this.trust = new TrustHistory(pin, tools.published);
    this.status = new StatusReplay({ ...tools, authority: pin.authority });
  }

  /** Those in force so far, and today's: a proof may have been made again for other witnesses. */
  get policies(): readonly LogPolicy[] {
    return [...this.trust.policies, this.#tools.policy];
  }

  /** Number and root of the manifests logged. */
  get manifests(): { readonly size: number; readonly root: Hash } {
    return { size: this.#manifests.size, root: this.#manifests.root() };
  }

  takeTrust(entry: number, leaf: TrustLeaf): Promise<void> {
    return this.#judged(entry, async () => {
      const path = trustPaths(leaf)[0]!;
      const file = await this.#tools.published(path);
      if (!file) throw evidence(`${path} is in the log and not published`);
      // Said already, where files are compared with the log.
      if (!equalBytes(sha256(file), leaf.fileHash)) return;
      const { kind, number } = leaf;
      if (kind === "root") this.trust.takeRoot(number, file);
      else if (kind === "targets") await this.trust.takeTargets(number, file);
      else if (kind === "batches") await this.#takeHead(entry, leaf, await this.trust.takeBatches(number, file));
      else if (kind === "statement") {
        await this.status.takeStatement(entry, number, file, this.trust.inForce.keys);
      } else verifyTranscript(file, this.#pin.authority);
    });
  }

  takeBatch(batch: LoggedBatch): Promise<void> {
    const { entry, leaf, count } = batch;
    return this.#judged(entry, async () => {
      const open = this.#open.find(({ size }) => size > leaf.seq);
      this.#manifests.append(hashLeaf(leaf.manifestHash));
      this.series.add([leaf.seq, entry, count]);
      // The manifest is held to the same range, where the bundle is compared with the log.
      const range = { first: batch.first ?? 0, count };
      this.batches.push({ ...range, manifestHash: leaf.manifestHash });
      this.status.wait({ entry, kind: "batch", ...range });
      this.#closeHeads(entry);
      // A wrong one was said already, where files are compared with the log.
      const manifest = await this.#manifest(entry, leaf.seq, leaf.manifestHash, true);
      await this.#addToList(leaf.seq, manifest);
      if (!open) throw unapproved(`batch ${leaf.seq} is under no head that trustees signed`);
      if (!equalBytes(open.fileHash, leaf.metadataHash)) {
        throw unapproved(`batch ${leaf.seq} does not name batches ${open.version}, the first that held it`);
      }
      if (!manifest) return;
      if (!equalBytes(manifest.authority, this.#pin.authority)) {
        throw new VerificationError("ERR_AUTHORITY", `batch ${leaf.seq} is of another authority`);
      }
      if (!findKey(this.trust.inForce.keys, manifest.issuer, "issuer", manifest.nbf)) {
        throw unapproved(`the issuer key of batch ${leaf.seq} is not listed as valid when its tokens begin`);
      }
    });
  }

  async takeEvent(entry: number, leaf: EventLeaf | HolderEventLeaf, bytes: Uint8Array): Promise<void> {
    await this.#judged(entry, async () => {
      if (leaf.type === "event") await this.#verifyEvent(entry, leaf);
      this.status.wait({ entry, kind: "event", leaf: bytes });
    });
    await this.#judged(entry, () => this.#checkEventProof(entry, bytes));
  }

  /** After the last entry. */
  async close(): Promise<void> {
    const { size } = this.#tools.checkpoint;
    this.status.close();
    await this.#judged(size, async () => {
      if (this.#list.length > 0) await this.#checkList(this.#manifests.size - 1, this.#list);
    });
    await this.#judged(size, async () => {
      const [open] = this.#open;
      if (!open) return;
      const reason = `batches ${open.version} approves ${open.size} batches, the log holds ${this.#manifests.size}`;
      throw evidence(reason);
    });
  }

  encode(): CborValue {
    const rows = this.batches.map(({ first, count, manifestHash }) => [first, count, manifestHash]);
    const open = this.#open.map(({ version, size, root, fileHash }) => [version, size, root, fileHash]);
    const manifests = [this.#manifests.size, [...this.#manifests.peaks]];
    return [this.trust.encode(), this.status.encode(), rows, manifests, open, [...this.#list], this.series.encode()];
  }

  /** @param value as encode gave it */
  async restore(value: CborValue): Promise<void> {
    const [trust, status, rows, [size, peaks], open, list, series] = value as readonly [
      CborValue,
      CborValue,
      readonly (readonly [number, number, Hash])[],
      readonly [number, readonly Hash[]],
      readonly (readonly [number, number, Hash, Hash])[],
      readonly string[],
      CborValue,
    ];
    await this.trust.restore(trust);
    this.status.restore(status);
    this.batches.push(...rows.map(([first, count, manifestHash]) => ({ first, count, manifestHash })));
    this.#manifests = new MerkleFrontier(size, peaks);
    this.#open = open.map(([version, heads, root, fileHash]) => ({ version, size: heads, root, fileHash }));
    this.#list = [...list];
    this.series.restore(series);
  }

  async #takeHead(entry: number, leaf: TrustLeaf, head: Head): Promise<void> {
    const name = `batches ${leaf.number}`;
    this.status.wait({ entry, kind: "version", version: leaf.number });
    if (head.size < this.#manifests.size) {
      throw new VerificationError("ERR_HEAD_FORK", `${name} holds ${head.size} of ${this.#manifests.size} batches`);
    }
    this.#open.push({ version: leaf.number, size: head.size, root: head.root, fileHash: leaf.fileHash });
    this.#closeHeads(entry);
    const root = head.log.size === 0 ? EMPTY_ROOT : await this.#tools.rootAt(head.log.size);
    if (head.log.size > entry || !root || !equalBytes(root, head.log.root)) {
      throw new VerificationError("ERR_LOG_SPLIT", `${name} names a log of ${head.log.size} entries that this is not`);
    }
    this.status.verifyFloor(name, head.floor, head.size);
    if (head.floor.epoch > 0) await this.#checkFloorFiles(head.floor.epoch);
  }

  /** Heads whose manifests are all logged: the trees must be the same. */
  #closeHeads(entry: number): void {
    const { size, root } = this.manifests;
    for (const open of this.#open.filter((head) => head.size === size)) {
      if (equalBytes(open.root, root)) continue;
      const message = `batches ${open.version} approves other batches than the ${size} that the log holds`;
      this.#tools.found({ entry, code: "ERR_UNAPPROVED", message });
    }
    this.#open = this.#open.filter((head) => head.size > size);
  }

  /** The snapshots a fresh node starts from. */
  async #checkFloorFiles(epoch: number): Promise<void> {
    const note = await this.#tools.published(statementPath(epoch));
    if (!note || !equalBytes(sha256(note), this.status.stated.get(epoch)!.fileHash)) return;
    for (const plane of [0, 1] as const) {
      const path = snapshotPath(plane, epoch);
      const bytes = await this.#tools.published(path);
      if (!bytes) throw evidence(`${path} is the floor of a head and not published`);
      await checkSnapshot(path, bytes, note, plane);
    }
  }

  async #checkEventProof(entry: number, bytes: Uint8Array): Promise<void> {
    const path = eventPath(entry);
    const proof = await this.#tools.published(path);
    if (!proof) {
      this.status.files.notHeld++;
      return;
    }
    await checkProof(this.policies, { path, entry, bytes, proof, rootAt: this.#tools.rootAt });
    this.status.files.checked++;
  }

  /** An event of a batch whose manifest is not known cannot be judged, and counts as the statements say it does. */
  async #verifyEvent(entry: number, { event }: EventLeaf): Promise<void> {
    const body = decodeEventBody(event.body);
    const what = `${body.action} of ${body.ranges.map(({ first, count }) => `${count} from ${first} on`).join(", ")}`;
    const manifests: Handling[] = [];
    for (const seq of batchesMeeting(body.ranges, this.batches)) {
      const manifest = await this.#manifest(entry, seq, this.batches[seq]!.manifestHash);
      if (!manifest) return;
      manifests.push(manifest);
    }
    const { rules, keys } = this.trust.inForce;
    try {
      verifyEventQuorum(event, body, manifests, { trustees: this.trust.root.roles.targets.keys, rules, keys });
    } catch (cause) {
      if (!(cause instanceof VerificationError)) throw cause;
      throw new VerificationError(cause.code, `${what}: ${cause.message}`, { cause });
    }
  }

  /**
   * One cause is one finding: all that depends on the manifest would else be found as wrong as it is.
   * @returns undefined where it is missing or wrong
   */
  async #manifest(entry: number, seq: number, manifestHash: Hash, wrongIsSaid = false): Promise<Manifest | undefined> {
    const path = `batch/${seq}/manifest.cbor`;
    const bytes = await this.#tools.published(path);
    if (bytes && equalBytes(sha256(bytes), manifestHash)) return decodeManifest(bytes);
    if (!this.#unknown.has(seq) && !(bytes && wrongIsSaid)) {
      const wrong = bytes ? "is not the manifest logged" : "is in the log and not published";
      const message = `${path} ${wrong}: ${notJudged(this.batches[seq]!.count)}`;
      this.#tools.found({ entry, code: "ERR_LOG_EVIDENCE", message });
    }
    this.#unknown.add(seq);
    return undefined;
  }

  async #addToList(seq: number, manifest: Manifest | undefined): Promise<void> {
    this.#list.push(manifest ? `${seq} ${manifest.first} ${manifest.count} ${manifest.profile}\n` : "");
    if (this.#list.length < LIST_LINES) return;
    await this.#checkList(seq, this.#list);
    this.#list = [];
  }

  /** A hint that nobody trusts, but nobody should be led astray by it either. */
  async #checkList(lastSeq: number, lines: readonly string[]): Promise<void> {
    const path = `batches/list/${Math.floor(lastSeq / LIST_LINES)}`;
    const bytes = await this.#tools.published(path);
    if (bytes && !lines.includes("") && !equalBytes(bytes, utf8(lines.join(""))))
      throw evidence(`${path} does not list the logged batches`);
  }

  async #judged(entry: number, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
      this.#tools.found({ entry, code: error.code as ErrorCode, message: error.message });
    }
  }
}

/** @param note the statement of its epoch, verified. @throws CodedError unless the file is that set in its one spelling */
export async function checkSnapshot(
  path: string,
  bytes: Uint8Array,
  note: Uint8Array,
  plane: 0 | 1 | 2,
): Promise<void> {
  const set = verifySnapshot(bytes, signedSet(parseStatement(parseNote(note).text), plane));
  if (!equalBytes(encodeSnapshot(set), bytes)) throw evidence(`${path} is not in the one spelling of a set`);
}

function unapproved(reason: string): VerificationError {
  return new VerificationError("ERR_UNAPPROVED", reason);
}
