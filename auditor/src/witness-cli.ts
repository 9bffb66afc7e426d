/** `via audit witness`: cosigns other people's logs, for whoever relies on more than one pair of eyes. */
import { type Command, outputOf, readFileBounded, readPassphrase, repeated, stopSignal } from "@viafabric/platform";
import { formatVerifierKey, OperationError, parseDecimal } from "@viafabric/schemas";
import { KNOWN_LOGS_BYTES_MAX, monitoringPath, parseKnownLogs } from "@viafabric/transparency-log/witness";
import { initWitness, openWitnessHome } from "./witness-home.ts";
import { serveWitness } from "./witness-server.ts";

const DEFAULT_HOME = ".via/witness";
const PORT_MAX = 65_535;

interface InitOptions {
  readonly home: string;
  readonly name: string;
  readonly passphraseFile?: string;
}

interface ServeOptions {
  readonly home: string;
  readonly logs: readonly string[];
  readonly listen: string;
  readonly passphraseFile?: string;
}

export function addWitnessCommands(audit: Command): void {
  const witness = audit
    .command("witness")
    .description("cosign logs: say that each tree extends the one seen before")
    .addHelpText(
      "after",
      `
A witness holds one key, and remembers for each log it knows the last checkpoint that it cosigned. It cosigns another
one only when that extends it, so nobody can show two histories of a log to people who ask for its cosignature.

  1. You:          via audit witness init --name witness.example/w1      gives you the key line to hand over
  2. The operator: via vault init … --witness 'KEY+https://witness.example/' --quorum 2
  3. You:          via audit witness serve --logs tlog-policy --listen 127.0.0.1:8081

The list of logs is a log's own policy (tuf/targets/trust/tlog-policy; genesis/targets/trust/tlog-policy before the
authority is public), or a file with verifier keys, a line each. Put a web server with TLS in front of it.

Protocol: C2SP tlog-witness. POST add-checkpoint; GET HEX/checkpoint shows what was cosigned last, where HEX is the
SHA-256 of the log's origin. Never restore the home from a backup: a witness with an old memory must be given up.`,
    );

  witness
    .command("init")
    .description("make the key of a witness")
    .requiredOption("--name <name>", "name of the witness: a URL without https://")
    .option("--home <folder>", "home of the witness", DEFAULT_HOME)
    .option("--passphrase-file <file>", "of the key; asked for when left out")
    .addHelpText("after", "\nExample\n  via audit witness init --name witness.example/w1 --home .via/witness")
    .action(async (options: InitOptions, command: Command) => {
      const out = outputOf(command);
      const passphrase = await readPassphrase(options.passphraseFile);
      const vkey = formatVerifierKey(await initWitness(options.home, options.name, passphrase));
      out.result({ home: options.home, vkey }, () => {
        out.line(`The key, to be handed to operators of logs:\n\n  ${vkey}\n`);
        out.line(`Then:  via audit witness serve --home ${options.home} --logs tlog-policy`);
      });
    });

  witness
    .command("serve")
    .description("cosign until Ctrl-C")
    .requiredOption(
      "--logs <file>",
      "the logs to witness: a log policy, or keys a line each; may be repeated",
      repeated,
    )
    .option("--home <folder>", "home of the witness", DEFAULT_HOME)
    .option("--listen <address>", "address and port", "127.0.0.1:8081")
    .option("--passphrase-file <file>", "of the key; asked for when left out")
    .addHelpText(
      "after",
      `
Examples
  via audit witness serve --logs tlog-policy --home .via/witness
  via audit witness serve --logs tlog-policy --logs others.txt --listen '[::1]:8081' --passphrase-file FILE --json

Exit codes: 0 stopped, 1 a list of logs is refused, 2 usage, 4 failed on the way`,
    )
    .action(async (options: ServeOptions, command: Command) => {
      const out = outputOf(command);
      const stopped = stopSignal();
      const { host, port } = addressOf(options.listen);
      const logs = parseKnownLogs(
        ...(await Promise.all(options.logs.map((file) => readFileBounded(file, KNOWN_LOGS_BYTES_MAX)))),
      );
      const passphrase = await readPassphrase(options.passphraseFile);
      const { cosigner, close } = await openWitnessHome(options.home, passphrase, logs, () =>
        Math.floor(Date.now() / 1000),
      );
      try {
        const server = await serveWitness(cosigner, host, port, (line) => out.note(line));
        const origins = logs.map(({ origin }) => ({ origin, monitoring: monitoringPath(origin) }));
        out.result(
          { url: server.url, vkey: formatVerifierKey(cosigner.verifier), logs: origins, pid: process.pid },
          () => {
            out.line(`Witness at ${out.style("bold", server.url)}`);
            out.line(`  ${formatVerifierKey(cosigner.verifier)}\n`);
            for (const { origin, monitoring } of origins) out.line(`${origin}\n  ${server.url}${monitoring}`);
            out.line("\nCtrl-C stops it.");
          },
        );
        await stopped;
        await server.close();
      } finally {
        await close();
      }
    });
}

/** `127.0.0.1:8081`, `[::1]:8081`. */
function addressOf(text: string): { readonly host: string; readonly port: number } {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+):([0-9]{1,5})$/i.exec(text);
  try {
    if (match) return { host: match[1]!.replace(/^\[|\]$/g, ""), port: parseDecimal(match[2]!, PORT_MAX) };
  } catch (cause) {
    throw new OperationError("ERR_USAGE", "--listen takes an address and a port", { cause });
  }
  throw new OperationError("ERR_USAGE", "--listen takes an address and a port, such as 127.0.0.1:8081");
}
