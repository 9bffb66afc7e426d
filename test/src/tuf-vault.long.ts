/**
 * What a vault publishes, read by TUF clients of other people: not golden files, but those of an authority that was
 * founded and issued a batch a minute ago.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parseHex } from "@viafabric/schemas";
import { HEAD_PATH, KEYS_PATH, POLICY_PATH, RULES_PATH, STATEMENT_PATH, targetFileName } from "@viafabric/tuf";
import type { Outcome, VisitRepository } from "./tuf-clients/client.ts";
import { visitWithOwn } from "./tuf-clients/own.ts";
import { goTuf, type Peer, pythonTuf, skipReason, visitWithPeer } from "./tuf-clients/peers.ts";
import { openStaticServer, type StaticServer } from "./tuf-clients/server.ts";
import { visitWithTufJs } from "./tuf-clients/tuf-js.ts";
import type { Client } from "./tuf-golden/repository.ts";

const TOUR = fileURLToPath(new URL("../../tour/dist/main.js", import.meta.url));
const TOUR_MS_MAX = 600_000;
const TARGETS = [HEAD_PATH, KEYS_PATH, POLICY_PATH, RULES_PATH, STATEMENT_PATH];

const python = await pythonTuf();
const go = await goTuf();
const here: Peer = { command: [process.execPath] };
const clients: readonly (readonly [Client, VisitRepository, Peer])[] = [
  ["viafabric", visitWithOwn, here],
  ["tuf-js", visitWithTufJs, here],
  ["python-tuf", (visit) => visitWithPeer(python, visit), python],
  ["go-tuf", (visit) => visitWithPeer(go, visit), go],
];

let folder: string;
let published: string;
let server: StaticServer;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "viafabric-tuf-vault-"));
  const home = path.join(folder, "via");
  await promisify(execFile)(process.execPath, [TOUR, "--once", "--home", home, "--port", "18180"], {
    timeout: TOUR_MS_MAX,
    maxBuffer: 64 * 1024 * 1024,
  });
  published = path.join(home, "vault/public");
  server = await openStaticServer();
  server.serve(path.join(published, "tuf"));
});
after(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

for (const [client, visit, peer] of clients) {
  test(`${client} follows a vault from root 1, and again with nothing new`, {
    skip: skipReason(client, peer),
  }, async () => {
    const store = path.join(folder, client);
    await mkdir(store);
    const root = path.join(published, "root/1.root.json");
    const now = Math.floor(Date.now() / 1000);
    const visits: Outcome[] = [];
    for (let i = 0; i < 2; i++)
      visits.push(await visit({ store, root, url: server.url, read: server.read, targets: TARGETS, now }));
    const [first, again] = visits as [Outcome, Outcome];
    assert.equal(first.verdict, "accept", first.error);
    assert.deepEqual(again, first);
    // Ours reads the statement with its sets, not as a target.
    for (const target of TARGETS.filter((name) => client !== "viafabric" || name !== STATEMENT_PATH)) {
      const file = targetFileName(target, parseHex(first.targets![target]!, 32));
      assert.ok(existsSync(path.join(published, "tuf/targets", file)), `${file} was not published`);
    }
  });
}
