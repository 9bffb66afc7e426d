/**
 * Talking to a vault: signed requests with a deadline and a size, and answers that nobody believes.
 *
 * What comes back is parsed into bytes and numbers here and checked by `review`. Published files are read apart from
 * this, through the log's own fetcher, so that they may come from any mirror.
 */

import { randomBytes } from "node:crypto";
import {
  type DetachedSignature,
  FormatError,
  formatBase64,
  formatHex,
  OperationError,
  parseBase64,
  parseHex,
  quote,
  REQUEST_NONCE_BYTES,
  type Signer,
  signRequest,
  utf8,
} from "@viafabric/schemas";
import {
  type Attachments,
  type ProposalRole,
  parseJson,
  type Rejection,
  type Rotated,
  type TufSignature,
} from "@viafabric/tuf";

/** A link over a satellite sends something within this, or is down. */
const SILENCE_MS = 10_000;
/** Whoever sends a byte every nine seconds is not sending a proposal. */
const ANSWER_MS = 15 * 60_000;
/** 100,000 payloads in base64 are some 40 MB. */
const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;
const LIST_MAX = 10_000;

/** As the vault tells it; unverified. */
export interface OpenProposal {
  readonly id: Uint8Array;
  readonly role: ProposalRole;
  readonly version: number;
  readonly state: string;
  readonly created: number;
  readonly expires: number;
  readonly threshold: number;
  /** With their reasons; shown only once they have proven themselves. */
  readonly rejections: readonly Rejection[];
}

export interface ProposalDetail extends OpenProposal {
  readonly signed: Uint8Array;
  /** Of a rotation: what is signed together with the root. */
  readonly parts: Parts | undefined;
  readonly approvals: readonly TufSignature[];
  readonly attachments: Attachments;
  /** Kids of those who asked for it, and whether the vault takes their approval all the same. */
  readonly requestedBy: readonly Uint8Array[];
  readonly ownApprovals: boolean;
}

export type Parts = Pick<Rotated<Uint8Array>, "targets" | "batches">;

/** One signature; of a rotation one of each part. */
export type Approval = TufSignature & { readonly parts?: Parts };

export interface OpenStatusEvent {
  readonly id: Uint8Array;
  readonly state: string;
  readonly threshold: number;
  readonly body: Uint8Array;
  readonly signatures: readonly DetachedSignature[];
}

export interface VaultClient {
  /** @param state open, or another one */
  proposals(state?: string): Promise<readonly OpenProposal[]>;
  proposal(id: Uint8Array): Promise<ProposalDetail>;
  statusEvents(): Promise<readonly OpenStatusEvent[]>;
  statusEvent(id: Uint8Array): Promise<OpenStatusEvent>;
  approve(signer: Signer, id: Uint8Array, approval: Approval): Promise<void>;
  reject(signer: Signer, id: Uint8Array, rejection: Rejection): Promise<void>;
  propose(signer: Signer, body: Uint8Array, signature: Uint8Array): Promise<void>;
  sign(signer: Signer, id: Uint8Array, signature: Uint8Array): Promise<void>;
  /** @returns the id of the request */
  requestRotation(signer: Signer, change: unknown): Promise<Uint8Array>;
  /** What became of a request. */
  request(id: Uint8Array): Promise<{ readonly event: Uint8Array | undefined; readonly refusal: string | undefined }>;
}

/** @param url of the vault, e.g. https://vault.example.org. @param now unix seconds, when asked */
export function vaultClient(url: string, authority: Uint8Array, now: () => number): VaultClient {
  const base = baseOf(url);
  const get = (path: string) => ask(new URL(path, base), { method: "GET" });
  const post = async (signer: Signer, path: string, value: unknown): Promise<unknown> => {
    const target = new URL(path, base);
    const body = utf8(JSON.stringify(value));
    const nonce = new Uint8Array(randomBytes(REQUEST_NONCE_BYTES));
    const request = { method: "POST", path: target.pathname + target.search, body, time: now(), nonce };
    const headers = await signRequest(signer, authority, request);
    return ask(target, {
      method: "POST",
      body: Buffer.from(body),
      headers: { ...headers, "content-type": "application/json" },
    });
  };
  return {
    proposals: async (state = "open") => listOf(await get(`events?state=${state}`), "events").map(asProposal),
    proposal: async (id) => asDetail(await get(`events/${formatHex(id)}`)),
    statusEvents: async () => listOf(await get("status-events?state=open"), "events").map(asStatusEvent),
    statusEvent: async (id) => asStatusEvent(await get(`status-events/${formatHex(id)}`)),
    approve: async (signer, id, { keyid, sig, parts }) => {
      await post(signer, `events/${formatHex(id)}/approvals`, {
        keyid,
        signature: formatHex(sig),
        ...(parts && { parts: { targets: formatHex(parts.targets), batches: formatHex(parts.batches) } }),
      });
    },
    reject: async (signer, id, { keyid, reason, signature }) => {
      await post(signer, `events/${formatHex(id)}/rejections`, { keyid, reason, signature: formatHex(signature) });
    },
    propose: async (signer, body, signature) => {
      await post(signer, "status-events", { body: formatBase64(body), signature: formatBase64(signature) });
    },
    sign: async (signer, id, signature) => {
      await post(signer, `status-events/${formatHex(id)}/signatures`, { signature: formatBase64(signature) });
    },
    requestRotation: async (signer, change) =>
      parseHex(new Answer(await post(signer, "rotation-requests", change)).text("id"), 32),
    request: async (id) => {
      const fields = new Answer(await get(`requests/${formatHex(id)}`));
      return {
        event: fields.has("event") ? parseHex(fields.text("event"), 32) : undefined,
        refusal: fields.has("refusal") ? fields.text("refusal") : undefined,
      };
    },
  };
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

async function ask(url: URL, request: RequestInit): Promise<unknown> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(new Error(`nothing for ${SILENCE_MS / 1000} seconds`)), SILENCE_MS);
  const signal = AbortSignal.any([silence.signal, AbortSignal.timeout(ANSWER_MS)]);
  let response: Response;
  let bytes: Uint8Array;
  try {
    response = await fetch(url, { ...request, signal, redirect: "error" });
    bytes = await readBounded(url, response, () => timer.refresh());
  } catch (cause) {
    if (cause instanceof OperationError) throw cause;
    const reason = cause instanceof Error ? (cause.cause instanceof Error ? cause.cause.message : cause.message) : "";
    throw new OperationError("ERR_VAULT", `could not reach ${url}: ${reason}`, { cause, retryable: true });
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok)
    throw new OperationError("ERR_VAULT", `${url.pathname} answered ${response.status}: ${problemOf(bytes)}`);
  return parseJson(bytes);
}

async function readBounded(url: URL, response: Response, heard: () => void): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    heard();
    length += part.length;
    if (length > RESPONSE_BYTES_MAX)
      throw new OperationError("ERR_VAULT", `${url.pathname} answered more than ${RESPONSE_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts, length));
}

/** RFC 9457 problem details, as far as they can be read. */
function problemOf(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("utf8").slice(0, 2000);
  try {
    const { code, detail } = JSON.parse(text) as { code?: unknown; detail?: unknown };
    return `${quote(String(code))} ${quote(String(detail))}`;
  } catch {
    return quote(text);
  }
}

const ROLES: readonly ProposalRole[] = ["root", "targets", "batches"];

function asProposal(value: unknown): OpenProposal {
  const fields = new Answer(value);
  const role = ROLES.find((known) => known === fields.text("role"));
  if (!role) throw wrong(`a proposal for ${quote(fields.text("role"))}`);
  return {
    id: parseHex(fields.text("id"), 32),
    role,
    version: fields.integer("version"),
    state: fields.text("state"),
    created: fields.integer("created"),
    expires: fields.integer("expires"),
    threshold: fields.integer("threshold"),
    rejections: fields.list("rejections").map(asRejection),
  };
}

function asRejection(value: unknown): Rejection {
  const fields = new Answer(value);
  const signature = parseHex(fields.text("signature"));
  return { keyid: fields.text("keyid"), reason: fields.text("reason"), signature };
}

function asDetail(value: unknown): ProposalDetail {
  const fields = new Answer(value);
  const attachments = Object.entries(fields.object("attachments")).map(([name, text]) => {
    return [name, parseBase64(String(text))] as const;
  });
  return {
    ...asProposal(value),
    signed: parseBase64(fields.text("signed")),
    approvals: fields.list("approvals").map((item) => {
      const approval = new Answer(item);
      return { keyid: approval.text("keyid"), sig: parseHex(approval.text("signature")) };
    }),
    attachments: new Map(attachments),
    requestedBy: fields.list("requestedBy").map((kid) => parseHex(String(kid), 32)),
    ownApprovals: fields.flag("ownApprovals"),
    parts: fields.has("parts") ? asParts(fields.object("parts")) : undefined,
  };
}

function asParts(value: unknown): Parts {
  const fields = new Answer(value);
  return { targets: parseBase64(fields.text("targets")), batches: parseBase64(fields.text("batches")) };
}

function asStatusEvent(value: unknown): OpenStatusEvent {
  const fields = new Answer(value);
  return {
    id: parseHex(fields.text("id"), 32),
    state: fields.text("state"),
    threshold: fields.integer("threshold"),
    body: parseBase64(fields.text("body")),
    signatures: fields.list("signatures").map((item) => {
      const signature = new Answer(item);
      return { kid: parseHex(signature.text("kid"), 32), signature: parseBase64(signature.text("signature"), 64) };
    }),
  };
}

function listOf(value: unknown, key: string): readonly unknown[] {
  return new Answer(value).list(key);
}

/** An object out of an answer. Members we do not use may come and go; those we use must be what they are. */
class Answer {
  readonly #object: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("no object where one belongs");
    this.#object = value as Record<string, unknown>;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#object, key);
  }

  text(key: string): string {
    const value = this.#own(key);
    if (typeof value !== "string") throw wrong(`${key} is no text`);
    return value;
  }

  integer(key: string): number {
    const value = this.#own(key);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw wrong(`${key} is no integer`);
    return value;
  }

  flag(key: string): boolean {
    const value = this.#own(key);
    if (typeof value !== "boolean") throw wrong(`${key} is neither true nor false`);
    return value;
  }

  list(key: string): readonly unknown[] {
    const value = this.#own(key);
    if (!Array.isArray(value) || value.length > LIST_MAX) throw wrong(`${key} is no list`);
    return value;
  }

  object(key: string): Readonly<Record<string, unknown>> {
    return new Answer(this.#own(key)).#object;
  }

  #own(key: string): unknown {
    return Object.hasOwn(this.#object, key) ? this.#object[key] : undefined;
  }
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_JSON", `not what a vault answers: ${reason}`);
}
