/**
 * The entries of the one log (FORMATS "Log leaves"): the first byte tells the type.
 *
 * No entry holds a signature of a token, a DID, a holder's key, a tag's UID or a time of its own: the log is public
 * for ever.
 */
import { concat, readU32, readU64, u32, u64 } from "./bytes.ts";
import { type CborValue, decodeCbor, encodeCbor } from "./cbor.ts";
import { sha256 } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import { asSignedEvent, decodeRanges, encodeSignedEvent, type SignedEvent } from "./event.ts";

export interface TokenLeaf {
  readonly type: "token";
  readonly index: number;
  readonly rctIdHash: Uint8Array;
  readonly payloadHash: Uint8Array;
}

export interface BatchLeaf {
  readonly type: "batch";
  readonly seq: number;
  readonly manifestHash: Uint8Array;
  /** Of N.batches.json as published, N the first version whose head holds `seq`. */
  readonly metadataHash: Uint8Array;
  /** Of tokens.bin; of the empty string where a batch has none. */
  readonly tokensHash: Uint8Array;
}

export interface EventLeaf {
  readonly type: "event";
  readonly event: SignedEvent;
}

/** A holder suspends their own token; the evidence stays with the authority. */
export interface HolderEventLeaf {
  readonly type: "holder-event";
  readonly evidenceHash: Uint8Array;
  readonly index: number;
}

export interface BindingLeaf {
  readonly type: "binding";
  readonly rctIdHash: Uint8Array;
  readonly epoch: number;
  readonly commitment: Uint8Array;
}

export const TRUST_KINDS = ["root", "targets", "batches", "statement", "transcript"] as const;
export type TrustKind = (typeof TRUST_KINDS)[number];

export interface TrustLeaf {
  readonly type: "trust";
  readonly kind: TrustKind;
  /** Version of the metadata, epoch of the statement, number of the transcript. */
  readonly number: number;
  readonly fileHash: Uint8Array;
}

export type Leaf = TokenLeaf | BatchLeaf | EventLeaf | HolderEventLeaf | BindingLeaf | TrustLeaf;

/** An entry bundle frames each entry with a 16-bit length. */
export const ENTRY_BYTES_MAX = 65_535;
export const TOKEN_LEAF_BYTES = 73;
const BATCH_LEAF_BYTES = 101;
const BINDING_LEAF_BYTES = 69;
const TRUST_LEAF_BYTES = 38;

export function encodeLeaf(leaf: Leaf): Uint8Array {
  switch (leaf.type) {
    case "token":
      return concat(new Uint8Array([1]), u64(leaf.index), leaf.rctIdHash, leaf.payloadHash);
    case "batch":
      return concat(new Uint8Array([2]), u32(leaf.seq), leaf.manifestHash, leaf.metadataHash, leaf.tokensHash);
    case "event":
      return concat(new Uint8Array([3]), encodeSignedEvent(leaf.event));
    case "holder-event":
      return concat(new Uint8Array([3]), encodeCbor([leaf.evidenceHash, [[leaf.index, 1]], "suspend"]));
    case "binding":
      return concat(new Uint8Array([4]), leaf.rctIdHash, u32(leaf.epoch), leaf.commitment);
    case "trust":
      return concat(new Uint8Array([5, TRUST_KINDS.indexOf(leaf.kind) + 1]), u32(leaf.number), leaf.fileHash);
  }
}

/** The entry of one token: what `manifest.root` is a root over. */
export function tokenLeaf(index: number, rctId: Uint8Array, payload: Uint8Array): Uint8Array {
  return encodeLeaf({ type: "token", index, rctIdHash: sha256(rctId), payloadHash: sha256(payload) });
}

/** The hashes of a token leaf are views: a log has millions of them. @throws FormatError ERR_LEAF or ERR_EVENT */
export function decodeLeaf(bytes: Uint8Array): Leaf {
  if (bytes.length > ENTRY_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  switch (bytes[0]) {
    case 1:
      checkLength(bytes, TOKEN_LEAF_BYTES);
      return {
        type: "token",
        index: readU64(bytes, 1),
        rctIdHash: bytes.subarray(9, 41),
        payloadHash: bytes.subarray(41),
      };
    case 2:
      checkLength(bytes, BATCH_LEAF_BYTES);
      return {
        type: "batch",
        seq: readU32(bytes, 1),
        manifestHash: bytes.slice(5, 37),
        metadataHash: bytes.slice(37, 69),
        tokensHash: bytes.slice(69),
      };
    case 3:
      return decodeEventLeaf(bytes.subarray(1));
    case 4:
      checkLength(bytes, BINDING_LEAF_BYTES);
      return { type: "binding", rctIdHash: bytes.slice(1, 33), epoch: readU32(bytes, 33), commitment: bytes.slice(37) };
    case 5: {
      checkLength(bytes, TRUST_LEAF_BYTES);
      const kind = TRUST_KINDS[bytes[1]! - 1];
      if (!kind) throw wrong(`trust kind ${bytes[1]}`);
      return { type: "trust", kind, number: readU32(bytes, 2), fileHash: bytes.slice(6) };
    }
    default:
      throw wrong(`type ${bytes[0] ?? "missing"}`);
  }
}

function decodeEventLeaf(bytes: Uint8Array): EventLeaf | HolderEventLeaf {
  const value = decodeCbor(bytes, "ERR_LEAF");
  if (!Array.isArray(value)) throw wrong("an event that is not an array");
  const items = value as readonly CborValue[];
  if (items.length === 2) return { type: "event", event: asSignedEvent(items) };
  const [evidenceHash, ranges, action] = items;
  if (
    items.length !== 3 ||
    !(evidenceHash instanceof Uint8Array) ||
    evidenceHash.length !== 32 ||
    action !== "suspend"
  ) {
    throw wrong("an event of neither kind");
  }
  const [range, ...more] = decodeRanges(ranges!);
  if (more.length > 0 || range!.count !== 1) throw wrong("a holder event covers one index");
  return { type: "holder-event", evidenceHash, index: range!.first };
}

function checkLength(bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw wrong(`type ${bytes[0]} has ${length} bytes, not ${bytes.length}`);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_LEAF", `not a log entry: ${reason}`);
}
