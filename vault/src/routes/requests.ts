/** Operators: ask for a batch, and see what became of it. */
import {
  formatHex,
  KEY_CLASSES,
  OperationError,
  POLICY_BYTES_MAX,
  POLICY_FILES_MAX,
  PROFILE_BYTES_MAX,
  parseHex,
  sha256,
  URI_LENGTH_MAX,
} from "@viafabric/schemas";
import { CARD_BYTES_MAX, TRUSTEES_MAX } from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import { assertQueue, assertRoomForBatches, REQUESTS_WAITING_MAX } from "../admission.ts";
import type { AppDependencies } from "../app.ts";
import { authorOf } from "../auth.ts";
import { nextFiles } from "../content-change.ts";
import { validateRequests } from "../issuance.ts";
import { REQUEST_STATES, type RequestRecord } from "../records.ts";
import { nextRoles, parseRotationChange } from "../rotation.ts";
import { nextKeys, parseTrustChange, ROTATED_BY_TARGETS } from "../trust-change.ts";
import { WITNESSES_MAX } from "../witness-change.ts";
import { base64, HEX_32, list, object, type Paths, responses, SECONDS, text, WHOLE } from "./fields.ts";

/** 100,000 subjects of a did:key each. */
const REQUEST_BYTES_MAX = 8 * 1024 * 1024;
/** 64 cards and a policy bundle, in base64. */
const TRUST_BYTES_MAX = 8 * 1024 * 1024;
const REQUESTS_MAX = 100;
/** Of a name of 255 characters. */
const VERIFIER_KEY_LENGTH_MAX = 320;
const WITNESS_NAME_LENGTH_MAX = 64;
/** P-256, the longer of the two kinds. */
const SPKI_BYTES_MAX = 91;

const REQUEST = object(
  {
    id: HEX_32,
    state: { type: "string", enum: REQUEST_STATES },
    received: SECONDS,
    refusal: text(1024),
    event: HEX_32,
    died: object({ event: HEX_32, state: text(16), reason: text(1024) }, ["reason"]),
  },
  ["refusal", "event", "died"],
);

const SUCCESSOR = object({
  purpose: { type: "string", enum: [...ROTATED_BY_TARGETS] },
  spki: base64(SPKI_BYTES_MAX),
  class: { type: "string", enum: [...KEY_CLASSES] },
});

const PROFILE_CHANGE = object({ file: base64(PROFILE_BYTES_MAX), soft: WHOLE, hard: WHOLE });

const WITNESS_CHANGE = object(
  {
    add: list(object({ vkey: text(VERIFIER_KEY_LENGTH_MAX), url: text(URI_LENGTH_MAX) }), WITNESSES_MAX),
    remove: list(text(WITNESS_NAME_LENGTH_MAX), WITNESSES_MAX),
    quorum: WHOLE,
  },
  ["quorum"],
);

export function requestRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.post(
    "/requests",
    {
      config: { who: ["operator"] },
      bodyLimit: REQUEST_BYTES_MAX,
      schema: {
        summary: "Ask for a batch of tokens, or for several that are approved together",
        description: "The vault plans what waits, as much as goes into one proposal, and puts it before the trustees.",
        // The strict reader of batch requests says more than a schema could; this only says what kind of thing it is.
        body: { type: "object" },
        response: responses(object({ id: HEX_32 }), 202),
      },
    },
    async (request, reply) => {
      const { sender, proof } = authorOf(request);
      validateRequests(request.body, deps.trust(), deps.now());
      assertRoomForBatches(await deps.freeBytes());
      assertQueue("requests", await store.requestsWaiting(), REQUESTS_WAITING_MAX);
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
        summary: "Ask for a change of keys, capability profiles, the policy bundle or the witnesses of the log",
        description: "The vault draws up the next targets and puts them before the trustees.",
        body: object(
          {
            add: list(base64(CARD_BYTES_MAX), 64),
            remove: list(HEX_32, 64),
            rotate: list(SUCCESSOR, 3),
            profiles: list(PROFILE_CHANGE, 64),
            policy: { type: "object", additionalProperties: base64(POLICY_BYTES_MAX), maxProperties: POLICY_FILES_MAX },
            witnesses: WITNESS_CHANGE,
          },
          ["rotate", "profiles", "policy", "witnesses"],
        ),
        response: responses(object({ id: HEX_32 }), 202),
      },
    },
    async (request, reply) => {
      const { sender, proof } = authorOf(request);
      const change = parseTrustChange(request.body);
      nextKeys(change, deps.trust(), deps.now());
      nextFiles(change, deps.trust());
      assertQueue("requests", await store.requestsWaiting(), REQUESTS_WAITING_MAX);
      const id = sha256(Buffer.from(proof));
      const row = { id, kind: "targets", kid: sender.kid, body: request.rawBody, proof, received: deps.now() } as const;
      await store.change(sender, (change) => change.addRequest(row));
      deps.wake();
      return reply.code(202).send({ id: formatHex(id) });
    },
  );

  app.post<{ Params: Paths }>(
    "/requests/:id/withdrawal",
    {
      config: { who: ["operator"] },
      schema: {
        summary: "Take back a request of one's own that is not before the trustees yet",
        params: object({ id: HEX_32 }),
        response: responses(object({ id: HEX_32 })),
      },
    },
    async (request) => {
      const { sender } = authorOf(request);
      const id = parseHex(request.params.id, 32);
      const found = await store.request(id);
      if (!found) throw missing(request.params.id);
      await store.change(sender, async (change) => {
        if (!(await change.withdrawRequests({ id }, sender.kid)))
          throw new OperationError("ERR_CLOSED", `the request is ${found.state}, or another operator's`);
      });
      deps.wake();
      return { id: request.params.id };
    },
  );

  app.post(
    "/rotation-requests",
    {
      config: { who: ["trustee", "operator"] },
      bodyLimit: TRUST_BYTES_MAX,
      schema: {
        summary: "Ask for trustees to join or leave, or for other snapshot and timestamp keys",
        description:
          "The vault draws up the next root, with targets and batches, and puts them before old and new trustees.",
        body: object(
          {
            add: list(base64(CARD_BYTES_MAX), TRUSTEES_MAX),
            remove: list(HEX_32, TRUSTEES_MAX),
            threshold: WHOLE,
            snapshot: base64(SPKI_BYTES_MAX),
            timestamp: base64(SPKI_BYTES_MAX),
          },
          ["threshold", "snapshot", "timestamp"],
        ),
        response: responses(object({ id: HEX_32 }), 202),
      },
    },
    async (request, reply) => {
      const { sender, proof } = authorOf(request);
      nextRoles(parseRotationChange(request.body), deps.trust());
      const id = sha256(Buffer.from(proof));
      const row = { id, kind: "root", kid: sender.kid, body: request.rawBody, proof, received: deps.now() } as const;
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
      if (!found) throw missing(params.id);
      return requestJson(found);
    },
  );
}

function missing(id: string): OperationError {
  return new OperationError("ERR_NOT_FOUND", `there is no request ${id}`);
}

/** The body names subjects, and is not shown to everyone. */
function requestJson({ id, state, received, refusal, event }: RequestRecord) {
  // One that waits again has an event behind it, and none before it.
  const died = event && state === "waiting";
  return {
    id: formatHex(id),
    state,
    received,
    ...(refusal && { refusal }),
    ...(event && !died && { event: formatHex(event.id) }),
    ...(event &&
      died && {
        died: { event: formatHex(event.id), state: event.state, ...(event.endReason && { reason: event.endReason }) },
      }),
  };
}
