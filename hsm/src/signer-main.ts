/**
 * The bounded signer as a process: `node signer-main.js CONFIG [--attached]`.
 *
 * It says one line of JSON on standard output once it is ready, `{"ready":"<socket>"}`, or why it will not start,
 * `{"error":"<code>","message":"…"}`. Refusals, and faults of the token that it got over, go to standard error, a line
 * each. SIGTERM lets it finish what it is doing. Attached, it also ends when standard input does, so that it never
 * outlives the process that started it.
 */
import path from "node:path";
import { EXIT, lockFolder } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import { openKeys } from "./index.ts";
import { readSignerConfig } from "./signer/config.ts";
import { refusalOf } from "./signer/protocol.ts";
import { serveSigner } from "./signer/server.ts";
import { openBoundedSigner, stateFileBeside } from "./signer/signer.ts";

async function main(configFile: string | undefined, attached: boolean): Promise<void> {
  if (configFile === undefined) throw new OperationError("ERR_USAGE", "name the configuration file");
  const config = await readSignerConfig(configFile);
  const unlock = await lockFolder(path.dirname(path.resolve(configFile)), "signer.lock");
  try {
    // SoftHSM reads it when it is initialised, so it is set before.
    if ("confFile" in config.hsm) process.env.SOFTHSM2_CONF = config.hsm.confFile;
    const clock = () => Math.floor(Date.now() / 1000);
    const hsm = await openKeys(config.hsm, (recovered) => {
      process.stderr.write(`${JSON.stringify({ time: clock(), recovered })}\n`);
    });
    try {
      const signer = await openBoundedSigner(config, {
        hsm,
        stateFile: stateFileBeside(configFile),
        clock,
        reread: async () => (await readSignerConfig(configFile)).keys,
      });
      const report = (method: string, { code, message }: ReturnType<typeof refusalOf>) => {
        process.stderr.write(`${JSON.stringify({ time: clock(), refused: method, code, message })}\n`);
      };
      const server = await serveSigner(signer, config.socket, report, config.socketGroup);
      process.stdout.write(`${JSON.stringify({ ready: config.socket })}\n`);
      await stopped(attached);
      await server.close();
    } finally {
      await hsm.close();
    }
  } finally {
    await unlock();
  }
}

function stopped(attached: boolean): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
    if (!attached) return;
    process.stdin.once("end", () => resolve());
    process.stdin.once("error", () => resolve());
    process.stdin.resume();
  });
}

try {
  await main(process.argv[2], process.argv[3] === "--attached");
  process.exit(EXIT.ok);
} catch (error) {
  const { code, message } = refusalOf(error);
  process.stdout.write(`${JSON.stringify({ error: code, message })}\n`);
  process.exit(EXIT.failed);
}
