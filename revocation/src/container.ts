/**
 * RVX1 files: a snapshot of a set at one epoch, or a delta from one epoch to another.
 *
 *     off  size
 *       0     4  "RVX1"
 *       4     1  kind: 0 snapshot (from = 0, no del), 1 delta
 *       5     1  plane: 0 revoked, 1 suspended, 2 unreleased
 *       6     1  17: log2 of the bits of a chunk
 *       7     1  0
 *       8     4  from epoch
 *      12     4  to epoch, above from
 *      16     8  N at `to`
 *      24     4  elements of add
 *      28     4  elements of del
 *      32     4  bytes of the add body
 *      36    32  set root at `to`
 *      68        add body, then del body, both below N
 *
 * A delta lists every index whose membership changed at least once in (from, to], with its state at `to`: add is a
 * member there, del is not. So a delta may be applied twice, and to the set of any epoch in [from, to].
 *
 * Nothing in a file is trusted: the root it leads to is compared with the signed one.
 */
import {
  concat,
  equalBytes,
  FormatError,
  formatHex,
  type Hash,
  readU32,
  readU64,
  u32,
  u64,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { IndexSet, UNIVERSE_MAX } from "./index-set.ts";
import { BODY_BYTES_MAX, decodeBody, encodeBody } from "./rvx1.ts";
import { setRoot } from "./set-root.ts";

export type Plane = 0 | 1 | 2;
export const PLANES: readonly Plane[] = [0, 1, 2];

export const SET_HEADER_BYTES = 68;
/** Header and two bodies at their longest. */
export const SET_FILE_BYTES_MAX = SET_HEADER_BYTES + 2 * BODY_BYTES_MAX;

const MAGIC = utf8("RVX1");
const CHUNK_BITS = 17;
const SNAPSHOT = 0;
const DELTA = 1;

/** A set at an epoch: what a file is applied to and what comes out. */
export interface EpochSet {
  readonly plane: Plane;
  readonly epoch: number;
  /** The universe is [0, n). */
  readonly n: number;
  readonly set: IndexSet;
}

export interface SetFile {
  readonly plane: Plane;
  /** 0 in a snapshot, and in a delta that starts from the empty set. */
  readonly from: number;
  readonly to: number;
  readonly n: number;
  readonly add: IndexSet;
  readonly del: IndexSet;
  /** Of the set at `to`. */
  readonly root: Hash;
}

/** Counts and lengths of a file, read before any body is: they bound the work of decoding. */
export interface SetHeader extends Omit<SetFile, "add" | "del"> {
  readonly snapshot: boolean;
  readonly addCount: number;
  readonly delCount: number;
  readonly addBytes: number;
}

export function encodeSnapshot(state: EpochSet, root: Hash = setRoot(state.set, state.n)): Uint8Array {
  return encode({ ...state, from: 0, to: state.epoch, add: state.set, del: IndexSet.EMPTY, root }, SNAPSHOT);
}

export function encodeDelta(delta: SetFile): Uint8Array {
  if (delta.add.intersection(delta.del).count > 0) throw new RangeError("an index in both add and del");
  return encode(delta, DELTA);
}

function encode({ plane, from, to, n, add, del, root }: SetFile, kind: number): Uint8Array {
  if (!(from >= 0 && from < to && to < 2 ** 32)) throw new RangeError(`epochs ${from} to ${to}`);
  if (root.length !== 32) throw new RangeError("a root has 32 bytes");
  const addBody = encodeBody(add, n);
  return concat(
    MAGIC,
    new Uint8Array([kind, plane, CHUNK_BITS, 0]),
    u32(from),
    u32(to),
    u64(n),
    u32(add.count),
    u32(del.count),
    u32(addBody.length),
    root,
    addBody,
    encodeBody(del, n),
  );
}

/** @throws FormatError ERR_RVX1 */
export function decodeSetHeader(bytes: Uint8Array): SetHeader {
  if (bytes.length < SET_HEADER_BYTES || bytes.length > SET_FILE_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  if (!equalBytes(bytes.subarray(0, 4), MAGIC)) throw wrong("another magic");
  const [kind, plane, chunkBits, zero] = bytes.subarray(4, 8);
  if (kind !== SNAPSHOT && kind !== DELTA) throw wrong(`kind ${kind}`);
  if (plane !== 0 && plane !== 1 && plane !== 2) throw wrong(`plane ${plane}`);
  if (chunkBits !== CHUNK_BITS || zero !== 0) throw wrong("another chunk size");
  const header: SetHeader = {
    snapshot: kind === SNAPSHOT,
    plane,
    from: readU32(bytes, 8),
    to: readU32(bytes, 12),
    n: readU64(bytes, 16),
    addCount: readU32(bytes, 24),
    delCount: readU32(bytes, 28),
    addBytes: readU32(bytes, 32),
    root: bytes.slice(36, SET_HEADER_BYTES),
  };
  if (header.from >= header.to) throw wrong(`from epoch ${header.from} to ${header.to}`);
  if (header.snapshot && (header.from !== 0 || header.delCount !== 0)) throw wrong("a snapshot with a past");
  if (header.n > UNIVERSE_MAX || header.addCount + header.delCount > header.n)
    throw wrong("more elements than indices");
  if (SET_HEADER_BYTES + header.addBytes > bytes.length) throw wrong("the add body is cut short");
  return header;
}

/** Shape only. Compare the header with what is signed first: its counts bound the work done here. */
export function decodeSetFile(bytes: Uint8Array): SetFile & { readonly snapshot: boolean } {
  const { addCount, delCount, addBytes, ...header } = decodeSetHeader(bytes);
  const middle = SET_HEADER_BYTES + addBytes;
  const add = decodeBody(bytes.subarray(SET_HEADER_BYTES, middle), { universe: header.n, count: addCount });
  const del = decodeBody(bytes.subarray(middle), { universe: header.n, count: delCount });
  if (add.intersection(del).count > 0) throw wrong("an index in both add and del");
  return { ...header, add, del };
}

/** What the signed statement says about a plane at its epoch. */
export interface SignedSet {
  readonly plane: Plane;
  readonly epoch: number;
  readonly n: number;
  readonly count: number;
  readonly root: Hash;
}

/** The set of a snapshot file. @throws VerificationError ERR_SET_OTHER before decoding, ERR_SET_ROOT after it */
export function verifySnapshot(bytes: Uint8Array, signed: SignedSet): EpochSet {
  const header = decodeSetHeader(bytes);
  if (!header.snapshot) throw other("a delta where a snapshot belongs");
  requireSame(header, signed);
  if (header.addCount !== signed.count) throw other(`${header.addCount} elements, not ${signed.count}`);
  const state = { plane: signed.plane, epoch: signed.epoch, n: signed.n, set: decodeSetFile(bytes).add };
  return requireRoot(state, signed);
}

/**
 * Applies one delta. The result is the set the file claims; verifySet compares the last one with the statement.
 * @param held the set of any epoch in [from, to]; the empty set at epoch 0
 * @throws VerificationError ERR_SET_OTHER for another plane, a gap in epochs or a shrinking N; ERR_SET_ROOT
 */
export function applyDelta(held: EpochSet, bytes: Uint8Array): EpochSet {
  const header = decodeSetHeader(bytes);
  if (header.plane !== held.plane) throw other(`plane ${header.plane}, not ${held.plane}`);
  if (header.from > held.epoch || held.epoch > header.to) {
    throw other(`from epoch ${header.from} to ${header.to}, while epoch ${held.epoch} is held`);
  }
  if (header.n < held.n) throw other(`N shrinks from ${held.n} to ${header.n}`);
  const { add, del } = decodeSetFile(bytes);
  const set = held.set.minus(del).union(add);
  return requireRoot({ plane: held.plane, epoch: header.to, n: header.n, set }, header);
}

/** @throws VerificationError ERR_SET_OTHER, ERR_SET_ROOT unless `state` is exactly the set that was signed */
export function verifySet(state: EpochSet, signed: SignedSet): EpochSet {
  requireSame({ plane: state.plane, to: state.epoch, n: state.n }, signed);
  if (state.set.count !== signed.count) throw other(`${state.set.count} elements, not ${signed.count}`);
  return requireRoot(state, signed);
}

function requireSame(file: Pick<SetHeader, "plane" | "to" | "n">, signed: SignedSet): void {
  if (file.plane !== signed.plane) throw other(`plane ${file.plane}, not ${signed.plane}`);
  if (file.to !== signed.epoch) throw other(`epoch ${file.to}, not ${signed.epoch}`);
  if (file.n !== signed.n) throw other(`N = ${file.n}, not ${signed.n}`);
}

function requireRoot(state: EpochSet, { root }: { readonly root: Hash }): EpochSet {
  const found = setRoot(state.set, state.n);
  if (!equalBytes(found, root)) {
    const where = `plane ${state.plane} at epoch ${state.epoch}`;
    throw new VerificationError("ERR_SET_ROOT", `${where} has root ${formatHex(found)}, not ${formatHex(root)}`);
  }
  return state;
}

function other(reason: string): VerificationError {
  return new VerificationError("ERR_SET_OTHER", `another status file: ${reason}`);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_RVX1", `not an RVX1 file: ${reason}`);
}
