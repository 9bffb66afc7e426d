/**
 * Trees that have tiles but no entries of their own: the manifest tree, whose leaves are 32-byte hashes of manifests
 * published elsewhere. The tiles are the same as a log's.
 */
import { putImmutableMany } from "@viafabric/platform";
import { hashLeaves } from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import { type FetchFile, folderFetch } from "./fetch.ts";
import { type NewFile, tileFile } from "./log-tip.ts";
import { EMPTY_EDGE, growEdge, rootOfEdge } from "./tile-edge.ts";
import { readEdge } from "./tile-tree.ts";

export interface GrownTree extends TreeHead {
  /** Immutable; paths begin with `tile/`. To be durable before anything names the new root. */
  readonly files: readonly NewFile[];
}

/** @param leaves the leaf data of the entries after `old`; @param fetch gives the tiles of `old` */
export async function growTree(fetch: FetchFile, old: TreeHead, leaves: readonly Uint8Array[]): Promise<GrownTree> {
  const grown = growEdge(await readEdge(fetch, old), hashLeaves(leaves));
  return { size: grown.edge.size, root: rootOfEdge(grown.edge), files: grown.tiles.map(tileFile) };
}

/** The whole tree at once, for whoever has all leaves at hand. */
export function tilesOf(leaves: readonly Uint8Array[]): GrownTree {
  const grown = growEdge(EMPTY_EDGE, hashLeaves(leaves));
  return { size: grown.edge.size, root: rootOfEdge(grown.edge), files: grown.tiles.map(tileFile) };
}

/** Grows the tree in `folder` durably; running it again after a crash is harmless. */
export async function writeTree(folder: string, old: TreeHead, leaves: readonly Uint8Array[]): Promise<TreeHead> {
  const { size, root, files } = await growTree(folderFetch(folder), old, leaves);
  await putImmutableMany(folder, files);
  return { size, root };
}
