/** The operator's side of the HTTP interface: ask a vault, with a signed request where something is to change. */
import { randomBytes } from "node:crypto";
import {
  FormatError,
  OperationError,
  quote,
  REQUEST_NONCE_BYTES,
  type Signer,
  signRequest,
  utf8,
} from "@viafabric/schemas";

/** A request for 100,000 subjects takes a while to check. */
const TIMEOUT_MILLISECONDS = 60_000;

export type Answer = Readonly<Record<string, unknown>>;

export class VaultClient {
  readonly #base: URL;
  readonly #authority: Uint8Array;
  readonly #now: () => number;

  /** @throws OperationError ERR_USAGE for an address that is not one. @param now unix seconds */
  constructor(url: string, authority: Uint8Array, now: () => number) {
    const base = URL.canParse(url) ? new URL(url.endsWith("/") ? url : `${url}/`) : undefined;
    if (base?.protocol !== "http:" && base?.protocol !== "https:")
      throw new OperationError("ERR_USAGE", `not an http or https address: ${quote(url)}`);
    this.#base = base;
    this.#authority = authority;
    this.#now = now;
  }

  /** Undefined when the vault says that there is no such thing. */
  async find(path: string): Promise<Answer | undefined> {
    const response = await this.#fetch(path, {});
    if (response.status === 404) return undefined;
    return answerOf(path, response);
  }

  /** How the vault is, also when it says that it is not well. */
  async health(): Promise<Answer> {
    const response = await this.#fetch("healthz", {});
    return response.status === 503 ? ((await response.json()) as Answer) : answerOf("healthz", response);
  }

  async text(path: string): Promise<string> {
    const response = await this.#fetch(path, {});
    if (!response.ok) throw new OperationError("ERR_VAULT", `${path} answered ${response.status}`);
    return response.text();
  }

  /** @param value undefined: no body, only the path says it */
  async post(path: string, value: unknown, signer: Signer): Promise<Answer> {
    const body = value === undefined ? undefined : utf8(JSON.stringify(value));
    const target = new URL(path, this.#base);
    const headers = await signRequest(signer, this.#authority, {
      method: "POST",
      path: target.pathname + target.search,
      body: body ?? new Uint8Array(0),
      time: this.#now(),
      nonce: new Uint8Array(randomBytes(REQUEST_NONCE_BYTES)),
    });
    const request = {
      method: "POST",
      headers: { ...headers, ...(body && { "content-type": "application/json" }) },
      ...(body && { body: Buffer.from(body) }),
    };
    return answerOf(path, await this.#fetch(path, request));
  }

  async #fetch(path: string, request: RequestInit): Promise<Response> {
    const url = new URL(path, this.#base);
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
      return await fetch(url, { ...request, signal, redirect: "error" });
    } catch (cause) {
      const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
      throw new OperationError("ERR_VAULT", `could not reach ${url}: ${reason}`, { cause, retryable: true });
    }
  }
}

async function answerOf(path: string, response: Response): Promise<Answer> {
  const text = await response.text();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError("ERR_JSON", `${path} answered ${response.status} without JSON`, { cause });
  }
  if (typeof value !== "object" || value === null) throw new FormatError("ERR_JSON", `${path} answered no object`);
  const answer = value as Answer;
  if (response.ok) return answer;
  const reason = `${quote(String(answer.code))} ${quote(String(answer.detail))}`;
  throw new OperationError("ERR_VAULT", `${path} answered ${response.status}: ${reason}`);
}
