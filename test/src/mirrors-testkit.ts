/**
 * A node's own command line among real HTTP servers, which serve one authority at three moments, well or badly.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { DAY } from "./authority.ts";
import { type Files, publishedAuthority } from "./published.ts";

const NODE = fileURLToPath(new URL("../../edge/dist/main.js", import.meta.url));
export const NOW = Math.floor(Date.now() / 1000);

export const folder = await mkdtemp(path.join(tmpdir(), "mirrors-"));
const servers: Server[] = [];

/** One authority at three moments: expired ten days ago; three days old, so overdue and alive; and now. */
async function publishAll() {
  const at = async (first: number, version: number) => {
    const common = { batches: version + 1, bundles: version + 1, version };
    return publishedAuthority({ ...common, now: NOW - first, every: first / 2 });
  };
  return { expired: await at(40 * DAY, 1), old: await at(3 * DAY, 1), now: await at(3 * DAY, 3) };
}

export async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A static server over a map, whose answers may be spoilt. It knows no tags, as many do not. */
export function serve(files: Files, answer = (response: ServerResponse, bytes: Uint8Array) => response.end(bytes)) {
  return listen((request, response) => {
    const bytes = files.get(request.url!.slice(1));
    if (bytes) answer(response, bytes);
    else response.writeHead(404).end();
  });
}

interface Run {
  readonly code: number;
  readonly json: Readonly<Record<string, unknown>> & { readonly failures?: readonly { readonly code: string }[] };
  readonly err: string;
}

export function via(...args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [NODE, ...args, "--json"], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), json: JSON.parse(out), err });
    });
  });
}

let homes = 0;
export async function newNode(): Promise<string> {
  const home = path.join(folder, `node ${homes++}`);
  const run = await via("init", "--root", root, "--development", "--yes", "--home", home);
  assert.equal(run.code, 0, run.err);
  return home;
}

export const refresh = (home: string, ...mirrors: readonly string[]) =>
  via("refresh", "--home", home, ...mirrors.flatMap((mirror) => ["--from", mirror]));

export const world = await publishAll();
const root = path.join(folder, "root.json");
await writeFile(root, world.now.root);
/** A good mirror of today's state. */
export const fresh = await serve(world.now.files);

after(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await rm(folder, { recursive: true });
});
