/**
 * A process that appends to a log in a folder, as the vault does: it opens the log, appends what is not there yet, and
 * after an error opens it again. Lock and signer are in the parent (append-parent-testkit.ts), as they are other
 * processes in real life.
 */
import path from "node:path";
import { CodedError } from "@viafabric/schemas";
import { decimals, logVerifier } from "./fixtures.test.ts";
import { type LockedHead, openLog } from "./log.ts";
import { type PortCall, reportedLog } from "./port-calls-testkit.ts";

/** Entries [from, to): one append. */
export type Batch = readonly [from: number, to: number];

export interface Task {
  readonly folder: string;
  readonly batches: readonly Batch[];
  /** Through ports that report what they are asked to do. */
  readonly reported: boolean;
}

export type Question =
  | { readonly kind: "read" }
  | { readonly kind: "replace"; readonly oldSize: number; readonly next: LockedHead }
  | { readonly kind: "sign"; readonly entries: readonly Uint8Array[]; readonly from: number }
  /** The disk does not get better: somebody must look after it. */
  | { readonly kind: "repair" };

export type ToChild = { readonly task: Task } | { readonly answer: unknown };

export type ToParent =
  | { readonly question: Question }
  /** The checkpoint an append answered with: from here on its proofs may be handed out. */
  | { readonly acknowledged: Uint8Array }
  | Done;

export interface Done {
  /** Codes of the errors on the way. */
  readonly errors: readonly string[];
  readonly reported: readonly PortCall[];
  /** What no error should be: one without a code. */
  readonly uncoded?: string;
}

/** The disk fails once; whoever needs a third attempt needs help. */
const ATTEMPTS_ALONE = 2;
const ATTEMPTS_MAX = 4;

const answers: ((value: unknown) => void)[] = [];

function ask(question: Question): Promise<unknown> {
  send({ question });
  return new Promise((resolve) => answers.push(resolve));
}

async function attempt({ folder, batches, reported }: Task, calls: PortCall[]): Promise<void> {
  const options = {
    folder: path.join(folder, "public"),
    stagingFolder: path.join(folder, "private"),
    verifier: logVerifier,
    lock: {
      read: async () => (await ask({ kind: "read" })) as LockedHead | undefined,
      replace: async (oldSize: number, next: LockedHead) => void (await ask({ kind: "replace", oldSize, next })),
    },
    sign: async (entries: readonly Uint8Array[], from: number) =>
      (await ask({ kind: "sign", entries, from })) as Uint8Array,
  };
  const log = await (reported ? reportedLog(options, calls) : openLog(options));
  try {
    for (const [from, to] of batches) {
      if (log.size >= to) continue;
      const { checkpoint } = await log.append(decimals(from, to));
      send({ acknowledged: checkpoint });
    }
  } finally {
    await log.close();
  }
}

async function work(task: Task): Promise<Done> {
  const errors: string[] = [];
  const reported: PortCall[] = [];
  for (;;) {
    try {
      await attempt(task, reported);
      return { errors, reported };
    } catch (error) {
      const code = error instanceof CodedError ? error.code : undefined;
      if (code === undefined || errors.length >= ATTEMPTS_MAX) {
        return { errors, reported, uncoded: error instanceof Error ? `${error.stack}` : String(error) };
      }
      errors.push(code);
      if (errors.length >= ATTEMPTS_ALONE) await ask({ kind: "repair" });
    }
  }
}

function send(message: ToParent): void {
  process.send!(message);
}

process.on("message", (message: ToChild) => {
  if ("task" in message) void work(message.task).then(send);
  else answers.shift()!(message.answer);
});
