/**
 * Statements against the log: each must state exactly what the events logged before it make.
 *
 * The ledger trails the log. Batches and events wait in a queue until the next statement says at which size of the log
 * it was computed; the ledger goes that far, and its planes must be those of the statement, its files those of its
 * epoch. So memory holds the planes once, and the entries since the last statement.
 */
import {
  EPOCH_ZERO,
  type EpochPlanes,
  epochFiles,
  formatUndoList,
  PLANES,
  planeRoots,
  StatusLedger,
  undoPath,
  type VerifiedStatement,
  verifyStatement,
  verifySuccessor,
} from "@viafabric/revocation";
import {
  type CborValue,
  CodedError,
  concat,
  decodeEventBody,
  decodeLeaf,
  decodeTrustKeys,
  type ErrorCode,
  encodeTrustKeys,
  equalBytes,
  type Floor,
  type KeyEntry,
  OperationError,
  sha256,
  u32,
  u64,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import type { FetchFile } from "@viafabric/transparency-log/client";
import { evidence, type RootAt } from "./evidence.ts";
import type { Finding } from "./log-rules.ts";
import { Series } from "./series.ts";

const PLANE_NAMES = ["revoked", "suspended", "unreleased"] as const;

/** What was logged since the last statement. */
type Waiting =
  | { readonly entry: number; readonly kind: "batch"; readonly first: number; readonly count: number }
  | { readonly entry: number; readonly kind: "version"; readonly version: number }
  | { readonly entry: number; readonly kind: "event"; readonly leaf: Uint8Array };

export interface StatusPorts {
  readonly authority: Uint8Array;
  readonly published: FetchFile;
  readonly rootAt: RootAt;
  found(finding: Finding): void;
}

interface Stated {
  readonly fileHash: Uint8Array;
  /** Of the floor that a head may name for this epoch, as the log makes it. */
  readonly floorHash: Uint8Array;
}

export class StatusReplay {
  readonly files = { checked: 0, notHeld: 0 };
  /** epoch, revoked, suspended, unreleased */
  readonly series = new Series();
  readonly stated = new Map<number, Stated>();
  readonly #ports: StatusPorts;
  #ledger = new StatusLedger();
  #waiting: Waiting[] = [];
  #batchesVersion = 0;
  readonly #reinstatements: number[] = [];
  #held: VerifiedStatement | undefined;
  #heldNote: Uint8Array = new Uint8Array(0);
  #heldKeys: readonly KeyEntry[] = [];
  /** Planes of the last statement, as the log makes them; undefined once a statement was wrong. */
  #previous: EpochPlanes | undefined = EPOCH_ZERO;

  constructor(ports: StatusPorts) {
    this.#ports = ports;
  }

  get last(): VerifiedStatement | undefined {
    return this.#held;
  }

  wait(waiting: Waiting): void {
    this.#waiting.push(waiting);
  }

  /**
   * @param keys in force. @throws CodedError for a statement that earns no trust; what it states wrongly is found
   */
  async takeStatement(entry: number, epoch: number, note: Uint8Array, keys: readonly KeyEntry[]): Promise<void> {
    const verified = verifyStatement(note, { authority: this.#ports.authority, keys });
    const { statement } = verified;
    if (statement.epoch !== epoch) throw evidence(`the statement of epoch ${epoch} is of epoch ${statement.epoch}`);
    const before = this.#held;
    if (before) verifySuccessor(before, verified);
    if (epoch !== (before?.statement.epoch ?? 0) + 1) {
      const reason = `epoch ${epoch} follows epoch ${before?.statement.epoch ?? 0} in the log`;
      throw new VerificationError("ERR_STATUS_CHAIN", reason);
    }
    const { size, root } = statement.log;
    const logRoot = size <= entry ? await this.#ports.rootAt(size) : undefined;
    if (!logRoot || !equalBytes(root, logRoot)) {
      throw differs(`epoch ${epoch} names a log of ${size} entries that this log is not`);
    }
    this.#advance(size);
    const planes = this.#ledger.planes();
    const now: EpochPlanes = { epoch, n: this.#ledger.n, planes };
    const roots = planeRoots(now);
    [this.#held, this.#heldNote, this.#heldKeys] = [verified, note, keys];
    const floor = { epoch, n: now.n, logSize: size, revokedRoot: roots[0].root, suspendedRoot: roots[1].root };
    this.stated.set(epoch, { fileHash: sha256(note), floorHash: floorHash(floor) });
    this.series.add([epoch, ...planes.map(({ count }) => count)]);
    const wrong = this.#compare(statement, now, roots);
    for (const message of wrong) this.#ports.found({ entry, code: "ERR_STATUS_REPLAY", message });
    const previous = this.#previous;
    this.#previous = wrong.length > 0 ? undefined : now;
    if (previous && wrong.length === 0) await this.#checkFiles(entry, previous, now, size);
  }

  /** After the last entry: events that no statement covers yet must be possible all the same. */
  close(): void {
    const ledger = this.#ledger.clone();
    for (const each of this.#waiting) if (each.kind !== "version") this.#apply(ledger, each, []);
  }

  /** Whether the floor of a head is the status that the log made at its epoch. @throws VerificationError */
  verifyFloor(name: string, floor: Floor, size: number): void {
    if (floor.epoch === 0) {
      if (size > 0 || floor.n > 0 || floor.logSize > 0) throw differs(`${name} has no floor`);
      return;
    }
    const stated = this.stated.get(floor.epoch);
    if (!stated || !equalBytes(stated.floorHash, floorHash(floor))) {
      throw differs(`the floor of ${name} is not the status that the log makes in epoch ${floor.epoch}`);
    }
  }

  encode(): CborValue {
    const waiting = this.#waiting.map((each) => {
      if (each.kind === "batch") return [each.entry, 0, each.first, each.count];
      return each.kind === "version" ? [each.entry, 1, each.version] : [each.entry, 2, each.leaf];
    });
    const stated = [...this.stated].map(([epoch, { fileHash, floorHash }]) => [epoch, fileHash, floorHash]);
    const held = [this.#heldNote, encodeTrustKeys(this.#heldKeys), this.#previous !== undefined];
    const tally = [this.files.checked, this.files.notHeld];
    const rest = [this.#batchesVersion, [...this.#reinstatements], tally, this.series.encode()];
    return [this.#ledger.encode(), waiting, stated, held, rest];
  }

  restore(value: CborValue): void {
    // Our own file: what is not as encode made it fails here or in the comparison with the log.
    const [ledger, waiting, stated, held, rest] = value as readonly [
      Uint8Array,
      readonly (readonly [number, number, number | Uint8Array, number])[],
      readonly (readonly [number, Uint8Array, Uint8Array])[],
      readonly [Uint8Array, Uint8Array, boolean],
      readonly [number, readonly number[], readonly [number, number], CborValue],
    ];
    this.#ledger = StatusLedger.decode(ledger);
    this.#waiting = waiting.map(([entry, kind, a, b]): Waiting => {
      if (kind === 0) return { entry, kind: "batch", first: a as number, count: b };
      return kind === 1
        ? { entry, kind: "version", version: a as number }
        : { entry, kind: "event", leaf: a as Uint8Array };
    });
    for (const [epoch, fileHash, hash] of stated) this.stated.set(epoch, { fileHash, floorHash: hash });
    const [note, keys, sound] = held;
    if (note.length > 0) {
      [this.#heldNote, this.#heldKeys] = [note, decodeTrustKeys(keys)];
      this.#held = verifyStatement(note, { authority: this.#ports.authority, keys: this.#heldKeys });
      const { epoch } = this.#held.statement;
      this.#previous = sound ? { epoch, n: this.#ledger.n, planes: this.#ledger.planes() } : undefined;
    }
    const [version, reinstatements, [checked, notHeld], series] = rest;
    this.#batchesVersion = version;
    this.#reinstatements.push(...reinstatements);
    Object.assign(this.files, { checked, notHeld });
    this.series.restore(series);
  }

  #advance(size: number): void {
    const split = this.#waiting.findIndex(({ entry }) => entry >= size);
    const due = split < 0 ? this.#waiting : this.#waiting.slice(0, split);
    this.#waiting = split < 0 ? [] : this.#waiting.slice(split);
    for (const waiting of due) this.#apply(this.#ledger, waiting, this.#reinstatements);
  }

  #apply(ledger: StatusLedger, waiting: Waiting, reinstatements: number[]): void {
    const { entry } = waiting;
    try {
      if (waiting.kind === "batch") ledger.applyBatch(waiting.first, waiting.count);
      else if (waiting.kind === "version") this.#batchesVersion = waiting.version;
      else {
        const leaf = decodeLeaf(waiting.leaf);
        if (leaf.type === "holder-event") ledger.applyHolderEvent(entry, leaf);
        if (leaf.type !== "event") return;
        const body = decodeEventBody(leaf.event.body);
        ledger.applyEvent(entry, body);
        if (body.action === "reinstate") reinstatements.push(entry);
      }
    } catch (error) {
      if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
      this.#ports.found({ entry, code: error.code as ErrorCode, message: error.message });
    }
  }

  #compare(
    { epoch, n, batches, planes }: VerifiedStatement["statement"],
    now: EpochPlanes,
    roots: VerifiedStatement["statement"]["planes"],
  ): readonly string[] {
    const wrong: string[] = [];
    if (n !== now.n) wrong.push(`epoch ${epoch} states N = ${n}, the log makes ${now.n}`);
    if (batches !== this.#batchesVersion) {
      wrong.push(`epoch ${epoch} names batches ${batches}, the log held ${this.#batchesVersion}`);
    }
    for (const plane of PLANES) {
      const [stated, made] = [planes[plane], roots[plane]];
      const name = PLANE_NAMES[plane];
      if (stated.count !== made.count) {
        wrong.push(`epoch ${epoch} states ${stated.count} ${name} tokens, the log makes ${made.count}`);
      } else if (!equalBytes(stated.root, made.root)) {
        wrong.push(`epoch ${epoch} states other ${name} tokens than the log makes`);
      }
    }
    return wrong;
  }

  /** Sets, deltas, chunks and the list of reinstatements: each is computed again and compared byte by byte. */
  async #checkFiles(entry: number, previous: EpochPlanes, now: EpochPlanes, size: number): Promise<void> {
    const { published } = this.#ports;
    const read = async (path: string): Promise<Uint8Array | undefined> => {
      const bytes = await published(path);
      if (!bytes) throw new VerificationError("ERR_SET_MISSING", `${path} is not there`);
      return bytes;
    };
    try {
      const undone = this.#reinstatements.filter((leaf) => leaf < size);
      await this.#compareFile(entry, undoPath(now.epoch), utf8(formatUndoList(undone)));
      for (const { path, bytes } of await epochFiles(previous, now, read)) await this.#compareFile(entry, path, bytes);
    } catch (error) {
      // Longer deltas need the shorter ones: a mirror without them is checked as far as it goes.
      if (!(error instanceof VerificationError) || error.code !== "ERR_SET_MISSING") throw error;
      this.files.notHeld++;
    }
  }

  async #compareFile(entry: number, path: string, expected: Uint8Array): Promise<void> {
    const bytes = await this.#ports.published(path);
    if (!bytes) this.files.notHeld++;
    else if (equalBytes(bytes, expected)) this.files.checked++;
    else this.#ports.found({ entry, code: "ERR_LOG_EVIDENCE", message: `${path} is not what the log makes of it` });
  }
}

function floorHash({ epoch, n, logSize, revokedRoot, suspendedRoot }: Floor): Uint8Array {
  return sha256(concat(u32(epoch), u32(n), u64(logSize), revokedRoot, suspendedRoot));
}

function differs(reason: string): VerificationError {
  return new VerificationError("ERR_STATUS_REPLAY", reason);
}
