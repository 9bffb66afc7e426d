/** `via trustee`: the command line of one trustee. */
import { type Command, Option, outputOf, program, readPassphrase, runProgram } from "@viafabric/platform";
import { type Algorithm, decodeEventBody, formatHex, OperationError } from "@viafabric/schemas";
import { addCarryCommands } from "./carry-cli.ts";
import {
  agreed,
  assertOut,
  declined,
  homeCommand,
  newPassphrase,
  now,
  type Options,
  parseId,
  parseLeaves,
  proposalSession,
  rehearsable,
  secretOf,
  sessionOf,
  signing,
  vaultCommand,
} from "./command-line.ts";
import {
  type Consent,
  enroll,
  init,
  initToken,
  joinEvent,
  proposeEvent,
  reject,
  review,
  reviewEnrolment,
  sign,
  status,
} from "./commands.ts";
import { homeAt } from "./home.ts";
import { addInspectCommands } from "./inspect-cli.ts";
import { addRotateCommands } from "./rotate-cli.ts";
import { addSheetCommand } from "./sheet-cli.ts";
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
import { tokenPlace } from "./token-key.ts";

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

interface InitFlags extends Options {
  readonly name: string;
  readonly hsm?: string;
  readonly make?: Algorithm;
}

homeCommand(trustee, "init", "Make a key and an enrolment card.")
  .requiredOption("--name <name>", "who you are, for other people to read")
  .option("--passphrase-file <file>", "read the passphrase from a file")
  .option("--hsm <uri>", "a key in a token: pkcs11:token=…;id=…?module-path=… (RFC 7512)")
  .addOption(new Option("--make <kind>", "with --hsm: make the key there").choices(["ed25519", "p256"]))
  .option("--pin-file <file>", "with --hsm: read the token's PIN from a file")
  .addHelpText(
    "after",
    `
Examples
  via trustee init --name "Amina Diallo" --home .via/trustees/1
  via trustee init --name "Amina Diallo" --hsm "pkcs11:token=amina;id=%01?module-path=/usr/lib/libykcs11.so"`,
  )
  .action(async (options: InitFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    if (options.hsm !== undefined) {
      const place = tokenPlace(options.hsm);
      const pin = await readPassphrase(options.pinFile, "PIN of the token: ", "--pin-file");
      const { key } = await initToken(home, options.name, place, pin, options.make);
      out.result({ card: home.card, kid: formatHex(key.kid) }, () => {
        out.line(`Your card is ${home.card}. Hand it to whoever sets up the authority; it holds no secret.`);
        out.line("The key stays in the token. Nobody can replace a lost one but the other trustees.");
      });
      return;
    }
    if (options.make !== undefined || options.pinFile !== undefined)
      throw new OperationError("ERR_USAGE", "--make and --pin-file go with --hsm");
    const card = await init(home, options.name, await newPassphrase(options.passphraseFile));
    out.result({ card: home.card, kid: formatHex(card.key.kid) }, () => {
      out.line(`Your card is ${home.card}. Hand it to whoever sets up the authority; it holds no secret.`);
      out.line(
        "The key stays in this folder, under your passphrase. Nobody can replace a lost one but the other trustees.",
      );
    });
  });

signing(
  homeCommand(trustee, "enroll", "Found an authority: check its genesis folder and sign root, targets and batches."),
)
  .requiredOption("--genesis <folder>", "the folder that `via vault init` wrote")
  .addHelpText("after", "\nExample\n  via trustee enroll --genesis .via/vault/genesis --home .via/trustees/1")
  .action(async (options: Options & { readonly genesis: string }, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const looked = await reviewEnrolment(home, options.genesis, now());
    showGenesis(out, looked);
    if (!(await agreed(options, "Do the words agree with everybody else's, and shall this be signed?")))
      return declined(out, options);
    const file = await enroll(home, options.genesis, looked, secretOf(options), now());
    out.result({ ...(genesisJson(looked) as object), signatures: file }, () => out.line(`Signed: ${file}`));
  });

vaultCommand(trustee, "status", "What is proposed, what needs you, what expires.")
  .addHelpText("after", "\nExample\n  via trustee status --vault http://127.0.0.1:8080 --home .via/trustees/1")
  .action(async (options: Options, command: Command) => {
    const out = outputOf(command);
    const report = await status(sessionOf(options));
    out.result(statusJson(report), () => showStatus(out, report, now()));
  });

vaultCommand(trustee, "review [id]", "Compute a proposal again and show what it says.")
  .option("--from <file>", "a file written by `via trustee export`; no network is used")
  .addHelpText("after", "\nThe id is 64 hex digits or the 24 words in quotes.")
  .action(async (id: string | undefined, options: Options, command: Command) => {
    const out = outputOf(command);
    const { session, id: parsed } = await proposalSession(options, id);
    const looked = (await review(session, parsed)).review;
    out.result(reviewJson(looked), () => showReview(out, looked));
  });

offline(rehearsable(signing(vaultCommand(trustee, "sign [id]", "Review a proposal and approve it."))))
  .addHelpText(
    "after",
    `
Examples
  via trustee sign 5f3c… --vault http://127.0.0.1:8080 --home .via/trustees/1
  via trustee sign --from proposals.via --out decision.json --home .via/trustees/5`,
  )
  .action(async (id: string | undefined, options: Options, command: Command) => {
    const out = outputOf(command);
    assertOut(options);
    const { session, id: parsed } = await proposalSession(options, id);
    let shown: object = {};
    const consent: Consent<Parameters<typeof showReview>[1]> = async (looked) => {
      shown = reviewJson(looked) as object;
      showReview(out, looked);
      return agreed(options, "Sign this?");
    };
    const signed = await sign(session, parsed, secretOf(options), consent);
    if (!signed) return declined(out, options, shown);
    out.result({ signed: formatHex(signed.proposal.id), ...shown }, () => out.line(`Signed ${destination(options)}.`));
  });

offline(rehearsable(signing(vaultCommand(trustee, "reject [id]", "Refuse a proposal, for ever and with a reason."))))
  .requiredOption("--reason <text>", "why; the other trustees read it")
  .addHelpText(
    "after",
    '\nExample\n  via trustee reject 5f3c… --reason "twice the agreed number" --vault http://127.0.0.1:8080',
  )
  .action(async (id: string | undefined, options: Options & { readonly reason: string }, command: Command) => {
    const out = outputOf(command);
    assertOut(options);
    const { session, id: parsed } = await proposalSession(options, id);
    const hex = formatHex(parsed);
    const consent = () => agreed(options, `Reject ${hex}? This tool will never sign it.`);
    if (!(await reject(session, parsed, options.reason, secretOf(options), consent)))
      return declined(out, options, { id: hex });
    out.result({ rejected: hex }, () => out.line(`Rejected ${destination(options)}.`));
  });

for (const action of ["suspend", "revoke", "reinstate"] as const) {
  const purpose = {
    suspend: "Stop tokens for now.",
    revoke: "Stop tokens for good.",
    reinstate: "Give suspended or revoked tokens back.",
  };
  const command = rehearsable(signing(vaultCommand(trustee, action, purpose[action])))
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
      let shown: object = {};
      const event = await proposeEvent(sessionOf(options), wish, secretOf(options), async ({ id, body }) => {
        shown = eventJson(id, decodeEventBody(body)) as object;
        showEvent(out, id, decodeEventBody(body));
        return agreed(options, "Sign this?");
      });
      if (!event) return declined(out, options, shown);
      out.result(eventJson(event.id, decodeEventBody(event.body)), () =>
        out.line("Signed and sent. Others may have to sign it too."),
      );
    });
}

rehearsable(signing(vaultCommand(trustee, "sign-event <id>", "Sign a status event that another trustee proposed.")))
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
    if (!signed) return declined(out, options, { id: formatHex(parsed) });
    out.result(eventJson(parsed, signed), () => out.line("Signed and sent."));
  });

addCarryCommands(trustee);
addInspectCommands(trustee);
addRotateCommands(trustee);
addSheetCommand(trustee);

function offline(command: Command): Command {
  return command
    .option("--from <file>", "a file written by `via trustee export`; no network is used")
    .option("--out <file>", "with --from: where the decision is written, for `via trustee submit`");
}

function destination({ out }: Options): string {
  return out === undefined ? "and sent" : `into ${out}; bring it to any trustee with a network`;
}

process.exit(await runProgram(trustee, process.argv));
