/**
 * Transcripts of key ceremonies: written in private/transcripts/ when a key is made or looked at, and from there into the
 * log and the published tree, in their order. `<n>.json` is what is logged; `<n>.md` says the same to people.
 */
import path from "node:path";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER, putImmutable, readFileIfPresent } from "@viafabric/platform";
import {
  CodedError,
  DEVICE_FIELDS,
  decodeTranscript,
  formatHex,
  formatWords,
  OperationError,
  TRANSCRIPT_BYTES_MAX,
  type Transcript,
  utf8,
} from "@viafabric/schemas";
import { trustEntry } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import type { PublishedFile } from "./publisher.ts";

export function readTranscript(folder: string, number: number): Promise<Uint8Array | undefined> {
  return readFileIfPresent(path.join(folder, `${number}.json`), TRANSCRIPT_BYTES_MAX);
}

/** The number of the next one. Whoever writes it holds the lock on the keys. */
export async function nextTranscript(folder: string): Promise<number> {
  for (let number = 1; ; number++) if (!(await readTranscript(folder, number))) return number;
}

export async function keepTranscript(folder: string, bytes: Uint8Array): Promise<Transcript> {
  const transcript = decodeTranscript(bytes);
  await ensureFolder(folder, PRIVATE_FOLDER);
  await putImmutable(path.join(folder, `${transcript.number}.md`), utf8(transcriptMarkdown(transcript)), PRIVATE_FILE);
  // Last: with this file the ceremony has happened, and the sequencer takes it from here.
  await putImmutable(path.join(folder, `${transcript.number}.json`), bytes, PRIVATE_FILE);
  return transcript;
}

export function transcriptMarkdown(transcript: Transcript): string {
  const { number, authority, made, action, tool, device, keys } = transcript;
  const rows = DEVICE_FIELDS.filter((name) => device[name] !== "").map((name) => `| ${name} | ${cell(device[name])} |`);
  return `${[
    `# Key ceremony ${number}: ${action}`,
    "",
    `- authority: ${formatHex(authority)}`,
    `- time: ${new Date(made * 1000).toISOString()}`,
    `- tool: ${cell(tool)}`,
    `- class of the keys: **${transcript.class}**`,
    "",
    "| module and token | as they report it |",
    "|---|---|",
    ...rows,
    ...keys.flatMap(({ role, id, key, attributes }, i) => [
      "",
      `## ${cell(role)}`,
      "",
      `- key id in the token: \`${formatHex(id)}\``,
      `- algorithm: ${key.algorithm}`,
      `- public key digest: \`${formatHex(key.kid)}\``,
      `- read aloud: ${formatWords(key.kid)}`,
      `- attributes: ${[...attributes].map(([name, value]) => `${name} ${value ? "yes" : "no"}`).join(", ") || "none: no token"}`,
      `- signature over this transcript: \`${formatHex(transcript.signatures[i]!)}\``,
    ]),
  ].join("\n")}\n`;
}

/** Texts of a device go into a table: nothing in them makes a cell or a tag. */
function cell(text: string): string {
  return text.replace(/[\\|`<>[\]*_]/g, "\\$&");
}

/**
 * Gives those that wait their leaves. @returns how many
 * @throws OperationError ERR_TRANSCRIPT_FILE when the signer does not accept the file that comes next
 */
export async function logTranscripts(desk: Desk): Promise<number> {
  const { signer, transcriptsFolder } = desk.deps;
  for (let logged = 0; ; logged++) {
    const number = (await signer.state()).logged.transcript + 1;
    const bytes = await readTranscript(transcriptsFolder, number);
    if (!bytes) return logged;
    await signer.transcript(bytes).catch((cause: unknown) => {
      if (!(cause instanceof CodedError) || cause instanceof OperationError) throw cause;
      const file = path.join(transcriptsFolder, `${number}.json`);
      throw new OperationError("ERR_TRANSCRIPT_FILE", `${file}: ${cause.message}`, { cause });
    });
    await desk.appendOnce(`transcript/${number}`, [trustEntry("transcript", number, bytes)]);
  }
}

/** Those that are logged and not public yet. */
export async function unpublishedTranscripts(desk: Desk): Promise<readonly PublishedFile[]> {
  const { signer, transcriptsFolder } = desk.deps;
  const files: PublishedFile[] = [];
  for (let number = (await signer.state()).logged.transcript; number > 0; number--) {
    const name = `transcripts/${number}.json`;
    if (await desk.readPublic(name)) break;
    const bytes = await readTranscript(transcriptsFolder, number);
    if (!bytes) throw new OperationError("ERR_TRANSCRIPT_FILE", `transcript ${number} is logged, and its file is gone`);
    files.unshift({ path: name, bytes });
  }
  return files;
}
