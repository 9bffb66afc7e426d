/**
 * Who may change anything: whoever holds a key that trustees listed for that purpose, or a trustee, and signs this very
 * request with it (`schemas/request.ts`). There are no bearer tokens, no sessions and no open state-changing route: a
 * route that is not a read and names nobody does not start.
 *
 * The nonce is spent by the handler, in the transaction that makes the change (`store.change`): until then nothing has
 * happened.
 */
import {
  CodedError,
  equalBytes,
  findKey,
  formatHex,
  type PublicKey,
  type Purpose,
  parseRequestHeaders,
  REQUEST_WINDOW_SECONDS,
  type RequestProof,
  VerificationError,
  verifyRequest,
} from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Sender } from "./records.ts";

/** A purpose in trust/keys.cbor, a trustee of root or targets, or somebody who joins by a proposed root. */
export type Who = "trustee" | "joining" | Extract<Purpose, "operator" | "station" | "release">;

/** What authentication believes: the quorum-signed state last published. */
export type RequestTrust = Pick<TrustedState, "authority" | "root" | "trustees" | "keys"> & {
  /** Keys of proposed roots. They may answer the proposal, and nothing else. */
  readonly joining?: readonly PublicKey[];
};

export interface Author {
  readonly who: Who;
  readonly key: PublicKey;
  readonly sender: Sender;
  /** The signed headers, one a line: evidence to keep with what they asked for. */
  readonly proof: string;
}

/** A route that changes state, and who may use it. */
export interface GuardedRoute {
  readonly method: string;
  readonly url: string;
  readonly who: readonly Who[];
}

declare module "fastify" {
  interface FastifyInstance {
    /** Every route that changes state. */
    readonly guardedRoutes: readonly GuardedRoute[];
  }
  interface FastifyContextConfig {
    /** Who may use a state-changing route. */
    readonly who?: readonly Who[];
  }
  interface FastifyRequest {
    /** The body as it was sent: what the signature covers. */
    rawBody: Uint8Array;
    author: Author | undefined;
  }
}

/** HTTP methods that change nothing. */
const READS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
const HEADERS = ["via-key", "via-time", "via-nonce", "via-signature"] as const;

export function isRead(method: string): boolean {
  return READS.has(method.toUpperCase());
}

/** Guards every route registered on `app` from here on. */
export function requireSignedRequests(
  app: FastifyInstance,
  deps: { readonly trust: () => RequestTrust; readonly now: () => number },
): void {
  const guarded: GuardedRoute[] = [];
  app.decorate("guardedRoutes", guarded);
  app.decorateRequest("rawBody");
  app.decorateRequest("author", undefined);
  app.addHook("onRequest", async (request) => {
    request.rawBody = new Uint8Array(0);
    const { who } = request.routeOptions.config;
    // Whoever is not named is turned away before the body is read.
    if (who) findSigner(request, who, deps.trust(), deps.now());
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    request.rawBody = new Uint8Array(body as Buffer);
    parseJson(app, request, body as Buffer, done);
  });
  app.addHook("onRoute", ({ method, url, config }) => {
    const methods = typeof method === "string" ? [method] : method;
    if (methods.every(isRead)) return;
    // A bug, caught before the first request.
    const who = config?.who;
    if (!who?.length) throw new Error(`${methods.join()} ${url} changes state and names nobody who may`);
    guarded.push(...methods.filter((each) => !isRead(each)).map((each) => ({ method: each, url, who })));
  });
  app.addHook("preValidation", async (request) => {
    const who = request.routeOptions.config.who;
    if (who) request.author = authenticate(request, who, deps.trust(), deps.now());
  });
}

/** The author of a request to a guarded route. */
export function authorOf(request: FastifyRequest): Author {
  if (!request.author) throw new VerificationError("ERR_UNAUTHORIZED", "the request is not signed");
  return request.author;
}

/** @throws VerificationError ERR_UNAUTHORIZED, ERR_REQUEST_STALE; FormatError ERR_REQUEST */
function authenticate(request: FastifyRequest, who: readonly Who[], trust: RequestTrust, now: number): Author {
  const { proof, ...found } = findSigner(request, who, trust, now);
  const signed = { method: request.method, path: request.originalUrl, body: request.rawBody };
  try {
    verifyRequest(found.key, trust.authority, proof, signed, now);
  } catch (cause) {
    if (!(cause instanceof CodedError) || cause.code !== "ERR_SIGNATURE") throw cause;
    throw new VerificationError("ERR_UNAUTHORIZED", "the signature is not over this request", { cause });
  }
  return {
    ...found,
    sender: { kid: proof.kid, nonce: proof.nonce, nonceUntil: proof.time + REQUEST_WINDOW_SECONDS },
    proof: HEADERS.map((name) => `${name}: ${headerOf(request, name)}\n`).join(""),
  };
}

/** Who says to have signed the request, if anybody by that name may send it. */
function findSigner(
  request: FastifyRequest,
  who: readonly Who[],
  trust: RequestTrust,
  now: number,
): { readonly who: Who; readonly key: PublicKey; readonly proof: RequestProof } {
  const proof = parseRequestHeaders((name) => headerOf(request, name));
  for (const each of who) {
    const key = keyFor(each, proof.kid, trust, now);
    if (key) return { who: each, key, proof };
  }
  throw new VerificationError("ERR_UNAUTHORIZED", `key ${formatHex(proof.kid)} is no ${who.join(" or ")} here now`);
}

function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
}

function keyFor(who: Who, kid: Uint8Array, trust: RequestTrust, now: number): PublicKey | undefined {
  if (who === "joining") return trust.joining?.find((key) => equalBytes(key.kid, kid));
  if (who !== "trustee") return findKey(trust.keys, kid, who, now)?.key;
  return trusteeKeys(trust).find((key) => equalBytes(key.kid, kid));
}

export function trusteeKeys(trust: Pick<RequestTrust, "root" | "trustees">): readonly PublicKey[] {
  return [...trust.root.roles.root.keys, ...trust.trustees.keys];
}

/** Fastify's own parser: it refuses `__proto__` and `constructor`. */
function parseJson(
  app: FastifyInstance,
  request: FastifyRequest,
  body: Buffer,
  done: (error: Error | null, value?: unknown) => void,
): void {
  const parse = app.getDefaultJsonParser("error", "error");
  void parse(request, body.toString("utf8"), done);
}
