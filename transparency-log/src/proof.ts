/**
 * Proof files (C2SP tlog-proof): that an entry is in a log, in one file that needs no network.
 *
 *     c2sp.org/tlog-proof@v1
 *     extra <base64>              optional, proves nothing by itself
 *     index <decimal>
 *     <base64 hash>               0 to 63 lines, leaf to root
 *
 *     <signed checkpoint, verbatim>
 */
import {
  concat,
  FormatError,
  formatBase64,
  type Hash,
  hashLeaf,
  NOTE_BYTES_MAX,
  PROOF_HASHES_MAX,
  parseBase64,
  parseDecimal,
  parseUtf8,
  quote,
  utf8,
  verifyInclusion,
} from "@viafabric/schemas";
import { ENTRY_BYTES_MAX } from "./entry-bundle.ts";
import { type LogPolicy, type VerifiedCheckpoint, verifyCheckpoint } from "./policy.ts";

export interface Proof {
  /** Whatever helps the reader, such as the whole entry. Nothing signs it. */
  readonly extra?: Uint8Array;
  readonly index: number;
  readonly hashes: readonly Hash[];
  /** The signed note. */
  readonly checkpoint: Uint8Array;
}

/** An entry as `extra` in base64, 63 hashes of 45 characters, a note. */
export const LOG_PROOF_BYTES_MAX = Math.ceil(ENTRY_BYTES_MAX / 3) * 4 + 64 * 45 + 64 + NOTE_BYTES_MAX;

const HEADER = "c2sp.org/tlog-proof@v1";

export function formatProof(proof: Proof): Uint8Array {
  const lines = [HEADER];
  if (proof.extra) lines.push(`extra ${formatBase64(proof.extra)}`);
  lines.push(`index ${proof.index}`, ...proof.hashes.map(formatBase64), "", "");
  return concat(utf8(lines.join("\n")), proof.checkpoint);
}

/** Shape only. @throws FormatError ERR_LOG_PROOF */
export function parseProof(bytes: Uint8Array): Proof {
  if (bytes.length > LOG_PROOF_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const text = parseUtf8(bytes);
  // The first empty line: no line before the checkpoint may be empty, and the checkpoint is kept as it is.
  const end = text.indexOf("\n\n");
  if (end < 0) throw wrong("no checkpoint");
  const [header, ...lines] = text.slice(0, end).split("\n");
  if (header !== HEADER) throw wrong(`header ${quote(header ?? "")}`);
  const checkpoint = utf8(text.slice(end + 2));
  try {
    const extra = lines[0]?.startsWith("extra ") ? parseBase64(lines.shift()!.slice(6)) : undefined;
    const index = lines.shift();
    if (!index?.startsWith("index ")) throw wrong("no index line");
    if (lines.length > PROOF_HASHES_MAX) throw wrong(`${lines.length} hashes`);
    const hashes = lines.map((line) => parseBase64(line, 32));
    return { ...(extra && { extra }), index: parseDecimal(index.slice(6)), hashes, checkpoint };
  } catch (cause) {
    throw cause instanceof FormatError && cause.code === "ERR_LOG_PROOF" ? cause : wrong("a malformed line", cause);
  }
}

/** @throws FormatError, or VerificationError: ERR_PROOF and those of verifyCheckpoint */
export function verifyProof(
  policy: LogPolicy,
  entry: Uint8Array,
  bytes: Uint8Array,
): { readonly index: number; readonly checkpoint: VerifiedCheckpoint } {
  const { index, hashes, checkpoint: note } = parseProof(bytes);
  const checkpoint = verifyCheckpoint(policy, note);
  const { size, root } = checkpoint;
  verifyInclusion({ index, size, leafHash: hashLeaf(entry), proof: hashes, root });
  return { index, checkpoint };
}

function wrong(reason: string, cause?: unknown): FormatError {
  return new FormatError("ERR_LOG_PROOF", `not a proof file of a log: ${reason}`, { cause });
}
