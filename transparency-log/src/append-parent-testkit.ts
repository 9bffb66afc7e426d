/** The other side of append-child-testkit.ts: starts the process, and is lock, signer and witness of what it does. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Done, Question, Task, ToChild, ToParent } from "./append-child-testkit.ts";
import type { TreeHead } from "./checkpoint.ts";
import { decimals, logVerifier, type memoryLock, rememberingSigner } from "./fixtures.test.ts";
import { policyOfLog, verifyCheckpoint } from "./policy.ts";

const CHILD = fileURLToPath(new URL("./append-child-testkit.js", import.meta.url));

/** What outlives the process: the lock, the signer with all it ever signed, and who was told what. */
export interface Outside {
  readonly lock: ReturnType<typeof memoryLock>;
  readonly sign: ReturnType<typeof rememberingSigner>;
  readonly signed: TreeHead[];
  readonly acknowledged: Uint8Array[];
}

/** @param sizes of the appends that were made before */
export async function outsideOf(lock: ReturnType<typeof memoryLock>, sizes: readonly number[]): Promise<Outside> {
  const sign = rememberingSigner();
  let from = 0;
  for (const size of sizes) {
    await sign(decimals(from, size), from);
    from = size;
  }
  return { lock: { ...lock }, sign, signed: [], acknowledged: [] };
}

export interface Appender {
  /** @returns undefined when the process was killed on the way */
  run(task: Task, outside: Outside, repair?: () => void): Promise<Done | undefined>;
  readonly alive: boolean;
  end(): Promise<void>;
}

/** @param prefix of the command line, for a tracer */
export function startAppender(environment: Readonly<Record<string, string>>, prefix: readonly string[] = []): Appender {
  // The tracer itself is no business of the bad disk.
  const [command, ...args] = [...prefix, ...(prefix.length > 0 ? preload(environment) : []), process.execPath, CHILD];
  const { LD_PRELOAD: _, ...others } = environment;
  const child = spawn(command!, args, {
    env: { ...process.env, ...(prefix.length > 0 ? others : environment) },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "advanced",
  });
  const ended = once(child, "exit");
  return {
    run: (task, outside, repair) => runOn(child, task, outside, repair),
    get alive() {
      return child.exitCode === null && child.signalCode === null;
    },
    async end() {
      // It ends by itself, and a tracer has written down all of it.
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}

function preload(environment: Readonly<Record<string, string>>): readonly string[] {
  return ["-E", `LD_PRELOAD=${environment.LD_PRELOAD}`];
}

function runOn(child: ChildProcess, task: Task, outside: Outside, repair = () => {}): Promise<Done | undefined> {
  return new Promise((resolve, reject) => {
    const tell = (message: ToChild) => child.send(message, () => {});
    const settle = (finish: () => void) => {
      child.off("message", onMessage).off("exit", onExit);
      finish();
    };
    const onExit = (code: number | null, signal: NodeJS.Signals | null) =>
      settle(() =>
        signal === "SIGKILL" ? resolve(undefined) : reject(new Error(`the child ended: ${code} ${signal}`)),
      );
    const onMessage = (message: ToParent) => {
      if ("acknowledged" in message) outside.acknowledged.push(message.acknowledged);
      else if ("errors" in message) settle(() => resolve(message));
      else {
        answerTo(message.question, outside, repair).then(
          (answer) => tell({ answer }),
          (error: unknown) => settle(() => reject(error)),
        );
      }
    };
    child.on("message", onMessage).on("exit", onExit);
    tell({ task });
  });
}

async function answerTo(question: Question, { lock, sign, signed }: Outside, repair: () => void): Promise<unknown> {
  switch (question.kind) {
    case "read":
      return lock.read();
    case "replace":
      return lock.replace(question.oldSize, question.next);
    case "sign": {
      const note = await sign(question.entries, question.from);
      signed.push(verifyCheckpoint(policyOfLog(logVerifier), note));
      return note;
    }
    case "repair":
      return repair();
  }
}

/** A seat for processes that get killed: the next one is started before it is needed. */
export class Appenders {
  readonly #environment: Readonly<Record<string, string>>;
  #current: Appender;
  #spare: Appender;

  constructor(environment: Readonly<Record<string, string>>) {
    this.#environment = environment;
    this.#current = startAppender(environment);
    this.#spare = startAppender(environment);
  }

  get current(): Appender {
    if (!this.#current.alive) [this.#current, this.#spare] = [this.#spare, startAppender(this.#environment)];
    assert.ok(this.#current.alive);
    return this.#current;
  }

  async end(): Promise<void> {
    for (const appender of [this.#current, this.#spare]) await appender.end();
  }
}
