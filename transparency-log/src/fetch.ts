/**
 * Where a log's files come from: a folder, a web server, a stick. Nothing that arrives here is trusted.
 *
 * A source either gives the bytes, says that there is no such file, or fails. Every read has a size limit, every
 * request a time limit, and no path can leave the folder.
 */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readFileIfPresent } from "@viafabric/platform";
import { formatHex, OperationError, quote, sha256 } from "@viafabric/schemas";
import { BUNDLE_BYTES_MAX } from "./entry-bundle.ts";

/**
 * @returns undefined when the source has no such file. @param path below the log's folder, with forward slashes
 * @param bytesMax where the caller knows a lower limit than that of any file
 * @param held what the caller has under this name: a source that has the same may say so instead of sending it. One that
 * says so and lies holds news back, as it could by sending the old bytes again
 */
export type FetchFile = (path: string, bytesMax?: number, held?: Uint8Array) => Promise<Uint8Array | undefined>;

/**
 * The entity tag (RFC 9110, 8.8.3) of a published file: half of its SHA-256. Whoever holds a file can name it to a server
 * without having kept what that server once called it; a server with tags of its own just sends the file.
 */
export function entityTag(bytes: Uint8Array): string {
  return `"${formatHex(sha256(bytes)).slice(0, 32)}"`;
}

/** The largest file of a log is an entry bundle; the files beside a log (a batch's leaves) fit as well. */
export const FETCH_BYTES_MAX = BUNDLE_BYTES_MAX;
const FETCH_SECONDS_MAX = 60;
/**
 * A line on which less than that arrives in five seconds is down, or its server plays for time; a phone on GPRS brings
 * twenty times as much. A large file on a slow line takes long, and goes on.
 */
const STALL_SECONDS_MAX = 5;
const STALL_BYTES_MIN = 256;
/** A lost packet should not end an audit of an hour; a server that is down should be reported soon. */
const FETCH_ATTEMPTS_MAX = 4;
const RETRY_MS = 200;

const PATH = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$/;

export function folderFetch(folder: string): FetchFile {
  return async (file, bytesMax = FETCH_BYTES_MAX) => {
    return readFileIfPresent(path.join(folder, checkedPath(file)), Math.min(bytesMax, FETCH_BYTES_MAX));
  };
}

export interface HttpFetchOptions {
  /** For the whole of an answer. */
  readonly secondsMax?: number;
  /** Without an answer, or without progress in it. */
  readonly stallSecondsMax?: number;
  readonly bytesMax?: number;
  readonly attemptsMax?: number;
}

/** @param baseUrl http or https; files are asked for below it */
export function httpFetch(baseUrl: string, options: HttpFetchOptions = {}): FetchFile {
  const base = URL.canParse(baseUrl) ? new URL(baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`) : undefined;
  if (base?.protocol !== "http:" && base?.protocol !== "https:") {
    throw new OperationError("ERR_USAGE", `not an http or https address: ${quote(baseUrl)}`);
  }
  const { bytesMax = FETCH_BYTES_MAX, secondsMax = FETCH_SECONDS_MAX, stallSecondsMax = STALL_SECONDS_MAX } = options;
  const { attemptsMax = FETCH_ATTEMPTS_MAX } = options;
  return async (file, fileBytesMax = bytesMax, held) => {
    const url = new URL(checkedPath(file), base);
    const limits = {
      bytes: Math.min(bytesMax, fileBytesMax),
      ms: 1000 * secondsMax,
      stallMs: 1000 * Math.min(secondsMax, stallSecondsMax),
    };
    for (let attempt = 1; ; attempt++) {
      try {
        return await fetchOnce(url, limits, held);
      } catch (error) {
        const retryable = error instanceof OperationError && error.retryable;
        if (!retryable || attempt >= attemptsMax) throw error;
        await sleep(RETRY_MS * 2 ** attempt);
      }
    }
  };
}

/** One below another: `subFolder(fetch, "log")` asks for `log/checkpoint` when asked for `checkpoint`. */
export function subFolder(fetch: FetchFile, folder: string): FetchFile {
  return (file, bytesMax, held) => fetch(`${folder}/${file}`, bytesMax, held);
}

interface Limits {
  readonly bytes: number;
  readonly ms: number;
  readonly stallMs: number;
}

async function fetchOnce(url: URL, limits: Limits, held?: Uint8Array): Promise<Uint8Array | undefined> {
  const stall = new StallWatch(limits.stallMs);
  try {
    const signal = AbortSignal.any([AbortSignal.timeout(limits.ms), stall.signal]);
    const headers = held ? { "if-none-match": entityTag(held) } : {};
    const response = await fetch(url, { signal, redirect: "manual", headers });
    if (response.status === 200) return await readBody(url, response, limits.bytes, stall);
    await response.body?.cancel();
    if (response.status === 304 && held) return held;
    if (response.status === 404 || response.status === 410) return undefined;
    const later = response.status >= 500 || response.status === 429;
    throw new OperationError("ERR_FETCH", `${url} answered ${response.status}`, { retryable: later });
  } catch (cause) {
    throw cause instanceof OperationError ? cause : failed(url, reasonOf(cause), cause);
  } finally {
    stall.stop();
  }
}

/** Aborts what makes no progress, however little arrives now and then. */
class StallWatch {
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #arrived = 0;

  constructor(ms: number) {
    this.#timer = setInterval(() => {
      if (this.#arrived < STALL_BYTES_MIN) this.#abort.abort(new Error("no progress"));
      this.#arrived = 0;
    }, ms);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  arrived(bytes: number): void {
    this.#arrived += bytes;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** Counts what arrives rather than believing Content-Length, which compression and liars make wrong. */
async function readBody(url: URL, response: Response, bytesMax: number, stall: StallWatch): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += part.length;
    stall.arrived(part.length);
    // Leaving the loop cancels the body.
    if (length > bytesMax) throw new OperationError("ERR_FILE_TOO_LARGE", `${url} is larger than ${bytesMax} bytes`);
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts, length));
}

function failed(url: URL, reason: string, cause: unknown): OperationError {
  return new OperationError("ERR_FETCH", `could not fetch ${url}: ${reason}`, { cause, retryable: true });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

/** Paths are made by programs, but some from numbers in files: none may climb out of the folder. */
function checkedPath(file: string): string {
  if (!PATH.test(file)) throw new OperationError("ERR_USAGE", `not a path below a folder: ${quote(file)}`);
  return file;
}
