/**
 * `trust-refresh`: what it costs a node on a bad line to stay up to date, at 10, 1,000 and 100,000 batches.
 *
 * The node is `via node` itself, over HTTP, from a repository in which every signature is real. Bytes are those of
 * the bodies that the server sent; HTTP headers are the server's and the line's. The goal is for metadata, head, trust
 * files and statement; tiles of the manifest tree and status sets are printed beside them. The server knows entity tags
 * as the vault does; what an idle refresh costs at one that does not is printed too.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Files, type PublishedOptions, publishedAuthority } from "@viafabric/test/published";
import { entityTag } from "@viafabric/transparency-log/client";
import { type Figure, figureOf } from "./figure.ts";

const SIZES = [10, 1000, 100_000];
const COLD_BYTES_MAX = 20_000;
const IDLE_BYTES_MAX = 1000;
/** Where a kilobyte is 1,024 bytes. */
const UNTAGGED_BYTES_MAX = 1024;
/** About a year of hourly publications: counters have as many digits as they will have in use. */
const FIRST_VERSION = 9984;
const TOKENS = 100;
const BENCH = "trust-refresh";
const NODE = fileURLToPath(new URL("../../edge/dist/main.js", import.meta.url));

/** What was sent, by kind. */
interface Sent {
  readonly trust: number;
  readonly tiles: number;
  readonly sets: number;
}

export async function* trustRefresh(): AsyncGenerator<Figure> {
  const measured: { readonly cold: Sent; readonly idle: Sent; readonly untagged: Sent }[] = [];
  for (const batches of SIZES) {
    const { cold, idle, untagged, grown } = await refreshes(batches);
    measured.push({ cold, idle, untagged });
    const line = (figure: string, value: number, note: string, atMost?: number) =>
      figureOf({ bench: BENCH, figure, value, n: batches, note, ...(atMost !== undefined && { atMost }) });
    yield line("cold-bytes", cold.trust, "metadata, head, trust files and statement, from nothing", COLD_BYTES_MAX);
    yield line("idle-bytes", idle.trust, "the same, when nothing is new", IDLE_BYTES_MAX);
    yield line(
      "idle-bytes-untagged",
      untagged.trust,
      "the same, from a server without entity tags of ours",
      UNTAGGED_BYTES_MAX,
    );
    yield line("next-batch-bytes", grown.trust, "the same, after one more batch and a new statement");
    yield line("next-batch-tile-bytes", grown.tiles, "tiles that prove the new head to extend the old one");
    yield line("cold-set-bytes", cold.sets, "status sets of a fresh node, with nothing revoked");
  }
  for (const moment of ["cold", "untagged"] as const) {
    const values = measured.map((sizes) => sizes[moment].trust);
    yield figureOf({
      bench: BENCH,
      figure: `${moment === "cold" ? "cold" : "idle-untagged"}-bytes-spread`,
      value: Math.max(...values) / Math.min(...values),
      // The digits of the counters grow, nothing else.
      atMost: 1.01,
      n: SIZES.length,
      note: `most over least at ${SIZES.join(", ")} batches`,
    });
  }
}

async function refreshes(batches: number): Promise<Record<"cold" | "idle" | "untagged" | "grown", Sent>> {
  const now = Math.floor(Date.now() / 1000);
  const { root, files } = await publishedAuthority(at(now, batches));
  const folder = await mkdtemp(path.join(tmpdir(), "viafabric-bench-"));
  const server = await openServer(files);
  try {
    await writeFile(path.join(folder, "root.json"), root);
    const home = path.join(folder, "node");
    await viaNode(["init", "--root", path.join(folder, "root.json"), "--development", "--yes", "--home", home]);
    const refresh = async (tagged = true): Promise<Sent> => {
      server.forget(tagged);
      await viaNode(["refresh", "--from", server.url, "--batches", "none", "--home", home]);
      return server.sent();
    };
    const [cold, idle, untagged] = [await refresh(), await refresh(), await refresh(false)];
    for (const [name, bytes] of (await publishedAuthority(at(now, batches + 1, 1))).files) files.set(name, bytes);
    return { cold, idle, untagged, grown: await refresh() };
  } finally {
    await server.close();
    await rm(folder, { recursive: true });
  }
}

function at(now: number, batches: number, later = 0): PublishedOptions {
  return { now, batches, tokens: TOKENS, firstVersion: FIRST_VERSION, version: FIRST_VERSION + later };
}

/** A web server over a map, which counts what it sends. */
async function openServer(files: Files) {
  let sent: [string, number][] = [];
  let tagged = true;
  const server = createServer((request, response) => {
    const name = (request.url ?? "/").slice(1);
    const bytes = files.get(name);
    if (bytes && tagged && request.headers["if-none-match"] === entityTag(bytes)) {
      response.writeHead(304).end();
      return;
    }
    if (bytes) sent.push([name, bytes.length]);
    if (bytes) response.end(bytes);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const sum = (kind: RegExp) => sent.filter(([name]) => kind.test(name)).reduce((so, [, length]) => so + length, 0);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    forget: (withTags: boolean) => {
      sent = [];
      tagged = withTags;
    },
    sent: (): Sent => ({
      trust: sum(/^(tuf\/|revocation\/(latest$|e\/))/),
      tiles: sum(/^batches\/tile\//),
      sets: sum(/^revocation\/[012]\//),
    }),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function viaNode(args: readonly string[]): Promise<void> {
  await promisify(execFile)(process.execPath, [NODE, ...args]);
}
