/** Operators: ask for a batch, and see what became of it. */
import { formatHex, KEY_CLASSES, OperationError, parseHex, sha256 } from "@viafabric/schemas";
import { CARD_BYTES_MAX } from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { authorOf } from "../auth.ts";
import { validateRequest } from "../issuance.ts";
import type { RequestRecord } from "../records.ts";
import { nextKeys, parseTrustChange, ROTATED_BY_TARGETS } from "../trust-change.ts";
import { base64, HEX_32, list, object, type Paths, responses, SECONDS, text } from "./fields.ts";

/** 100,000 subjects of a did:key each. */
const REQUEST_BYTES_MAX = 8 * 1024 * 1024;
/** 64 cards. */
const TRUST_BYTES_MAX = 512 * 1024;
const REQUESTS_MAX = 100;
/** P-256, the longer of the two kinds. */
const SPKI_BYTES_MAX = 91;

const REQUEST = object({ id: HEX_32, state: text(16), received: SECONDS, refusal: text(1024), event: HEX_32 }, [
  "refusal",
  "event",
]);

const SUCCESSOR = object({
  purpose: { type: "string", enum: [...ROTATED_BY_TARGETS] },
  spki: base64(SPKI_BYTES_MAX),
  class: { type: "string", enum: [...KEY_CLASSES] },
});

export function requestRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.post(
    "/requests",
    {
      config: { who: ["operator"] },
      bodyLimit: REQUEST_BYTES_MAX,
      schema: {
        summary: "Ask for a batch of tokens",
        description: "The vault plans the batch and puts it before the trustees.",
        // The strict reader of batch requests says more than a schema could; this only says what kind of thing it is.
        body: { type: "object" },
        response: responses(object({ id: HEX_32 }), 202),
      },
    },
    async (request, reply) => {
      const { sender, proof } = authorOf(request);
      validateRequest(request.body, deps.trust(), deps.now());
      const id = sha256(Buffer.from(proof));
      const row = { id, kind: "batch", kid: sender.kid, body: request.rawBody, proof, received: deps.now() } as const;
      await store.change(sender, (change) => change.addRequest(row));
      deps.wake();
      return reply.code(202).send({ id: formatHex(id) });
    },
  );

  app.post(
    "/trust-requests",
    {
      config: { who: ["operator"] },
      bodyLimit: TRUST_BYTES_MAX,
      schema: {
        summary: "Ask for keys to join, leave or follow others in the key list",
        description: "The vault draws up the next targets and puts them before the trustees.",
        body: object({ add: list(base64(CARD_BYTES_MAX), 64), remove: list(HEX_32, 64), rotate: list(SUCCESSOR, 3) }, [
          "rotate",
        ]),
        response: responses(object({ id: HEX_32 }), 202),
      },
    },
    async (request, reply) => {
      const { sender, proof } = authorOf(request);
      nextKeys(parseTrustChange(request.body), deps.trust(), deps.now());
      const id = sha256(Buffer.from(proof));
      const row = { id, kind: "targets", kid: sender.kid, body: request.rawBody, proof, received: deps.now() } as const;
      await store.change(sender, (change) => change.addRequest(row));
      deps.wake();
      return reply.code(202).send({ id: formatHex(id) });
    },
  );

  app.get(
    "/requests",
    {
      schema: {
        summary: "The newest requests",
        response: responses(object({ requests: list(REQUEST, REQUESTS_MAX) })),
      },
    },
    async () => ({ requests: (await store.requests(REQUESTS_MAX)).map(requestJson) }),
  );

  app.get<{ Params: Paths }>(
    "/requests/:id",
    { schema: { summary: "One request", params: object({ id: HEX_32 }), response: responses(REQUEST) } },
    async ({ params }) => {
      const found = await store.request(parseHex(params.id, 32));
      if (!found) throw new OperationError("ERR_NOT_FOUND", `there is no request ${params.id}`);
      return requestJson(found);
    },
  );
}

/** The body names subjects, and is not shown to everyone. */
function requestJson({ id, state, received, refusal, eventId }: RequestRecord) {
  return {
    id: formatHex(id),
    state,
    received,
    ...(refusal && { refusal }),
    ...(eventId && { event: formatHex(eventId) }),
  };
}
