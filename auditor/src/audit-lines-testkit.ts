/**
 * For tests of the whole house: a process that audits one published folder after the other, each asked for by a line of
 * JSON on its input. Starting a process for each of hundreds of folders would take most of the time.
 */
import { createInterface } from "node:readline";
import { folderFetch } from "@viafabric/transparency-log/client";
import { auditAll } from "./audit-all.ts";
import { listFiles } from "./walk.ts";
import { readPinned } from "./whole.ts";

interface Question {
  readonly folder: string;
  readonly root: string;
}

export interface AuditAnswer {
  /** Codes of the findings; none when it is verified. */
  readonly all: readonly string[];
  /** As `all` over the web, where files cannot be listed. */
  readonly unlisted: readonly string[];
  /** What the latter asked for. */
  readonly asked: readonly string[];
}

async function answer({ folder, root }: Question): Promise<AuditAnswer> {
  const pinned = await readPinned({ root });
  const read = folderFetch(folder);
  const asked = new Set<string>();
  const fetch = (file: string) => {
    asked.add(file);
    return read(file);
  };
  const codes = async (files?: readonly string[]) => {
    const { verdict, findings } = await auditAll(fetch, { pinned, ...(files && { files }) });
    if (verdict === "verified") return [];
    return findings.map(({ code }) => code);
  };
  const unlisted = await codes();
  const seen = [...asked];
  return { all: await codes(await listFiles(folder)), unlisted, asked: seen };
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
