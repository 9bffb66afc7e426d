/**
 * The vault over HTTP, without a socket: tests inject requests, main.ts listens.
 *
 * Handlers record what somebody asked for, signed; the sequencer acts on it. One plugin for each audience; OpenAPI 3.1
 * comes from the same JSON Schemas that validate, errors are RFC 9457 problem details (`problem.ts`).
 */
import helmet from "@fastify/helmet";
import rateLimit from "@fastify/rate-limit";
import swagger from "@fastify/swagger";
import type { PublicKey } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from "fastify";
import { requireSignedRequests } from "./auth.ts";
import { PROBLEM_TYPE, problemOf, RETRY_AFTER_SECONDS } from "./problem.ts";
import { servePublicFiles } from "./public-files.ts";
import type { KitRecord } from "./records.ts";
import { capabilityRoutes } from "./routes/capabilities.ts";
import { eventRoutes } from "./routes/events.ts";
import { kitRoutes } from "./routes/kits.ts";
import { pageRoutes } from "./routes/pages.ts";
import { requestRoutes } from "./routes/requests.ts";
import { statusRoutes } from "./routes/status.ts";
import type { Health } from "./sequencer.ts";
import type { Store } from "./store.ts";

export interface AppDependencies {
  /** People's changes go through `change` and nothing else: it spends the nonce of the request. */
  readonly store: ReadingStore;
  /** The quorum-signed state as last published. */
  readonly trust: () => TrustedState;
  /** Whether a trustee may approve what they asked for themselves. */
  readonly ownApprovals: boolean;
  /** Keys of a proposed root: whoever joins by it must be able to answer it. */
  readonly joining: () => readonly PublicKey[];
  readonly publicFolder: string;
  /** Seals a kit to a station's X25519 key; the kit has been checked as a station will check it. */
  readonly sealKit: (kit: KitRecord, publicKey: Uint8Array) => Promise<string>;
  /** Unix seconds. */
  readonly now: () => number;
  /** On the disks of the vault; the smallest counts. */
  readonly freeBytes: () => Promise<number>;
  /** Tells the sequencer that there is something to do. */
  readonly wake: () => void;
  readonly health: () => Health;
  readonly logger?: FastifyBaseLogger;
  /** Requests a minute from one address. */
  readonly rateMax?: number;
}

/** The store without the sequencer's writes. */
export type ReadingStore = Omit<Store, SequencerWrite>;
type SequencerWrite =
  | "bindAuthority"
  | "addEvent"
  | "refuseRequest"
  | "moveEvent"
  | "saveSignatures"
  | "saveLeafIndex"
  | "moveStatusEvent"
  | "replaceLogHead"
  | "noteIntent"
  | "addPublication"
  | "finishPublication"
  | "addNotifications"
  | "claimNotification"
  | "endNotification"
  | "abandonNotifications"
  | "forgetNonces"
  | "close";

const RATE_MAX = 1200;
/** Anything but a batch request and receipts is small. */
const BODY_BYTES_MAX = 64 * 1024;
const REQUEST_SECONDS_MAX = 60;

export async function buildApp(deps: AppDependencies): Promise<FastifyInstance> {
  const app = Fastify({
    ...(deps.logger && { loggerInstance: deps.logger }),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_SECONDS_MAX * 1000,
    routerOptions: { maxParamLength: 256 },
    // Types are not guessed: "1" is not 1 in what somebody signed.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, strict: false } },
  }) as unknown as FastifyInstance;

  app.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) request.log.error(error);
    const seconds = RETRY_AFTER_SECONDS[problem.code];
    if (seconds !== undefined) reply.header("retry-after", seconds);
    return reply.code(problem.status).type(PROBLEM_TYPE).send(problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const problem = problemOf(Object.assign(new Error(`there is nothing at ${request.url}`), { statusCode: 404 }));
    return reply.code(404).type(PROBLEM_TYPE).send(problem);
  });

  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Vault",
        version: "0.1.0",
        description:
          "Every state-changing request is signed: headers Via-Key, Via-Time, Via-Nonce and Via-Signature " +
          "(schemas/src/request.ts). Errors are RFC 9457 problem details.",
      },
    },
  });
  // Spoken over plain HTTP on a laptop, and behind a proxy that knows about TLS elsewhere: a promise of HTTPS made here
  // would lock people out of the first.
  await app.register(helmet, {
    strictTransportSecurity: false,
    contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } },
  });
  await app.register(rateLimit, { max: deps.rateMax ?? RATE_MAX, timeWindow: "1 minute" });
  requireSignedRequests(app, { now: deps.now, trust: () => ({ ...deps.trust(), joining: deps.joining() }) });
  servePublicFiles(app, deps.publicFolder);
  for (const routes of [pageRoutes, capabilityRoutes, requestRoutes, eventRoutes, kitRoutes, statusRoutes]) {
    await app.register((scope, _options, done) => {
      routes(scope, deps);
      done();
    });
  }
  await app.ready();
  return app;
}
