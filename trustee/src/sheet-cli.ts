/** `via trustee sheet`: the root of the authority, to print, to read aloud and to publish in DNS. */
import { type Command, outputOf, writeFileDurable } from "@viafabric/platform";
import { OperationError, quote, utf8 } from "@viafabric/schemas";
import { loadAccepted, readPublishedRoot } from "./accepted.ts";
import { homeCommand, now, type Options } from "./command-line.ts";
import { homeAt } from "./home.ts";
import { formatSheet, sheetOf } from "./sheet.ts";

const DOMAIN = /^(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$/;

interface SheetOptions extends Options {
  readonly domain: string;
  readonly rootOut?: string;
  readonly pinOut?: string;
}

export function addSheetCommand(trustee: Command): void {
  homeCommand(trustee, "sheet", "Write the root of the authority for paper, telephone and DNS.")
    .option("--out <file>", "write the sheet, in Markdown, into a file")
    .option("--root-out <file>", "write the root file that it describes, for nodes to pin")
    .option("--pin-out <file>", "write the digests in one line, for `via node init --digest-from CHANNEL=@FILE`")
    .option("--domain <name>", "the domain whose zone will hold the DNS line", "example.org")
    .addHelpText(
      "after",
      `
It is made from what this home accepted, without a network.

Example
  via trustee sheet --home .via/trustees/1 --out sheet.md --root-out 1.root.json --domain vault.example.org`,
    )
    .action(async (options: SheetOptions, command: Command) => {
      const out = outputOf(command);
      if (!DOMAIN.test(options.domain))
        throw new OperationError("ERR_USAGE", `not a domain name: ${quote(options.domain)}`);
      const home = homeAt(options.home);
      const rootFile = await readPublishedRoot(home);
      const sheet = sheetOf(rootFile, await loadAccepted(home), options.domain, now());
      const text = formatSheet(sheet);
      if (options.out !== undefined) await writeFileDurable(options.out, utf8(text));
      if (options.rootOut !== undefined) await writeFileDurable(options.rootOut, rootFile);
      if (options.pinOut !== undefined) await writeFileDurable(options.pinOut, utf8(`${sheet.pin}\n`));
      out.result(sheet, () => out.line(options.out === undefined ? text.trimEnd() : `Written: ${options.out}`));
    });
}
