/**
 * What a station and a release officer ask of a vault: signed requests with a deadline and a size. What comes back is
 * parsed here and believed nowhere; published files come through the log's own fetcher, from any mirror.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  FormatError,
  formatBase64,
  OperationError,
  parseHex,
  parseUtf8,
  quote,
  REQUEST_NONCE_BYTES,
  type Signer,
  signRequest,
  utf8,
} from "@viafabric/schemas";
import { SEALED_KIT_BYTES_MAX } from "./unseal.ts";

export interface SealedKit {
  readonly id: string;
  readonly first: number;
  readonly count: number;
  /** JWE, compact serialisation. */
  readonly sealed: Uint8Array;
}

export interface VaultClient {
  fetchKit(batch: number, publicKey: Uint8Array): Promise<SealedKit>;
  /** @returns how many receipts of the kit the vault holds now */
  sendReceipts(kit: string, receipts: readonly Uint8Array[]): Promise<number>;
  /** Proposes a status event with its first signature. */
  proposeEvent(body: Uint8Array, signature: Uint8Array): Promise<StatusEventAnswer>;
  /** @returns its state, as soon as it is published or given up, or at the end of the time */
  waitForEvent(id: string, msMax: number): Promise<string>;
}

export interface StatusEventAnswer {
  /** 32 bytes in hex. */
  readonly id: string;
  readonly state: string;
}

/** A kit of 100,000 tokens over a satellite. */
const TIMEOUT_MS = 120_000;
const POLL_MS = 250;
/** Nothing more happens to a status event in these states. */
const FINAL_STATES = ["published", "expired"];

/** @param now unix seconds, when asked */
export function vaultClient(url: string, authority: Uint8Array, signer: Signer, now: () => number): VaultClient {
  const base = baseOf(url);
  const post = async (path: string, value: unknown): Promise<Record<string, unknown>> => {
    const target = new URL(path, base);
    const body = JSON.stringify(value);
    const nonce = new Uint8Array(randomBytes(REQUEST_NONCE_BYTES));
    const request = { method: "POST", path: target.pathname, body: utf8(body), time: now(), nonce };
    const headers = await signRequest(signer, authority, request);
    return ask(target, { method: "POST", body, headers: { ...headers, "content-type": "application/json" } });
  };
  return {
    async fetchKit(batch, publicKey) {
      const answer = await post("kits", { batch, publicKey: formatBase64(publicKey) });
      const id = textOf(answer, "id");
      parseHex(id, 16);
      const sealed = utf8(textOf(answer, "kit"));
      return { id, first: integerOf(answer, "first"), count: integerOf(answer, "count"), sealed };
    },
    async sendReceipts(kit, receipts) {
      return integerOf(await post(`kits/${kit}/receipts`, { receipts: receipts.map(formatBase64) }), "held");
    },
    async proposeEvent(body, signature) {
      const event = { body: formatBase64(body), signature: formatBase64(signature) };
      return asEvent(await post("status-events", event));
    },
    async waitForEvent(id, msMax) {
      const until = performance.now() + msMax;
      for (;;) {
        const { state } = asEvent(await ask(new URL(`status-events/${id}`, base), { method: "GET" }));
        if (FINAL_STATES.includes(state) || performance.now() > until) return state;
        await sleep(POLL_MS);
      }
    },
  };
}

function asEvent(answer: Record<string, unknown>): StatusEventAnswer {
  const id = textOf(answer, "id");
  parseHex(id, 32);
  return { id, state: textOf(answer, "state") };
}

/** Where a vault serves its published tree. */
export function publicUrl(url: string): string {
  return new URL("public/", baseOf(url)).toString();
}

function baseOf(url: string): URL {
  const base = URL.canParse(url) ? new URL(url.endsWith("/") ? url : `${url}/`) : undefined;
  if (base?.protocol !== "http:" && base?.protocol !== "https:")
    throw new OperationError("ERR_USAGE", `not an http or https address: ${quote(url)}`);
  return base;
}

async function ask(url: URL, request: RequestInit): Promise<Record<string, unknown>> {
  let response: Response;
  let bytes: Uint8Array;
  try {
    response = await fetch(url, { ...request, signal: AbortSignal.timeout(TIMEOUT_MS), redirect: "error" });
    bytes = await readBounded(response);
  } catch (cause) {
    if (cause instanceof OperationError) throw cause;
    throw new OperationError("ERR_VAULT", `could not reach ${url}: ${reasonOf(cause)}`, { cause, retryable: true });
  }
  if (!response.ok)
    throw new OperationError("ERR_VAULT", `${url.pathname} answered ${response.status}: ${problemOf(bytes)}`);
  return parseObject(bytes);
}

async function readBounded(response: Response): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += part.length;
    if (length > SEALED_KIT_BYTES_MAX) throw new OperationError("ERR_VAULT", `more than ${SEALED_KIT_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts, length));
}

/** fetch hides what happened in the cause of its TypeError. */
function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error ? inner.message : String(inner);
}

/** RFC 9457 problem details, as far as they can be read. */
function problemOf(bytes: Uint8Array): string {
  try {
    const { code, detail } = parseObject(bytes);
    return `${quote(String(code))} ${quote(String(detail))}`;
  } catch {
    return quote(Buffer.from(bytes).toString("utf8").slice(0, 500));
  }
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(parseUtf8(bytes));
  } catch (cause) {
    throw new FormatError("ERR_JSON", "not what a vault answers: no JSON", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FormatError("ERR_JSON", "not what a vault answers: no object");
  }
  return value as Record<string, unknown>;
}

function textOf(answer: Record<string, unknown>, key: string): string {
  const value = Object.hasOwn(answer, key) ? answer[key] : undefined;
  if (typeof value !== "string") throw new FormatError("ERR_JSON", `not what a vault answers: ${key} is no text`);
  return value;
}

function integerOf(answer: Record<string, unknown>, key: string): number {
  const value = Object.hasOwn(answer, key) ? answer[key] : undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw new FormatError("ERR_JSON", `not what a vault answers: ${key} is no natural number`);
  return value as number;
}
