/**
 * Checkpoints (C2SP tlog-checkpoint v1.0.0): what a log signs about itself.
 *
 *     origin LF
 *     size LF                 decimal, no leading zeros
 *     base64(root) LF
 *
 * The text of a signed note. Extension lines are refused: witnesses reject them, and nobody could audit what they say.
 */
import { FormatError, formatBase64, type Hash, parseBase64, parseDecimal, quote } from "@viafabric/schemas";

/** A tree named by its size and root. */
export interface TreeHead {
  readonly size: number;
  readonly root: Hash;
}

export interface Checkpoint extends TreeHead {
  /** The log's identity, for ever: a URL without scheme, equal to the name of its key. */
  readonly origin: string;
}

/** Where a log serves its newest signed checkpoint. */
export const CHECKPOINT_PATH = "checkpoint";

export function formatCheckpoint(checkpoint: Checkpoint): string {
  return `${checkpoint.origin}\n${checkpoint.size}\n${formatBase64(checkpoint.root)}\n`;
}

/** @throws FormatError ERR_CHECKPOINT */
export function parseCheckpoint(text: string): Checkpoint {
  const [origin, size, root, rest, ...more] = text.split("\n");
  if (!origin || size === undefined || root === undefined || rest !== "" || more.length > 0) {
    throw new FormatError("ERR_CHECKPOINT", `a checkpoint has exactly three lines: ${quote(text)}`);
  }
  try {
    return { origin, size: parseDecimal(size), root: parseBase64(root, 32) };
  } catch (cause) {
    throw new FormatError("ERR_CHECKPOINT", `not the size and root of a checkpoint: ${quote(text)}`, { cause });
  }
}
