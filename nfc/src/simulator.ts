/**
 * Starts and steers the simulator: a PC/SC service with virtual readers and tags in a process of its own. The real
 * libpcsclite and the real nfc-pcsc work against it, so nothing between them and our code is ever replaced.
 */
import { type ChildProcess, fork } from "node:child_process";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { formatHex, OperationError, parseHex } from "@viafabric/schemas";
import type {
  Fault,
  HandOptions,
  ReaderStatus,
  SimulatorCommand,
  SimulatorSockets,
  TagContent,
} from "./simulator-protocol.ts";

export type { Fault, HandOptions, ReaderStatus, SimulatorSockets } from "./simulator-protocol.ts";

/** The name makes nfc-pcsc treat it as the reader it imitates. */
export const VIRTUAL_READER_NAME = "ACS ACR122U PICC Interface 00 00";
const START_MS_MAX = 10_000;

export interface SimulatorClient {
  addReader(name?: string, options?: { readonly passThrough?: boolean }): Promise<void>;
  removeReader(name?: string): Promise<void>;
  /** A blank tag, or one with the memory given. @returns its UID in hex */
  createTag(model: string, options?: { readonly uid?: Uint8Array; readonly memory?: Uint8Array }): Promise<string>;
  /** A dump file becomes a tag. @returns its UID in hex */
  loadTag(file: string): Promise<string>;
  saveTag(uid: string, file: string): Promise<void>;
  readTag(uid: string): Promise<{ readonly model: string; readonly memory: Uint8Array }>;
  /** @param unpowered the reader feels the tag and cannot power it */
  insert(uid: string, reader?: string, unpowered?: boolean): Promise<void>;
  remove(reader?: string): Promise<void>;
  /** Something goes wrong at the `at`-th APDU from now, counted from 1. */
  arm(fault: Fault, at: number, reader?: string): Promise<void>;
  status(reader?: string): Promise<ReaderStatus>;
  hand(options: HandOptions, reader?: string): Promise<void>;
  close(): void;
}

export interface Simulator extends SimulatorClient {
  readonly sockets: SimulatorSockets;
  /** Ends the process; every reader is gone, and with it the service. */
  stop(): Promise<void>;
}

/** @param folder private to the simulator; short, because a socket's path has at most 107 bytes */
export async function startSimulator(options: {
  readonly folder: string;
  readonly readers?: readonly string[];
}): Promise<Simulator> {
  const readers = options.readers ?? [VIRTUAL_READER_NAME];
  const args = ["--folder", options.folder, ...readers.flatMap((name) => ["--reader", name])];
  const main = fileURLToPath(new URL("./simulator-main.js", import.meta.url));
  const child = fork(main, args, { stdio: ["ignore", "pipe", "inherit", "ipc"], execArgv: [] });
  const sockets = await firstLine(child);
  const client = await connectSimulator(sockets.control);
  return {
    ...client,
    sockets,
    async stop() {
      client.close();
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** Steers a simulator that somebody else started. @param controlSocket from its first line of output */
export async function connectSimulator(controlSocket: string): Promise<SimulatorClient> {
  const call = await openCalls(controlSocket);
  return {
    async addReader(name = VIRTUAL_READER_NAME, { passThrough = true } = {}) {
      await call.send({ op: "add-reader", name, passThrough });
    },
    async removeReader(name = VIRTUAL_READER_NAME) {
      await call.send({ op: "remove-reader", name });
    },
    async createTag(model, { uid, memory } = {}) {
      const own = { ...(uid ? { uid: formatHex(uid) } : {}), ...(memory ? { memory: formatHex(memory) } : {}) };
      return ((await call.send({ op: "create-tag", model, ...own })) as { uid: string }).uid;
    },
    async loadTag(file) {
      return ((await call.send({ op: "load-tag", file })) as { uid: string }).uid;
    },
    async saveTag(uid, file) {
      await call.send({ op: "save-tag", uid, file });
    },
    async readTag(uid) {
      const content = (await call.send({ op: "read-tag", uid })) as TagContent;
      return { model: content.model, memory: parseHex(content.memory) };
    },
    async insert(uid, reader = VIRTUAL_READER_NAME, unpowered = false) {
      await call.send({ op: "insert", reader, uid, unpowered });
    },
    async remove(reader = VIRTUAL_READER_NAME) {
      await call.send({ op: "remove", reader });
    },
    async arm(fault, at, reader = VIRTUAL_READER_NAME) {
      await call.send({ op: "arm", reader, fault, at });
    },
    async status(reader = VIRTUAL_READER_NAME) {
      return (await call.send({ op: "status", reader })) as ReaderStatus;
    },
    async hand(hand, reader = VIRTUAL_READER_NAME) {
      await call.send({ op: "hand", reader, hand });
    },
    close: () => call.close(),
  };
}

interface Calls {
  send(command: SimulatorCommand): Promise<unknown>;
  close(): void;
}

async function openCalls(controlSocket: string): Promise<Calls> {
  const socket = await openSocket(controlSocket);
  const pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let nextId = 1;
  createInterface({ input: socket }).on("line", (line) => {
    const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string };
    const call = pending.get(id);
    pending.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new OperationError("ERR_SIMULATOR", error));
  });
  const fail = () => {
    for (const call of pending.values()) call.reject(new OperationError("ERR_SIMULATOR", "the simulator is gone"));
    pending.clear();
  };
  socket.on("error", fail).on("close", fail);
  return {
    send(command) {
      const id = nextId++;
      return new Promise((resolve, reject) => {
        pending.set(id, { resolve, reject });
        socket.write(`${JSON.stringify({ id, ...command })}\n`);
      });
    },
    close: () => socket.destroy(),
  };
}

function openSocket(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.once("error", (cause) => reject(new OperationError("ERR_SIMULATOR", `no simulator at ${path}`, { cause })));
  });
}

async function firstLine(child: ChildProcess): Promise<SimulatorSockets> {
  const timeout = setTimeout(() => child.kill("SIGKILL"), START_MS_MAX);
  try {
    for await (const line of createInterface({ input: child.stdout! })) return JSON.parse(line) as SimulatorSockets;
    throw new OperationError("ERR_SIMULATOR", "the simulator did not start");
  } finally {
    clearTimeout(timeout);
  }
}
