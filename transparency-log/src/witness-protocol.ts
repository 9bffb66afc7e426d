/**
 * The bytes of C2SP tlog-witness, as a log writes them and a witness reads them.
 *
 *     POST <witness>/add-checkpoint
 *     old <size> LF               the size that the witness cosigned last
 *     <base64 hash> LF            0 to 63: the consistency proof from there
 *     LF
 *     <the signed checkpoint>
 *
 *     GET <witness>/<hex SHA-256 of the origin>/checkpoint        the latest it cosigned
 */
import {
  FormatError,
  formatBase64,
  formatHex,
  type Hash,
  NOTE_BYTES_MAX,
  PROOF_HASHES_MAX,
  parseBase64,
  parseDecimal,
  parseUtf8,
  quote,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { CHECKPOINT_PATH } from "./checkpoint.ts";

export interface AddCheckpoint {
  readonly oldSize: number;
  readonly proof: readonly Hash[];
  /** The signed checkpoint; nothing in it has been verified. */
  readonly note: Uint8Array;
}

export const ADD_CHECKPOINT_PATH = "add-checkpoint";
/** Content type of a 409 that states the size which the witness cosigned last. */
export const SIZE_TYPE = "text/x.tlog.size";
/** The longest note, the longest proof, and the line before them. */
export const WITNESS_REQUEST_BYTES_MAX = NOTE_BYTES_MAX + PROOF_HASHES_MAX * 45 + 32;

export function formatAddCheckpoint({ oldSize, proof, note }: AddCheckpoint): string {
  if (proof.length > PROOF_HASHES_MAX) throw new RangeError(`a proof of ${proof.length} hashes`);
  return `old ${oldSize}\n${proof.map((hash) => `${formatBase64(hash)}\n`).join("")}\n${parseUtf8(note)}`;
}

/** @throws FormatError ERR_WITNESS_REQUEST */
export function parseAddCheckpoint(bytes: Uint8Array): AddCheckpoint {
  if (bytes.length > WITNESS_REQUEST_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  try {
    const text = parseUtf8(bytes);
    const end = text.indexOf("\n\n");
    const [first, ...hashes] = text.slice(0, end).split("\n");
    const old = /^old (.+)$/.exec(first!)?.[1];
    if (end < 0 || old === undefined) throw wrong(`it begins with ${quote(first!.slice(0, 80))}`);
    if (hashes.length > PROOF_HASHES_MAX) throw wrong(`a proof of ${hashes.length} hashes`);
    return {
      oldSize: parseDecimal(old),
      proof: hashes.map((line) => parseBase64(line, 32)),
      note: utf8(text.slice(end + 2)),
    };
  } catch (cause) {
    if (!(cause instanceof FormatError) || cause.code === "ERR_WITNESS_REQUEST") throw cause;
    throw wrong(cause.message, cause);
  }
}

/** Below a witness's address: where it shows what it cosigned last. */
export function monitoringPath(origin: string): string {
  return `${formatHex(sha256(utf8(origin)))}/${CHECKPOINT_PATH}`;
}

function wrong(reason: string, cause?: unknown): FormatError {
  return new FormatError("ERR_WITNESS_REQUEST", `not an add-checkpoint request: ${reason}`, { cause });
}
