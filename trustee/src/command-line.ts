/** What the commands of `via trustee` share: their options, and what those mean. */
import { type Command, confirm, EXIT, type Output, readPassphrase } from "@viafabric/platform";
import { type FormatError, OperationError, parseDecimal, parseHex, parseWords } from "@viafabric/schemas";
import { openMirrors } from "@viafabric/transparency-log/client";
import { offlineSession, readCarried } from "./carry.ts";
import type { Secret, Session } from "./commands.ts";
import { homeAt } from "./home.ts";
import { publicUrl } from "./vault-client.ts";

export interface Options {
  readonly home: string;
  readonly vault: string;
  readonly public?: readonly string[];
  readonly passphraseFile?: string;
  readonly pinFile?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
  readonly from?: string;
  readonly out?: string;
}

export const now = (): number => Math.floor(Date.now() / 1000);

export function homeCommand(trustee: Command, name: string, description: string): Command {
  return trustee
    .command(name)
    .description(description)
    .option("--home <folder>", "this trustee's home folder", ".via/trustee");
}

export function vaultCommand(trustee: Command, name: string, description: string): Command {
  return homeCommand(trustee, name, description)
    .option("--vault <url>", "the vault to talk to", "http://127.0.0.1:8080")
    .option(
      "--public <url|folder>",
      "read published files from here instead: any mirror, a stick; once for each, the preferred one first",
      (source: string, list: readonly string[] = []) => [...list, source],
    );
}

export function signing(command: Command): Command {
  return command
    .option("--passphrase-file <file>", "read the passphrase from a file")
    .option("--pin-file <file>", "the same, where the key is in a token")
    .option("--yes", "do not ask; for scripts");
}

export function rehearsable(command: Command): Command {
  return command.option("--dry-run", "check everything and show it, but sign, send and remember nothing");
}

/** A passphrase or a PIN: whichever opens the home's key. */
export function secretOf({ passphraseFile, pinFile }: Options): Secret {
  return () => readPassphrase(passphraseFile ?? pinFile, "Passphrase, or PIN of the token: ");
}

export function sessionOf(options: Options): Session {
  const mirrors = openMirrors(options.public ?? [publicUrl(options.vault)]);
  return { home: homeAt(options.home), vaultUrl: options.vault, mirrors, now };
}

/**
 * A session on the vault, or on the file named by --from, and the proposal that is meant.
 * @param id may be left out where the file holds one proposal
 */
export async function proposalSession(
  options: Options,
  id: string | undefined,
): Promise<{ readonly session: Session; readonly id: Uint8Array }> {
  if (options.from === undefined) {
    if (id === undefined) throw new OperationError("ERR_USAGE", "name the proposal: 64 hex digits or 24 words");
    if (options.out !== undefined) throw new OperationError("ERR_USAGE", "--out goes with --from");
    return { session: sessionOf(options), id: parseId(id) };
  }
  const home = homeAt(options.home);
  const carried = await readCarried(home, options.from);
  const [only, ...others] = carried.proposals;
  const named = id === undefined ? undefined : parseId(id);
  if (!named && (!only || others.length > 0))
    throw new OperationError("ERR_USAGE", `${options.from} holds ${carried.proposals.length} proposals; name one`);
  return { session: offlineSession(home, carried, options.out, now), id: named ?? only!.id };
}

/** Without --out a decision made offline would be lost. */
export function assertOut(options: Options): void {
  if (options.from !== undefined && options.out === undefined && options.dryRun !== true)
    throw new OperationError("ERR_USAGE", "--from needs --out FILE, where the decision is written");
}

/** Whole ids only: a prefix can be made to match. */
export function parseId(text: string): Uint8Array {
  try {
    return text.includes(" ") ? parseWords(text) : parseHex(text, 32);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", (cause as FormatError).message, { cause });
  }
}

export function parseLeaves(text: string | undefined): readonly number[] {
  if (text === undefined) return [];
  try {
    return [...new Set(text.split(",").map((leaf) => parseDecimal(leaf.trim())))].sort((a, b) => a - b);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", (cause as FormatError).message, { cause });
  }
}

export async function newPassphrase(file: string | undefined): Promise<string> {
  const passphrase = await readPassphrase(file, "New passphrase: ");
  if (file === undefined && passphrase !== (await readPassphrase(undefined, "Once more: ")))
    throw new OperationError("ERR_PASSPHRASE", "the two passphrases differ");
  return passphrase;
}

/** A rehearsal ends where a signature would begin. */
export async function agreed({ yes, dryRun }: Options, question: string): Promise<boolean> {
  return dryRun !== true && (yes === true || confirm(question));
}

/** @param shown of the thing that was not signed, for `--json` */
export function declined(out: Output, { dryRun }: Options, shown: object = {}): void {
  if (dryRun === true) {
    out.result({ signed: false, dryRun: true, ...shown }, () =>
      out.line("A rehearsal: it could be signed, and nothing was."),
    );
    return;
  }
  out.result({ signed: false, ...shown }, () => out.line("Nothing was signed."));
  process.exitCode = EXIT.refused;
}
