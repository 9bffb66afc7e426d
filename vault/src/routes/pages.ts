/** What anybody may read: a page for people, health for machines, and which batches there are. */
import { decodeManifest, formatHex, formatWords, type Role } from "@viafabric/schemas";
import { provenRejections, stateOf } from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { expiriesOf } from "../notifier.ts";
import type { EventRecord, RequestRecord } from "../records.ts";
import { PAGE_ROWS_MAX } from "../store/rows.ts";
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

/** Of proposals and of requests: what a person looks through. */
const SHOWN_MAX = 20;

async function page(deps: AppDependencies): Promise<string> {
  const trust = deps.trust();
  const { authority, batchesVersion, trustees, policyText } = trust;
  const now = deps.now();
  const events = await deps.store.events(undefined, SHOWN_MAX);
  const requests = await deps.store.requests(SHOWN_MAX);
  const alarms = expiriesOf(trust, [], now).filter(({ alarm }) => alarm !== "none");
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
code { font-size: 1.05em; overflow-wrap: anywhere; } pre { overflow-x: auto; } td:first-child { white-space: nowrap; } td, th { padding: .15rem 1.5rem .15rem 0; text-align: left; vertical-align: top; }
.words, li > p { background: #eef3f6; padding: 1rem; } li > p { margin: .3rem 0; padding: .3rem 1rem; } .state { font-weight: bold; }
</style>
<h1>Vault</h1>
<p>This service issues tokens that trustees approved, and publishes everything needed to check them without it.</p>
<p>The authority, to be compared with the words on your own device:</p>
<p class="words"><code>${escapeHtml(formatWords(authority))}</code></p>
${tableHtml(rows)}
<h2>Proposals</h2>
<p>Times are UTC. Reasons are shown where the trustee's key proves them.</p>
${events.length === 0 ? "<p>None yet.</p>" : `<ul>${events.map((event) => eventHtml(event, authority, now)).join("\n")}</ul>`}
<h2>Requests</h2>
${requests.length === 0 ? "<p>None yet.</p>" : `<ul>${requests.map(requestHtml).join("\n")}</ul>`}
<h2>Lifetimes</h2>
${
  alarms.length === 0
    ? "<p>Nothing has half of its life behind it.</p>"
    : tableHtml(alarms.map(({ what, expires, alarm }) => [what, `until ${timeOf(expires)}`, ALARMS[alarm]]))
}
<h2>Published</h2>
<ul>${links.map(([href, name]) => `<li><a href="${href}">${name}</a></li>`).join("\n")}</ul>
<h2>Log policy</h2>
<pre>${escapeHtml(policyText)}</pre>
</html>
`;
}

const ALARMS = { none: "", "50%": "half is over", "80%": "80 % are over: sign now", expired: "expired" } as const;

/** As the rules see it at this moment, not as it was last written down. */
function eventHtml(event: EventRecord, authority: Uint8Array, now: number): string {
  const { id, role, version, expires, quorums } = event.proposal;
  const { approvals, late, since, endReason } = event;
  const [{ threshold, keys }] = quorums as [Role];
  const state = stateOf(event, now);
  const reasons = provenRejections(event.proposal, authority, [...event.rejections, ...late.rejections]);
  const lateCount = late.approvals.length + late.rejections.length;
  const facts = [
    `${approvals.length} of ${threshold} approvals`,
    ...(event.rejections.length > 0 ? [`${event.rejections.length} of ${keys.length - threshold + 1} rejections`] : []),
    ...(lateCount > 0 ? [`${lateCount} after it was decided`] : []),
    state === "open" ? `open until ${timeOf(expires)}` : `since ${timeOf(state === "expired" ? expires : since)}`,
  ];
  const lines = [
    `<code>${formatHex(id)}</code>`,
    ...(endReason !== undefined && event.rejections.length === 0 ? [escapeHtml(endReason)] : []),
    ...reasons.map(({ keyid, reason }) => `rejected by <code>${escapeHtml(keyid)}</code>: ${escapeHtml(reason)}`),
  ];
  const title = `${escapeHtml(role)} ${version}: <span class="state">${state}</span>, ${escapeHtml(facts.join(", "))}`;
  return `<li>${title}<p>${lines.join("<br>")}</p></li>`;
}

function requestHtml({ id, kind, state, received, refusal, event }: RequestRecord): string {
  const again = state === "waiting" && event ? `waits again: its proposal is ${event.state}` : state;
  const said = escapeHtml(refusal === undefined ? again : `${again}: ${refusal}`);
  const title = `${escapeHtml(kind)}: <span class="state">${said}</span>, received ${timeOf(received)}`;
  return `<li>${title}<p><code>${formatHex(id)}</code></p></li>`;
}

function tableHtml(rows: readonly (readonly (string | number)[])[]): string {
  const cells = (row: readonly (string | number)[]) =>
    row.map((cell) => `<td>${escapeHtml(String(cell))}</td>`).join("");
  return `<table>${rows.map((row) => `<tr>${cells(row)}</tr>`).join("\n")}</table>`;
}

/** UTC, to the minute. */
function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
}

function escapeHtml(value: string): string {
  return value.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
