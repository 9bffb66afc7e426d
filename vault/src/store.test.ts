import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import path from "node:path";
import { test } from "node:test";
import { OperationError, parsePublicKey, type Signer, sha256 } from "@viafabric/schemas";
import { approve, buildBatches, createProposal, type Proposal, signMetadata } from "@viafabric/tuf";
import { migrate, readMigrations } from "./migrate.ts";
import { connectionPool } from "./postgres.ts";
import type { PlannedEvent, Sender } from "./records.ts";
import type { Store } from "./store.ts";
import { emptyDatabase, emptyStore, query } from "./testing-database.test.ts";

const NOW = 1_900_000_000;

// Each kind is given once in a process, so whoever wants to know listens from the start.
const warnings: string[] = [];
process.on("warning", ({ name, message }) => warnings.push(`${name}: ${message}`));

function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const spki = new Uint8Array(publicKey.export({ type: "spki", format: "der" }));
  return { publicKey: parsePublicKey(spki), sign: async (message) => new Uint8Array(sign(null, message, privateKey)) };
}

const trustees = [newSigner(), newSigner(), newSigner()];

function proposalOf(version: number): Proposal {
  const head = new Uint8Array(randomBytes(8));
  const quorums = [{ keys: trustees.map((trustee) => trustee.publicKey), threshold: 2 }];
  const signed = buildBatches({ version, expires: NOW + 86_400, head });
  return createProposal({ role: "batches", signed, created: NOW, expires: NOW + 3600, quorums });
}

function planOf(proposal: Proposal, first: number, count: number): PlannedEvent {
  const manifest = new Uint8Array(randomBytes(64));
  const batch = {
    manifestHash: sha256(manifest),
    eventId: proposal.id,
    seq: 0,
    first,
    count,
    manifest,
    uidKey: new Uint8Array(60),
  };
  const tokens = Array.from({ length: count }, (_, i) => ({
    index: first + i,
    rctId: new Uint8Array(randomBytes(16)),
    subject: `did:key:z${i}`,
    ...(i % 2 === 0 && { claimSecret: new Uint8Array(randomBytes(44)) }),
  }));
  const attachments = [{ name: "head.cbor", bytes: new Uint8Array([1, 2, 3]) }];
  return { proposal, attachments, batches: [{ batch, tokens }] };
}

const senderOf = (signer: Signer): Sender => ({
  kid: signer.publicKey.kid,
  nonce: new Uint8Array(randomBytes(16)),
  nonceUntil: NOW + 600,
});

async function approveAs(store: Store, trustee: Signer, id: Uint8Array): Promise<void> {
  await store.change(senderOf(trustee), async (change) => {
    const event = await change.lockEvent(id);
    assert.ok(event);
    const approval = await signMetadata(trustee, event.proposal.signed);
    const next = approve(event, approval, NOW);
    if (next !== event) await change.addApproval(id, trustee.publicKey.kid, approval, { received: NOW, late: false });
  });
}

const hasCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

test("the migrations lead to the schema", () => {
  const program = path.join(import.meta.dirname, "migrations-main.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, "check"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /agree/);
});

test("migrations are applied once, and an edited or unknown one is refused", async () => {
  const pool = connectionPool(await emptyDatabase(), 1);
  const client = await pool.connect();
  try {
    const all = await readMigrations();
    assert.deepEqual(
      await migrate(client, all),
      all.map(({ name }) => name),
    );
    assert.deepEqual(await migrate(client, all), []);
    const edited = all.map((migration) => ({ ...migration, sql: `${migration.sql}\n` }));
    await assert.rejects(migrate(client, edited), /edited/);
    await assert.rejects(migrate(client, all.slice(1)), /newer release/);
    const broken = [...all, { name: "9_broken", sql: "CREATE TABLE half (n int); SELECT nonsense" }];
    await assert.rejects(migrate(client, broken), hasCode("ERR_DATABASE"));
    assert.equal((await client.query("SELECT to_regclass('half') AS t")).rows[0].t, null, "a failure leaves nothing");
  } finally {
    client.release();
    await pool.end();
  }
});

test("a nonce is spent with its change, or not at all", async () => {
  const { store } = await emptyStore();
  const sender = senderOf(trustees[0]!);
  const request = {
    id: sha256(sender.nonce),
    kind: "batch" as const,
    kid: sender.kid,
    body: new Uint8Array([1]),
    proof: "",
    received: NOW,
  };
  const failing = store.change(sender, async (change) => {
    await change.addRequest(request);
    throw new Error("on purpose");
  });
  await assert.rejects(failing, /on purpose/);
  assert.equal(await store.request(request.id), undefined);

  await store.change(sender, (change) => change.addRequest(request));
  let ran = false;
  const replay = store.change(sender, async () => {
    ran = true;
  });
  await assert.rejects(replay, hasCode("ERR_REPLAY"));
  assert.equal(ran, false, "a replayed request does not even begin");
  assert.equal((await store.requests()).length, 1);
  await store.forgetNonces(NOW + 601);
});

test("approvals at the same moment all survive, and one key counts once", async () => {
  const { store } = await emptyStore();
  const proposal = proposalOf(2);
  await store.addEvent(planOf(proposal, 0, 3));
  const [a, b] = trustees as [Signer, Signer];
  await Promise.all([approveAs(store, a, proposal.id), approveAs(store, b, proposal.id)]);
  await approveAs(store, a, proposal.id);
  const event = await store.event(proposal.id);
  assert.equal(event?.approvals.length, 2);
  assert.deepEqual(event?.proposal, proposal, "a proposal comes back as it was frozen");
  const concurrent = warnings.filter((warning) => warning.includes("client.query()"));
  assert.deepEqual(concurrent, [], "the connection of a transaction is asked one thing at a time");
});

test("evidence cannot be changed or removed, not even by a bug", async () => {
  const { store, target } = await emptyStore();
  const proposal = proposalOf(2);
  await store.addEvent(planOf(proposal, 0, 1));
  await approveAs(store, trustees[0]!, proposal.id);
  for (const table of ["approval", "rejection", "status_signature", "receipt"]) {
    await assert.rejects(query(target, `DELETE FROM "${table}"`), /append-only/);
    await assert.rejects(query(target, `TRUNCATE "${table}"`), /append-only/);
  }
  await assert.rejects(query(target, `UPDATE "approval" SET "key_id" = ''`), /append-only/);
});

test("a version is proposed once, an index and an id are given once, a plan is stored whole or not at all", async () => {
  const { store } = await emptyStore();
  const first = planOf(proposalOf(2), 0, 2500);
  await store.addEvent(first);
  await assert.rejects(store.addEvent(planOf(proposalOf(2), 5000, 1)), "the version is burned");
  const overlapping = planOf(proposalOf(3), 2499, 10);
  await assert.rejects(store.addEvent(overlapping), "the index is burned");
  assert.equal(await store.event(overlapping.proposal.id), undefined);
  assert.equal(await store.lastVersion("batches"), 2);
  assert.equal(await store.plannedEnd(), 2500);
  const { batch, tokens } = first.batches[0]!;
  assert.deepEqual(await store.tokens(batch.manifestHash, 0, 2500), tokens);
  assert.deepEqual(await store.attachments(first.proposal.id), first.attachments);
});

test("only one of two appends replaces the log head, and where it was meant to go is known", async () => {
  const { store } = await emptyStore();
  const headOf = (size: number) => ({ size, root: new Uint8Array(32).fill(size), note: new Uint8Array([size]) });
  assert.equal(await store.replaceLogHead("log", 0, headOf(1)), true);
  assert.equal(await store.replaceLogHead("log", 0, headOf(2)), false);
  const race = await Promise.all([2, 3].map((size) => store.replaceLogHead("log", 1, headOf(size))));
  assert.deepEqual(race.toSorted(), [false, true]);
  const size = race[0] ? 2 : 3;
  assert.deepEqual(await store.logHead("log"), headOf(size));
  await store.noteIntent("batch", 3);
  await store.noteIntent("batch", 4);
  assert.equal(await store.intent("batch"), 4);
  assert.equal(await store.intent("other"), undefined);
});

test("a publication is remembered whole, in its order, until it is finished", async () => {
  const { store } = await emptyStore();
  const publication = {
    immutable: ["b", "a"].map((name) => ({ path: name, bytes: new Uint8Array([name.charCodeAt(0)]) })),
    hints: [{ path: "list", bytes: new Uint8Array([9]) }],
    roots: [{ path: "2.root.json", bytes: new Uint8Array([2]) }],
    pointers: { status: new Uint8Array([1]) },
  };
  await store.addPublication(publication, NOW, { events: [], statusEvents: [], kits: [] });
  const open = await store.openPublication();
  assert.deepEqual(open?.publication, publication);
  await store.finishPublication(open!.id, NOW);
  assert.equal(await store.openPublication(), undefined);
});

test("a database serves one authority", async () => {
  const { store } = await emptyStore();
  await store.bindAuthority(new Uint8Array(32).fill(1), NOW);
  await store.bindAuthority(new Uint8Array(32).fill(1), NOW);
  await assert.rejects(store.bindAuthority(new Uint8Array(32).fill(2), NOW), /another authority/);
});
