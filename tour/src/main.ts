/**
 * `npm start`: one token's whole life, for a newcomer; then the service stays up until Ctrl-C.
 * `npm start -- --once` ends after the story. `npm run reset` removes the authority, after asking.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { type Command, confirm, ensureFolder, outputOf, program, runProgram } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import { heading, serve, stop, via } from "./commands.ts";
import { audit, decide, drawUp, genesis, hasAuthority, homesIn, issue, startWitnesses, write } from "./story.ts";

const DEFAULT_HOME = ".via";
const DEFAULT_PORT = 8080;
/** The witnesses listen on the free ports after this many. */
const WITNESS_PORTS = 10;

const tour = program("npm start --", "One token's whole life, on this machine")
  .option("--once", "end after the story instead of leaving the service running")
  .option("--home <folder>", "where the authority and its users live", DEFAULT_HOME)
  .option("--software", "keys in files, where there is no PKCS#11 module at all; for a new authority")
  .option("--port <number>", "port of the service; the next free one when it is taken", String(DEFAULT_PORT))
  .addHelpText(
    "after",
    `
Examples
  npm start                       the story, then the service runs until Ctrl-C
  npm start -- --once             the story, then everything stops
  npm start -- --home /srv/via    somewhere else
  npm start -- --software         without SoftHSM
  npm run reset                   removes the authority, after asking`,
  )
  .action(async (options) => {
    const homes = homesIn(path.resolve(options.home));
    await ensureFolder(homes.root, 0o711);
    const isNew = !hasAuthority(homes);
    if (isNew) await drawUp(homes, Number(options.port) + WITNESS_PORTS, options.software === true);
    // Ctrl-C reaches the whole process group; each puts its own affairs in order, and the story ends here.
    const interrupted = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupted.abort());
    heading("Partners: three witnesses cosign the log, two of them must");
    const services = [...(await startWitnesses(homes))];
    try {
      if (isNew) await genesis(homes);
      heading("Service");
      const { ready, child } = await serve(["vault", "serve", "--home", homes.vault, "--port", options.port]);
      services.push(child);
      const url = String(ready.url);
      const batch = await issue(homes, url);
      const tags = await write(homes, url, batch, process.env);
      const verdicts = await decide(homes, url, batch, tags[0]!);
      await audit(homes);
      heading(`Done: ${verdicts.join(" → ")}`);
      if (options.once) return;
      process.stdout.write(`\nThe vault runs at ${url}. Ctrl-C stops it; npm start goes on with another batch.\n`);
      await endOf(child, interrupted.signal);
    } finally {
      for (const service of services.toReversed()) await stop(service);
    }
  });

tour
  .command("reset")
  .description("remove the authority and every home beside it")
  .option("--yes", "do not ask")
  .action(async (options, command: Command) => {
    const out = outputOf(command);
    const homes = homesIn(path.resolve(command.optsWithGlobals().home));
    if (!existsSync(homes.root))
      return out.result({ removed: false }, () => out.line(`there is nothing at ${homes.root}`));
    const sure =
      options.yes ||
      (await confirm(`Remove ${homes.root} with all its keys? Tokens it issued can never be managed again.`));
    if (!sure) throw new OperationError("ERR_CONFIRMATION", "nothing was removed");
    await via(["vault", "remove", "--home", homes.vault, "--yes"]);
    await rm(homes.root, { recursive: true, force: true });
    out.result({ removed: true }, () => out.line(`removed ${homes.root}`));
  });

function endOf(child: { once(event: "exit", listener: () => void): unknown }, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
  });
}

process.exitCode = await runProgram(tour, process.argv);
