/** What anybody may read: a page for people, health for machines, and which batches there are. */
import { decodeManifest, formatHex, formatWords } from "@viafabric/schemas";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { PAGE_ROWS_MAX } from "../store.ts";
import { HEX_32, list, object, PROBLEM, responses, SECONDS, text, WHOLE } from "./fields.ts";

const BATCH = object({
  seq: WHOLE,
  first: WHOLE,
  count: WHOLE,
  profile: text(64),
  leafIndex: WHOLE,
  stations: list(object({ kid: HEX_32, first: WHOLE, count: WHOLE }), 64),
});

/** Of a message in health. */
const MESSAGE_CHARACTERS_MAX = 1024;

const HEALTH = object(
  {
    ok: { type: "boolean" },
    authority: HEX_32,
    now: SECONDS,
    logSize: WHOLE,
    counts: { type: "object", additionalProperties: WHOLE },
    problem: text(MESSAGE_CHARACTERS_MAX),
    waiting: text(MESSAGE_CHARACTERS_MAX),
  },
  ["problem", "waiting"],
);

export function pageRoutes(app: FastifyInstance, deps: AppDependencies): void {
  const { store } = deps;

  app.get<{ Querystring: { from?: number } }>(
    "/batches",
    {
      schema: {
        summary: "Logged batches, in order",
        querystring: object({ from: WHOLE }, ["from"]),
        response: responses(object({ batches: list(BATCH, PAGE_ROWS_MAX) })),
      },
    },
    async ({ query }) => ({
      batches: (await store.loggedBatches(query.from ?? 0)).map(({ manifest, leafIndex }) => {
        const { seq, first, count, profile, stations } = decodeManifest(manifest);
        const parts = stations.map((station) => ({ ...station, kid: formatHex(station.kid) }));
        return { seq, first, count, profile, leafIndex, stations: parts };
      }),
    }),
  );

  app.get(
    "/healthz",
    {
      schema: {
        summary: "Whether database and signer answer, and how far the sequencer is",
        // A problem of the sequencer is part of the answer; that of the database comes from the error handler.
        response: { ...responses(HEALTH), 503: { anyOf: [HEALTH, PROBLEM] } },
      },
    },
    async (_request, reply) => {
      const { problem, waiting, logSize } = deps.health();
      // The database is asked; its failure is the error handler's.
      const counts = await store.counts();
      const authority = formatHex(deps.trust().authority);
      const waits = waiting !== undefined && { waiting: waiting.slice(0, MESSAGE_CHARACTERS_MAX) };
      const ill = problem !== undefined && { problem: problem.slice(0, MESSAGE_CHARACTERS_MAX) };
      const body = { ok: problem === undefined, authority, now: deps.now(), logSize, counts, ...waits, ...ill };
      return reply.code(problem === undefined ? 200 : 503).send(body);
    },
  );

  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());

  app.get("/", { schema: { hide: true } }, async (_request, reply) => {
    return reply
      .type("text/html; charset=utf-8")
      .header("cache-control", "no-store")
      .send(await page(deps));
  });
}

async function page(deps: AppDependencies): Promise<string> {
  const { authority, batchesVersion, trustees, policyText } = deps.trust();
  const counts = await deps.store.counts();
  const { problem, logSize } = deps.health();
  const rows: readonly (readonly [string, string | number])[] = [
    ["Trustees", `${trustees.threshold} of ${trustees.keys.length} must sign`],
    ["Batches in the log", `${counts.batchesLogged} (version ${batchesVersion})`],
    ["Tokens in the log", counts.tokensLogged],
    ["Log entries", logSize],
    ["Requests waiting", counts.requestsWaiting],
    ["Proposals open", counts.eventsOpen],
    ["Status events open", counts.statusEventsOpen],
    ["Write receipts", counts.receipts],
    ["State", problem ?? "well"],
  ];
  const links = [
    ["public/log/checkpoint", "log checkpoint"],
    ["public/revocation/latest", "status statement"],
    ["public/tuf/metadata/timestamp.json", "TUF timestamp"],
    ["public/root/1.root.json", "root 1"],
    ["public/log.vkey", "log key"],
    ["openapi.json", "OpenAPI"],
  ] as const;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vault</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: #1b2733; }
code { font-size: 1.05em; } td { padding: .15rem 1.5rem .15rem 0; } .words { background: #eef3f6; padding: 1rem; }
</style>
<h1>Vault</h1>
<p>This service issues tokens that trustees approved, and publishes everything needed to check them without it.</p>
<p>The authority, to be compared with the words on your own device:</p>
<p class="words"><code>${escapeHtml(formatWords(authority))}</code></p>
<table>${rows.map(([name, value]) => `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(String(value))}</td></tr>`).join("\n")}</table>
<h2>Published</h2>
<ul>${links.map(([href, name]) => `<li><a href="${href}">${name}</a></li>`).join("\n")}</ul>
<h2>Log policy</h2>
<pre>${escapeHtml(policyText)}</pre>
</html>
`;
}

function escapeHtml(value: string): string {
  return value.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
