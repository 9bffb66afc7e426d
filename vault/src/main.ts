/** `via vault`: the command line of whoever runs an authority. */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import type { Server } from "node:http";
import path from "node:path";
import { parseHsmUri, type TokenReference } from "@viafabric/hsm";
import { STATEMENT_INTERVAL_SECONDS } from "@viafabric/hsm/signer";
import {
  type Command,
  confirm,
  EXIT,
  isCode,
  type Output,
  openKeystore,
  outputOf,
  program,
  readFileBounded,
  readFileIfPresent,
  readPassphrase,
  repeated,
  runProgram,
  stopSignal,
} from "@viafabric/platform";
import {
  type Algorithm,
  formatBase64,
  formatHex,
  formatWords,
  type KeyClass,
  OperationError,
  parseDecimal,
  type Signer,
} from "@viafabric/schemas";
import { CARD_BYTES_MAX, METADATA_BYTES_MAX } from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import { VaultClient } from "./client.ts";
import { contentCommands } from "./content-cli.ts";
import { ceremonyState, initVault } from "./founding.ts";
import { type Home, homeAt, readHomeFile } from "./home.ts";
import { type AskTools, algorithmOption, classOption, keysCommands } from "./keys-cli.ts";
import { NEWS_KINDS } from "./news.ts";
import { openChannels, testNews } from "./notifier.ts";
import {
  type BatchWishes,
  batchRequestOf,
  parseEventId,
  type RequestPath,
  sendRequest,
  waitFor,
  withdraw,
} from "./operate.ts";
import { removeDatabase } from "./postgres.ts";
import { type Published, readPublished } from "./published.ts";
import { runGenesis, startService } from "./service.ts";
import { assertNoSplit } from "./witnesses.ts";
import { listedWitness, witnessCommands } from "./witnesses-cli.ts";

const DEFAULT_HOME = ".via/vault";
const DEFAULT_URL = "http://127.0.0.1:8080";
/** Where a port is taken, that many after it are tried. */
const PORTS_TRIED = 100;
const WAIT_SECONDS = "600";

const now = (): number => Math.floor(Date.now() / 1000);

interface Options {
  readonly home: string;
}

const vault = program("via vault", "Run an authority: database, signer, log and published files.").addHelpText(
  "after",
  `
Examples
  via vault init --trustee a.json --trustee b.json --trustee c.json --station s.json --release r.json \\
    --witness 'w.example/1+…+…+https://w.example/' --witness … --quorum 2
  via vault genesis                        publish what the trustees signed in genesis/signatures/
  via vault serve --port 8080              run; Ctrl-C stops everything in order
  via vault request --subjects dids.txt    ask for a batch: one did:key a line
  via vault propose --add card.json        another station or release officer
  via vault witnesses --without w2 --witness '…+https://w4.example/'
  via vault policy add FOLDER              the next policy bundle
  via vault wait EVENT                     until an event is published
  via vault keys rotate issuer             a new key in the HSM, and a proposal that it takes over
  via vault withdraw EVENT                 take back what you asked for
  via vault status

A database elsewhere is named by DATABASE_URL; otherwise PostgreSQL runs in the home folder.
Exit codes: 0 done, 1 refused, 2 usage, 3 something must be installed, 4 failed on the way`,
);

function homeCommand(name: string, description: string): Command {
  return vault.command(name).description(description).option("--home <folder>", "the vault's home", DEFAULT_HOME);
}

function clientCommand(name: string, description: string): Command {
  return homeCommand(name, description).option("--vault <url>", "address of the running vault", DEFAULT_URL);
}

/** Of commands that ask the running vault for something, in the operator's name. */
function askOptions(command: Command): Command {
  return command
    .option("--passphrase-file <file>", "of the operator key; the one in private/ when left out")
    .option("--seconds <n>", "how long to wait for the proposal", WAIT_SECONDS);
}

interface InitFlags extends Options {
  readonly trustee: readonly string[];
  readonly station: readonly string[];
  readonly release: readonly string[];
  readonly threshold?: string;
  readonly host: string;
  readonly witness?: readonly string[];
  readonly quorum?: string;
  readonly passphraseFile?: string;
  readonly hsm?: string;
  readonly algorithm: Algorithm;
  readonly class?: KeyClass;
  readonly software?: boolean;
}

homeCommand("init", "Make the keys of an authority and the files that its trustees will sign.")
  .requiredOption("--trustee <card>", "enrolment card of a trustee; once for each, at least three", repeated)
  .requiredOption("--station <card>", "enrolment card of a writing station", repeated)
  .requiredOption("--release <card>", "enrolment card of a release officer", repeated)
  .option("--threshold <k>", "how many trustees must sign; the smallest majority when left out")
  .option("--host <name>", "host name of the published files and of links on tags", "vault.localhost")
  .option("--witness <key+url>", "verifier key of a witness, a plus sign, its address; once for each", repeated)
  .option("--quorum <n>", "how many witnesses must cosign; the smallest majority when left out")
  .option("--passphrase-file <file>", "of the operator key; one is drawn and kept in private/ when left out")
  .option("--hsm <uri>", "pkcs11:token=…?module-path=…&pin-source=… (RFC 7512); SoftHSM in the home when left out")
  .option("--software", "keys in files under a passphrase, where there is no PKCS#11 module at all")
  .addOption(algorithmOption())
  .addOption(classOption())
  .action(async (options: InitFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const cards = (files: readonly string[]) => Promise.all(files.map((file) => readFileBounded(file, CARD_BYTES_MAX)));
    const genesis = await initVault(home, {
      trustees: await cards(options.trustee),
      stations: await cards(options.station),
      releases: await cards(options.release),
      host: options.host,
      now: now(),
      ...(options.threshold !== undefined && { threshold: whole("--threshold", options.threshold) }),
      ...(options.passphraseFile !== undefined && { passphrase: await readPassphrase(options.passphraseFile) }),
      algorithm: options.algorithm,
      ...(options.class && { keyClass: options.class }),
      ...(options.software && { software: true }),
      ...(options.hsm !== undefined && { token: tokenOf(options.hsm) }),
      ...witnessesOf(options),
    });
    const words = formatWords(genesis.authority);
    const result = { home: home.root, genesis: home.genesis, authority: formatHex(genesis.authority), words };
    out.result(result, () => {
      out.line(`The authority, to be compared by voice with what each trustee's own tool shows:\n\n  ${words}\n`);
      if (options.witness)
        out.line(
          `Give each witness:       ${home.genesis}/targets/trust/tlog-policy  (via audit witness serve --logs)`,
        );
      out.line(`Now each trustee signs:  via trustee enroll --genesis ${home.genesis}`);
      out.line(`Then:                    via vault genesis --home ${options.home}`);
    });
  });

homeCommand("genesis", "Publish the authority once enough trustees have signed.").action(
  async (options: Options, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { signed } = await ceremonyState(home);
    out.note(`${signed.length} trustees have signed`);
    const genesis = await runGenesis(home, { databaseUrl: databaseUrl(), now, report: () => {} });
    const words = formatWords(genesis.authority);
    const result = { authority: formatHex(genesis.authority), words, signed: signed.length, public: home.public };
    out.result(result, () => {
      out.line(`The authority is public in ${home.public}:\n\n  ${words}\n`);
      out.line(`Now:  via vault serve --home ${options.home}`);
    });
  },
);

interface ServeFlags extends Options {
  readonly port: string;
  readonly listen: string;
  readonly statementSeconds: string;
  readonly log: string;
  readonly attachSigner?: boolean;
}

homeCommand("serve", "Run the vault until Ctrl-C.")
  .option("--port <number>", "the next free one when it is taken", "8080")
  .option("--listen <address>", "address to listen on", "127.0.0.1")
  .option("--statement-seconds <n>", "seconds between two status statements when nothing happens", "3600")
  .option("--attach-signer", "the signer runs as a service of its own: use its socket")
  .option("--log <level>", "trace, debug, info, warn or error; JSON lines on standard error", "warn")
  .action(async (options: ServeFlags, command: Command) => {
    const out = outputOf(command);
    const stopped = stopSignal();
    const logger = pino({ level: options.log }, pino.destination(2));
    const service = await startService(homeAt(options.home), {
      databaseUrl: databaseUrl(),
      now,
      statementSeconds: statementSeconds(options.statementSeconds),
      attachSigner: options.attachSigner ?? false,
      logger,
      report(line, details) {
        if (details.error !== undefined) logger.error(details, line);
        else if (out.json) logger.info(details, line);
        else out.note(line);
      },
    });
    try {
      const url = await listen(service.app, options.listen, whole("--port", options.port));
      const { authority } = service.sequencer.desk.need().trusted;
      const result = { url, authority: formatHex(authority), words: formatWords(authority), pid: process.pid };
      out.result(result, () => {
        out.line(`Ready at ${out.style("bold", url)}. The authority:\n\n  ${result.words}\n\nCtrl-C stops the vault.`);
      });
      const failed = await Promise.race([stopped.then(() => false), service.signerEnded.then(() => true)]);
      if (failed) process.exitCode = EXIT.failed;
      if (failed) out.note("the signer has ended; its reason is above");
    } finally {
      await service.stop();
    }
  });

interface AskFlags extends Options {
  readonly vault: string;
  readonly passphraseFile?: string;
  readonly seconds: string;
}

interface RequestFlags extends AskFlags {
  readonly subjects: readonly string[];
  readonly profile?: string;
  readonly creditClass: string;
  readonly quota: string;
  readonly unit: string;
  readonly days: string;
  readonly claimDays: string;
  readonly layout: string;
  readonly tagClass: string;
  readonly offline: string;
  readonly station?: string;
  readonly release?: string;
}

askOptions(clientCommand("request", "Ask for a batch of tokens, signed with the operator key."))
  .requiredOption("--subjects <file>", "one did:key a line, one token for each; once for each batch", repeated)
  .option("--profile <id>", "capability profile; may be left out when there is only one")
  .option("--credit-class <name>", "class of credits", "community")
  .option("--quota <n>", "credits at the beginning", "100")
  .option("--unit <name>", "what a credit counts", "credits")
  .option("--days <n>", "days the tokens are valid", "365")
  .option("--claim-days <n>", "days for the first tap", "90")
  .option("--layout <name>", "compact or link", "compact")
  .option("--tag-class <name>", "ntag213, ntag215 or ntag216", "ntag213")
  .option("--offline <rule>", "none, provisional, or the DID of the one hub that may bind offline", "none")
  .option("--station <kid>", "writing station; may be left out when there is only one")
  .option("--release <kid>", "release officer; may be left out when there is only one")
  .action(async (options: RequestFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { trusted } = await published(home);
    const wishes: BatchWishes = {
      ...options,
      quota: whole("--quota", options.quota),
      days: whole("--days", options.days),
      claimDays: whole("--claim-days", options.claimDays),
    };
    const body = await batchRequestOf(wishes, trusted, now());
    await askFor(out, home, options, trusted.authority, "requests", body);
  });

interface ProposeFlags extends AskFlags {
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
}

askOptions(clientCommand("propose", "Ask the trustees for stations and release officers to join or leave."))
  .option("--add <card>", "enrolment card of a station or a release officer; once for each", repeated)
  .option("--remove <kid>", "key id of a station, an officer or an operator; once for each", repeated)
  .action(async (options: ProposeFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { trusted } = await published(home);
    const cards = await Promise.all((options.add ?? []).map((file) => readFileBounded(file, CARD_BYTES_MAX)));
    const body = { add: cards.map(formatBase64), remove: options.remove ?? [] };
    await askFor(out, home, options, trusted.authority, "trust-requests", body);
  });

interface RotateFlags extends ProposeFlags {
  readonly threshold?: string;
}

askOptions(clientCommand("rotate", "Ask for trustees to join or leave: the next root, signed by old and new ones."))
  .option("--add <card>", "enrolment card of a trustee who joins; once for each", repeated)
  .option("--remove <kid>", "key id of a trustee who leaves; once for each", repeated)
  .option("--threshold <k>", "how many must sign from then on; never fewer than now")
  .addHelpText(
    "after",
    `
Fewer than must sign may join at once; the others by the root after it. Those who join have run \`via trustee join\`.
A trustee may ask as well, above all for their own key: \`via trustee rotate\`.

Examples
  via vault rotate --remove 3f0a… --add .via/trustees/6/card.json
  via vault rotate                    the same trustees for another two years`,
  )
  .action(async (options: RotateFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { trusted } = await published(home);
    const cards = await Promise.all((options.add ?? []).map((file) => readFileBounded(file, CARD_BYTES_MAX)));
    const body = {
      add: cards.map(formatBase64),
      remove: options.remove ?? [],
      ...(options.threshold !== undefined && { threshold: whole("--threshold", options.threshold) }),
    };
    await askFor(out, home, options, trusted.authority, "rotation-requests", body);
  });

const askTools: AskTools<AskFlags> = {
  now,
  trusted: async (home) => (await published(home)).trusted,
  askOptions: (command) =>
    askOptions(
      command
        .option("--home <folder>", "the vault's home", DEFAULT_HOME)
        .option("--vault <url>", "address of the running vault", DEFAULT_URL),
    ),
  ask: async (out, home, options: AskFlags, path, body) =>
    askFor(out, home, options, (await published(home)).trusted.authority, path, body),
};

keysCommands(vault, DEFAULT_HOME, askTools);
contentCommands(vault, askTools);
witnessCommands(vault, askTools);

clientCommand(
  "withdraw <id>",
  "Take back what you asked for: a proposal while trustees look at it, or a waiting request.",
)
  .option("--passphrase-file <file>", "of the operator key; the one in private/ when left out")
  .addHelpText(
    "after",
    `
What others asked for in the same proposal is planned again. To replace a request, withdraw it and ask again.

Example
  via vault withdraw 5f3c… --home .via/vault`,
  )
  .action(async (id: string, options: Omit<AskFlags, "seconds">, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { trusted } = await published(home);
    const client = new VaultClient(options.vault, trusted.authority, now);
    const parsed = parseEventId(id);
    const what = await withdraw(client, await openOperator(home, options.passphraseFile), parsed);
    out.result({ withdrawn: formatHex(parsed), what }, () =>
      out.line(`Withdrawn: nobody can sign this ${what} any more.`),
    );
  });

homeCommand("notify", "Whom notify.json tells what happens to proposals and lifetimes.")
  .option("--test", "send a test to every channel")
  .addHelpText(
    "after",
    `
notify.json in the vault's home, read when the vault starts:
  {
    "webhooks": [{ "name": "ops", "url": "https://ops.example.org/via", "secretFile": "private/ops.secret" }],
    "mailFolders": [{ "name": "trustees", "folder": "spool", "from": "vault@example.org", "to": ["amara@example.org"] }]
  }
Files are named relative to the home. "on": ["rejected", "dead"] in an entry narrows it; kinds of news are
${NEWS_KINDS.join(", ")}.
A webhook gets JSON with the header Via-Hmac: sha256=HMAC(secret, body). A mail folder gets one message file for each
recipient, for a mail program to take. Nothing is told twice.

Example
  via vault notify --test --home .via/vault`,
  )
  .action(async (options: Options & { readonly test?: boolean }, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    const { authority } = (await published(home)).trusted;
    const channels = await openChannels(home, authority);
    if (channels.length === 0)
      throw new OperationError("ERR_HOME", `there is no channel in ${home.notify}; see --help`);
    const news = testNews(formatHex(new Uint8Array(randomBytes(16))), now());
    const told: { channel: string; state: string; problem?: string }[] = [];
    for (const { name, tell } of channels)
      told.push({ channel: name, ...(options.test ? await tell(news) : { state: "configured" }) });
    out.result({ channels: told }, () =>
      out.table(
        ["channel", "state", "problem"],
        told.map(({ channel, state, problem = "" }) => [channel, state, problem]),
      ),
    );
    if (told.some(({ problem }) => problem !== undefined)) process.exitCode = EXIT.failed;
  });

interface WaitFlags extends Options {
  readonly vault: string;
  readonly seconds: string;
}

clientCommand("wait <event>", "Wait until a proposal or a status event is published.")
  .option("--seconds <n>", "how long at most", WAIT_SECONDS)
  .action(async (event: string, options: WaitFlags, command: Command) => {
    const out = outputOf(command);
    const { trusted } = await published(homeAt(options.home));
    const client = new VaultClient(options.vault, trusted.authority, now);
    const outcome = await waitFor(client, parseEventId(event), whole("--seconds", options.seconds));
    const [batch] = outcome.batches;
    out.result({ ...outcome, ...(batch !== undefined && { batch }) }, () => {
      out.line(batch === undefined ? "Published." : `Published: batch ${outcome.batches.join(", ")}.`);
      out.line(`\n${outcome.checkpoint}`);
    });
  });

clientCommand("status", "What a running vault says about itself; why it has stopped, if it has.").action(
  async (options: WaitFlags, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    // Also of a vault that does not run, because it would not start.
    await assertNoSplit(home.split);
    const { trusted, statement } = await published(home);
    const client = new VaultClient(options.vault, trusted.authority, now);
    const health = await client.health();
    if (health.ok !== true) process.exitCode = EXIT.failed;
    const { epoch, n, issued } = statement.statement;
    const result = { ...health, words: formatWords(trusted.authority), epoch, n, issued, expires: trusted.expires };
    out.result(result, () => showStatus(out, result));
  },
);

homeCommand("remove", "Remove a vault with all its keys. What it published can never be continued.")
  .option("--yes", "do not ask")
  .action(async (options: Options & { readonly yes?: boolean }, command: Command) => {
    const out = outputOf(command);
    const home = homeAt(options.home);
    if (!(options.yes ?? (await confirm(`Remove ${home.root} with all keys in it?`))))
      throw new OperationError("ERR_CONFIRMATION", "nothing was removed");
    await removeDatabase(home.db);
    await rm(home.root, { recursive: true, force: true });
    out.result({ removed: home.root }, () => out.line(`removed ${home.root}`));
  });

/** Signed with the operator key; then the proposal that trustees see. */
async function askFor(
  out: Output,
  home: Home,
  options: AskFlags,
  authority: Uint8Array,
  route: RequestPath,
  body: unknown,
): Promise<void> {
  const operator = await openOperator(home, options.passphraseFile);
  const client = new VaultClient(options.vault, authority, now);
  const requested = await sendRequest(client, operator, route, body, whole("--seconds", options.seconds), (text) =>
    out.note(text),
  );
  out.result(requested, () => {
    out.line(`Proposed to the trustees:\n\n  ${requested.words}\n\n  ${requested.event}\n`);
    out.line(`Each trustee:  via trustee sign ${requested.event} --vault ${options.vault}`);
  });
}

async function openOperator(home: Home, passphraseFile: string | undefined): Promise<Signer> {
  const ownFile = await readFileIfPresent(home.operatorPassphrase, 1024);
  return openKeystore(home.operator, await readPassphrase(passphraseFile ?? (ownFile && home.operatorPassphrase)));
}

function showStatus(out: Output, status: Readonly<Record<string, unknown>>): void {
  const rows = Object.entries(status).map(([name, value]) => [
    name,
    typeof value === "object" ? JSON.stringify(value) : String(value),
  ]);
  out.table(["", ""], rows);
}

async function published(home: Home): Promise<Published> {
  const advice = "this is not the home of a vault after genesis";
  const found = await readPublished(home.public, await readHomeFile(home.pinnedRoot, METADATA_BYTES_MAX.root, advice));
  if (!found) throw new OperationError("ERR_HOME", `${home.public} is empty: run \`via vault genesis\``);
  return found;
}

/** Listens on the port asked for, or on the next free one. @returns the address for people */
async function listen(app: FastifyInstance, host: string, port: number): Promise<string> {
  for (let candidate = port; ; candidate++) {
    try {
      await app.listen({ host, port: candidate });
      const address = (app.server as Server).address();
      const bound = typeof address === "object" && address ? address.port : candidate;
      return `http://${host.includes(":") ? `[${host}]` : host}:${bound}`;
    } catch (cause) {
      if (isCode(cause, "EADDRINUSE") && candidate < port + PORTS_TRIED) continue;
      throw new OperationError("ERR_PORT", `could not listen on ${host}:${candidate}`, { cause });
    }
  }
}

/** For SoftHSM, the environment of this command names its configuration, as for every program that uses it. */
function tokenOf(uri: string): TokenReference {
  const { token, module, pinFile, ...key } = parseHsmUri(uri);
  if (module === undefined || pinFile === undefined)
    throw new OperationError("ERR_USAGE", "--hsm names a module with module-path and a PIN file with pin-source");
  if (Object.keys(key).length > 0)
    throw new OperationError("ERR_USAGE", "--hsm names a token; its keys are made by this command");
  const confFile = process.env.SOFTHSM2_CONF;
  return { ...token, module, pinFile, ...(confFile !== undefined && { confFile: path.resolve(confFile) }) };
}

function witnessesOf({ witness, quorum }: InitFlags): Pick<Parameters<typeof initVault>[1], "witnesses"> {
  if (!witness) {
    if (quorum !== undefined)
      throw new OperationError("ERR_USAGE", "--quorum counts witnesses: name them with --witness");
    return {};
  }
  const listed = witness.map(listedWitness);
  const majority = Math.floor(listed.length / 2) + 1;
  return { witnesses: { listed, quorum: quorum === undefined ? majority : whole("--quorum", quorum) } };
}

function whole(name: string, text: string): number {
  try {
    return parseDecimal(text);
  } catch (cause) {
    throw new OperationError("ERR_USAGE", `${name} takes a whole number`, { cause });
  }
}

/** The statement itself says that the next one is due after an hour. */
function statementSeconds(text: string): number {
  const seconds = whole("--statement-seconds", text);
  if (seconds >= 1 && seconds <= STATEMENT_INTERVAL_SECONDS) return seconds;
  throw new OperationError("ERR_USAGE", `--statement-seconds is from 1 to ${STATEMENT_INTERVAL_SECONDS}`);
}

function databaseUrl(): string | undefined {
  return process.env.DATABASE_URL || undefined;
}

process.exitCode = await runProgram(vault, process.argv);
