/** What becomes of requests when proposals die, on a living vault: planned again, never under what was burned. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import { decodeLeaf, decodeManifest, formatHex, parseBase64, type Signer, sha256 } from "@viafabric/schemas";
import { folderFetch, readEntries } from "@viafabric/transparency-log/client";
import { detachBatches, signRejection } from "@viafabric/tuf";
import { proposeRenewal } from "./proposals.ts";
import { emptyDatabase, query, urlOf } from "./testing-database.test.ts";
import { approveAs, batchRequest, eventually, foundedVault, type LivingVault, TRUSTEES } from "./testing-vault.test.ts";

const [A, B] = TRUSTEES as [Signer, Signer];

async function ask(vault: LivingVault, operator: Signer, ...counts: readonly number[]): Promise<string> {
  const batches = counts.map((count) => batchRequest(count, vault.clock.now));
  const body = batches.length === 1 ? batches[0] : { batches };
  return String((await vault.send(operator, "POST", "/requests", body)).id);
}

const requestOf = (vault: LivingVault, id: string) => vault.send(undefined, "GET", `/requests/${id}`);

/** The proposal before the trustees, once it is another one than `before`. */
async function proposed(vault: LivingVault, request: string, before?: string): Promise<string> {
  return eventually(async () => {
    const { event } = await requestOf(vault, request);
    return typeof event === "string" && event !== before ? event : undefined;
  }, "a proposal");
}

async function rejectAs(vault: LivingVault, trustee: Signer, id: string, reason: string): Promise<void> {
  const { keyid, signature } = await signRejection(trustee, vault.authority, Buffer.from(id, "hex"), reason);
  await vault.send(trustee, "POST", `/events/${id}/rejections`, { keyid, reason, signature: formatHex(signature) });
}

/** What trustees would sign: the version, and of each batch its place, its indices and its token ids. */
async function planOf(vault: LivingVault, id: string) {
  const event = await vault.send(undefined, "GET", `/events/${id}`);
  const attachments = new Map(
    Object.entries(event.attachments as Record<string, string>).map(([name, text]) => [name, parseBase64(text)]),
  );
  const batches = detachBatches(attachments).batches.map(({ manifest, payloads }) => {
    const { seq, first, count } = decodeManifest(manifest);
    return { seq, first, count, tokens: payloads.map((payload) => formatHex(sha256(payload))) };
  });
  return { version: Number(event.version), state: String(event.state), batches };
}

const ranges = ({ batches }: Awaited<ReturnType<typeof planOf>>) =>
  batches.map(({ seq, first, count }) => [seq, first, count]);

async function approved(vault: LivingVault, id: string): Promise<void> {
  for (const trustee of [A, B]) await approveAs(vault, trustee, id);
  const look = async () => ((await planOf(vault, id)).state === "published" ? true : undefined);
  await eventually(look, "the publication");
}

/** The batches and tokens in the log, in their order. */
async function logOf(vault: LivingVault): Promise<string[]> {
  const files = folderFetch(path.join(vault.home.public, "log"));
  const [, size, root] = Buffer.from((await files("checkpoint"))!)
    .toString("utf8")
    .split("\n");
  const lines: string[] = [];
  for await (const entry of readEntries(files, { size: Number(size), root: parseBase64(root!) })) {
    const leaf = decodeLeaf(entry);
    if (leaf.type === "batch") lines.push(`batch ${leaf.seq}`);
    if (leaf.type === "token") lines.push(`token ${leaf.index}`);
  }
  return lines;
}

test("each way of dying burns version, indices and ids; what is asked for still is planned again, together", async () => {
  const database = await emptyDatabase();
  const vault = await foundedVault({ databaseUrl: urlOf(database) });
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  const versions: number[] = [];
  const ids = new Set<string>();
  const burn = async (id: string) => {
    const plan = await planOf(vault, id);
    versions.push(plan.version);
    for (const token of plan.batches.flatMap(({ tokens }) => tokens)) {
      assert.ok(!ids.has(token), "no token is planned twice");
      ids.add(token);
    }
    return plan;
  };

  // Superseded: the operator takes it back. Meanwhile two more requests wait, one of them for two batches.
  const first = await ask(vault, operator, 2);
  const withdrawn = await proposed(vault, first);
  assert.deepEqual(ranges(await burn(withdrawn)), [[0, 0, 2]]);
  const second = await ask(vault, operator, 3);
  vault.clock.now = vault.options.now() + 2;
  const third = await ask(vault, operator, 1, 2);
  assert.equal((await requestOf(vault, second)).state, "waiting", "one proposal at a time");
  await vault.send(operator, "POST", `/events/${withdrawn}/withdrawal`);
  assert.equal((await requestOf(vault, first)).state, "withdrawn");
  const together = await proposed(vault, second);
  assert.equal(await proposed(vault, third), together, "what waits is planned together");
  assert.deepEqual(ranges(await burn(together)), [
    [0, 2, 3],
    [1, 5, 1],
    [2, 6, 2],
  ]);

  // Expired: nobody answers for two weeks.
  // The signer, a process of its own, goes by the machine's clock; so the life is made shorter, behind the vault's back.
  await query(
    database,
    `ALTER TABLE "event" DISABLE TRIGGER keep_event; UPDATE "event" SET "expires" = 1 WHERE "state" = 'open';
     ALTER TABLE "event" ENABLE TRIGGER keep_event`,
  );
  vault.service.sequencer.wake();
  const again = await proposed(vault, second, together);
  assert.equal((await planOf(vault, together)).state, "expired");
  assert.equal(await proposed(vault, third, together), again);
  assert.deepEqual(ranges(await burn(again)), [
    [0, 8, 3],
    [1, 11, 1],
    [2, 12, 2],
  ]);

  // Rejected: the operator reads why, and nothing is planned by itself.
  await rejectAs(vault, A, again, "too many at once");
  await rejectAs(vault, B, again, "as A says");
  const { state, refusal } = await requestOf(vault, second);
  assert.equal(state, "rejected");
  assert.match(String(refusal), /too many at once; .*as A says/);
  const fourth = await ask(vault, operator, 1, 1);
  const last = await proposed(vault, fourth);
  assert.deepEqual(ranges(await burn(last)), [
    [0, 14, 1],
    [1, 15, 1],
  ]);
  assert.equal((await requestOf(vault, third)).state, "rejected");

  await approved(vault, last);
  assert.equal((await requestOf(vault, fourth)).state, "published");
  assert.deepEqual(versions, [2, 3, 4, 5], "versions only rise");
  assert.deepEqual(await logOf(vault), ["batch 0", "token 14", "batch 1", "token 15"]);
  const head = JSON.parse(await readFile(path.join(vault.home.public, "tuf/metadata/5.batches.json"), "utf8"));
  assert.equal(head.signed.version, 5);

  // And the next one goes on from there, also after a restart.
  await vault.service.stop();
  await vault.start();
  const fifth = await proposed(vault, await ask(vault, operator, 2));
  assert.deepEqual(ranges(await burn(fifth)), [[2, 16, 2]]);
  await approved(vault, fifth);
});

test("a proposal that the trust files no longer allow is superseded, and its request is refused with the reason", async () => {
  const vault = await foundedVault();
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  const request = await ask(vault, operator, 1);
  const batch = await proposed(vault, request);
  const { station } = batchRequest(1, vault.clock.now);
  const { id } = await vault.send(operator, "POST", "/trust-requests", { add: [], remove: [station] });
  const targets = await proposed(vault, String(id));
  await approveAs(vault, A, targets);
  await approveAs(vault, B, targets);
  const refused = await eventually(async () => {
    const found = await requestOf(vault, request);
    return found.state === "refused" ? found : undefined;
  }, "the refusal");
  assert.match(String(refused.refusal), /ERR_BATCH_KEY/);
  const event = await vault.send(undefined, "GET", `/events/${batch}`);
  assert.equal(event.state, "superseded");
  assert.match(String(event.endReason), /not allowed any more/);
  await assert.rejects(approveAs(vault, A, batch), /ERR_PROPOSAL_CLOSED/);
});

test("a renewal that nobody has signed yet makes room for a request", async () => {
  const vault = await foundedVault();
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  const { desk } = vault.service.sequencer;
  const { trusted, statement } = desk.need();
  const renewal = proposeRenewal({
    ...desk.deps,
    trusted,
    statement,
    log: desk.log.head,
    manifests: await desk.manifests(),
    plannedEnd: 0,
    lastVersion: 1,
    now: vault.options.now(),
  });
  await desk.deps.store.addEvent(renewal);
  const id = formatHex(renewal.proposal.id);
  const batch = await proposed(vault, await ask(vault, operator, 1));
  const { state, version } = await planOf(vault, id);
  assert.deepEqual([state, version], ["superseded", 2]);
  await assert.rejects(approveAs(vault, A, id), /ERR_PROPOSAL_CLOSED/);
  assert.equal((await planOf(vault, batch)).version, 3);
});
