/**
 * For tests of the whole house: a process that takes a new node to one published folder after the other, each asked for
 * by a line of JSON on its input.
 */
import { createHash } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { inspect } from "node:util";
import { CodedError } from "@viafabric/schemas";
import { folderFetch } from "@viafabric/transparency-log/client";
import { Refusal } from "@viafabric/verifier";
import { initHome } from "./home.ts";
import { refreshNode } from "./refresh.ts";

interface Question {
  readonly folder: string;
  readonly root: string;
  /** Where the node may live meanwhile. */
  readonly home: string;
  readonly now: number;
}

export interface RefreshAnswer {
  /** Why the refresh, or a batch of it, was refused. */
  readonly codes: readonly string[];
  /** A hash of all that the node has accepted. */
  readonly state: string;
  readonly asked: readonly string[];
}

async function answer({ folder, root, home, now }: Question): Promise<RefreshAnswer> {
  const read = folderFetch(folder);
  const asked = new Set<string>();
  const fetch = (file: string) => {
    asked.add(file);
    return read(file);
  };
  const node = await initHome(home, new Uint8Array(await readFile(root)), { development: true });
  const codes: string[] = [];
  let trust = "";
  try {
    const report = await refreshNode(node, [{ name: folder, fetch }], { batches: "all", now });
    codes.push(...report.refused.map(({ code }) => code));
    trust = inspect(report.trust, { depth: null, maxArrayLength: null });
  } catch (error) {
    if (!(error instanceof CodedError || error instanceof Refusal)) throw error;
    codes.push(error.code);
  }
  const state = await hashOf(home, trust);
  await rm(home, { recursive: true });
  return { codes, state, asked: [...asked] };
}

/**
 * Of trust what it says, not its bytes: nothing names those of a timestamp, and white space around what is signed is
 * kept and means nothing.
 */
async function hashOf(folder: string, trust: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const hash = createHash("sha256").update(trust);
  for (const file of files.sort()) {
    const name = path.relative(folder, file);
    if (!name.startsWith("trust/")) hash.update(`${name}\n`).update(await readFile(file));
  }
  return hash.digest("hex");
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
