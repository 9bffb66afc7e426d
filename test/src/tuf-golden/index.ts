/**
 * What is in test/vectors/tuf, and what each client must say to it.
 *
 * A golden repository is a pinned root and a sequence of states that a server shows one after the other to a client
 * that keeps its store. `index.json` is for everybody; this file is the type of it and writes it.
 */
import { formatHex, sha256, utf8 } from "@viafabric/schemas";
import { accepted } from "./accepted.ts";
import { GOLDEN_NOW, HOLDERS, rootFile } from "./authority.ts";
import type { Repository, Step } from "./repository.ts";
import { stateful } from "./stateful.ts";
import { unusual } from "./unusual.ts";

/** index.json: everything but the files. */
export interface Index {
  /** Unix seconds, for a client that can be told the time. */
  readonly now: number;
  readonly repositories: readonly IndexedRepository[];
}
export type IndexedRepository = Omit<Repository, "steps" | "founders"> & { readonly steps: readonly IndexedStep[] };
export type IndexedStep = Omit<Step, "publication"> & {
  /** Below the repository's folder: `metadata/` and `targets/` as served. */
  readonly folder: string;
  /** SHA-256 of what a client that accepts downloads, by target path. */
  readonly targets: Readonly<Record<string, string>>;
};

export async function repositories(): Promise<readonly Repository[]> {
  return [...(await accepted()), ...(await unusual()), ...(await stateful())];
}

/** All files below test/vectors/tuf, by path. README.md is written by hand. */
export async function goldenFiles(): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const all = await repositories();
  for (const { name, steps, founders } of all) {
    files.set(`${name}/root.json`, await rootFile(1, founders ?? HOLDERS));
    for (const [i, { publication }] of steps.entries())
      for (const [path, bytes] of publication.files) files.set(`${name}/${i + 1}/${path}`, bytes);
  }
  const index: Index = { now: GOLDEN_NOW, repositories: all.map(indexed) };
  return files.set("index.json", utf8(`${JSON.stringify(index, undefined, 2)}\n`));
}

function indexed({ steps, founders: _, ...repository }: Repository): IndexedRepository {
  return {
    ...repository,
    steps: steps.map(({ publication, ...step }, i) => ({
      folder: String(i + 1),
      ...step,
      targets: Object.fromEntries(
        [...publication.targets].map(([path, bytes]) => [path, formatHex(sha256(bytes))] as const),
      ),
    })),
  };
}
