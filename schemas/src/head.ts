/**
 * The head of approved batches: the only target of the TUF role `batches` (FORMATS "Manifest, head").
 *
 * It commits to every manifest ever approved through one Merkle root, so that a node's refresh costs the same at any
 * number of batches. `floor` is the status that trustees saw when they signed: what a fresh node may not fall below.
 */
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { FormatError } from "./errors.ts";
import { INDEX_MAX } from "./manifest.ts";
import { EMPTY_ROOT, type Hash } from "./merkle.ts";

export interface Floor {
  readonly epoch: number;
  readonly n: number;
  readonly logSize: number;
  readonly revokedRoot: Hash;
  readonly suspendedRoot: Hash;
}

export interface Head {
  readonly authority: Uint8Array;
  /** Number of manifests. */
  readonly size: number;
  /** RFC 6962 root; leaf data is the 32-byte H(manifest). */
  readonly root: Hash;
  /** The next free token index; ranges only grow, also past burned ones. */
  readonly next: number;
  readonly log: { readonly size: number; readonly root: Hash };
  readonly floor: Floor;
  /** Unix seconds. */
  readonly issued: number;
}

export const HEAD_BYTES_MAX = 1024;

export function encodeHead(head: Head): Uint8Array {
  const { floor } = head;
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, head.authority],
      [3, head.size],
      [4, head.root],
      [5, head.next],
      [6, [head.log.size, head.log.root]],
      [7, [floor.epoch, floor.n, floor.logSize, floor.revokedRoot, floor.suspendedRoot]],
      [8, head.issued],
    ]),
  );
}

export function decodeHead(bytes: Uint8Array): Head {
  if (bytes.length > HEAD_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_HEAD"), [1, 2, 3, 4, 5, 6, 7, 8], "ERR_HEAD");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const log = fields.array(6, 2);
  const floor = fields.array(7, 5);
  if (log.length !== 2 || floor.length !== 5) throw wrong("log or floor has another number of items");
  return {
    authority: fields.bytes(2, 32),
    size: fields.integer(3, 2 ** 32 - 1),
    root: fields.bytes(4, 32),
    next: fields.integer(5, INDEX_MAX + 1),
    log: { size: asSize(log[0]!), root: asHash(log[1]!) },
    floor: {
      epoch: asSize(floor[0]!),
      n: asSize(floor[1]!),
      logSize: asSize(floor[2]!),
      revokedRoot: asHash(floor[3]!),
      suspendedRoot: asHash(floor[4]!),
    },
    issued: fields.integer(8),
  };
}

/** The head that trustees sign together with root v1: nothing approved, nothing logged, nothing revoked. */
export function genesisHead(authority: Uint8Array, issued: number): Head {
  return {
    authority,
    size: 0,
    root: EMPTY_ROOT,
    next: 0,
    log: { size: 0, root: EMPTY_ROOT },
    floor: { epoch: 0, n: 0, logSize: 0, revokedRoot: EMPTY_ROOT, suspendedRoot: EMPTY_ROOT },
    issued,
  };
}

function asSize(value: CborValue): number {
  if (typeof value !== "number" || value < 0) throw wrong("a size or epoch that is not a natural number");
  return value;
}

function asHash(value: CborValue): Hash {
  if (!(value instanceof Uint8Array) || value.length !== 32) throw wrong("a root that is not 32 bytes");
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_HEAD", `not a head: ${reason}`);
}
