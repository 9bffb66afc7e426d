/**
 * What the order of a log's entries must be, for anyone who holds nothing but the entries (FORMATS "Log leaves").
 * Pure: one entry after the other goes in, contradictions and complete batches come out.
 *
 * - batches are numbered 0, 1, 2, …; each is followed at once by its token leaves, and nothing else is
 * - token indices only grow, so ranges of batches never overlap; within a batch there is no gap
 * - no token id, no event and no binding of a token appears twice
 * - a batch names a metadata file that was logged before it
 * - root versions are 1, 2, 3, …; versions and numbers of the other trust files grow
 * - a reinstatement undoes events that were logged before it
 */
import {
  BATCH_TOKENS_MAX,
  type BatchLeaf,
  type CborValue,
  concat,
  decodeEventBody,
  decodeLeaf,
  type ErrorCode,
  type EventLeaf,
  FormatError,
  formatHex,
  type HolderEventLeaf,
  type Leaf,
  sha256,
  type TokenLeaf,
  TRUST_KINDS,
  type TrustKind,
  type TrustLeaf,
  u32,
} from "@viafabric/schemas";
import { DigestSet } from "./digest-set.ts";
import { FlatBytes } from "./flat-bytes.ts";

export interface Finding {
  /** Log index of the entry it is about. */
  readonly entry: number;
  readonly code: ErrorCode;
  readonly message: string;
}

/** A batch leaf and the token leaves found behind it. */
export interface LoggedBatch {
  readonly entry: number;
  readonly leaf: BatchLeaf;
  readonly bytes: Uint8Array;
  /** Token index of the first of them; undefined without any. */
  readonly first: number | undefined;
  /** How many token leaves. */
  readonly count: number;
  /** They themselves, one after the other, as leaves.bin holds them. */
  readonly leaves: Uint8Array;
  /** Their leaf hashes, flat: the root over them is what the manifest must state. */
  readonly hashes: Uint8Array;
}

export type LeafType = Leaf["type"];

const LEAF_TYPES: readonly LeafType[] = ["token", "batch", "event", "holder-event", "binding", "trust"];

interface OpenBatch {
  readonly entry: number;
  readonly leaf: BatchLeaf;
  readonly bytes: Uint8Array;
  first: number | undefined;
  count: number;
  readonly leaves: FlatBytes;
  readonly hashes: FlatBytes;
}

export interface RulePorts {
  found(finding: Finding): void;
  /** All its token leaves have been seen. Left out, they are not kept either. */
  batch?(batch: LoggedBatch): void;
  trust(entry: number, leaf: TrustLeaf): void;
  /** Every event, after the rules of order were asked. */
  event?(entry: number, leaf: EventLeaves, bytes: Uint8Array): void;
}

type EventLeaves = EventLeaf | HolderEventLeaf;

export class LogRules {
  readonly counts: Record<LeafType, number> = {
    token: 0,
    batch: 0,
    event: 0,
    "holder-event": 0,
    binding: 0,
    trust: 0,
  };
  readonly #ports: RulePorts;
  #open: OpenBatch | undefined;
  #nextIndex = 0;
  #nextSeq = 0;
  #tokenIds = new DigestSet();
  #events = new DigestSet();
  #bindings = new DigestSet();
  readonly #eventEntries = new Set<number>();
  readonly #batchesFiles = new Set<string>();
  readonly #numbers = new Map<TrustKind, number>();

  constructor(ports: RulePorts) {
    this.#ports = ports;
  }

  /** Between two batches only: what must be known to go on from there. */
  encode(): CborValue {
    const numbers = TRUST_KINDS.map((kind) => this.#numbers.get(kind) ?? 0);
    const sets = [this.#tokenIds, this.#events, this.#bindings].map((set) => set.encode());
    const counts = LEAF_TYPES.map((type) => this.counts[type]);
    return [counts, this.#nextIndex, this.#nextSeq, sets, [...this.#eventEntries], [...this.#batchesFiles], numbers];
  }

  /** @returns undefined unless encode made it */
  static decode(value: CborValue, ports: RulePorts): LogRules | undefined {
    if (!Array.isArray(value) || value.length !== 7) return undefined;
    const [counts, nextIndex, nextSeq, sets, entries, files, numbers] = value;
    const rules = new LogRules(ports);
    LEAF_TYPES.forEach((type, i) => {
      rules.counts[type] = counts[i];
    });
    [rules.#nextIndex, rules.#nextSeq] = [nextIndex, nextSeq];
    const decoded = (sets as Uint8Array[]).map((bytes) => DigestSet.decode(bytes));
    if (decoded.length !== 3 || decoded.includes(undefined)) return undefined;
    [rules.#tokenIds, rules.#events, rules.#bindings] = decoded as [DigestSet, DigestSet, DigestSet];
    for (const entry of entries as number[]) rules.#eventEntries.add(entry);
    for (const file of files as string[]) rules.#batchesFiles.add(file);
    TRUST_KINDS.forEach((kind, i) => {
      if (numbers[i] > 0) rules.#numbers.set(kind, numbers[i]);
    });
    return rules;
  }

  /** Whether a batch leaf was taken that token leaves may follow. */
  get insideBatch(): boolean {
    return this.#open !== undefined;
  }

  /** @param hash the entry's leaf hash */
  take(entry: number, bytes: Uint8Array, hash: Uint8Array): void {
    let leaf: Leaf;
    try {
      leaf = decodeLeaf(bytes);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.close();
      this.#ports.found({ entry, code: error.code, message: error.message });
      return;
    }
    this.counts[leaf.type]++;
    if (leaf.type === "token") {
      this.#takeToken(entry, leaf, bytes, hash);
      return;
    }
    this.close();
    if (leaf.type === "batch") this.#takeBatch(entry, leaf, bytes);
    else if (leaf.type === "trust") this.#takeTrust(entry, leaf);
    else if (leaf.type === "binding") {
      if (!this.#bindings.add(sha256(concat(leaf.rctIdHash, u32(leaf.epoch))))) {
        this.#broken(entry, `binding ${leaf.epoch} of this token was logged before`);
      }
    } else this.#takeEvent(entry, leaf, bytes);
  }

  /** After the last entry: nothing more follows the batch that is open. */
  close(): void {
    const batch = this.#open;
    if (!batch) return;
    this.#open = undefined;
    this.#ports.batch?.({ ...batch, leaves: batch.leaves.bytes, hashes: batch.hashes.bytes });
  }

  #takeToken(entry: number, leaf: TokenLeaf, bytes: Uint8Array, hash: Uint8Array): void {
    if (leaf.index < this.#nextIndex) this.#broken(entry, `token index ${leaf.index} was passed before`);
    if (!this.#tokenIds.add(leaf.rctIdHash))
      this.#broken(entry, `the token id of index ${leaf.index} was issued before`);
    const batch = this.#open;
    if (!batch) this.#broken(entry, `token leaf ${leaf.index} follows no batch leaf`);
    else if (batch.count === BATCH_TOKENS_MAX) {
      this.#broken(entry, `more than ${BATCH_TOKENS_MAX} token leaves follow batch ${batch.leaf.seq}`);
      this.close();
    } else {
      if (batch.first !== undefined && leaf.index !== this.#nextIndex) {
        this.#broken(entry, `batch ${batch.leaf.seq} jumps from index ${this.#nextIndex - 1} to ${leaf.index}`);
      }
      batch.first ??= leaf.index;
      batch.count++;
      if (this.#ports.batch) {
        batch.leaves.add(bytes);
        batch.hashes.add(hash);
      }
    }
    this.#nextIndex = Math.max(this.#nextIndex, leaf.index + 1);
  }

  #takeBatch(entry: number, leaf: BatchLeaf, bytes: Uint8Array): void {
    if (leaf.seq !== this.#nextSeq) this.#broken(entry, `batch ${leaf.seq} where batch ${this.#nextSeq} must come`);
    this.#nextSeq = leaf.seq + 1;
    if (!this.#batchesFiles.has(formatHex(leaf.metadataHash))) {
      this.#broken(entry, `batch ${leaf.seq} names a metadata file that was not logged before it`);
    }
    this.#open = { entry, leaf, bytes, first: undefined, count: 0, leaves: new FlatBytes(), hashes: new FlatBytes() };
  }

  #takeTrust(entry: number, leaf: TrustLeaf): void {
    const last = this.#numbers.get(leaf.kind) ?? 0;
    // Only root versions are contiguous: elsewhere a proposal that died burns its version.
    const follows = leaf.kind === "root" ? leaf.number === last + 1 : leaf.number > last;
    if (!follows) this.#broken(entry, `${leaf.kind} ${leaf.number} after ${leaf.kind} ${last}`);
    this.#numbers.set(leaf.kind, leaf.number);
    if (leaf.kind === "batches") this.#batchesFiles.add(formatHex(leaf.fileHash));
    this.#ports.trust(entry, leaf);
  }

  #takeEvent(entry: number, leaf: EventLeaves, bytes: Uint8Array): void {
    // The body is what was signed: the same body with other signatures is the same event.
    const identity = leaf.type === "event" ? leaf.event.body : bytes;
    if (!this.#events.add(sha256(identity))) this.#broken(entry, "this event was logged before");
    if (leaf.type === "event") {
      for (const undone of decodeEventBody(leaf.event.body).undoes) {
        if (!this.#eventEntries.has(undone))
          this.#broken(entry, `it undoes entry ${undone}, which is no earlier event`);
      }
    }
    this.#eventEntries.add(entry);
    this.#ports.event?.(entry, leaf, bytes);
  }

  #broken(entry: number, message: string): void {
    this.#ports.found({ entry, code: "ERR_LOG_RULE", message });
  }
}
