/**
 * How the vault talks to its bounded signer: start the process, connect to its socket, ask.
 *
 * Nothing here is trusted with anything: whoever can open the socket can ask for exactly what the signer's own rules
 * allow. A refusal arrives as the error it was over there, with its code.
 */
import { spawn } from "node:child_process";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import {
  type CborMap,
  type CborValue,
  concatAll,
  equalBytes,
  OperationError,
  type OwnClaims,
  SIGNATURE_BYTES,
} from "@viafabric/schemas";
import type { TufSignature } from "@viafabric/tuf";
import type { AppendRequest } from "./signer/append.ts";
import {
  asBytes,
  asInteger,
  BODIES_MAX,
  decodeStatus,
  decodeTufSignatures,
  encodeParams,
  SIGNATURES_MAX,
  type SignerStatus,
} from "./signer/messages.ts";
import type { MetadataRequest } from "./signer/metadata.ts";
import {
  type Answer,
  decodeAnswer,
  encodeFrame,
  encodeRequest,
  errorOf,
  FrameReader,
  type Method,
} from "./signer/protocol.ts";
import type { BatchRequest, Bodies } from "./signer/tokens.ts";
import type { TrustRequest } from "./signer/trust.ts";

export type { AppendRequest } from "./signer/append.ts";
export {
  formatSignerConfig,
  type PinnedKey,
  readSignerConfig,
  SIGNER_KEYS,
  type SignerConfig,
  type SignerKey,
  type SignerKeys,
  signerKeys,
} from "./signer/config.ts";
export type { SignerStatus } from "./signer/messages.ts";
export type { MetadataRequest } from "./signer/metadata.ts";
export type { LoggedKind, OnlineRole, SignedMetadata } from "./signer/state.ts";
export { STATEMENT_INTERVAL_SECONDS } from "./signer/statement.ts";
export type { TrustRequest } from "./signer/trust.ts";

export interface TokensRequest extends BatchRequest {
  /** What is each token's own, in index order, cut as it comes. */
  readonly bodies: Iterable<readonly OwnClaims[]> | AsyncIterable<readonly OwnClaims[]>;
}

export interface SignerClient {
  state(): Promise<SignerStatus>;
  /** Takes over what trustees signed. @returns where the signer stands now */
  trust(request: TrustRequest): Promise<SignerStatus>;
  /** @returns a signature of 64 bytes for each body, in order */
  tokens(request: TokensRequest): Promise<Uint8Array>;
  /** @returns the signed checkpoint. The same request again has the same answer, also after a crash. */
  append(request: AppendRequest): Promise<Uint8Array>;
  /** @returns the next status statement, a signed note. @param reissue the last one again, when there is one */
  statement(options?: { readonly reissue?: boolean }): Promise<Uint8Array>;
  metadata(request: MetadataRequest): Promise<readonly TufSignature[]>;
  /** Takes a transcript of a key ceremony over, so that its leaf may be logged. */
  transcript(bytes: Uint8Array): Promise<SignerStatus>;
  close(): Promise<void>;
}

/** The first answer's, and how long an answer may take for the next to be larger. */
const FIRST_SIGNATURES = 256;
const PACK_MILLISECONDS = 500;
/** Some hundred signatures on a slow token take minutes; a signer that says nothing for this long is not coming back. */
const ANSWER_MILLISECONDS_MAX = 30 * 60 * 1000;
const START_MILLISECONDS_MAX = 30_000;

/**
 * What there is of a batch whose signing ended early, so that the next attempt goes on behind it. A slow token takes
 * hours for a batch. It holds signatures that the signer has verified and given out, of a manifest that fixes every body
 * and the key; the signer is still shown all bodies, and refuses others than those.
 */
export interface Unfinished {
  batch?: { readonly manifest: Uint8Array; readonly signatures: Uint8Array };
}

/** @param unfinished kept by whoever connects again. @throws OperationError ERR_SIGNER when nobody listens there */
export async function connect(socketPath: string, unfinished: Unfinished = {}): Promise<SignerClient> {
  const call = await openCalls(socketPath);
  return {
    async state() {
      return decodeStatus(await call.ask("state", new Map()));
    },
    async trust(request) {
      return decodeStatus(await call.ask("trust", encodeParams.trust(request)));
    },
    async tokens(request) {
      const batch = asInteger(await call.ask("batch", encodeParams.batch(request)));
      let count = 0;
      for await (const some of request.bodies) {
        for (let at = 0; at < some.length; at += BODIES_MAX) {
          const pack = some.slice(at, at + BODIES_MAX);
          count = asInteger(await call.ask("bodies", encodeParams.bodies(batch, bodiesOf(pack))));
        }
      }
      const signatures = new Uint8Array(count * SIGNATURE_BYTES);
      let from = 0;
      const before = unfinished.batch;
      // Fewer bodies than were signed are not those of the manifest: the signer says so.
      if (before && equalBytes(before.manifest, request.manifest) && before.signatures.length < signatures.length) {
        signatures.set(before.signatures);
        from = before.signatures.length / SIGNATURE_BYTES;
      }
      for (let wanted = FIRST_SIGNATURES; from < count; ) {
        const pack = { batch, from, count: Math.min(wanted, count - from) };
        const start = performance.now();
        const next = asBytes(await call.ask("tokens", encodeParams.tokens(pack)));
        if (next.length !== pack.count * SIGNATURE_BYTES) throw failed("it gave another number of signatures");
        signatures.set(next, from * SIGNATURE_BYTES);
        from += pack.count;
        unfinished.batch = { manifest: request.manifest, signatures: signatures.subarray(0, from * SIGNATURE_BYTES) };
        // A fast token is asked for more at once; a slow one stays free for other questions every few moments.
        if (performance.now() - start < PACK_MILLISECONDS) wanted = Math.min(2 * wanted, SIGNATURES_MAX);
      }
      delete unfinished.batch;
      return signatures;
    },
    async append(request) {
      return asBytes(await call.ask("append", encodeParams.append(request)));
    },
    async statement(options) {
      return asBytes(await call.ask("statement", encodeParams.statement(options?.reissue ?? false)));
    },
    async metadata(request) {
      return decodeTufSignatures(await call.ask("metadata", encodeParams.metadata(request)));
    },
    async transcript(bytes) {
      return decodeStatus(await call.ask("transcript", encodeParams.transcript(bytes)));
    },
    close: () => call.close(),
  };
}

function bodiesOf(tokens: readonly OwnClaims[]): Bodies {
  return {
    ids: concatAll(tokens.map(({ rctId }) => rctId)),
    subjects: tokens.map(({ subject }) => subject),
    confirmations: new Map(tokens.flatMap(({ confirmation }, i) => (confirmation ? [[i, confirmation]] : []))),
  };
}

interface Calls {
  ask(method: Method, params: CborMap): Promise<CborValue>;
  close(): Promise<void>;
}

interface Waiting {
  readonly resolve: (value: CborValue) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
}

async function openCalls(socketPath: string): Promise<Calls> {
  const socket = createConnection(socketPath);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", (cause) => reject(failed(`nobody listens on ${socketPath}`, cause)));
  });
  const waiting = new Map<number, Waiting>();
  const reader = new FrameReader();
  let lastId = 0;
  const giveUp = (error: OperationError) => {
    for (const { reject, timer } of waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    waiting.clear();
    socket.destroy();
  };
  const settle = (answer: Answer) => {
    const call = waiting.get(answer.id);
    if (!call) throw failed(`an answer to nothing: ${answer.id}`);
    waiting.delete(answer.id);
    clearTimeout(call.timer);
    if (answer.ok) call.resolve(answer.result);
    else call.reject(errorOf(answer));
  };
  socket.on("data", (chunk) => {
    try {
      for (const body of reader.push(chunk)) settle(decodeAnswer(body));
    } catch (cause) {
      giveUp(failed("it sent something that is no answer", cause));
    }
  });
  socket.on("error", (cause) => giveUp(failed("the connection broke", cause)));
  socket.on("close", () => giveUp(failed("it closed the connection")));
  return {
    ask(method, params) {
      return new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(failed("the connection is closed"));
        const frame = encodeFrame(encodeRequest({ id: ++lastId, method, params }));
        const timer = setTimeout(() => giveUp(failed(`no answer to ${method}`)), ANSWER_MILLISECONDS_MAX);
        waiting.set(lastId, { resolve, reject, timer });
        socket.write(frame);
      });
    },
    async close() {
      socket.removeAllListeners("close");
      socket.end();
      giveUp(failed("the connection is closed"));
    },
  };
}

/**
 * The signer's heap: the runtime itself ends a signer that would hold more. A small nursery, because what streams through
 * is garbage at once, and with V8's own size some 50 MB of it lie about before they are collected. Megabytes.
 */
export const SIGNER_HEAP: readonly string[] = ["--max-old-space-size=256", "--max-semi-space-size=4"];

export interface SignerProcess {
  readonly socket: string;
  readonly pid: number;
  /** Ends it with SIGTERM and waits: what it is doing gets done. */
  stop(): Promise<void>;
  /** Settles when the process has ended, however. */
  readonly exited: Promise<void>;
}

/**
 * Starts the signer in a process of its own and waits until it listens. It ends with the process that started it.
 * @param onLine told each line that the signer writes about what it refused
 * @throws the signer's own reason, with its code: ERR_SIGNER_BEHIND, ERR_HSM_PIN, …
 */
export async function startSigner(
  configFile: string,
  onLine: (line: string) => void = () => {},
): Promise<SignerProcess> {
  const main = fileURLToPath(new URL("./signer-main.js", import.meta.url));
  const child = spawn(process.execPath, [...SIGNER_HEAP, main, configFile, "--attached"], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  createInterface({ input: child.stderr }).on("line", onLine);
  const timer = setTimeout(() => child.kill("SIGKILL"), START_MILLISECONDS_MAX);
  const first = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("error", (cause) => reject(failed("it could not be started", cause)));
    void exited.then(() => reject(failed("it ended before it was ready")));
  }).finally(() => clearTimeout(timer));
  const said: unknown = JSON.parse(first);
  if (typeof said === "object" && said !== null) {
    if ("ready" in said && typeof said.ready === "string") {
      const stop = async (): Promise<void> => {
        child.kill("SIGTERM");
        await exited;
      };
      return { socket: said.ready, pid: child.pid!, stop, exited };
    }
    if ("error" in said && "message" in said) {
      await exited;
      throw errorOf({ code: String(said.error), message: String(said.message) });
    }
  }
  child.kill("SIGKILL");
  throw failed(`it said ${first}`);
}

function failed(reason: string, cause?: unknown): OperationError {
  return new OperationError("ERR_SIGNER", `the bounded signer: ${reason}`, { cause });
}
