/**
 * The command-line frame that all five users share: parsing, progress, tables, `--json`, prompts, exit codes.
 * The only door to commander, cli-progress and cli-table3.
 *
 * Results go to standard output, everything said on the way to standard error, so a result can be piped. With
 * `--json` the result is one JSON document and nothing else. Colour and progress bars appear on a terminal only.
 */
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { styleText } from "node:util";
import { CodedError, OperationError } from "@viafabric/schemas";
import { SingleBar } from "cli-progress";
import Table from "cli-table3";
import { Command, CommanderError, Option } from "commander";
import { readFileBounded } from "./files.ts";

export { Command, Option };

export const VERSION = "0.1.0";

/** What a script can tell apart. docs/errors.md lists them. */
export const EXIT = {
  ok: 0,
  /** The answer is no: a verdict other than accept, a refused proposal, bytes that do not verify. */
  refused: 1,
  /** The command line is wrong. */
  usage: 2,
  /** Something must be installed or plugged in first. */
  missing: 3,
  /** The world failed on the way; trying again later may work. */
  failed: 4,
  /** Whoever read the output went away. What shells report of SIGPIPE, which Node does not die of. */
  readerGone: 128 + 13,
} as const;

type Style = "green" | "red" | "yellow" | "bold" | "dim" | "cyan";

export interface Progress {
  advance(by?: number): void;
  stop(): void;
}

/** Where a command speaks. */
export class Output {
  readonly json: boolean;

  constructor(json: boolean) {
    this.json = json;
  }

  /** False once a reader went away: whoever says things for as long as they run may stop. */
  get hasReader(): boolean {
    return hasReader;
  }

  /** The result of the command. @param render prints it for a person, through `line` and `table`. */
  result(value: unknown, render: () => void): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
    else render();
  }

  line(text = ""): void {
    if (!this.json) process.stdout.write(`${text}\n`);
  }

  /** Said on the way; never part of the result. */
  note(text: string): void {
    process.stderr.write(`${styleText("dim", text, { stream: process.stderr })}\n`);
  }

  style(style: Style, text: string): string {
    return styleText(style, text, { stream: process.stdout });
  }

  table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
    const plain = { "top-mid": "", top: "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "" };
    const chars = { ...plain, "bottom-left": "", "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "" };
    const table = new Table({
      head: [...head],
      chars: { ...chars, right: "", "right-mid": "", middle: "  " },
      style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    });
    table.push(...rows.map((row) => [...row]));
    for (const line of table.toString().split("\n")) this.line(line.trimEnd());
  }

  /** A bar on a terminal; silence in a pipe. */
  progress(label: string, total: number): Progress {
    if (!process.stderr.isTTY) return { advance() {}, stop() {} };
    const bar = new SingleBar({
      format: `${label} [{bar}] {value}/{total}`,
      stream: process.stderr,
      clearOnComplete: true,
    });
    bar.start(total, 0);
    return { advance: (by = 1) => bar.increment(by), stop: () => bar.stop() };
  }
}

/** A program of one of the five users, with the options every program has. */
export function program(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option("--json", "print the result as one JSON document")
    .version(VERSION)
    .showHelpAfterError("(run it with --help)")
    .exitOverride();
}

/** For an option that may be given more than once: undefined without any, so that the help shows no empty list. */
export const repeated = (value: string, all: readonly string[] = []): readonly string[] => [...all, value];

/** The Output for a command: pass the `Command` that an action receives as its last argument. */
export function outputOf(command: Command): Output {
  return new Output(Boolean(command.optsWithGlobals().json));
}

/**
 * Runs the program and returns its exit code; never throws.
 * @param argv as in process.argv. Thrown CodedErrors become one line on standard error: code, message, advice.
 */
export async function runProgram(command: Command, argv: readonly string[]): Promise<number> {
  for (const each of everyCommand(command)) each.exitOverride();
  for (const stream of [process.stdout, process.stderr]) stream.on("error", noteBrokenPipe);
  const code = await exitCodeOf(command, argv);
  await written(process.stdout);
  return hasReader ? code : EXIT.readerGone;
}

async function exitCodeOf(command: Command, argv: readonly string[]): Promise<number> {
  try {
    await command.parseAsync([...argv]);
    return Number(process.exitCode ?? EXIT.ok);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return report(error, argv.includes("--json"));
  }
}

let hasReader = true;

/**
 * In `via … | head` the reader leaves early. What was begun is done to its end, in silence: a tag half written or a
 * proposal half signed because nobody read the last line would be worse.
 */
function noteBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
  hasReader = false;
}

/** A pipe takes what it has room for; whoever ends the process at once cuts off the rest of a long answer. */
function written(stream: NodeJS.WritableStream): Promise<void> {
  return new Promise((resolve) => {
    // The callback comes before the event of a broken pipe, which must not meet a process that is ending.
    stream.write("", () => setImmediate(resolve));
  });
}

function* everyCommand(command: Command): Iterable<Command> {
  yield command;
  for (const child of command.commands) yield* everyCommand(child);
}

/** What must be installed or plugged in first. */
const MISSING: readonly string[] = ["ERR_MISSING", "ERR_NO_PCSC", "ERR_NO_READER"];

function report(error: unknown, json: boolean): number {
  if (!(error instanceof CodedError)) {
    process.stderr.write(`internal error: ${error instanceof Error ? error.stack : String(error)}\n`);
    return EXIT.failed;
  }
  if (json) process.stdout.write(`${JSON.stringify({ error: error.code, message: error.message }, undefined, 2)}\n`);
  process.stderr.write(`${styleText("red", error.code, { stream: process.stderr })}: ${error.message}\n`);
  if (error.code === "ERR_USAGE") return EXIT.usage;
  if (MISSING.includes(error.code)) return EXIT.missing;
  return error instanceof OperationError ? EXIT.failed : EXIT.refused;
}

/** Longest passphrase file we read. */
const PASSPHRASE_BYTES_MAX = 1024;

/**
 * A passphrase from a file, or typed without echo. Never from an argument or the environment: other users see those.
 * @throws OperationError ERR_PASSPHRASE when there is neither a file nor a terminal
 */
export async function readPassphrase(
  file: string | undefined,
  prompt = "Passphrase: ",
  option = "--passphrase-file",
): Promise<string> {
  if (file !== undefined) {
    const text = Buffer.from(await readFileBounded(file, PASSPHRASE_BYTES_MAX)).toString("utf8");
    const passphrase = text.replace(/\r?\n$/, "");
    if (passphrase.length === 0) throw new OperationError("ERR_PASSPHRASE", `${file} is empty`);
    return passphrase;
  }
  if (!process.stdin.isTTY) throw new OperationError("ERR_PASSPHRASE", `no terminal to ask on; use ${option} FILE`);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: silent, terminal: true });
  // Asked only now that the terminal shows nothing any more: who types fast would else see, and show, a part of it.
  process.stderr.write(prompt);
  try {
    return await terminal.question("");
  } finally {
    terminal.close();
    process.stderr.write("\n");
  }
}

/** Asks for a yes. Without a terminal the answer is no. */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

/** Settles at Ctrl-C, SIGTERM or a closed terminal: for what runs until it is told to stop. */
export function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
}
