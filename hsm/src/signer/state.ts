/**
 * What the bounded signer remembers: one value, one file.
 *
 * It is the signer's own journal of what it accepted and what it signed. Every transition makes a new value that is
 * durable before the answer leaves, and the file is never restored from a backup: an older one would let the signer
 * sign two different things in one place (a fork of the log, a second statement of an epoch).
 */

import { StatusLedger } from "@viafabric/revocation";
import {
  type CborMap,
  type CborValue,
  decodeCbor,
  encodeCbor,
  formatHex,
  type Hash,
  MerkleFrontier,
  OperationError,
  type StationRange,
} from "@viafabric/schemas";

/** Files of the trusted state in force, as published; verified again from the pinned root at every start. */
export interface StoredTrust {
  /** Every root after the pinned one. */
  readonly roots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export const LOGGED_KINDS = ["root", "targets", "batches", "statement"] as const;
export type LoggedKind = (typeof LOGGED_KINDS)[number];

/** A file accepted or signed here that has no leaf in the log yet. */
export interface UnloggedFile {
  readonly kind: LoggedKind;
  /** Version, or epoch. */
  readonly number: number;
  readonly fileHash: Hash;
  /** What comes into force with the leaf: of a root the file, of targets the rules. Empty otherwise. */
  readonly content: Uint8Array;
}

/** A head whose batches are not all logged: which `batches` version first held a batch. */
export interface OpenHead {
  readonly version: number;
  readonly size: number;
  readonly fileHash: Hash;
}

/** Who may release and who writes a batch: equal for most batches, so kept once. */
export interface Officers {
  readonly releaseKeys: readonly Uint8Array[];
  /** `first` counts from the batch's first index. */
  readonly stations: readonly StationRange[];
}

export interface LoggedBatch {
  readonly first: number;
  readonly count: number;
  readonly officers: Officers;
}

export interface LastAppend {
  readonly from: number;
  readonly entriesHash: Hash;
  readonly note: Uint8Array;
}

export const ONLINE_ROLES = ["revocations", "snapshot", "timestamp"] as const;
export type OnlineRole = (typeof ONLINE_ROLES)[number];

export interface SignedMetadata {
  readonly version: number;
  readonly signed: Uint8Array;
  readonly keyid: string;
  readonly sig: Uint8Array;
}

export interface SignerState {
  readonly authority: Uint8Array;
  readonly trust: StoredTrust | undefined;
  readonly unlogged: readonly UnloggedFile[];
  /** The newest of each kind that has a leaf; 0 before the first. */
  readonly logged: Readonly<Record<LoggedKind, number>>;
  /** The root and rules logged last: they decide about status events. Empty before genesis is logged. */
  readonly quorum: { readonly root: Uint8Array; readonly rules: Uint8Array };
  readonly openHeads: readonly OpenHead[];
  readonly log: { readonly size: number; readonly peaks: readonly Hash[] };
  readonly lastAppend: LastAppend | undefined;
  /** Manifests whose tokens were signed and are not logged yet, by seq. */
  readonly signedManifests: ReadonlyMap<number, Uint8Array>;
  /** By seq. */
  readonly batches: readonly LoggedBatch[];
  /** The status ledger of the revocation room, as of the last append. */
  readonly ledger: Uint8Array;
  /** The last status statement, a signed note. Empty before the first. */
  readonly statement: Uint8Array;
  readonly metadata: ReadonlyMap<OnlineRole, SignedMetadata>;
}

export function emptyState(authority: Uint8Array): SignerState {
  return {
    authority,
    trust: undefined,
    unlogged: [],
    logged: { root: 0, targets: 0, batches: 0, statement: 0 },
    quorum: { root: EMPTY, rules: EMPTY },
    openHeads: [],
    log: { size: 0, peaks: [] },
    lastAppend: undefined,
    signedManifests: new Map(),
    batches: [],
    ledger: new StatusLedger().encode(),
    statement: EMPTY,
    metadata: new Map(),
  };
}

export function frontierOf({ log }: Pick<SignerState, "log">): MerkleFrontier {
  return new MerkleFrontier(log.size, log.peaks);
}

const EMPTY = new Uint8Array(0);
const VERSION = 1;

export function encodeState(state: SignerState): Uint8Array {
  const { trust, lastAppend, log, quorum } = state;
  const officers = new OfficerTable();
  const batches = state.batches.map((b) => [b.first, b.count, officers.place(b.officers)]);
  return encodeCbor([
    VERSION,
    state.authority,
    trust ? [[...trust.roots], trust.targets, trust.batches, new Map(trust.targetFiles)] : null,
    state.unlogged.map((file) => [file.kind, file.number, file.fileHash, file.content]),
    LOGGED_KINDS.map((kind) => state.logged[kind]),
    [quorum.root, quorum.rules],
    state.openHeads.map((head) => [head.version, head.size, head.fileHash]),
    [log.size, [...log.peaks]],
    lastAppend ? [lastAppend.from, lastAppend.entriesHash, lastAppend.note] : null,
    [...state.signedManifests].map(([seq, manifest]) => [seq, manifest]),
    officers.values,
    batches,
    state.ledger,
    state.statement,
    new Map([...state.metadata].map(([role, m]) => [role, [m.version, m.signed, m.keyid, m.sig]])),
  ]);
}

/** @throws OperationError ERR_SIGNER_STATE. The file is ours alone, so any surprise in it means damage. */
export function decodeState(bytes: Uint8Array): SignerState {
  try {
    return readState(bytes);
  } catch (cause) {
    throw new OperationError("ERR_SIGNER_STATE", "the signer's state file is damaged", { cause });
  }
}

function readState(bytes: Uint8Array): SignerState {
  const parts = new Parts(decodeCbor(bytes));
  if (parts.integer() !== VERSION) throw new RangeError("another version");
  const authority = parts.bytes();
  const trust = parts.optional((p) => ({
    roots: p.list((root) => asBytes(root)),
    targets: p.bytes(),
    batches: p.bytes(),
    targetFiles: new Map([...p.map()].map(([path, file]) => [String(path), asBytes(file)])),
  }));
  const unlogged = parts.rows((p) => ({
    kind: oneOf(LOGGED_KINDS, p.text()),
    number: p.integer(),
    fileHash: p.bytes(),
    content: p.bytes(),
  }));
  const [root, targets, batchesVersion, statement] = parts.list(asInteger) as [number, number, number, number];
  const quorum = parts.row((p) => ({ root: p.bytes(), rules: p.bytes() }));
  const openHeads = parts.rows((p) => ({ version: p.integer(), size: p.integer(), fileHash: p.bytes() }));
  const log = parts.row((p) => ({ size: p.integer(), peaks: p.list(asBytes) }));
  const lastAppend = parts.optional((p) => ({ from: p.integer(), entriesHash: p.bytes(), note: p.bytes() }));
  const signedManifests = new Map(parts.rows((p) => [p.integer(), p.bytes()] as const));
  const officers = parts.rows((p) => ({
    releaseKeys: p.list(asBytes),
    stations: p.rows((s) => ({ kid: s.bytes(), first: s.integer(), count: s.integer() })),
  }));
  const batches = parts.rows((p) => ({
    first: p.integer(),
    count: p.integer(),
    officers: officers[p.integer()]!,
  }));
  const ledger = parts.bytes();
  const note = parts.bytes();
  const metadata = new Map(
    [...parts.map()].map(([role, value]) => {
      const p = new Parts(value);
      return [
        oneOf(ONLINE_ROLES, String(role)),
        { version: p.integer(), signed: p.bytes(), keyid: p.text(), sig: p.bytes() },
      ];
    }),
  );
  // The constructor refuses peaks that do not belong to the size.
  new MerkleFrontier(log.size, log.peaks);
  return {
    authority,
    trust,
    unlogged,
    logged: { root, targets, batches: batchesVersion, statement },
    quorum,
    openHeads,
    log,
    lastAppend,
    signedManifests,
    batches,
    ledger,
    statement: note,
    metadata,
  };
}

class OfficerTable {
  readonly values: CborValue[] = [];
  readonly #places = new Map<string, number>();

  place({ releaseKeys, stations }: Officers): number {
    const value = [[...releaseKeys], stations.map((s) => [s.kid, s.first, s.count])];
    const name = formatHex(encodeCbor(value));
    const known = this.#places.get(name);
    if (known !== undefined) return known;
    this.#places.set(name, this.values.length);
    return this.values.push(value) - 1;
  }
}

/** Reads an array part by part. */
class Parts {
  readonly #values: readonly CborValue[];
  #at = 0;

  constructor(value: CborValue) {
    if (!Array.isArray(value)) throw new TypeError("not an array");
    this.#values = value as readonly CborValue[];
  }

  next(): CborValue {
    const value = this.#values[this.#at++];
    if (value === undefined) throw new TypeError("a part is missing");
    return value;
  }

  bytes(): Uint8Array {
    return asBytes(this.next());
  }

  integer(): number {
    return asInteger(this.next());
  }

  text(): string {
    const value = this.next();
    if (typeof value !== "string") throw new TypeError("not text");
    return value;
  }

  map(): CborMap {
    const value = this.next();
    if (!(value instanceof Map)) throw new TypeError("not a map");
    return value;
  }

  list<T>(read: (value: CborValue) => T): readonly T[] {
    const value = this.next();
    if (!Array.isArray(value)) throw new TypeError("not a list");
    return (value as readonly CborValue[]).map(read);
  }

  row<T>(read: (parts: Parts) => T): T {
    return read(new Parts(this.next()));
  }

  rows<T>(read: (parts: Parts) => T): readonly T[] {
    return this.list((value) => read(new Parts(value)));
  }

  optional<T>(read: (parts: Parts) => T): T | undefined {
    const value = this.next();
    return value === null ? undefined : read(new Parts(value));
  }
}

function asBytes(value: CborValue): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new TypeError("not bytes");
  return value;
}

function asInteger(value: CborValue): number {
  if (typeof value !== "number") throw new TypeError("not an integer");
  return value;
}

function oneOf<T extends string>(names: readonly T[], name: string): T {
  const found = names.find((known) => known === name);
  if (!found) throw new TypeError(`unknown name ${name}`);
  return found;
}
