/**
 * The parent's side of a reader's process: starts it when it is needed, asks with a deadline, and kills it when the
 * deadline passes, because a hung reader never comes back by itself.
 */
import { type ChildProcess, fork } from "node:child_process";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { OperationError } from "@viafabric/schemas";
import type { PcscProblem, ReaderReport, ReaderRequest } from "./reader-protocol.ts";

export interface ReaderOptions {
  /** Socket of the PC/SC service: PCSCLITE_CSOCK_NAME, or DEFAULT_PCSC_SOCKET. */
  readonly socket: string;
  /** The first reader found when left out. */
  readonly name?: string;
  /** An APDU takes 40 ms on a slow reader; beeps take longer. */
  readonly apduDeadlineMs?: number;
  /** How long a reader may take to show up. */
  readonly startDeadlineMs?: number;
}

/** What lies on the reader. */
export type FieldState =
  | { readonly kind: "empty" }
  | { readonly kind: "tag"; readonly tag: number }
  | { readonly kind: "unpowered" };

type Pending = { readonly resolve: (bytes: Uint8Array) => void; readonly reject: (error: OperationError) => void };

export const DEFAULT_PCSC_SOCKET = "/run/pcscd/pcscd.comm";
const APDU_DEADLINE_MS = 2000;
const START_DEADLINE_MS = 3000;

const INSTALL: Readonly<Record<PcscProblem, string>> = {
  "module-missing": "the nfc-pcsc package is not installed: run ./setup in the project",
  "not-built": "nfc-pcsc is installed but not built: run ./setup in the project",
  "library-missing": "libpcsclite is not installed: apt-get install libpcsclite1 pcscd",
  service: "the PC/SC service refused: start pcscd; over SSH a polkit rule must allow org.debian.pcsc-lite.access_pcsc",
};

export class ReaderProcess {
  readonly #options: ReaderOptions;
  readonly #onField: (state: FieldState | undefined) => void;
  readonly #pending = new Map<number, Pending>();
  #child: ChildProcess | undefined;
  #starting: Promise<string> | undefined;
  #nextId = 1;
  /** Number of the last tag seen. Numbers go on across processes, so that an old tag is never taken for a new one. */
  #lastTag = 0;

  /** @param onField told of every change in the field, and `undefined` when the process has ended */
  constructor(options: ReaderOptions, onField: (state: FieldState | undefined) => void) {
    this.#options = options;
    this.#onField = onField;
  }

  /**
   * Starts the process unless it runs. @returns the reader's name
   * @throws OperationError ERR_NO_PCSC, ERR_NO_READER
   */
  start(): Promise<string> {
    this.#starting ??= this.#start().catch((error: unknown) => {
      this.kill();
      throw error;
    });
    return this.#starting;
  }

  transmit(tag: number, apdu: Uint8Array): Promise<Uint8Array> {
    return this.#ask((id) => ({ kind: "transmit", id, tag, apdu }));
  }

  async reconnect(tag: number): Promise<void> {
    await this.#ask((id) => ({ kind: "reconnect", id, tag }));
  }

  kill(): void {
    this.#child?.kill("SIGKILL");
    this.#ended(new OperationError("ERR_READER", "the reader's process has ended", { retryable: true }));
  }

  async #start(): Promise<string> {
    const { socket, name } = this.#options;
    // Without a service the native constructor spins for ever, so the socket is tried first.
    await probe(socket);
    const main = fileURLToPath(new URL("./reader-child.js", import.meta.url));
    const child = fork(main, [String(this.#lastTag), ...(name === undefined ? [] : [name])], {
      env: { PCSCLITE_CSOCK_NAME: socket },
      serialization: "advanced",
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      execArgv: [],
    });
    this.#child = child;
    return new Promise((resolve, reject) => {
      const others: string[] = [];
      const deadline = setTimeout(
        () => reject(noReader(name, others)),
        this.#options.startDeadlineMs ?? START_DEADLINE_MS,
      );
      child.on("message", (report: ReaderReport) => {
        if (report.kind === "seen") others.push(report.name);
        if (report.kind === "ready") resolve(report.name);
        if (report.kind === "unavailable") reject(unavailable(report.cause, report.reason));
        if (report.kind === "ready" || report.kind === "unavailable") clearTimeout(deadline);
        this.#heard(report);
      });
      child.once("exit", () => {
        clearTimeout(deadline);
        reject(unavailable("service", "the reader's process has ended"));
        if (this.#child === child) this.kill();
      });
    });
  }

  #heard(report: ReaderReport): void {
    switch (report.kind) {
      case "tag":
        this.#lastTag = report.tag;
        this.#onField({ kind: "tag", tag: report.tag });
        break;
      case "ready":
      case "removed":
        this.#onField({ kind: "empty" });
        break;
      case "unpowered":
        this.#onField({ kind: "unpowered" });
        break;
      case "answer":
        this.#take(report.id)?.resolve(report.bytes);
        break;
      case "failed": {
        const code = report.gone ? "ERR_TAG_GONE" : "ERR_READER";
        this.#take(report.id)?.reject(new OperationError(code, report.reason, { retryable: true }));
        break;
      }
      case "unplugged":
        // A reader that is plugged in again gets a fresh process.
        this.kill();
        break;
      default:
        break;
    }
  }

  #ask(request: (id: number) => ReaderRequest): Promise<Uint8Array> {
    const child = this.#child;
    if (!child?.connected) {
      return Promise.reject(new OperationError("ERR_READER", "the reader's process has ended", { retryable: true }));
    }
    const id = this.#nextId++;
    const deadlineMs = this.#options.apduDeadlineMs ?? APDU_DEADLINE_MS;
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        const late = new OperationError("ERR_READER", `no answer within ${deadlineMs} ms`, { retryable: true });
        this.#take(id)?.reject(late);
        this.kill();
      }, deadlineMs);
      const settle = <T>(then: (value: T) => void) => {
        return (value: T) => {
          clearTimeout(deadline);
          then(value);
        };
      };
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) });
      child.send(request(id));
    });
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #ended(error: OperationError): void {
    this.#child = undefined;
    this.#starting = undefined;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(error);
    this.#onField(undefined);
  }
}

function probe(socket: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const attempt = connect(socket, () => {
      attempt.destroy();
      resolve();
    });
    attempt.once("error", (cause) => {
      const advice = "no PC/SC service runs here: apt-get install pcscd, then start it (systemctl start pcscd)";
      reject(new OperationError("ERR_NO_PCSC", `${advice}; looked at ${socket}`, { cause, retryable: true }));
    });
  });
}

function unavailable(problem: PcscProblem, reason: string): OperationError {
  return new OperationError("ERR_NO_PCSC", `${INSTALL[problem]} (${reason})`);
}

function noReader(name: string | undefined, others: readonly string[]): OperationError {
  const found = others.length === 0 ? "no reader is plugged in" : `found only: ${others.join(", ")}`;
  const wanted = name === undefined ? "" : `there is no reader "${name}"; `;
  const advice = "on Linux, blacklist the kernel modules pn533_usb and nfc if an ACR122U does not show up";
  return new OperationError("ERR_NO_READER", `${wanted}${found}; ${advice}`, { retryable: true });
}
