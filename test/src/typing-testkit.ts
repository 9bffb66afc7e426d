/** For tests that type what the documents tell people to type. */
import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const COMMAND_MS_MAX = 300_000;

export interface Finished {
  readonly exitCode: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs a program in the repository's folder, with nobody at its standard input. */
export function run(file: string, args: readonly string[], env = process.env): Promise<Finished> {
  const options = { cwd: ROOT, env, timeout: COMMAND_MS_MAX, maxBuffer: 64 * 1024 * 1024 };
  return new Promise((resolve) => {
    const child = execFile(file, args, options, (error, output, errors) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code ?? -1), output, errors });
    });
    child.stdin?.end();
  });
}

export interface Service {
  /** What it said when it was ready. */
  readonly ready: Readonly<Record<string, unknown>>;
  stop(): Promise<void>;
}

/** A service of `./via` as a person leaves it running. */
export async function startService(args: readonly string[]): Promise<Service> {
  const child = spawn(path.join(ROOT, "via"), [...args, "--json"], { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const ready = await new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
      if (text.trimEnd().endsWith("}")) resolve(text);
    });
    child.once("exit", (code) => reject(new Error(`via ${args.join(" ")} ended with ${code}: ${text}`)));
  });
  return {
    ready: JSON.parse(ready),
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** The lines of the code blocks of a document in docs/. */
export function commandsIn(document: string, from = "", to?: string): readonly string[] {
  const text = readFileSync(path.join(ROOT, "docs", document), "utf8");
  const part = text.slice(text.indexOf(from), to === undefined ? undefined : text.indexOf(to));
  return [...part.matchAll(/```\n([\s\S]*?)```/g)].flatMap(([, block]) => block!.trim().split("\n"));
}
