/** What the log is measured with: a million token leaves as a log may hold them, and the hashing none can do without. */
import { createHash, hash } from "node:crypto";
import { encodeLeaf, HASH_BYTES, sha256, TOKEN_LEAF_BYTES, u64, utf8 } from "@viafabric/schemas";

export const TOKENS = 1_000_000;
/** The largest batch there is. */
const BATCH = 100_000;

const leafInput = Buffer.alloc(1 + TOKEN_LEAF_BYTES, 0);
const nodeInput = Buffer.alloc(1 + 64, 1);
/** The hashes of one batch: what the floor keeps must not count as memory of the log. */
const kept = Buffer.alloc(2 * BATCH * HASH_BYTES);

/**
 * One hash for each leaf and one for each node above it, each kept as bytes; in seconds. Through a string, which is
 * the cheapest way that node:crypto has: its Buffers take several times as long.
 */
export function hashingAlone(): number {
  const start = performance.now();
  for (let batch = 0; batch < TOKENS / BATCH; batch++) {
    for (let at = 0; at < kept.length; ) {
      at += kept.write(hash("sha256", leafInput, "binary"), at, "binary");
      at += kept.write(hash("sha256", nodeInput, "binary"), at, "binary");
    }
  }
  return (performance.now() - start) / 1000;
}

/** Batches of token leaves, each behind its batch leaf and the file that this names. */
export class LogLoad {
  readonly #leaves = Array.from({ length: TOKENS / BATCH }, (_, seq) => tokenLeaves(seq * BATCH));

  /** Views of one array a batch, made when asked for: a million small objects would be most of what is measured. */
  *batches(): Iterable<readonly Uint8Array[]> {
    for (const [seq, leaves] of this.#leaves.entries()) {
      const digest = (of: string) => sha256(utf8(`${of} ${seq}`));
      const [fileHash, manifestHash, tokensHash] = [digest("batches"), digest("manifest"), digest("tokens")];
      const entries = [
        encodeLeaf({ type: "trust", kind: "batches", number: seq + 1, fileHash }),
        encodeLeaf({ type: "batch", seq, manifestHash, metadataHash: fileHash, tokensHash }),
      ];
      for (let at = 0; at < leaves.length; at += TOKEN_LEAF_BYTES)
        entries.push(leaves.subarray(at, at + TOKEN_LEAF_BYTES));
      yield entries;
    }
  }
}

function tokenLeaves(first: number): Uint8Array {
  const leaves = new Uint8Array(BATCH * TOKEN_LEAF_BYTES);
  for (let i = 0; i < BATCH; i++) {
    const index = u64(first + i);
    leaves.set([1, ...index], i * TOKEN_LEAF_BYTES);
    leaves.set(createHash("sha512").update(index).digest(), i * TOKEN_LEAF_BYTES + 9);
  }
  return leaves;
}
