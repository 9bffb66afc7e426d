/** `via trustee`: the command line of one trustee. */
import {
  type Command,
  confirm,
  EXIT,
  type Output,
  outputOf,
  program,
  readPassphrase,
  runProgram,
} from "@viafabric/platform";
import {
  decodeEventBody,
  type FormatError,
  formatHex,
  OperationError,
  parseDecimal,
  parseHex,
  parseWords,
} from "@viafabric/schemas";
import { folderFetch, httpFetch } from "@viafabric/transparency-log/client";
import {
  type Consent,
  enroll,
  init,
  joinEvent,
  proposeEvent,
  reject,
  review,
  reviewEnrolment,
  type Secret,
  type Session,
  sign,
  status,
} from "./commands.ts";
import { homeAt } from "./home.ts";
import {
  eventJson,
  genesisJson,
  reviewJson,
  showEvent,
  showGenesis,
  showReview,
  showStatus,
  statusJson,
} from "./show.ts";
import { parseIndices } from "./status-event.ts";
import { publicUrl } from "./vault-client.ts";

interface Options {
  readonly home: string;
  readonly vault: string;
  readonly public?: string;
  readonly passphraseFile?: string;
  readonly yes?: boolean;
}

/** Answers of a mirror in a village with a satellite link. */
const FETCH_SECONDS_MAX = 10;

const now = (): number => Math.floor(Date.now() / 1000);

const trustee = program("via trustee", "Approve batches and revocations: see exactly what you sign.").addHelpText(
  "after",
  `
Examples
  via trustee init --name "Amina Diallo" --home .via/trustees/1
  via trustee enroll --genesis .via/vault/genesis --home .via/trustees/1
  via trustee status --vault http://127.0.0.1:8080 --home .via/trustees/1
  via trustee sign 24-WORDS-OR-HEX --vault http://127.0.0.1:8080 --home .via/trustees/1
  via trustee suspend --index 17,20-29 --reason "kit lost on the road" --vault http://127.0.0.1:8080

A passphrase is typed, or read from --passphrase-file; never from an argument.`,
);

function homeCommand(name: string, description: string): Command {
  return trustee
    .command(name)
    .description(description)
    .option("--home <folder>", "this trustee's home folder", ".via/trustee");
}

function vaultCommand(name: string, description: string): Command {
  return homeCommand(name, description)
    .option("--vault <url>", "the vault to talk to", "http://127.0.0.1:8080")
    .option("--public <url|folder>", "read published files from here instead: any mirror, a stick");
}

function signing(command: Command): Command {
  return command
    .option("--passphrase-file <file>", "read the passphrase from a file")
    .option("--yes", "do not ask; for scripts");
}

homeCommand("init", "Make a key and an enrolment card.")
  .requiredOption("--name <name>", "who you are, for other people to read")
  .option("--passphrase-file <file>", "read the passphrase from a file")
  .addHelpText("after", '\nExample\n  via trustee init --name "Amina Diallo" --home .via/trustees/1')
  .action(async (options: Options & { readonly name: string }, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const card = await init(home, options.name, await newPassphrase(options.passphraseFile));
    out.result({ card: home.card, kid: formatHex(card.key.kid) }, () => {
      out.line(`Your card is ${home.card}. Hand it to whoever sets up the authority; it holds no secret.`);
      out.line(
        "The key stays in this folder, under your passphrase. Nobody can replace a lost one but the other trustees.",
      );
    });
  });

signing(homeCommand("enroll", "Found an authority: check its genesis folder and sign root, targets and batches."))
  .requiredOption("--genesis <folder>", "the folder that `via vault init` wrote")
  .addHelpText("after", "\nExample\n  via trustee enroll --genesis .via/vault/genesis --home .via/trustees/1")
  .action(async (options: Options & { readonly genesis: string }, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const looked = await reviewEnrolment(home, options.genesis, now());
    showGenesis(out, looked);
    if (!(await agreed(options, "Do the words agree with everybody else's, and shall this be signed?")))
      return declined(out);
    const file = await enroll(home, options.genesis, looked, secretOf(options), now());
    out.result({ ...(genesisJson(looked) as object), signatures: file }, () => out.line(`Signed: ${file}`));
  });

vaultCommand("status", "What is proposed, what needs you, what expires.")
  .addHelpText("after", "\nExample\n  via trustee status --vault http://127.0.0.1:8080 --home .via/trustees/1")
  .action(async (options: Options, command: Command) => {
    const out = outputOf(command);
    const report = await status(sessionOf(options));
    out.result(statusJson(report), () => showStatus(out, report, now()));
  });

vaultCommand("review <id>", "Compute a proposal again and show what it says.")
  .addHelpText("after", "\nThe id is 64 hex digits or the 24 words in quotes.")
  .action(async (id: string, options: Options, command: Command) => {
    const out = outputOf(command);
    const looked = (await review(sessionOf(options), parseId(id))).review;
    out.result(reviewJson(looked), () => showReview(out, looked));
  });

signing(vaultCommand("sign <id>", "Review a proposal and approve it."))
  .addHelpText("after", "\nExample\n  via trustee sign 5f3c… --vault http://127.0.0.1:8080 --home .via/trustees/1")
  .action(async (id: string, options: Options, command: Command) => {
    const out = outputOf(command);
    const consent: Consent<Parameters<typeof showReview>[1]> = async (looked) => {
      showReview(out, looked);
      return agreed(options, "Sign this?");
    };
    const signed = await sign(sessionOf(options), parseId(id), secretOf(options), consent);
    if (!signed) return declined(out);
    out.result({ signed: formatHex(signed.proposal.id), ...(reviewJson(signed) as object) }, () =>
      out.line("Signed and sent."),
    );
  });

signing(vaultCommand("reject <id>", "Refuse a proposal, for ever and with a reason."))
  .requiredOption("--reason <text>", "why; the other trustees read it")
  .addHelpText(
    "after",
    '\nExample\n  via trustee reject 5f3c… --reason "twice the agreed number" --vault http://127.0.0.1:8080',
  )
  .action(async (id: string, options: Options & { readonly reason: string }, command: Command) => {
    const out = outputOf(command);
    const parsed = parseId(id);
    if (!(await agreed(options, `Reject ${formatHex(parsed)}? This tool will never sign it.`))) return declined(out);
    await reject(sessionOf(options), parsed, options.reason, secretOf(options));
    out.result({ rejected: formatHex(parsed) }, () => out.line("Rejected and sent."));
  });

for (const action of ["suspend", "revoke", "reinstate"] as const) {
  const purpose = {
    suspend: "Stop tokens for now.",
    revoke: "Stop tokens for good.",
    reinstate: "Give suspended or revoked tokens back.",
  };
  const command = signing(vaultCommand(action, purpose[action]))
    .requiredOption("--index <list>", "indices and ranges, such as 17,20-29")
    .requiredOption("--reason <text>", "why; it is logged for ever");
  if (action === "reinstate")
    command.requiredOption("--undoes <leaves>", "log entries of the events to undo, such as 812,900");
  const undoes = action === "reinstate" ? " --undoes 812" : "";
  command
    .addHelpText(
      "after",
      `\nExample\n  via trustee ${action} --index 17,20-29 --reason "…"${undoes} --vault http://127.0.0.1:8080`,
    )
    .action(async (options: Options & { index: string; reason: string; undoes?: string }, self: Command) => {
      const out = outputOf(self);
      const wish = {
        action,
        ranges: parseIndices(options.index),
        reason: options.reason,
        undoes: parseLeaves(options.undoes),
      };
      const event = await proposeEvent(sessionOf(options), wish, secretOf(options), async ({ id, body }) => {
        showEvent(out, id, decodeEventBody(body));
        return agreed(options, "Sign this?");
      });
      if (!event) return declined(out);
      out.result(eventJson(event.id, decodeEventBody(event.body)), () =>
        out.line("Signed and sent. Others may have to sign it too."),
      );
    });
}

signing(vaultCommand("sign-event <id>", "Sign a status event that another trustee proposed."))
  .addHelpText(
    "after",
    "\nExample\n  via trustee sign-event 9a01… --vault http://127.0.0.1:8080 --home .via/trustees/2",
  )
  .action(async (id: string, options: Options, command: Command) => {
    const out = outputOf(command);
    const parsed = parseId(id);
    const signed = await joinEvent(sessionOf(options), parsed, secretOf(options), async (body) => {
      showEvent(out, parsed, body);
      return agreed(options, "Sign this?");
    });
    if (!signed) return declined(out);
    out.result(eventJson(parsed, signed), () => out.line("Signed and sent."));
  });

function secretOf({ passphraseFile }: Options): Secret {
  return () => readPassphrase(passphraseFile);
}

function sessionOf(options: Options): Session {
  const source = options.public ?? publicUrl(options.vault);
  const isUrl = /^https?:/.test(source);
  const fetch = isUrl ? httpFetch(source, { secondsMax: FETCH_SECONDS_MAX }) : folderFetch(source);
  return { home: homeAt(options.home), vaultUrl: options.vault, fetch, now };
}

/** Whole ids only: a prefix can be made to match. */
function parseId(text: string): Uint8Array {
  try {
    return text.includes(" ") ? parseWords(text) : parseHex(text, 32);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", (cause as FormatError).message, { cause });
  }
}

function parseLeaves(text: string | undefined): readonly number[] {
  if (text === undefined) return [];
  try {
    return [...new Set(text.split(",").map((leaf) => parseDecimal(leaf.trim())))].sort((a, b) => a - b);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", (cause as FormatError).message, { cause });
  }
}

async function newPassphrase(file: string | undefined): Promise<string> {
  const passphrase = await readPassphrase(file, "New passphrase: ");
  if (file === undefined && passphrase !== (await readPassphrase(undefined, "Once more: ")))
    throw new OperationError("ERR_PASSPHRASE", "the two passphrases differ");
  return passphrase;
}

async function agreed({ yes }: Options, question: string): Promise<boolean> {
  return yes === true || confirm(question);
}

function declined(out: Output): void {
  out.result({ signed: false }, () => out.line("Nothing was signed."));
  process.exitCode = EXIT.refused;
}

process.exit(await runProgram(trustee, process.argv));
