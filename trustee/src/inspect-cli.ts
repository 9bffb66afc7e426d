/** `via trustee verify`: who signed a file, who is missing, and until when it is good. */
import path from "node:path";
import { type Command, EXIT, type Output, outputOf } from "@viafabric/platform";
import { equalBytes, formatHex, formatWords, OperationError, type PublicKey } from "@viafabric/schemas";
import { loadAccepted } from "./accepted.ts";
import { homeCommand, now, type Options } from "./command-line.ts";
import { homeAt, readFirstRoot } from "./home.ts";
import { type Inspected, inspect, isComplete, type Known, readCards, type SigningState } from "./inspect.ts";
import { dayOf } from "./policy.ts";
import { showWords } from "./show.ts";

export function addInspectCommands(trustee: Command): void {
  homeCommand(trustee, "verify <files...>", "Show who signed metadata files or a genesis folder, and who is missing.")
    .option("--cards <folder>", "enrolment cards, to show names beside keys")
    .addHelpText(
      "after",
      `
Whose signatures are due is known from the state this home accepted, or from a root and targets named beside the file.
Exit code 0: every threshold is met and nothing has expired.

Examples
  via trustee verify .via/vault/genesis
  via trustee verify 1.root.json 2.root.json 7.batches.json --cards .via/vault/genesis/cards --home .via/trustees/1`,
    )
    .action(async (files: readonly string[], options: Options & { readonly cards?: string }, command: Command) => {
      const out = outputOf(command);
      const inspected = await inspect(files, await knownAt(options.home));
      const own = await authorityAt(options.home);
      const folders = options.cards === undefined ? files.map((file) => path.join(file, "cards")) : [options.cards];
      const names = new Map<string, string>();
      for (const folder of folders)
        for (const { name, key } of await readCards(folder)) names.set(formatHex(key.kid), name);
      out.result(
        inspected.map((each) => inspectedJson(each, names, own)),
        () => {
          for (const each of inspected) showInspected(out, each, names, own);
        },
      );
      const good = (each: Inspected) => isComplete(each, now()) && !isForeign(each, own);
      if (!inspected.every(good)) process.exitCode = EXIT.refused;
    });
}

/** Nothing, where no state was accepted: then files have to explain themselves. */
async function knownAt(home: string): Promise<Known> {
  try {
    const { root, targets } = await loadAccepted(homeAt(home));
    return { root, targets };
  } catch (error) {
    if (error instanceof OperationError && (error.code === "ERR_HOME" || error.code === "ERR_TRUST_MISSING")) return {};
    throw error;
  }
}

/** The authority this home enrolled under, if it did. */
async function authorityAt(home: string): Promise<Uint8Array | undefined> {
  try {
    return (await readFirstRoot(homeAt(home))).authority;
  } catch (error) {
    if (error instanceof OperationError && error.code === "ERR_HOME") return undefined;
    throw error;
  }
}

/** Complete and good, and yet the root of somebody else. */
function isForeign({ authority }: Inspected, own: Uint8Array | undefined): boolean {
  return authority !== undefined && own !== undefined && !equalBytes(authority, own);
}

function inspectedJson(inspected: Inspected, names: ReadonlyMap<string, string>, own: Uint8Array | undefined): unknown {
  const { quorums, authority, ...rest } = inspected;
  const people = (keys: readonly PublicKey[]) =>
    keys.map(({ kid }) => ({ kid: formatHex(kid), name: names.get(formatHex(kid)) }));
  return {
    ...rest,
    ...(authority && { authority: formatHex(authority), words: formatWords(authority) }),
    complete: isComplete(inspected, now()),
    foreign: isForeign(inspected, own),
    quorums: quorums.map(({ what, threshold, signed, missing }) => ({
      what,
      threshold,
      signed: people(signed),
      missing: people(missing),
    })),
  };
}

function showInspected(
  out: Output,
  inspected: Inspected,
  names: ReadonlyMap<string, string>,
  own: Uint8Array | undefined,
): void {
  const { file, role, version, expires, authority, quorums, useless } = inspected;
  out.line(out.style("bold", `${file}: ${role} ${version}`));
  if (authority) {
    out.line("It founds the authority");
    showWords(out, formatWords(authority));
    if (isForeign(inspected, own)) out.line(out.style("red", "This home belongs to another authority."));
  }
  const expired = now() >= expires;
  out.line(
    out.style(expired ? "red" : "green", expired ? `expired ${dayOf(expires)}` : `good until ${dayOf(expires)}`),
  );
  for (const quorum of quorums) showQuorum(out, quorum, names);
  if (quorums.length === 0)
    out.line(out.style("yellow", "whose signatures are due is not known: name the root and the targets, too"));
  if (useless > 0) out.line(out.style("yellow", `${useless} signatures count for nothing: wrong, or by other keys`));
  out.line();
}

function showQuorum(
  out: Output,
  { what, threshold, signed, missing }: SigningState,
  names: ReadonlyMap<string, string>,
) {
  const left = threshold - signed.length;
  const state = left <= 0 ? out.style("green", "complete") : out.style("yellow", `${left} more needed`);
  out.line(`${what}: ${signed.length} of ${threshold} needed, ${state}`);
  const rows = (keys: readonly PublicKey[], word: string) =>
    keys.map(({ kid }) => [word, names.get(formatHex(kid)) ?? "", formatHex(kid)]);
  out.table(["", "name", "key"], [...rows(signed, "signed"), ...rows(missing, left <= 0 ? "did not" : "missing")]);
}
