/** An authority whose policy asks for witnesses: what waits for them, what does not, and what stops at a contradiction. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import { formatBase64, parseNote } from "@viafabric/schemas";
import { parsePolicy, parseProof, verifyCheckpoint, verifyProof } from "@viafabric/transparency-log";
import { folderFetch } from "@viafabric/transparency-log/client";
import { POLICY_PATH } from "@viafabric/tuf";
import { namedSigner } from "./fixtures.test.ts";
import { readPublished } from "./published.ts";
import {
  approvedBatch,
  batchRequest,
  eventually,
  foundedVault,
  type LivingVault,
  STATION,
  statusEventOf,
  TRUSTEES,
} from "./testing-vault.test.ts";
import { startWitnesses } from "./testing-witness.test.ts";
import { readSplit } from "./witnesses.ts";

const [A] = TRUSTEES as [(typeof TRUSTEES)[0]];
const OPERATOR = "only a test";

/** Public, and with or without its proofs. */
async function reaches(vault: LivingVault, url: string, proven: "proven" | "unproven"): Promise<void> {
  const look = async () => {
    const event = await vault.send(undefined, "GET", url);
    return event.state === "published" && event.proven === (proven === "proven") ? true : undefined;
  };
  await eventually(look, `${url} being ${proven}`, 120);
}

async function publishedBy(vault: LivingVault) {
  const found = await readPublished(vault.home.public, new Uint8Array(await readFile(vault.home.pinnedRoot)));
  assert.ok(found);
  return { ...found, policy: parsePolicy(found.trusted.files.get(POLICY_PATH)!) };
}

async function suspend(vault: LivingVault, index: number): Promise<string> {
  const { id, body, signature } = await statusEventOf(vault, "suspend", index, 1, A);
  await vault.send(A, "POST", "/status-events", { body, signature });
  return `/status-events/${id}`;
}

const askKit = (vault: LivingVault, batch: number) => {
  const { spki } = namedSigner("somebody's key").publicKey;
  return vault.send(STATION, "POST", "/kits", { batch, publicKey: formatBase64(spki.slice(-32)) });
};

test("kits and proofs wait for witnesses; heads, statements and suspensions do not; the backlog catches up", async () => {
  const witnesses = await startWitnesses(3);
  const vault = await foundedVault({ witnesses, quorum: 2 });
  const files = folderFetch(vault.home.public);
  const checkpoint = async () => (await files("log/checkpoint"))!;
  const { policy } = await publishedBy(vault);
  assert.equal(verifyCheckpoint(policy, await checkpoint()).witnesses.length, 2, "from the first publication on");

  await vault.start();
  const operator = await openKeystore(vault.home.operator, OPERATOR);
  await reaches(vault, `/events/${await approvedBatch(vault, operator, 3)}`, "proven");
  const proof = (await files("batch/0/log.proof"))!;
  assert.equal(verifyProof(policy, parseProof(proof).extra!, proof).checkpoint.witnesses.length, 2);
  assert.ok((await askKit(vault, 0)).kit);

  // One of three is down: nobody notices.
  witnesses[0]!.mode = "down";
  const first = await suspend(vault, 0);
  await reaches(vault, first, "proven");
  assert.equal(verifyCheckpoint(policy, await checkpoint()).witnesses.length, 2);

  // Two are down: no quorum.
  witnesses[1]!.mode = "down";
  const second = await suspend(vault, 1);
  await reaches(vault, second, "unproven");
  const event = `/events/${await approvedBatch(vault, operator, 2)}`;
  await reaches(vault, event, "unproven");
  const meanwhile = await publishedBy(vault);
  assert.equal(meanwhile.statement.statement.planes[1].count, 2, "the suspension is in force");
  assert.equal(meanwhile.trusted.head.size, 2, "the head is public");
  const log = parseNote(await checkpoint()).text.split("\n");
  assert.ok(Number(log[1]) >= meanwhile.statement.statement.log.size, "the checkpoint covers what the statement names");
  const unproven = await checkpoint();
  assert.throws(() => verifyCheckpoint(policy, unproven), { code: "ERR_WITNESS_QUORUM" });
  const leaf = (await vault.send(undefined, "GET", second)).leafIndex;
  for (const name of ["batch/1/log.proof", `revocation/event/${leaf}`])
    assert.equal(await files(name), undefined, `${name} is not public without a quorum`);
  assert.ok(await files("batch/1/manifest.cbor"));
  await assert.rejects(askKit(vault, 1), /404|409/);
  const health = (await vault.service.app.inject({ method: "GET", url: "/healthz" })).json();
  assert.deepEqual([health.ok, /w1|w2/.test(health.waiting)], [true, true], JSON.stringify(health));
  const asked = witnesses[2]!.asked;

  // Across a restart, too.
  await vault.service.stop();
  await vault.start();
  await reaches(vault, event, "unproven");
  const { epoch } = (await publishedBy(vault)).statement.statement;
  for (const witness of witnesses) witness.mode = "honest";
  await reaches(vault, event, "proven");
  await reaches(vault, second, "proven");
  assert.equal((await publishedBy(vault)).statement.statement.epoch, epoch, "no statement was made for it");
  const late = (await files("batch/1/log.proof"))!;
  assert.ok(verifyProof(policy, parseProof(late).extra!, late).checkpoint.witnesses.length >= 2);
  assert.ok(verifyCheckpoint(policy, await checkpoint()).witnesses.length >= 2);
  assert.ok(await files(`revocation/event/${leaf}`));
  assert.ok((await askKit(vault, 1)).kit);
  const healed = (await vault.service.app.inject({ method: "GET", url: "/healthz" })).json();
  assert.equal(healed.waiting, undefined);
  assert.ok(witnesses[2]!.asked < asked + 60, "a witness is not flooded");
});

test("a contradiction stops signing and issuing, across restarts, until a person has looked", async () => {
  const witnesses = await startWitnesses(2);
  const vault = await foundedVault({ witnesses });
  await vault.start();
  const operator = await openKeystore(vault.home.operator, OPERATOR);
  await reaches(vault, `/events/${await approvedBatch(vault, operator, 2)}`, "proven");
  witnesses[1]!.mode = "contradicts";
  const before = await publishedBy(vault);
  const suspension = await suspend(vault, 0);
  const split = await eventually(() => readSplit(vault.home.split), "the evidence");
  assert.match(split.message, /another tree/);
  assert.equal(split.evidence?.status, 422);
  assert.match(split.evidence!.request, /^old \d+\n/);
  const stopped = async () => {
    const { statusCode, body } = await vault.service.app.inject({ method: "GET", url: "/healthz" });
    return statusCode === 503 && body.includes("witness-split.json") ? true : undefined;
  };
  await eventually(stopped, "the vault saying so");
  const size = vault.service.sequencer.health().logSize;
  await vault.send(operator, "POST", "/requests", batchRequest(1, vault.clock.now));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(vault.service.sequencer.health().logSize, size, "nothing more is logged");
  const after = await publishedBy(vault);
  assert.deepEqual(after.statement.statement, before.statement.statement, "nothing that was contradicted is public");
  await vault.service.stop();
  vault.service = undefined as unknown as typeof vault.service;

  await assert.rejects(vault.start(), { code: "ERR_WITNESS_SPLIT" });
  const status = await new Promise<{ code: unknown; stdout: string }>((resolve) => {
    const args = [path.join(import.meta.dirname, "main.js"), "status", "--home", vault.home.root, "--json"];
    execFile(process.execPath, args, (error, stdout) => resolve({ code: error?.code ?? 0, stdout }));
  });
  assert.equal(status.code, 1);
  assert.match(status.stdout, /ERR_WITNESS_SPLIT.*witness-split.json/s);

  // Moved away, and still contradicted: it stops again, before anything is signed.
  const seen = path.join(path.dirname(vault.home.split), "seen.json");
  await rename(vault.home.split, seen);
  await assert.rejects(vault.start(), { code: "ERR_WITNESS_SPLIT" });
  await rename(vault.home.split, seen);
  witnesses[1]!.mode = "honest";
  await vault.start();
  await reaches(vault, suspension, "proven");
});

test("an authority restored from a backup does not start while a witness remembers more", async () => {
  const witnesses = await startWitnesses(2);
  const vault = await foundedVault({ witnesses });
  const database = (await readFile(`${vault.home.db}.path`, "utf8").catch(() => vault.home.db)).trim();
  const kept = [vault.home.public, vault.home.private, database];
  const backup = (name: string) => `${name}.backup`;
  for (const name of kept) await copyOwned(name, backup(name));
  await vault.start();
  const operator = await openKeystore(vault.home.operator, OPERATOR);
  await reaches(vault, `/events/${await approvedBatch(vault, operator, 2)}`, "proven");
  await vault.service.stop();
  vault.service = undefined as unknown as typeof vault.service;
  for (const name of kept) {
    await rename(name, `${name}.newest`);
    await rename(backup(name), name);
  }
  const older = await publishedBy(vault);
  await assert.rejects(vault.start(), (error: Error & { code?: string }) => {
    assert.match(error.message, /more than this log has.*runbook/s);
    return error.code === "ERR_WITNESS_SPLIT";
  });
  assert.deepEqual((await publishedBy(vault)).statement.statement, older.statement.statement);
  assert.ok(await readSplit(vault.home.split));
  // With its newest state it goes on.
  for (const name of kept) {
    await rm(name, { recursive: true });
    await rename(`${name}.newest`, name);
  }
  await vault.start();
  await reaches(vault, await suspend(vault, 1), "proven");
});

function copyOwned(from: string, to: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile("cp", ["-a", from, to], (error) => (error ? reject(error) : resolve()));
  });
}
