/**
 * What the bounded signer remembers, whole and as changes.
 *
 * It is the signer's own account of what it accepted and what it signed. Every transition makes a new value, and what
 * changed is durable before the answer leaves (memory.ts). Most of a memory of years are batches and status events,
 * which only ever grow: a change carries the new ones, and each of the small parts that is another one now.
 */

import { type LedgerStep, StatusLedger } from "@viafabric/revocation";
import {
  type CborMap,
  type CborValue,
  decodeCbor,
  decodeEventBody,
  encodeCbor,
  encodeEventBody,
  equalBytes,
  formatHex,
  type Hash,
  MerkleFrontier,
  OperationError,
  type StationRange,
} from "@viafabric/schemas";
import type { TufSignature } from "@viafabric/tuf";

/** Files of the trusted state in force, as published; verified again from the pinned root at every start. */
export interface StoredTrust {
  /** Every root after the pinned one. */
  readonly roots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export const LOGGED_KINDS = ["root", "targets", "batches", "statement", "transcript"] as const;
export type LoggedKind = (typeof LOGGED_KINDS)[number];

/** A file accepted or signed here that has no leaf in the log yet. */
export interface UnloggedFile {
  readonly kind: LoggedKind;
  /** Version, epoch, or number of a transcript. */
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
  /** One; two where a root has just changed the key of the role. */
  readonly signatures: readonly TufSignature[];
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
  /** The status ledger as of the last append. It is one for all states of a memory, and applies steps once they last. */
  readonly ledger: StatusLedger;
  /** The last status statement, a signed note. Empty before the first. */
  readonly statement: Uint8Array;
  readonly metadata: ReadonlyMap<OnlineRole, SignedMetadata>;
}

export function emptyState(authority: Uint8Array): SignerState {
  return {
    authority,
    trust: undefined,
    unlogged: [],
    logged: { root: 0, targets: 0, batches: 0, statement: 0, transcript: 0 },
    quorum: { root: EMPTY, rules: EMPTY },
    openHeads: [],
    log: { size: 0, peaks: [] },
    lastAppend: undefined,
    signedManifests: new Map(),
    batches: [],
    ledger: new StatusLedger(),
    statement: EMPTY,
    metadata: new Map(),
  };
}

export function frontierOf({ log }: Pick<SignerState, "log">): MerkleFrontier {
  return new MerkleFrontier(log.size, log.peaks);
}

const EMPTY = new Uint8Array(0);
const VERSION = 2;

/** Small, and written whole when another one takes its place. */
type SmallParts = Omit<SignerState, "authority" | "batches" | "ledger">;
type SmallPart = keyof SmallParts;

interface Codec<Value> {
  encode(value: Value): CborValue;
  decode(parts: Parts): Value;
}

const CODECS: { readonly [Name in SmallPart]: Codec<SmallParts[Name]> } = {
  trust: {
    encode: (trust) =>
      trust ? [[[...trust.roots], trust.targets, trust.batches, new Map(trust.targetFiles)]] : [null],
    decode: (parts) =>
      parts.optional((p) => ({
        roots: p.list(asBytes),
        targets: p.bytes(),
        batches: p.bytes(),
        targetFiles: new Map([...p.map()].map(([path, file]) => [String(path), asBytes(file)])),
      })),
  },
  unlogged: {
    encode: (files) => [files.map((file) => [file.kind, file.number, file.fileHash, file.content])],
    decode: (parts) =>
      parts.rows((p) => ({
        kind: oneOf(LOGGED_KINDS, p.text()),
        number: p.integer(),
        fileHash: p.bytes(),
        content: p.bytes(),
      })),
  },
  logged: {
    encode: (logged) => LOGGED_KINDS.map((kind) => logged[kind]),
    decode: (p) => Object.fromEntries(LOGGED_KINDS.map((kind) => [kind, p.integer()])) as SignerState["logged"],
  },
  quorum: { encode: ({ root, rules }) => [root, rules], decode: (p) => ({ root: p.bytes(), rules: p.bytes() }) },
  openHeads: {
    encode: (heads) => [heads.map((head) => [head.version, head.size, head.fileHash])],
    decode: (parts) => parts.rows((p) => ({ version: p.integer(), size: p.integer(), fileHash: p.bytes() })),
  },
  log: {
    encode: ({ size, peaks }) => [size, [...peaks]],
    decode: (p) => {
      const log = { size: p.integer(), peaks: p.list(asBytes) };
      // The constructor refuses peaks that do not belong to the size.
      new MerkleFrontier(log.size, log.peaks);
      return log;
    },
  },
  lastAppend: {
    encode: (last) => [last ? [last.from, last.entriesHash, last.note] : null],
    decode: (parts) => parts.optional((p) => ({ from: p.integer(), entriesHash: p.bytes(), note: p.bytes() })),
  },
  signedManifests: {
    encode: (manifests) => [[...manifests].map(([seq, manifest]) => [seq, manifest])],
    decode: (parts) => new Map(parts.rows((p) => [p.integer(), p.bytes()] as const)),
  },
  statement: { encode: (note) => [note], decode: (p) => p.bytes() },
  metadata: {
    encode: (metadata) => [
      new Map(
        [...metadata].map(([role, { version, signed, signatures }]) => {
          return [role, [version, signed, signatures.map(({ keyid, sig }) => [keyid, sig])]];
        }),
      ),
    ],
    decode: (parts) =>
      new Map(
        [...parts.map()].map(([role, value]) => {
          const p = new Parts(value);
          const [version, signed] = [p.integer(), p.bytes()];
          const signatures = p.rows((one): TufSignature => ({ keyid: one.text(), sig: one.bytes() }));
          return [oneOf(ONLINE_ROLES, String(role)), { version, signed, signatures }];
        }),
      ),
  },
};
const SMALL_PARTS = Object.keys(CODECS) as SmallPart[];

function encodePart<Name extends SmallPart>(state: SignerState, name: Name): CborValue {
  return CODECS[name].encode(state[name]);
}

export function encodeState(state: SignerState): Uint8Array {
  const officers = new OfficerTable();
  const batches = state.batches.map((b) => [b.first, b.count, officers.place(b.officers)]);
  const small = new Map(SMALL_PARTS.map((name) => [name, encodePart(state, name)]));
  return encodeCbor([VERSION, state.authority, small, officers.values, batches, state.ledger.encode()]);
}

/** @throws OperationError ERR_SIGNER_STATE. The file is ours alone, so any surprise in it means damage. */
export function decodeState(bytes: Uint8Array): SignerState {
  return orDamaged(() => {
    const parts = new Parts(decodeCbor(bytes));
    if (parts.integer() !== VERSION) throw new RangeError("another version");
    const authority = parts.bytes();
    const small = readSmall(parts.map());
    const officers = parts.rows(readOfficers);
    const batches = parts.rows((p) => ({ first: p.integer(), count: p.integer(), officers: officers[p.integer()]! }));
    const ledger = StatusLedger.decode(parts.bytes());
    for (const name of SMALL_PARTS) if (!(name in small)) throw new TypeError(`${name} is missing`);
    return { ...(small as SmallParts), authority, batches, ledger };
  });
}

/**
 * What `next` has that `state` has not; undefined when that is nothing.
 * @param steps that `next` takes in the ledger, which has not applied them yet
 */
export function encodeChange(
  state: SignerState,
  next: SignerState,
  steps: readonly LedgerStep[],
): Uint8Array | undefined {
  const small = SMALL_PARTS.flatMap((name) => {
    if (state[name] === next[name]) return [];
    const value = encodePart(next, name);
    return equalBytes(encodeCbor(value), encodeCbor(encodePart(state, name))) ? [] : [[name, value] as const];
  });
  const added = next.batches.slice(state.batches.length);
  if (small.length + added.length + steps.length === 0) return undefined;
  return encodeCbor([
    new Map(small),
    added.map(({ first, count, officers }) => [first, count, officersValue(officers)]),
    steps.map((s) => (s.kind === "batch" ? [s.first, s.count] : [s.leafIndex, encodeEventBody(s.body)])),
  ]);
}

/** The state after a change; its ledger has applied the steps. @throws OperationError ERR_SIGNER_STATE */
export function applyChange(state: SignerState, bytes: Uint8Array): SignerState {
  return orDamaged(() => {
    const parts = new Parts(decodeCbor(bytes));
    const small = readSmall(parts.map());
    const added = parts.rows((p) => ({ first: p.integer(), count: p.integer(), officers: p.row(readOfficers) }));
    state.ledger.apply(parts.rows(readStep));
    return { ...state, ...small, batches: added.length > 0 ? [...state.batches, ...added] : state.batches };
  });
}

function readStep(p: Parts): LedgerStep {
  const at = p.integer();
  const what = p.next();
  if (what instanceof Uint8Array) return { kind: "event", leafIndex: at, body: decodeEventBody(what) };
  return { kind: "batch", first: at, count: asInteger(what) };
}

function readSmall(map: CborMap): Partial<SmallParts> {
  const read = [...map].map(([key, value]) => {
    const name = oneOf(SMALL_PARTS, String(key));
    return [name, CODECS[name].decode(new Parts(value))] as const;
  });
  return Object.fromEntries(read) as Partial<SmallParts>;
}

function readOfficers(p: Parts): Officers {
  return {
    releaseKeys: p.list(asBytes),
    stations: p.rows((s) => ({ kid: s.bytes(), first: s.integer(), count: s.integer() })),
  };
}

function officersValue({ releaseKeys, stations }: Officers): CborValue {
  return [[...releaseKeys], stations.map((s) => [s.kid, s.first, s.count])];
}

function orDamaged<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new OperationError("ERR_SIGNER_STATE", "the signer's state file is damaged", { cause });
  }
}

class OfficerTable {
  readonly values: CborValue[] = [];
  readonly #places = new Map<string, number>();

  place(officers: Officers): number {
    const value = officersValue(officers);
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
