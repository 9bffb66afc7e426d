import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { equalBytes, noteVerifier, utf8, verifyConsistency } from "@viafabric/schemas";
import { policyOfLog } from "@viafabric/transparency-log";
import { subFolder } from "@viafabric/transparency-log/client";
import type { AuditSource } from "./audit-log.ts";
import { compare, saveFork } from "./compare.ts";
import { type Files, fetchFrom, KEYS, publish } from "./fixtures.test.ts";
import { type SeenCheckpoint, seeLog } from "./open-log.ts";
import { callWebhook, look, parseSeconds } from "./watch.ts";

const ORIGIN = "log.example/watched";
const policy = policyOfLog(noteVerifier(ORIGIN, KEYS.log.publicKey));
const folder = await mkdtemp(path.join(os.tmpdir(), "watch-"));
after(() => rm(folder, { recursive: true }));

const history = (name: string, size: number) => Array.from({ length: size }, (_, i) => utf8(`${name} ${i}`));
const logOf = (entries: readonly Uint8Array[]) => publish(ORIGIN, KEYS.log, entries);
const sourceOf = (files: Files): AuditSource => {
  return { log: subFolder(fetchFrom(files), "log"), published: undefined };
};
const see = async (entries: readonly Uint8Array[]): Promise<SeenCheckpoint> => {
  return seeLog(sourceOf(await logOf(entries)), policy);
};

const honest = history("entry", 700);
/** The same first 300 entries, and then others. */
const other = [...honest.slice(0, 300), ...history("other", 500)];

test("two views of one log are the same, one the beginning of the other, or a fork", async () => {
  const [small, large, fork] = [await see(honest.slice(0, 300)), await see(honest), await see(other)];
  assert.deepEqual(await compare(large, await see(honest)), { result: "same" });
  for (const [a, b, older] of [
    [small, large, "a"],
    [large, small, "b"],
  ] as const) {
    const compared = await compare(a, b);
    assert.ok(compared.result === "extends" && compared.older === older);
    const { size: oldSize, root: oldRoot } = small.checkpoint;
    const { size: newSize, root: newRoot } = large.checkpoint;
    verifyConsistency({ oldSize, oldRoot, newSize, newRoot, proof: compared.proof });
  }
  const forked = await compare(large, fork);
  assert.ok(forked.result === "fork" && forked.evidence.prefix);
  const { prefix } = forked.evidence;
  const { size: newSize, root: newRoot } = fork.checkpoint;
  verifyConsistency({ oldSize: prefix.size, oldRoot: prefix.root, newSize, newRoot, proof: prefix.proof });
  assert.ok(!equalBytes(prefix.root, large.checkpoint.root));
  const sameSize = await compare(large, await see(other.slice(0, 700)));
  assert.equal(sameSize.result, "fork");
  // A bare checkpoint is enough where sizes are equal, and not where they differ.
  assert.equal((await compare({ ...large, tree: undefined }, large)).result, "same");
  await assert.rejects(compare({ ...large, tree: undefined }, small), { code: "ERR_USAGE" });
});

test("evidence of a fork is kept under a name of its own", async () => {
  const forked = await compare(await see(honest), await see(other));
  assert.ok(forked.result === "fork");
  const saved = await saveFork(path.join(folder, "evidence"), forked.evidence);
  assert.deepEqual((await readdir(saved)).sort(), ["README.txt", "a.checkpoint", "b.checkpoint"]);
  assert.deepEqual(new Uint8Array(await readFile(path.join(saved, "b.checkpoint"))), forked.evidence.notes[1]);
  assert.equal(await saveFork(path.join(folder, "evidence"), forked.evidence), saved);
});

test("a log that grows is followed, one that lags is no alarm, one that forks is", async () => {
  const state = path.join(folder, "state");
  const lookAt = async (entries: readonly Uint8Array[]) => look(sourceOf(await logOf(entries)), policy, state);
  assert.deepEqual(await lookAt(honest.slice(0, 300)), { result: "first", size: 300, before: 0 });
  assert.deepEqual(await lookAt(honest.slice(0, 300)), { result: "same", size: 300, before: 300 });
  assert.deepEqual(await lookAt(honest), { result: "grown", size: 700, before: 300 });
  // A mirror that lags still has what it showed; an older log that never had it cannot prove itself.
  const lagging = new Map(await logOf(honest)).set(
    "log/checkpoint",
    (await logOf(honest.slice(0, 300))).get("log/checkpoint")!,
  );
  assert.deepEqual(await look(sourceOf(lagging), policy, state), { result: "behind", size: 300, before: 700 });
  await assert.rejects(lookAt(honest.slice(0, 500)), { code: "ERR_ROLLBACK" });
  const forked = await lookAt(other);
  assert.ok(forked.result === "fork");
  assert.ok((await readdir(forked.evidence)).includes("b.checkpoint"));
  // What was seen first stays what is compared with.
  assert.equal((await lookAt(honest)).result, "same");
});

test("an alarm is posted, and it is said when that fails", async () => {
  const posted: string[] = [];
  const server = createServer(async (request, response) => {
    for await (const part of request) posted.push(String(part));
    response.writeHead(request.url === "/broken" ? 500 : 204).end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await callWebhook(url, { result: "fork", size: 7 });
    assert.deepEqual(JSON.parse(posted[0]!), { result: "fork", size: 7 });
    await assert.rejects(callWebhook(`${url}/broken`, {}), { code: "ERR_FETCH" });
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
  await assert.rejects(callWebhook(url, {}), { code: "ERR_FETCH" });
  assert.equal(parseSeconds("60"), 60);
  for (const wrong of ["0", "-1", "1e3", "", "99999999"])
    assert.throws(() => parseSeconds(wrong), { code: "ERR_USAGE" });
});
