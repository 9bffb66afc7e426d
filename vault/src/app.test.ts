import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import {
  type Action,
  decodeKit,
  EVENT_CONTEXT,
  encodeEventBody,
  encodeReceipt,
  formatBase64,
  formatHex,
  formatWords,
  type IndexRange,
  type Receipt,
  receiptSignatureInput,
  type Signer,
  sha256,
  signingInput,
} from "@viafabric/schemas";
import { keyId, parseMetadata, signMetadata, signRejection } from "@viafabric/tuf";
import Fastify from "fastify";
import { compactDecrypt, exportJWK, generateKeyPair } from "jose";
import { BATCH_FREE_BYTES_MIN, REQUESTS_WAITING_MAX, STATUS_EVENTS_OPEN_MAX } from "./admission.ts";
import { requireSignedRequests, type Who } from "./auth.ts";
import { KEYS, NOW, namedSigner, requestJson } from "./fixtures.test.ts";
import type { DatabaseTarget } from "./postgres.ts";
import { ACTORS, authority, COUNT, kitId, testVault, trusted, world } from "./testing-app.test.ts";
import { query } from "./testing-database.test.ts";

/** How many rows every table has: what "nothing changed" means. */
async function rows(target: DatabaseTarget): Promise<Record<string, unknown>> {
  const tables = await query(target, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
  const names = tables.map(({ tablename }) => String(tablename));
  const counts = await Promise.all(names.map((name) => query(target, `SELECT count(*)::int AS n FROM "${name}"`)));
  return Object.fromEntries(names.map((name, i) => [name, counts[i]![0]!.n]));
}

async function statusEvent(action: Action, ranges: IndexRange[], signer: Signer, nonce = randomBytes(16)) {
  const body = encodeEventBody({
    authority,
    action,
    ranges,
    reason: "a test",
    notAfter: NOW + 3600,
    undoes: [],
    nonce: new Uint8Array(nonce),
  });
  const signature = await signer.sign(signingInput(EVENT_CONTEXT, authority, body));
  return { id: formatHex(sha256(body)), body: formatBase64(body), signature: formatBase64(signature) };
}

async function receipts(count: number, result: Receipt["result"] = "written"): Promise<string[]> {
  const files: string[] = [];
  let previous: Uint8Array = new Uint8Array(32);
  for (let seq = 0; seq < count; seq++) {
    const receipt: Receipt = {
      authority,
      kit: kitId,
      seq,
      previous,
      index: seq,
      payloadHash: sha256(world.material.batch.payloads[seq]!),
      uidMac: new Uint8Array(32),
      result,
      imageHash: new Uint8Array(32),
      locked: true,
      time: NOW,
    };
    const { publicKey } = KEYS.station;
    const signature = await KEYS.station.sign(receiptSignatureInput(publicKey.algorithm, receipt));
    const bytes = encodeReceipt(receipt, { algorithm: publicKey.algorithm, kid: publicKey.kid, signature });
    previous = sha256(bytes);
    files.push(formatBase64(bytes));
  }
  return files;
}

test("every state-changing route refuses whoever is not named for it, and changes nothing", async () => {
  const vault = await testVault();
  const { guardedRoutes } = vault.app;
  // The framework's own table: a route that escaped the guard would be counted here and not there.
  const table = vault.app.printRoutes({ commonPrefix: false });
  const writing = [...table.matchAll(/\(([^)]*)\)/g)].flatMap(([, methods]) => methods!.split(", "));
  assert.equal(writing.filter((method) => !["GET", "HEAD", "OPTIONS"].includes(method)).length, guardedRoutes.length);
  assert.ok(guardedRoutes.length >= 7);
  const before = await rows(vault.target);
  for (const { method, url, who } of guardedRoutes) {
    const at = url.replace(":id", url.startsWith("/kits") ? formatHex(kitId) : formatHex(vault.proposal.id));
    const body = { anything: true };
    const refused = async (signer: Signer | undefined, headers?: Record<string, string>): Promise<void> => {
      const { status, json } = await vault.send(signer, method, at, body, headers);
      assert.equal(status, 401, `${method} ${url} answers ${status} ${JSON.stringify(json)}`);
    };
    const right = ACTORS[who[0]!];
    await refused(undefined);
    await refused(namedSigner("a stranger"));
    for (const [role, signer] of Object.entries(ACTORS)) if (!who.includes(role as Who)) await refused(signer);
    await refused(undefined, await vault.signed(right, method, at, { anything: false }));
    await refused(undefined, await vault.signed(right, method, `${at}x`, body));
    await refused(undefined, await vault.signed(right, "GET", at, body));
    await refused(undefined, await vault.signed(right, method, at, body, NOW - 601));
    await refused(undefined, await vault.signed(right, method, at, body, NOW + 601));
    const proof = await vault.signed(right, method, at, body);
    await refused(undefined, { ...proof, "via-nonce": "AAAAAAAAAAAAAAAAAAAAAA" });
    await refused(undefined, { authorization: "Bearer anything" });
  }
  assert.deepEqual(await rows(vault.target), before);
});

test("a route that changes state and names nobody does not start", async () => {
  const app = Fastify();
  requireSignedRequests(app, { trust: () => trusted, now: () => NOW });
  app.get("/read", async () => ({}));
  assert.throws(() => app.post("/open", async () => ({})), /names nobody/);
  assert.throws(() => app.delete("/open", { config: { who: [] } }, async () => ({})), /names nobody/);
});

test("a request is accepted once; sent again it is refused and nothing changes", async () => {
  const vault = await testVault();
  const body = requestJson(2);
  const proof = await vault.signed(ACTORS.operator, "POST", "/requests", body);
  const first = await vault.send(undefined, "POST", "/requests", body, proof);
  assert.equal(first.status, 202);
  const before = await rows(vault.target);
  const again = await vault.send(undefined, "POST", "/requests", body, proof);
  assert.equal(again.status, 401);
  assert.equal(again.json.code, "ERR_REPLAY");
  assert.match(again.headers["content-type"]!, /problem\+json/);
  assert.deepEqual(await rows(vault.target), before);
  const found = await vault.send(undefined, "GET", `/requests/${first.json.id}`);
  assert.equal(found.json.state, "waiting");
  assert.equal(JSON.stringify(found.json).includes("did:key"), false, "subjects are nobody else's business");
});

test("approvals at the same moment both count, the same trustee counts once, and the k-th freezes the file", async () => {
  const vault = await testVault();
  const { id, signed } = vault.proposal;
  const url = `/events/${formatHex(id)}/approvals`;
  const approve = async (trustee: Signer) => {
    const { keyid, sig } = await signMetadata(trustee, signed);
    return vault.send(trustee, "POST", url, { keyid, signature: formatHex(sig) });
  };
  const [a, b, c, d] = world.trustees as [Signer, Signer, Signer, Signer];
  const both = await Promise.all([approve(a), approve(b)]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  );
  const again = await approve(a);
  assert.deepEqual(again.json, { state: "open", approved: 2, rejected: 0, late: 0 });
  const forged = await vault.send(a, "POST", url, {
    keyid: keyId(c.publicKey),
    signature: formatHex((await signMetadata(a, signed)).sig),
  });
  assert.equal(forged.status, 403, "nobody signs for another");
  const third = await approve(c);
  assert.deepEqual(third.json, { state: "ready", approved: 3, rejected: 0, late: 0 });
  const late = await approve(d);
  assert.deepEqual(late.json, { state: "ready", approved: 3, rejected: 0, late: 1 }, "kept, and not counted");
  const event = await vault.store.event(id);
  const { signatures } = parseMetadata("targets", event!.metadata!);
  assert.deepEqual(
    signatures.map(({ keyid }) => keyid).sort(),
    [a, b, c].map(({ publicKey }) => keyId(publicKey)).sort(),
  );
});

test("n - k + 1 rejections end a proposal, and nobody speaks twice", async () => {
  const vault = await testVault();
  const { id, signed } = vault.proposal;
  const url = `/events/${formatHex(id)}`;
  const reject = async (trustee: Signer) => {
    const { keyid, reason, signature } = await signRejection(trustee, authority, id, "wrong quota");
    return vault.send(trustee, "POST", `${url}/rejections`, { keyid, reason, signature: formatHex(signature) });
  };
  const [a, b, c] = world.trustees as [Signer, Signer, Signer];
  assert.deepEqual((await reject(a)).json, { state: "open", approved: 0, rejected: 1, late: 0 });
  const { keyid, sig } = await signMetadata(a, signed);
  const both = await vault.send(a, "POST", `${url}/approvals`, { keyid, signature: formatHex(sig) });
  assert.equal(both.status, 409);
  await Promise.all([reject(b), reject(c)]);
  const { json } = await vault.send(undefined, "GET", url);
  assert.equal(json.state, "rejected");
  assert.equal((json.rejections as unknown[]).length, 3);
  assert.deepEqual(Object.keys(json.attachments as object), ["head.cbor"]);
  const open = await vault.send(undefined, "GET", "/events?state=open");
  assert.deepEqual(open.json.events, []);
});

test("a station gets its kit, brings receipts, and only then the officer may release", async () => {
  const vault = await testVault();
  const { publicKey, privateKey } = await generateKeyPair("ECDH-ES", { crv: "X25519", extractable: true });
  const x25519 = Buffer.from((await exportJWK(publicKey)).x!, "base64url").toString("base64");
  const got = await vault.send(KEYS.station, "POST", "/kits", { batch: 0, publicKey: x25519 });
  assert.equal(got.status, 200);
  const { plaintext } = await compactDecrypt(String(got.json.kit), privateKey);
  assert.equal(decodeKit(plaintext).tokens.length, COUNT);
  const other = await vault.send(KEYS.otherStation, "POST", "/kits", { batch: 0, publicKey: x25519 });
  assert.equal(other.status, 404, "another station's kit does not exist for this one");

  const all = [{ first: 0, count: COUNT }];
  const early = await vault.send(KEYS.release, "POST", "/status-events", await release(all));
  assert.equal(early.status, 409);
  const url = `/kits/${got.json.id}/receipts`;
  const files = await receipts(COUNT);
  const gap = await vault.send(KEYS.station, "POST", url, { receipts: files.slice(1) });
  assert.equal(gap.json.code, "ERR_RECEIPT_CHAIN");
  assert.deepEqual((await vault.send(KEYS.station, "POST", url, { receipts: files.slice(0, 2) })).json, {
    added: 2,
    held: 2,
  });
  assert.deepEqual((await vault.send(KEYS.station, "POST", url, { receipts: files })).json, { added: 2, held: 4 });
  const fork = await receipts(1, "void");
  assert.equal((await vault.send(KEYS.station, "POST", url, { receipts: fork })).status, 409);
  assert.equal((await vault.send(KEYS.otherStation, "POST", url, { receipts: files })).status, 404);

  const wrong = await statusEvent("release", all, world.trustees[0]!);
  const byTrustee = await vault.send(world.trustees[0], "POST", "/status-events", send(wrong));
  assert.equal(byTrustee.status, 401, "a trustee does not release");
  const released = await vault.send(KEYS.release, "POST", "/status-events", await release(all));
  assert.equal(released.status, 200);
  assert.equal((released.json.signatures as unknown[]).length, 1);
});

const send = ({ body, signature }: { body: string; signature: string }) => ({ body, signature });
const release = async (ranges: IndexRange[]) => send(await statusEvent("release", ranges, KEYS.release));

test("a status event gathers signatures, each key once, of those who have a say", async () => {
  const vault = await testVault();
  const [a, b] = world.trustees as [Signer, Signer];
  const event = await statusEvent("revoke", [{ first: 1, count: 1 }], a);
  assert.equal((await vault.send(a, "POST", "/status-events", send(event))).json.threshold, 2);
  assert.equal((await vault.send(a, "POST", "/status-events", send(event))).status, 200, "the same again is no harm");
  const url = `/status-events/${event.id}/signatures`;
  const body = Buffer.from(event.body, "base64");
  const sign = async (signer: Signer) => ({
    signature: formatBase64(await signer.sign(signingInput(EVENT_CONTEXT, authority, body))),
  });
  const both = await Promise.all([
    vault.send(b, "POST", url, await sign(b)),
    vault.send(a, "POST", url, await sign(a)),
  ]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  );
  assert.equal((await vault.store.statusEvent(sha256(body)))?.signatures.length, 2);
  assert.equal((await vault.send(KEYS.release, "POST", url, await sign(KEYS.release))).status, 401);
  assert.equal((await vault.send(b, "POST", url, await sign(a))).status, 403);
  const foreign = encodeEventBody({
    authority: new Uint8Array(32),
    action: "suspend",
    ranges: [{ first: 0, count: 1 }],
    reason: "",
    notAfter: NOW + 3600,
    undoes: [],
    nonce: new Uint8Array(16),
  });
  const answer = await vault.send(a, "POST", "/status-events", {
    body: formatBase64(foreign),
    signature: event.signature,
  });
  assert.equal(answer.json.code, "ERR_AUTHORITY");
});

test("public files are served as they are, cached by their kind, and nothing else is", async () => {
  const { app, send } = await testVault();
  const leaves = await app.inject("/public/batch/0/leaves.bin");
  assert.deepEqual(new Uint8Array(leaves.rawPayload), world.material.leaves);
  assert.match(String(leaves.headers["cache-control"]), /immutable/);
  assert.equal(leaves.headers["access-control-allow-origin"], "*");
  const { etag } = leaves.headers;
  const again = await app.inject({ url: "/public/batch/0/leaves.bin", headers: { "if-none-match": String(etag) } });
  assert.equal(again.statusCode, 304);
  assert.equal((await app.inject("/public/log/checkpoint")).headers["cache-control"], "no-store");
  for (const name of [
    "../secret",
    "..%2fsecret",
    "batch/../../secret",
    "batch//0",
    "batch/0",
    ".hidden",
    "a\0b",
    "none",
    "",
  ]) {
    const { status, json } = await send(undefined, "GET", `/public/${name}`);
    assert.equal(status === 404 || status === 400, true, `${name} answers ${status}`);
    assert.match(String(json.code), /^ERR_/);
  }
});

test("people read a page, machines read health, batches and OpenAPI 3.1", async () => {
  const { app, send, trouble } = await testVault();
  const page = await app.inject("/");
  assert.match(page.body, new RegExp(formatWords(authority)));
  assert.match(String(page.headers["content-security-policy"]), /default-src/);
  const { counts, ...health } = (await send(undefined, "GET", "/healthz")).json;
  assert.deepEqual(health, { ok: true, authority: formatHex(authority), now: NOW, logSize: 7 });
  trouble.problem = "no room";
  const ill = await send(undefined, "GET", "/healthz");
  assert.deepEqual([ill.status, ill.json.ok, ill.json.problem, ill.json.logSize], [503, false, "no room", 7]);
  delete trouble.problem;
  assert.equal((counts as { tokensLogged: number }).tokensLogged, COUNT);
  const { json } = await send(undefined, "GET", "/batches");
  assert.equal((json.batches as { count: number }[])[0]?.count, COUNT);
  const { profiles, ...signed } = (await send(undefined, "GET", "/capabilities")).json;
  const { targetsVersion, ids, policy } = trusted;
  const targets = { version: targetsVersion, id: formatHex(ids.targets) };
  assert.deepEqual(signed, {
    authority: formatHex(authority),
    targets,
    policy: { lineage: formatHex(policy!.lineage) },
  });
  const [basic] = profiles as { capability_profile_id: string; quotas: object; status_ages: object }[];
  assert.deepEqual([basic?.capability_profile_id, basic?.status_ages], ["edge-basic", { soft: 86_400, hard: 604_800 }]);
  assert.deepEqual(basic?.quotas, { cpu_hours: 10, gpu_minutes: 0, storage_gb: 5 });
  const openapi = (await send(undefined, "GET", "/openapi.json")).json;
  assert.equal(openapi.openapi, "3.1.0");
  for (const { url } of app.guardedRoutes)
    assert.ok(Object.hasOwn(openapi.paths as object, url.replace(":id", "{id}")), url);
});

test("a disk that fills up takes no batches, and still takes revocations", async () => {
  const vault = await testVault();
  vault.disk.free = BATCH_FREE_BYTES_MIN - 1;
  const before = await rows(vault.target);
  const refused = await vault.send(ACTORS.operator, "POST", "/requests", requestJson(1));
  assert.deepEqual([refused.status, refused.json.code], [507, "ERR_DISK_FULL"]);
  assert.match(String(refused.json.detail), /511 MiB are free .* 512 MiB are kept for revocations .* make room$/);
  assert.deepEqual(await rows(vault.target), before, "nothing was begun, and the nonce is not spent");
  const event = await statusEvent("revoke", [{ first: 1, count: 1 }], world.trustees[0]!);
  assert.equal((await vault.send(world.trustees[0], "POST", "/status-events", send(event))).status, 200);
  vault.disk.free = BATCH_FREE_BYTES_MIN;
  assert.equal((await vault.send(ACTORS.operator, "POST", "/requests", requestJson(1))).status, 202);
});

test("a queue that is full answers 503 and when to come again", async () => {
  const vault = await testVault();
  const sql = (text: string) => query(vault.target, text);
  await sql(`INSERT INTO "request" ("id", "kind", "kid", "body", "proof", "received", "state")
    SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), 'batch', '\\x00', '\\x00', '', 1, 'waiting'
    FROM generate_series(1, ${REQUESTS_WAITING_MAX}) AS i`);
  const before = await rows(vault.target);
  const refused = await vault.send(ACTORS.operator, "POST", "/requests", requestJson(1));
  assert.deepEqual([refused.status, refused.json.code], [503, "ERR_BACKLOG"]);
  assert.match(refused.headers["retry-after"]!, /^[1-9][0-9]*$/);
  assert.deepEqual(await rows(vault.target), before);
  const [a, b] = world.trustees as [Signer, Signer];
  const event = await statusEvent("revoke", [{ first: 1, count: 1 }], a);
  assert.equal((await vault.send(a, "POST", "/status-events", send(event))).status, 200, "requests keep no event out");
  await sql(`INSERT INTO "status_event" ("id", "body", "action", "state", "created", "not_after")
    SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), '\\x00', 'revoke', 'open', 1, 1
    FROM generate_series(1, ${STATUS_EVENTS_OPEN_MAX}) AS i`);
  const another = await statusEvent("revoke", [{ first: 2, count: 1 }], a);
  const full = await vault.send(a, "POST", "/status-events", send(another));
  assert.deepEqual([full.status, full.json.code], [503, "ERR_BACKLOG"]);
  const body = Buffer.from(event.body, "base64");
  const signature = formatBase64(await b.sign(signingInput(EVENT_CONTEXT, authority, body)));
  const signed = await vault.send(b, "POST", `/status-events/${event.id}/signatures`, { signature });
  assert.equal(signed.status, 200, "what is in the queue can be completed");
  await sql(`DELETE FROM "request"`);
  assert.equal((await vault.send(ACTORS.operator, "POST", "/requests", requestJson(1))).status, 202);
});

test("what does not fit a route is refused as a problem, and a huge body before it is read", async () => {
  const vault = await testVault();
  const bad = await vault.send(ACTORS.operator, "POST", "/requests", { ...requestJson(1), surprise: 1 });
  assert.equal(bad.json.code, "ERR_BATCH_REQUEST");
  const kit = await vault.send(KEYS.station, "POST", "/kits", { batch: "0", publicKey: "" });
  assert.equal(kit.json.code, "ERR_REQUEST_BODY");
  const url = `/events/${formatHex(vault.proposal.id)}/approvals`;
  const huge = await vault.send(world.trustees[0], "POST", url, { keyid: "a".repeat(100_000) });
  assert.equal(huge.status, 413);
  assert.equal((await vault.send(undefined, "GET", "/nothing")).json.code, "ERR_NOT_FOUND");
  assert.equal((await vault.send(undefined, "GET", `/events/${"0".repeat(64)}`)).status, 404);
});
