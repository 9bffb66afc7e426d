/** `via audit all` and `via audit fsck`: the whole audit of an authority, of a source or of a folder file by file. */
import { stat } from "node:fs/promises";
import { ensureFolder, lockFolder, type Output, readFileBounded } from "@viafabric/platform";
import { OperationError, parseHex, quote } from "@viafabric/schemas";
import { METADATA_BYTES_MAX, type PinnedRoot } from "@viafabric/tuf";
import { type AllReport, auditAll } from "./audit-all.ts";
import { fetchOf } from "./source.ts";
import { readState, writeState } from "./state-file.ts";
import { listFiles } from "./walk.ts";

export interface WholeOptions {
  readonly root: string;
  readonly authority?: string;
  readonly state?: string;
  readonly html?: string;
}

const EXITS = `
Exit codes: 0 verified, 1 refused, 2 usage, 4 the source could not be read`;

/** The commands, with what their help adds. */
export const WHOLE = [
  {
    name: "all",
    description: "audit an authority from its pinned root: its log, and every decision that the log holds",
    argument: ["<source>", "folder or http(s) address of the published tree"],
    details: `
The pinned root decides whose log it is, so no key is asked for. Get the root from a trustee, not from the source.

Checked, besides everything that \`via audit log\` checks: the chain of roots; that each root, targets and batches
version was logged and signed by its threshold; that each batch was approved, and followed by exactly its tokens; that
each status event met its threshold under the root and rules logged before it; that each statement is chained, logged
and states what the log makes; and that clients are pointed at nothing else. In a folder also every other file.

Examples
  via audit all https://vault.example/public/ --root root.json
  via audit all .via/vault/public --root root.json --state audits/vault
  via audit all /media/stick --root root.json --html report.html --json
  via audit all https://vault.example/public/ --mirror https://mirror.example/vault/ --root root.json

One copy is read as a whole. A mirror is asked when the copy before it cannot be read; what does not verify is a verdict.
${EXITS}`,
  },
  {
    name: "fsck",
    description: "check every published file of a folder against the log, the statements and the metadata",
    argument: ["<folder>", "folder of the published tree"],
    details: `
Like \`via audit all\`, for whoever runs a mirror: each file is either checked, or named as one that no format knows.
Beside a vault that publishes at that moment, a file may be there before the checkpoint that covers it: run it again.

Examples
  via audit fsck /srv/mirror --root root.json
${EXITS}`,
  },
] as const;

export async function wholeAudit(
  out: Output,
  text: string,
  options: WholeOptions,
): Promise<{ readonly report: AllReport; readonly seconds: number }> {
  const pinned = await readPinned(options);
  const files = (await isFolder(text)) ? await listFiles(text) : undefined;
  const { state: folder } = options;
  if (folder !== undefined) await ensureFolder(folder);
  const unlock = folder === undefined ? undefined : await lockFolder(folder);
  const started = performance.now();
  let progress: ReturnType<Output["progress"]> | undefined;
  try {
    const state = folder === undefined ? undefined : await readState(folder);
    const report = await auditAll(fetchOf(text), {
      pinned,
      ...(files && { files }),
      ...(state && { state }),
      ...(folder !== undefined && { pause: (next) => writeState(folder, next) }),
      started: ({ size }) => {
        progress = out.progress("entries", size - (state?.resume.position ?? 0));
      },
      advanced: (entries) => progress?.advance(entries),
    });
    return { report, seconds: Math.round(performance.now() - started) / 1000 };
  } finally {
    progress?.stop();
    await unlock?.();
  }
}

export async function readPinned({ root, authority }: WholeOptions): Promise<PinnedRoot> {
  const file = await readFileBounded(root, METADATA_BYTES_MAX.root);
  return { file, ...(authority !== undefined && { authority: parseHex(authority, 32) }) };
}

async function isFolder(text: string): Promise<boolean> {
  if (/^https?:\/\//.test(text)) return false;
  const found = await stat(text).catch(() => undefined);
  if (!found?.isDirectory()) throw new OperationError("ERR_FILE", `there is no folder ${quote(text)}`);
  return true;
}
