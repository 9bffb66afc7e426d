/** `via trustee export`, `import` and `submit`: proposals to a laptop without a network, and decisions back. */
import { type Command, type Output, outputOf } from "@viafabric/platform";
import { CodedError, formatHex, formatWords, OperationError, quote } from "@viafabric/schemas";
import { exportProposals, type Imported, importProposals, readCarried, submit } from "./carry.ts";
import { homeCommand, now, type Options, parseId, secretOf, sessionOf, signing, vaultCommand } from "./command-line.ts";
import { homeAt } from "./home.ts";
import { dayOf } from "./policy.ts";
import { reviewJson, showReview } from "./show.ts";

export function addCarryCommands(trustee: Command): void {
  vaultCommand(trustee, "export [id]", "Write proposals, and all that a review reads, into one file.")
    .option("--all", "every open proposal")
    .requiredOption("--out <file>", "the file to carry")
    .addHelpText(
      "after",
      "\nExample\n  via trustee export --all --out /media/stick/proposals.via --home .via/trustees/1",
    )
    .action(async (id: string | undefined, options: Options & { all?: boolean; out: string }, command: Command) => {
      const out = outputOf(command);
      if ((id === undefined) === (options.all !== true))
        throw new OperationError("ERR_USAGE", "name one proposal, or --all");
      const ids = id === undefined ? undefined : [parseId(id)];
      const { carried, refused } = await exportProposals(sessionOf(options), ids, options.out);
      const proposals = carried.proposals.map((detail) => ({
        id: formatHex(detail.id),
        role: detail.role,
        version: detail.version,
        refused: refused.get(formatHex(detail.id))?.code,
      }));
      out.result({ file: options.out, files: carried.files.size, proposals }, () => {
        out.line(`${options.out} carries ${proposals.length} proposals and ${carried.files.size} published files.`);
        for (const { id, role, version, refused: code } of proposals)
          out.line(`${role} ${version}  ${id}${code ? out.style("yellow", `  refused here: ${code}`) : ""}`);
      });
    });

  homeCommand(trustee, "import <file>", "Without a network: accept what was published, and look at what is proposed.")
    .addHelpText("after", "\nExample\n  via trustee import /media/stick/proposals.via --home .via/trustees/5")
    .action(async (file: string, options: Options, command: Command) => {
      const out = outputOf(command);
      const home = homeAt(options.home);
      const carried = await readCarried(home, file);
      const imported = await importProposals(home, carried, now());
      out.result(importedJson(imported, carried.taken), () => showImported(out, imported, carried.taken));
    });

  signing(vaultCommand(trustee, "submit <file>", "Bring a decision made without a network to the vault."))
    .addHelpText(
      "after",
      `
The decision proves itself, so any trustee may bring it. The passphrase asked for is that of whoever brings it: it
signs the request, and says nothing about the proposal.

Example
  via trustee submit /media/stick/decision.json --vault http://127.0.0.1:8080 --home .via/trustees/1`,
    )
    .action(async (file: string, options: Options, command: Command) => {
      const out = outputOf(command);
      const decision = await submit(sessionOf(options), file, secretOf(options));
      const id = formatHex(decision.id);
      out.result({ submitted: decision.kind, id }, () => out.line(`The vault took it: ${decision.kind} of ${id}`));
    });
}

function importedJson({ accepted, proposals }: Imported, taken: number): unknown {
  const { trust } = accepted;
  return {
    authority: formatHex(trust.authority),
    taken,
    accepted: { root: trust.rootVersion, targets: trust.targetsVersion, batches: trust.batchesVersion },
    proposals: proposals.map(({ detail, mine, review }) => ({
      id: formatHex(detail.id),
      words: formatWords(detail.id),
      mine,
      ...(review instanceof CodedError
        ? { refused: review.code, message: review.message }
        : { review: reviewJson(review) }),
    })),
  };
}

function showImported(out: Output, { accepted, proposals }: Imported, taken: number): void {
  const { trust } = accepted;
  out.line(
    `Accepted: root ${trust.rootVersion}, targets ${trust.targetsVersion}, batches ${trust.batchesVersion}, as published on ${dayOf(taken)}.`,
  );
  for (const { detail, mine, review } of proposals) {
    out.line();
    if (review instanceof CodedError) {
      out.line(out.style("red", `${detail.role} ${detail.version} cannot be signed: ${review.code}`));
      out.line(`  ${quote(review.message)}`);
      out.line(`  ${formatHex(detail.id)}`);
    } else showReview(out, review);
    if (mine !== undefined) out.line(`Decided here before: ${mine}.`);
  }
}
