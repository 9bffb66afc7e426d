/** An authority whose policy asks for witnesses: what waits for them, what does not, and what stops at a contradiction. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import { formatBase64, parseNote } from "@viafabric/schemas";
import { type LogPolicy, parsePolicy, parseProof, verifyCheckpoint, verifyProof } from "@viafabric/transparency-log";
import { folderFetch } from "@viafabric/transparency-log/client";
import { POLICY_PATH } from "@viafabric/tuf";
import { namedSigner } from "./fixtures.test.ts";
import { readPublished } from "./published.ts";
import {
  approveAs,
  approvedBatch,
  batchRequest,
  eventually,
  foundedVault,
  type LivingVault,
  STATION,
  statusEventOf,
  TRUSTEES,
} from "./testing-vault.test.ts";
import { startWitnesses, type TestWitness } from "./testing-witness.test.ts";
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

  // Across a restart, too. What a killed writer left in the public folder does not outlive it; what a living one is at
  // stays, whoever tries to start beside it.
  const unfinished = path.join(vault.home.public, "batch/1", ".log.proof.4000000.7.tmp");
  await writeFile(unfinished, "half a pr");
  await assert.rejects(vault.start(), { code: "ERR_LOCKED" });
  await readFile(unfinished);
  await vault.service.stop();
  await vault.start();
  await assert.rejects(readFile(unfinished), { code: "ENOENT" });
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

test("other witnesses by the trustees' word: they are asked, and what is public is proven to them again", async () => {
  const witnesses = await startWitnesses(5);
  const [w1, w2, w3, ...others] = witnesses as [TestWitness, TestWitness, TestWitness, ...TestWitness[]];
  const vault = await foundedVault({ witnesses: [w1, w2, w3], quorum: 2 });
  await vault.start();
  const operator = await openKeystore(vault.home.operator, OPERATOR);
  const batch = `/events/${await approvedBatch(vault, operator, 2)}`;
  await reaches(vault, batch, "proven");
  const second = `/events/${await approvedBatch(vault, operator, 1)}`;
  const suspension = await suspend(vault, 0);
  await reaches(vault, second, "proven");
  await reaches(vault, suspension, "proven");
  const { leafIndex } = await vault.send(undefined, "GET", suspension);
  const files = folderFetch(vault.home.public);
  const proofs = ["batch/0/log.proof", "batch/1/log.proof", `revocation/event/${leafIndex}`];
  const { policy: before } = await publishedBy(vault);
  const served = async () => (await vault.service.app.inject({ url: "/public/batch/0/log.proof" })).body;
  const firstServed = await served();
  const isProven = async (policy: LogPolicy, name: string) => {
    const proof = (await files(name))!;
    try {
      verifyProof(policy, parseProof(proof).extra!, proof);
      return true;
    } catch (error) {
      assert.equal((error as { code?: string }).code, "ERR_WITNESS_QUORUM");
      return false;
    }
  };
  const vaultUrl = await vault.service.app.listen({ port: 0, host: "127.0.0.1" });
  const passphrase = path.join(path.dirname(vault.home.root), "passphrase");
  await writeFile(passphrase, OPERATOR, { mode: 0o600 });
  const witnessCommand = async (...args: readonly string[]) => {
    const at = ["--home", vault.home.root, "--vault", vaultUrl, "--passphrase-file", passphrase, "--json"];
    const file = path.join(import.meta.dirname, "main.js");
    return new Promise<{ code: unknown; output: string; errors: string }>((resolve) => {
      execFile(process.execPath, [file, "witnesses", ...args, ...at], (error, output, errors) =>
        resolve({ code: error?.code ?? 0, output, errors }),
      );
    });
  };
  const joining = others.flatMap(({ vkey, url }) => ["--witness", `${vkey}+${url}`]);
  assert.equal(JSON.parse((await witnessCommand()).output).witnesses.length, 3);
  for (const [args, code] of [
    [["--without", "w1", "--without", "w2"], "ERR_TRUST_CHANGE"],
    [["--quorum", "1"], "ERR_TRUST_CHANGE"],
    [[...joining, "--without", "w1", "--without", "w2"], "ERR_WITNESS"],
  ] as const) {
    const refused = await witnessCommand(...args);
    assert.notEqual(refused.code, 0);
    assert.match(refused.output + refused.errors, new RegExp(`"${code}"`));
  }
  const weaker = { add: [], remove: [], witnesses: { add: [], remove: [], quorum: 1 } };
  await assert.rejects(vault.send(operator, "POST", "/trust-requests", weaker), /ERR_TRUST_CHANGE/);

  for (const witness of others) witness.know((await files("log.vkey"))!);
  const proposed = await witnessCommand(...joining, "--without", "w1", "--without", "w2");
  assert.equal(proposed.code, 0, proposed.errors);
  const event: string = JSON.parse(proposed.output).event;
  // They knew the log when they were asked; when it comes to it they do not answer.
  for (const witness of others) witness.mode = "down";
  for (const trustee of TRUSTEES.slice(0, 2)) await approveAs(vault, trustee, event);
  await reaches(vault, batch, "unproven");
  const { policy } = await publishedBy(vault);
  assert.deepEqual(
    policy.witnesses.map(({ name }) => name),
    ["w3", "w4", "w5"],
  );
  for (const name of proofs) assert.equal(await isProven(policy, name), false, `${name} before they answer`);
  const [asked1, asked2] = [w1.asked, w2.asked];
  for (const witness of others) witness.mode = "honest";
  await reaches(vault, batch, "proven");
  await reaches(vault, suspension, "proven");
  for (const name of proofs) {
    assert.equal(await isProven(policy, name), true, `${name} is proven to the new ones`);
    assert.equal(await isProven(before, name), false, `${name} is not proven by those that went`);
  }
  assert.ok(verifyCheckpoint(policy, (await files("log/checkpoint"))!).witnesses.length >= 2);
  assert.deepEqual([w1.asked, w2.asked], [asked1, asked2], "those that went are not asked");
  // What an auditor without our memory says of the proofs that were made again.
  const audit = path.join(import.meta.dirname, "../../auditor/dist/main.js");
  const verdict = await new Promise<string>((resolve) => {
    const args = [audit, "all", vault.home.public, "--root", vault.home.pinnedRoot, "--json"];
    execFile(process.execPath, args, (error, output, errors) => resolve(`${error?.code ?? 0} ${output} ${errors}`));
  });
  assert.match(verdict, /^0 /);
  assert.ok((await askKit(vault, 1)).kit, "the station's kit is the one it was, newly proven");
  assert.notEqual(await served(), firstServed, "the old proof is not served from memory");
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
