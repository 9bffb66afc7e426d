/** `via audit`: checks an authority's public log and decisions, from nothing but its key or its pinned root. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Command,
  EXIT,
  type Output,
  outputOf,
  program,
  readFileBounded,
  runProgram,
  writeFileDurable,
} from "@viafabric/platform";
import { NOTE_BYTES_MAX, utf8 } from "@viafabric/schemas";
import { verifyCheckpoint } from "@viafabric/transparency-log";
import { type AuditReport, auditLog } from "./audit-log.ts";
import { compare, saveFork } from "./compare.ts";
import { htmlReport } from "./html-report.ts";
import { seeCheckpoint, type WhoseLog } from "./open-log.ts";
import { findSerial } from "./serial.ts";
import { allAsJson, asJson, serialAsJson, showAll, showFindings, showLog, showSerial, showVerdict } from "./show.ts";
import { fetchOf, openSource, readFirst, readPolicy, type Unreadable } from "./source.ts";
import { startTrust } from "./trust-start.ts";
import { callWebhook, parseSeconds, sightOf } from "./watch.ts";
import { readPinned, WHOLE, type WholeOptions, wholeAudit } from "./whole.ts";
import { addWitnessCommands } from "./witness-cli.ts";

interface FromMirrors {
  readonly mirror?: readonly string[];
}

const MIRROR = [
  "--mirror <source>",
  "another copy, read as a whole when those before cannot be; may be repeated",
  (source: string, list: readonly string[] = []): readonly string[] => [...list, source],
] as const;

const noter =
  (out: Output) =>
  ({ source, code, message }: Unreadable) =>
    out.note(`${source} could not be read: ${code}: ${message}`);

const audit = program("via audit", "Check an authority's public log and decisions without trusting the service");

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
    .option("--html <file>", "write the report as one HTML file, too")
    .addHelpText("after", details)
    .action(async (text: string, options: WholeOptions & FromMirrors, command: Command) => {
      const out = outputOf(command);
      const read = await readFirst(
        [text, ...(options.mirror ?? [])],
        (from) => wholeAudit(out, from, options),
        noter(out),
      );
      const { report, seconds } = read.value;
      if (options.html !== undefined) {
        const html = htmlReport(report, read.source, Math.floor(Date.now() / 1000));
        await writeFileDurable(options.html, utf8(html));
      }
      const { source, failures } = read;
      out.result({ ...allAsJson(report, seconds), source, failures }, () => showAll(out, report, seconds));
      if (report.verdict === "refused") process.exitCode = EXIT.refused;
    });
  // File by file means every file: there is nothing to go on from.
  if (name === "all") {
    whole.option("--state <folder>", "go on where the last audit with this folder stopped");
    whole.option(...MIRROR);
  }
}

audit
  .command("serial")
  .description("find one token in the log: its entry, the proof of it, the batch and who approved that")
  .argument("<token>", "index or id of the token")
  .argument("<source>", "folder or http(s) address of the published tree")
  .requiredOption("--root <file>", "the pinned root: where trust starts")
  .option("--authority <hex>", "the authority, where the pinned root is not version 1")
  .option("--out <file>", "write the proof as a tlog-proof file with the entry as extra")
  .option(...MIRROR)
  .addHelpText(
    "after",
    `
An index is found in a few reads. An id is looked for in the whole log, which holds only hashes of ids.

Examples
  via audit serial 17 .via/vault/public --root root.json
  via audit serial 0MYGSCWPV4D7EPG65R3F07XRSE https://vault.example/public/ --root root.json --out token.proof

Exit codes: 0 found, 1 refused, 2 usage, 4 not found or not readable`,
  )
  .action(async (token: string, text: string, options: SerialOptions, command: Command) => {
    const out = outputOf(command);
    const pinned = await readPinned(options);
    const wanted = /^(?:0|[1-9][0-9]{0,9})$/.test(token) ? Number(token) : token;
    const find = async (from: string) => {
      const published = fetchOf(from);
      return findSerial(published, await startTrust(published, pinned), wanted);
    };
    const { value, source, failures } = await readFirst([text, ...(options.mirror ?? [])], find, noter(out));
    if (options.out !== undefined) await writeFileDurable(options.out, value.proof);
    out.result({ ...serialAsJson(value), source, failures }, () => showSerial(out, value, options.out));
  });

audit
  .command("compare")
  .description("two checkpoints or mirrors of one log: the same, one the beginning of the other, or a fork")
  .argument("<a>", "file with a checkpoint, or folder or http(s) address of a mirror")
  .argument("<b>", "the other one")
  .option("--vkey <key|file>", "the log's verifier key, or a file that holds it")
  .option("--policy <file>", "a log policy instead of a key")
  .option("--evidence <folder>", "where to keep the evidence of a fork", ".")
  .addHelpText(
    "after",
    `
Two checkpoints of different sizes can only be compared where the larger one's tree is: name its mirror, not its file.

Examples
  via audit compare checkpoint.last-month https://vault.example/public/ --vkey log.vkey
  via audit compare /media/stick https://vault.example/public/ --vkey log.vkey --evidence evidence

Exit codes: 0 one history, 1 a fork or a checkpoint that does not verify, 2 usage, 4 not readable`,
  )
  .action(async (a: string, b: string, options: CompareOptions, command: Command) => {
    const out = outputOf(command);
    const policy = await readPolicy(options.vkey, options.policy);
    const [left, right] = [await seeCheckpoint(a, policy), await seeCheckpoint(b, policy)];
    const compared = await compare(left, right);
    const sizes = { a: left.checkpoint.size, b: right.checkpoint.size };
    if (compared.result === "fork") {
      const evidence = await saveFork(options.evidence, compared.evidence);
      out.result({ result: "fork", sizes, evidence }, () => {
        out.line(`${out.style("red", "FORK")} ${sizes.a} and ${sizes.b} entries are not one history`);
        out.line(`evidence  ${evidence}`);
      });
      process.exitCode = EXIT.refused;
      return;
    }
    const older = compared.result === "extends" ? compared.older : undefined;
    out.result({ result: compared.result, ...(older && { older }), sizes }, () => {
      const [small, large] = older === "b" ? [b, a] : [a, b];
      out.line(
        older
          ? `${out.style("green", "EXTENDS")} ${large} extends ${small}: ${Math.min(sizes.a, sizes.b)} of ${Math.max(sizes.a, sizes.b)} entries`
          : `${out.style("green", "SAME")} both have the same ${sizes.a} entries`,
      );
    });
  });

audit
  .command("watch")
  .description("look at a log and compare it with what it showed before; alarm when they do not fit")
  .argument("<source>", "folder or http(s) address of the published tree, or of the log alone")
  .requiredOption("--state <folder>", "where the last checkpoint, and evidence, is kept")
  .option("--root <file>", "the pinned root: whose log it is, where the source is the published tree")
  .option("--authority <hex>", "the authority, where the pinned root is not version 1")
  .option("--vkey <key|file>", "the log's verifier key, or a file that holds it")
  .option("--policy <file>", "a log policy instead of a key")
  .option("--webhook <url>", "post the alarm there as JSON")
  .option("--every <seconds>", "go on looking until there is an alarm")
  .addHelpText(
    "after",
    `
One look, for cron, or one every so many seconds. A source that is behind is no alarm; one that shows another history
is, and so is a checkpoint that does not verify. Evidence of a fork is kept in the state folder.

Examples
  via audit watch https://vault.example/public/ --state watch --root root.json
  via audit watch https://vault.example/public/log --state watch --vkey log.vkey --every 600 --webhook https://alarm.example/via

Exit codes: 0 it fits, 1 alarm, 2 usage, 4 not readable`,
  )
  .action(async (text: string, options: WatchOptions, command: Command) => {
    const out = outputOf(command);
    const every = options.every === undefined ? undefined : parseSeconds(options.every);
    for (;;) {
      if (await watchOnce(out, text, options)) {
        process.exitCode = EXIT.refused;
        return;
      }
      if (every === undefined || !out.hasReader) return;
      await sleep(every * 1000);
    }
  });

addWitnessCommands(audit);

interface SerialOptions extends FromMirrors {
  readonly root: string;
  readonly authority?: string;
  readonly out?: string;
}

interface CompareOptions {
  readonly vkey?: string;
  readonly policy?: string;
  readonly evidence: string;
}

interface WatchOptions extends WhoseLog {
  readonly state: string;
  readonly webhook?: string;
  readonly every?: string;
}

/** @returns whether there is an alarm */
async function watchOnce(out: Output, text: string, options: WatchOptions): Promise<boolean> {
  const sight = await sightOf(text, options, options.every !== undefined);
  const alarm = sight.result === "fork" || sight.result === "refused";
  out.result(sight, () => {
    const { result, size, before } = sight;
    const detail = sight.message ?? `${before} entries before, ${size} now`;
    out.line(`${out.style(alarm ? "red" : "green", result.toUpperCase())} ${detail}`);
    if (sight.evidence) out.line(`evidence  ${sight.evidence}`);
  });
  if (alarm && options.webhook !== undefined) await callWebhook(options.webhook, { source: text, ...sight });
  return alarm;
}

process.exit(await runProgram(audit, process.argv));
