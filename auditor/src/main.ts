/** `via audit`: checks the public log from nothing but its key. */
import { type Command, EXIT, type Output, outputOf, program, readFileBounded, runProgram } from "@viafabric/platform";
import { NOTE_BYTES_MAX } from "@viafabric/schemas";
import { verifyCheckpoint } from "@viafabric/transparency-log";
import { type AuditReport, auditLog } from "./audit-log.ts";
import { allAsJson, asJson, showAll, showFindings, showLog, showVerdict } from "./show.ts";
import { openSource, readPolicy } from "./source.ts";
import { WHOLE, type WholeOptions, wholeAudit } from "./whole.ts";

const audit = program("via audit", "Check an authority's public log without trusting the service");

audit
  .command("log")
  .description("verify every entry, bundle and tile of a log against its signed checkpoint")
  .argument("<source>", "folder or http(s) address of the published tree, or of the log alone")
  .option("--vkey <key|file>", "the log's verifier key, or a file that holds it")
  .option("--policy <file>", "a log policy instead of a key: witnesses are checked too")
  .option("--earlier <file>", "a checkpoint that you kept: the log must still contain all it covered")
  .addHelpText(
    "after",
    `
The key is published as log.vkey, but get it from someone you trust: whoever serves the log could serve their own.

Checked: the signature of the checkpoint; every tile, entry bundle and entry; the order of entries; that no token id
or index appears twice; and every published file that the source holds and the log names: manifests, bundles,
metadata and status statements.

Examples
  via audit log https://vault.example/ --vkey log.vkey
  via audit log .via/vault/public --vkey .via/vault/public/log.vkey
  via audit log /media/stick/log --vkey 'log.example/nfc+5b22172d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c'
  via audit log https://vault.example/ --policy tlog-policy --earlier checkpoint.last-month --json

Exit codes: 0 verified, 1 refused, 2 usage, 4 the source could not be read`,
  )
  .action(async (text: string, options: Options, command: Command) => {
    const out = outputOf(command);
    const policy = await readPolicy(options.vkey, options.policy);
    const earlier =
      options.earlier === undefined
        ? undefined
        : verifyCheckpoint(policy, await readFileBounded(options.earlier, NOTE_BYTES_MAX));
    const source = await openSource(text);
    const started = performance.now();
    let progress: ReturnType<Output["progress"]> | undefined;
    const report = await auditLog(source, {
      policy,
      ...(earlier && { earlier }),
      started: ({ size }) => {
        progress = out.progress("entries", size);
      },
      advanced: (entries) => progress?.advance(entries),
    }).finally(() => progress?.stop());
    const seconds = Math.round(performance.now() - started) / 1000;
    out.result(asJson(report, seconds), () => show(out, report, source.published !== undefined, seconds));
    if (report.verdict === "refused") process.exitCode = EXIT.refused;
  });

interface Options {
  readonly vkey?: string;
  readonly policy?: string;
  readonly earlier?: string;
}

function show(out: Output, report: AuditReport, hasTree: boolean, seconds: number): void {
  const { batches, trustFiles } = report;
  showLog(out, report);
  if (report.checkpoint) {
    out.line();
    if (hasTree) {
      out.line(`batches      ${batches.checked} checked against their bundles, ${batches.notHeld} not held here`);
      out.line(`trust files  ${trustFiles.checked} checked, ${trustFiles.notHeld} not held here`);
    } else {
      out.line("the log alone: published files that it names are not here and were not checked");
    }
  }
  showFindings(out, report);
  showVerdict(out, report, `all ${report.checkpoint?.size} entries are in the signed tree`, seconds);
}

for (const { name, description, argument, details } of WHOLE) {
  const whole = audit
    .command(name)
    .description(description)
    .argument(argument[0], argument[1])
    .requiredOption("--root <file>", "the pinned root: where trust starts")
    .option("--authority <hex>", "the authority, where the pinned root is not version 1")
    .addHelpText("after", details)
    .action(async (text: string, options: WholeOptions, command: Command) => {
      const out = outputOf(command);
      const { report, seconds } = await wholeAudit(out, text, options);
      out.result(allAsJson(report, seconds), () => showAll(out, report, seconds));
      if (report.verdict === "refused") process.exitCode = EXIT.refused;
    });
  // File by file means every file: there is nothing to go on from.
  if (name === "all") whole.option("--state <folder>", "go on where the last audit with this folder stopped");
}

process.exit(await runProgram(audit, process.argv));
