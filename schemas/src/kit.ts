/**
 * A kit: what a writing station carries into the field. It holds everything needed to check itself offline against
 * the station's own trust, and the tokens to write. It travels sealed to the station; these are the bytes inside.
 */
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { FormatError } from "./errors.ts";
import { BATCH_TOKENS_MAX, INDEX_MAX, NAME_LENGTH_MAX, URI_LENGTH_MAX } from "./manifest.ts";
import { PROOF_HASHES_MAX } from "./merkle.ts";
import { TOKEN_BYTES_MAX } from "./token.ts";

export interface KitToken {
  readonly index: number;
  /** The compact or the COSE spelling. */
  readonly token: Uint8Array;
  /** 16 bytes, where the claim profile puts a secret on the tag. */
  readonly claimSecret?: Uint8Array;
}

export interface Kit {
  readonly authority: Uint8Array;
  readonly id: Uint8Array;
  readonly seq: number;
  readonly station: Uint8Array;
  readonly first: number;
  readonly count: number;
  readonly manifest: Uint8Array;
  /** leaves.bin of the whole batch. */
  readonly leaves: Uint8Array;
  readonly tokensBin: Uint8Array;
  readonly logProof: Uint8Array;
  /** Inclusion of H(manifest) at `seq` in the head of `headSize` manifests. */
  readonly manifestProof: readonly Uint8Array[];
  readonly headSize: number;
  /** HMAC key for the UIDs in receipts: the public never learns which tag carries which token. */
  readonly uidKey: Uint8Array;
  /** NDEF external type of the compact layout. */
  readonly recordType: string;
  /** Host name of the link layout. */
  readonly host: string;
  readonly tokens: readonly KitToken[];
  readonly created: number;
}

/** A kit fits on the smallest USB stick, and in memory twice. */
export const KIT_BYTES_MAX = 64 * 1024 * 1024;
const KEYS = Array.from({ length: 18 }, (_, i) => i + 1);

export function encodeKit(kit: Kit): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, kit.authority],
      [3, kit.id],
      [4, kit.seq],
      [5, kit.station],
      [6, kit.first],
      [7, kit.count],
      [8, kit.manifest],
      [9, kit.leaves],
      [10, kit.tokensBin],
      [11, kit.logProof],
      [12, [...kit.manifestProof]],
      [13, kit.headSize],
      [14, kit.uidKey],
      [15, kit.recordType],
      [16, kit.host],
      [17, kit.tokens.map((t) => (t.claimSecret ? [t.index, t.token, t.claimSecret] : [t.index, t.token]))],
      [18, kit.created],
    ]),
  );
}

/** Shape only: a kit is trusted after the verifier has seen it. @throws FormatError ERR_KIT */
export function decodeKit(bytes: Uint8Array): Kit {
  if (bytes.length > KIT_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_KIT"), KEYS, "ERR_KIT");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const kit: Kit = {
    authority: fields.bytes(2, 32),
    id: fields.bytes(3, 16),
    seq: fields.integer(4, 2 ** 32 - 1),
    station: fields.bytes(5, 32),
    first: fields.integer(6, INDEX_MAX),
    count: fields.integer(7, BATCH_TOKENS_MAX, 1),
    manifest: fields.bytes(8),
    leaves: fields.bytes(9),
    tokensBin: fields.bytes(10),
    logProof: fields.bytes(11),
    manifestProof: fields.array(12, PROOF_HASHES_MAX).map((hash) => asBytes(hash, 32)),
    headSize: fields.integer(13, 2 ** 32 - 1),
    uidKey: fields.bytes(14, 32),
    recordType: fields.text(15, NAME_LENGTH_MAX),
    host: fields.text(16, URI_LENGTH_MAX),
    tokens: fields.array(17, BATCH_TOKENS_MAX).map(asKitToken),
    created: fields.integer(18),
  };
  const inOrder = kit.tokens.every((token, i) => token.index === kit.first + i);
  if (kit.tokens.length !== kit.count || !inOrder) throw wrong("its tokens are not its index range in order");
  return kit;
}

function asKitToken(value: CborValue): KitToken {
  if (!Array.isArray(value) || (value.length !== 2 && value.length !== 3)) throw wrong("a token entry");
  const [index, token, secret] = value as readonly CborValue[];
  if (typeof index !== "number") throw wrong("a token index");
  const bytes = asBytes(token);
  if (bytes.length > TOKEN_BYTES_MAX) throw wrong("a token that is too long");
  return { index, token: bytes, ...(value.length === 3 ? { claimSecret: asBytes(secret, 16) } : {}) };
}

function asBytes(value: CborValue | undefined, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) throw wrong("a byte string");
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_KIT", `not a kit: ${reason}`);
}
