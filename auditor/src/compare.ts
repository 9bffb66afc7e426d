/**
 * Two views of one log: the same, one the beginning of the other, or a fork.
 *
 * A log may only grow. Two checkpoints that it signed and that do not fit are proof, to anybody who holds its key,
 * that it showed two histories; so what was seen is kept in files before anything else is said.
 */
import path from "node:path";
import { ensureFolder, putImmutable } from "@viafabric/platform";
import {
  buildConsistencyProof,
  EMPTY_ROOT,
  equalBytes,
  formatBase64,
  formatHex,
  type Hash,
  OperationError,
  sha256,
  utf8,
} from "@viafabric/schemas";
import type { TileTree } from "@viafabric/transparency-log/client";
import type { SeenCheckpoint } from "./open-log.ts";

export type Comparison =
  | { readonly result: "same" }
  /** `older` is the beginning of the other. */
  | { readonly result: "extends"; readonly older: "a" | "b"; readonly proof: readonly Hash[] }
  | { readonly result: "fork"; readonly evidence: Fork };

export interface Fork {
  readonly notes: readonly [Uint8Array, Uint8Array];
  /** Where sizes differ: the root that the larger tree had at the smaller size, and the proof that it had. */
  readonly prefix?: { readonly size: number; readonly root: Hash; readonly proof: readonly Hash[] };
}

/** @throws OperationError ERR_USAGE when neither side can show the tree that decides */
export async function compare(a: SeenCheckpoint, b: SeenCheckpoint): Promise<Comparison> {
  const notes = [a.note, b.note] as const;
  const [x, y] = [a.checkpoint, b.checkpoint];
  if (x.origin !== y.origin) {
    throw new OperationError("ERR_USAGE", `two logs: ${x.origin} and ${y.origin}`);
  }
  if (x.size === y.size) {
    return equalBytes(x.root, y.root) ? { result: "same" } : { result: "fork", evidence: { notes } };
  }
  const [older, newer] = x.size < y.size ? [a, b] : [b, a];
  if (!newer.tree) {
    const reason = `only a mirror that holds ${newer.checkpoint.size} entries can show whether one extends the other`;
    throw new OperationError("ERR_USAGE", reason);
  }
  const tree = await newer.tree();
  const { size, root } = older.checkpoint;
  const had = size === 0 ? EMPTY_ROOT : (await tree.frontierAt(size)).root();
  const proof = await proofOf(tree, size);
  if (equalBytes(had, root)) return { result: "extends", older: older === a ? "a" : "b", proof };
  return { result: "fork", evidence: { notes, prefix: { size, root: had, proof } } };
}

function proofOf(tree: TileTree, size: number): Promise<readonly Hash[]> {
  return buildConsistencyProof(size, tree.size, tree.subtree);
}

/**
 * Writes the evidence into a folder of its own name below `folder`.
 * @returns the folder
 */
export async function saveFork(folder: string, { notes, prefix }: Fork): Promise<string> {
  const name = `fork-${formatHex(sha256(Buffer.concat(notes))).slice(0, 16)}`;
  const target = path.join(folder, name);
  await ensureFolder(target);
  await putImmutable(path.join(target, "a.checkpoint"), notes[0]);
  await putImmutable(path.join(target, "b.checkpoint"), notes[1]);
  await putImmutable(path.join(target, "README.txt"), utf8(explain(prefix)));
  return target;
}

function explain(prefix: Fork["prefix"]): string {
  const lines = [
    "One log signed both checkpoints beside this file, and no log that only grows can have both.",
    "Check the signatures with the log's key; keep the files as they are; show them to others who watch the log.",
    "",
  ];
  if (!prefix) return [...lines, "They state the same size and different roots.", ""].join("\n");
  return [
    ...lines,
    `At size ${prefix.size} the larger tree had the root ${formatBase64(prefix.root)},`,
    "which is not the one that the smaller checkpoint states. RFC 6962 consistency proof of that root and the larger:",
    ...prefix.proof.map(formatBase64),
    "",
  ].join("\n");
}
