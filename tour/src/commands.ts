/**
 * Running what a person would type. The tour knows nothing of the rooms: it starts `./via` as its users do, shows the
 * command, and reads the `--json` result.
 */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { styleText } from "node:util";
import { OperationError } from "@viafabric/schemas";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
/** A ceremony step takes seconds; a batch on a slow disk may take a minute. */
const COMMAND_SECONDS_MAX = 300;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export type Json = Readonly<Record<string, unknown>>;

export interface Finished {
  readonly exitCode: number;
  readonly result: Json;
}

/** Shows a heading of the story. */
export function heading(text: string): void {
  process.stdout.write(`\n${styleText("bold", text)}\n`);
}

export function evidence(label: string, value: string): void {
  process.stdout.write(`  ${label.padEnd(12)} ${value}\n`);
}

/** Runs a command and returns its result. @throws OperationError ERR_TOUR when it exits with anything but `expected` */
export async function via(
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; expected?: number } = {},
): Promise<Json> {
  const { exitCode, result, errors } = await run(args, options.env);
  if (exitCode !== (options.expected ?? 0)) {
    throw new OperationError(
      "ERR_TOUR",
      `via ${args.join(" ")} exited with ${exitCode}\n${errors}${JSON.stringify(result)}`,
    );
  }
  return result;
}

async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv | undefined,
): Promise<Finished & { errors: string }> {
  process.stdout.write(`${styleText("dim", `  $ ./via ${args.map(quoted).join(" ")}`)}\n`);
  const child = spawn(path.join(ROOT, "via"), [...args, "--json"], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(env ? { env } : {}),
    timeout: COMMAND_SECONDS_MAX * 1000,
  });
  const [output, errors, exitCode] = await Promise.all([collect(child.stdout), collect(child.stderr), exitOf(child)]);
  return { exitCode, result: parseJson(output), errors };
}

/** A service that goes on running, once it has printed its first line of JSON. */
export async function serve(args: readonly string[]): Promise<{ readonly ready: Json; readonly child: ChildProcess }> {
  process.stdout.write(`${styleText("dim", `  $ ./via ${args.map(quoted).join(" ")} &`)}\n`);
  const child = spawn(path.join(ROOT, "via"), [...args, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
      const ready = parseJson(text);
      if (Object.keys(ready).length > 0) resolve({ ready, child });
    });
    child.once("exit", (code) =>
      reject(new OperationError("ERR_TOUR", `via ${args.join(" ")} ended with ${code} before it was ready`)),
    );
  });
}

/** Asks a service to stop and waits for its end. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size <= OUTPUT_BYTES_MAX) chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? -1));
  });
}

function parseJson(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}

function quoted(argument: string): string {
  return /^[\w./:=,@-]+$/.test(argument) ? argument : `'${argument}'`;
}
