/**
 * The log, replayed from what it holds alone: which batches exist, which status events count, which keys decided.
 *
 * A head names a floor: the status that a fresh node may not fall below. Trustees sign it, so their tool computes it
 * itself. Every status event must carry the signatures that the rules logged last before it demand; an entry that does
 * not is evidence against the log, and nothing is signed.
 */
import { batchesMeeting, type Handling, StatusLedger, verifyEventQuorum } from "@viafabric/revocation";
import {
  type CborValue,
  CodedError,
  concat,
  decodeCbor,
  decodeEventBody,
  decodeLeaf,
  decodeManifest,
  decodeRules,
  decodeTrustKeys,
  type EventBody,
  encodeCbor,
  equalBytes,
  type Hash,
  hashLeaf,
  type IndexRange,
  type Leaf,
  MANIFEST_BYTES_MAX,
  OperationError,
  type Rules,
  readU32,
  type SignedEvent,
  type SubtreeHash,
  sha256,
  TRUST_FILE_BYTES_MAX,
  u32,
  VerificationError,
} from "@viafabric/schemas";
import {
  KEYS_PATH,
  METADATA_BYTES_MAX,
  metadataFileName,
  parseMetadata,
  RULES_PATH,
  targetFileName,
  verifyFile,
  verifyRole,
  verifyRootChain,
} from "@viafabric/tuf";

type FetchFile = (path: string, bytesMax: number) => Promise<Uint8Array | undefined>;

/** Where a replay stands: a value that can be kept and gone on from. */
export interface ReplayState {
  /** Entries applied. */
  readonly size: number;
  /** What decides about the next event: the root and the targets logged last. Empty before the first. */
  readonly root: Uint8Array;
  readonly rules: Uint8Array;
  readonly keys: Uint8Array;
  readonly batches: readonly ReplayedBatch[];
  readonly ledger: Uint8Array;
}

export interface ReplayedBatch extends IndexRange {
  readonly manifestHash: Hash;
}

export interface ReplaySources {
  readonly authority: Uint8Array;
  /** Published files, each believed only for its hash or its signatures. */
  readonly fetch: FetchFile;
  /** Hashes of the manifest tree under the accepted head, verified. */
  readonly manifests: SubtreeHash;
  /** Number of manifests under the accepted head. */
  readonly manifestCount: number;
}

const NONE = new Uint8Array(0);

export function startReplay(): ReplayState {
  return { size: 0, root: NONE, rules: NONE, keys: NONE, batches: [], ledger: new StatusLedger().encode() };
}

/**
 * @param entries from `state.size` on, each verified against a checkpoint
 * @throws VerificationError ERR_LOG_UNSOUND, with the reason as its cause
 */
export async function replay(
  state: ReplayState,
  entries: AsyncIterable<Uint8Array>,
  sources: ReplaySources,
): Promise<ReplayState> {
  const run = new Run(state, sources);
  for await (const entry of entries) {
    try {
      await run.apply(entry);
    } catch (cause) {
      // A file that cannot be fetched is a failed network, and no evidence of anything.
      if (!(cause instanceof CodedError) || cause instanceof OperationError) throw cause;
      throw new VerificationError("ERR_LOG_UNSOUND", `log entry ${run.size}: ${cause.message}`, { cause });
    }
  }
  return run.finish();
}

class Run {
  size: number;
  #root: Uint8Array;
  #rules: Uint8Array;
  #keys: Uint8Array;
  readonly #batches: ReplayedBatch[];
  readonly #ledger: StatusLedger;
  readonly #sources: ReplaySources;
  /** Token leaves that must still follow the last batch leaf. */
  #tokensDue = 0;

  constructor(state: ReplayState, sources: ReplaySources) {
    this.size = state.size;
    this.#root = state.root;
    this.#rules = state.rules;
    this.#keys = state.keys;
    this.#batches = [...state.batches];
    this.#ledger = StatusLedger.decode(state.ledger);
    this.#sources = sources;
  }

  async apply(entry: Uint8Array): Promise<void> {
    const leaf = decodeLeaf(entry);
    if (leaf.type === "token" ? this.#tokensDue === 0 : this.#tokensDue > 0)
      throw unsound(
        leaf.type === "token" ? "a token outside its batch" : `${this.#tokensDue} tokens of a batch are missing`,
      );
    await this.#take(leaf);
    this.size++;
  }

  finish(): ReplayState {
    if (this.#tokensDue > 0) throw unsound("the replay would end inside a batch");
    const [root, rules, keys] = [this.#root, this.#rules, this.#keys];
    return { size: this.size, root, rules, keys, batches: this.#batches, ledger: this.#ledger.encode() };
  }

  async #take(leaf: Leaf): Promise<void> {
    switch (leaf.type) {
      case "token":
        this.#tokensDue--;
        return;
      case "batch":
        return this.#takeBatch(leaf.seq, leaf.manifestHash);
      case "event":
        this.#ledger.applyEvent(this.size, await this.#verifyEvent(leaf.event));
        return;
      case "holder-event":
        this.#ledger.applyHolderEvent(this.size, leaf);
        return;
      case "trust":
        if (leaf.kind === "root") return this.#takeRoot(leaf.number, leaf.fileHash);
        if (leaf.kind === "targets") return this.#takeTargets(leaf.number, leaf.fileHash);
        return;
      case "binding":
        return;
    }
  }

  async #takeBatch(seq: number, manifestHash: Hash): Promise<void> {
    if (seq !== this.#batches.length) throw unsound(`batch ${seq} where batch ${this.#batches.length} is due`);
    if (seq >= this.#sources.manifestCount) throw unsound(`batch ${seq} is not under the head that trustees signed`);
    if (!equalBytes(await this.#sources.manifests(seq, seq + 1), hashLeaf(manifestHash)))
      throw unsound(`batch ${seq} is not the one under the head that trustees signed`);
    const { first, count } = await this.#manifest(seq, manifestHash);
    this.#ledger.applyBatch(first, count);
    this.#batches.push({ first, count, manifestHash });
    this.#tokensDue = count;
  }

  async #takeRoot(version: number, fileHash: Hash): Promise<void> {
    const file = await this.#metadata("root", version, fileHash);
    if (this.#root.length === 0) {
      const { authority } = verifyRootChain({ file }, []);
      if (version !== 1 || !equalBytes(authority, this.#sources.authority))
        throw unsound("a first root of another authority");
    } else {
      verifyRootChain({ file: this.#root, authority: this.#sources.authority }, [file]);
    }
    this.#root = file;
  }

  async #takeTargets(version: number, fileHash: Hash): Promise<void> {
    const file = await this.#metadata("targets", version, fileHash);
    const targets = parseMetadata("targets", file);
    verifyRole(this.#trustees(), `targets ${version}`, targets);
    const target = async (path: string): Promise<Uint8Array> => {
      const info = targets.signed.targets.get(path);
      if (!info) throw unsound(`targets ${version} lists no ${path}`);
      const bytes = await this.#file(`tuf/targets/${targetFileName(path, info.sha256)}`, TRUST_FILE_BYTES_MAX);
      verifyFile(path, bytes, info);
      return bytes;
    };
    [this.#rules, this.#keys] = [await target(RULES_PATH), await target(KEYS_PATH)];
    // Events are held to the authority that the rules name.
    if (!equalBytes(decodeRules(this.#rules).authority, this.#sources.authority))
      throw unsound(`the rules of targets ${version} are of another authority`);
  }

  async #verifyEvent(event: SignedEvent): Promise<EventBody> {
    const body = decodeEventBody(event.body);
    const manifests: Handling[] = [];
    for (const seq of batchesMeeting(body.ranges, this.#batches))
      manifests.push(await this.#manifest(seq, this.#batches[seq]!.manifestHash));
    const keys = this.#keys.length === 0 ? [] : decodeTrustKeys(this.#keys);
    verifyEventQuorum(event, body, manifests, { trustees: this.#trustees().keys, rules: this.#rulesInForce(), keys });
    return body;
  }

  #trustees() {
    if (this.#root.length === 0) throw unsound("nothing may be decided before a root is logged");
    return parseMetadata("root", this.#root).signed.roles.targets;
  }

  #rulesInForce(): Rules {
    if (this.#rules.length === 0) throw unsound("nothing may be decided before rules are logged");
    return decodeRules(this.#rules);
  }

  async #manifest(seq: number, manifestHash: Hash) {
    const bytes = await this.#file(`batch/${seq}/manifest.cbor`, MANIFEST_BYTES_MAX);
    if (!equalBytes(sha256(bytes), manifestHash)) throw unsound(`batch/${seq}/manifest.cbor is not the one logged`);
    return decodeManifest(bytes);
  }

  async #metadata(role: "root" | "targets", version: number, fileHash: Hash): Promise<Uint8Array> {
    const bytes = await this.#file(`tuf/metadata/${metadataFileName(role, version)}`, METADATA_BYTES_MAX[role]);
    if (!equalBytes(sha256(bytes), fileHash))
      throw unsound(`${role} ${version} is published with other bytes than logged`);
    return bytes;
  }

  async #file(name: string, bytesMax: number): Promise<Uint8Array> {
    const bytes = await this.#sources.fetch(name, bytesMax);
    if (!bytes) throw new OperationError("ERR_FETCH", `there is no ${name}`);
    return bytes;
  }
}

/** For the home folder: our own file, so anything unexpected in it makes it useless and it is computed again. */
export function encodeReplay(state: ReplayState): Uint8Array {
  const rows = concat(...state.batches.flatMap((b) => [u32(b.first), u32(b.count), b.manifestHash]));
  return encodeCbor([1, state.size, state.root, state.rules, state.keys, rows, state.ledger]);
}

const ROW_BYTES = 40;

export function decodeReplay(bytes: Uint8Array): ReplayState | undefined {
  try {
    const [version, size, root, rules, keys, rows, ledger] = decodeCbor(bytes) as readonly CborValue[];
    if (version !== 1 || typeof size !== "number") return undefined;
    const files = [root, rules, keys, rows, ledger];
    if (!files.every((file): file is Uint8Array => file instanceof Uint8Array)) return undefined;
    const table = rows as Uint8Array;
    const batches = Array.from({ length: table.length / ROW_BYTES }, (_, i) => {
      const row = table.subarray(i * ROW_BYTES, (i + 1) * ROW_BYTES);
      return { first: readU32(row, 0), count: readU32(row, 4), manifestHash: row.slice(8) };
    });
    StatusLedger.decode(ledger as Uint8Array);
    return {
      size,
      root: root as Uint8Array,
      rules: rules as Uint8Array,
      keys: keys as Uint8Array,
      batches,
      ledger: ledger as Uint8Array,
    };
  } catch (error) {
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}

function unsound(reason: string): VerificationError {
  return new VerificationError("ERR_LOG_UNSOUND", reason);
}
