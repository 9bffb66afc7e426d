/** Notifications, against real receivers: once each, whatever receivers, folders and crashes do. */
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { CodedError, formatHex, type Signer, utf8 } from "@viafabric/schemas";
import { type Expiry, expiryOf, signMetadata, signRejection } from "@viafabric/tuf";
import { DAY, KEYS, NOW } from "./fixtures.test.ts";
import { homeAt } from "./home.ts";
import { NEWS_SECONDS, newsOfLifetimes } from "./news.ts";
import { type Channel, expiriesOf, Notifier, openChannels, testNews } from "./notifier.ts";
import { parseNotifyConfig } from "./notify-config.ts";
import { authority, propose, type TestVault, testVault, world } from "./testing-app.test.ts";
import { query } from "./testing-database.test.ts";

const [A, B, C, D, E] = world.trustees as [Signer, Signer, Signer, Signer, Signer];
const SECRET = "only a test, and long enough to be one";

interface Received {
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  readonly url: string;
}

/** A receiver that writes down what it gets. @param answer to the n-th, from 0 */
async function receiver(answer: (response: ServerResponse, n: number) => void = (response) => response.end()) {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      received.push({ headers: request.headers, body: Buffer.concat(parts).toString(), url: request.url! });
      answer(response, received.length - 1);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { received, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, server };
}

async function channelsFor(config: object): Promise<{ readonly channels: readonly Channel[]; readonly root: string }> {
  const root = await mkdtemp(path.join(tmpdir(), "vault-notify-"));
  after(() => rm(root, { recursive: true, force: true }));
  await writeFile(path.join(root, "secret"), SECRET, { mode: 0o600 });
  await writeFile(path.join(root, "notify.json"), JSON.stringify(config));
  return { channels: await openChannels(homeAt(root), authority), root };
}

/** One piece of news, whatever the clock says. */
const ONE = [expiryOf("root", NOW - 2, NOW - 1, NOW)];

const hook = (url: string, more: object = {}) => ({ name: "ops", url, secretFile: "secret", ...more });

function notifier(vault: TestVault, channels: readonly Channel[], expiries: readonly Expiry[] = []) {
  const reports: string[] = [];
  const { store, clock } = vault;
  const deps = { store, authority, channels, expiries: async () => expiries, now: () => clock.now };
  return { reports, observer: new Notifier({ ...deps, report: (line) => reports.push(line) }) };
}

const idsOf = (received: readonly Received[]) => received.map(({ body }) => JSON.parse(body).id as string);

async function approveAs(vault: TestVault, trustee: Signer, { id, signed } = vault.proposal): Promise<void> {
  const { keyid, sig } = await signMetadata(trustee, signed);
  await vault.send(trustee, "POST", `/events/${formatHex(id)}/approvals`, { keyid, signature: formatHex(sig) });
}

const stateIn = (vault: TestVault) =>
  query(vault.target, `SELECT "state", "attempts" FROM "notification" ORDER BY "id"`);

test("what happens to a proposal is told once, signed, also across restarts", async () => {
  const vault = await testVault();
  const { received, url } = await receiver();
  const { channels } = await channelsFor({ webhooks: [hook(url)] });
  const look = async () => notifier(vault, channels).observer.look();
  const hex = formatHex(vault.proposal.id);
  await look();
  await approveAs(vault, A);
  const { keyid, reason, signature } = await signRejection(B, authority, vault.proposal.id, "twice as many");
  const body = { keyid, reason, signature: formatHex(signature) };
  await vault.send(B, "POST", `/events/${hex}/rejections`, body);
  for (let restart = 0; restart < 3; restart++) await look();
  vault.clock.now += 1800;
  await look();
  for (const trustee of [C, D]) await approveAs(vault, trustee);
  await look();
  await approveAs(vault, E);
  await look();
  const dead = await propose(vault.store, 10);
  await vault.store.moveEvent(dead.id, { state: "superseded", at: vault.clock.now, reason: "taken back" });
  await look();
  await look();
  const mine = idsOf(received).filter((id) => id.includes(hex));
  assert.equal(new Set(idsOf(received)).size, received.length, "nothing is told twice");
  assert.deepEqual(
    mine.map((id) => id.split("/")[2]),
    ["proposed", "approved", "rejected", "expiring", "approved", "approved", "ready", "approved"],
  );
  for (const { body, headers } of received) {
    const hmac = createHmac("sha256", SECRET).update(body).digest("hex");
    assert.equal(headers["via-hmac"], `sha256=${hmac}`);
    assert.equal(JSON.parse(body).authority, formatHex(authority));
    assert.ok(!body.includes(SECRET) && !JSON.stringify(headers).includes(SECRET));
  }
  const told = received.map(({ body }) => JSON.parse(body));
  assert.equal(told.find(({ kind }) => kind === "rejected").reason, "twice as many");
  const end = told.find(({ id }) => id === `event/${formatHex(dead.id)}/dead`);
  assert.deepEqual([end.reason, end.event.version], ["taken back", 10]);
  assert.match(told.at(-3).text, /approved/);
});

test("a receiver that is away is tried again; one that may have heard, or sends elsewhere, is not", async () => {
  const elsewhere = await receiver();
  const answers: Record<
    string,
    { answer: (response: ServerResponse, n: number) => void; state: string; calls: number }
  > = {
    "busy twice": {
      answer: (response, n) => response.writeHead(n < 2 ? 503 : 204).end(),
      state: "sent",
      calls: 3,
    },
    "refused for good": { answer: (response) => response.writeHead(403).end("go away"), state: "failed", calls: 1 },
    "sent elsewhere": {
      answer: (response) => response.writeHead(307, { location: elsewhere.url }).end(),
      state: "failed",
      calls: 1,
    },
    "heard, and gone before it answered": { answer: (response) => response.destroy(), state: "unknown", calls: 1 },
    "busy for ever": { answer: (response) => response.writeHead(500).end(), state: "failed", calls: 12 },
  };
  const vault = await testVault();
  const told = async (what: string, url: string) => {
    const { channels } = await channelsFor({ webhooks: [hook(url, { on: ["lifetime"] })] });
    const { observer, reports } = notifier(vault, channels, [expiryOf(what, NOW - 2, NOW - 1, NOW)]);
    for (let day = 0; day < 14; day++) {
      await observer.look();
      vault.clock.now += DAY / 2;
    }
    const rows = await query(
      vault.target,
      `SELECT "state", "attempts" FROM "notification" WHERE "id" LIKE '%/${what}/%'`,
    );
    return { rows, reports };
  };
  for (const [name, { answer, state, calls }] of Object.entries(answers)) {
    const { received, url } = await receiver(answer);
    const { rows, reports } = await told(name, url);
    assert.equal(received.length, calls, name);
    assert.deepEqual(rows, [{ state, attempts: calls }], name);
    assert.equal(reports.length, state === "sent" ? calls - 1 : calls, name);
  }
  assert.equal(elsewhere.received.length, 0, "news follows no redirect");
  const closed = await receiver();
  closed.server.close();
  const { rows } = await told("nobody there", closed.url);
  assert.deepEqual(rows, [{ state: "failed", attempts: 12 }], "nothing can have arrived, so it was tried again");
});

test("what was being told when the process died is not told again, and three observers tell it once", async () => {
  const vault = await testVault();
  const { received, url } = await receiver();
  const { channels } = await channelsFor({ webhooks: [hook(url, { on: ["lifetime"] })] });
  const dying = channels.map((channel) => ({
    ...channel,
    tell: async (): Promise<never> => {
      throw new Error("the process dies here");
    },
  }));
  await assert.rejects(notifier(vault, dying, ONE).observer.look(), /dies here/);
  assert.deepEqual(await stateIn(vault), [{ state: "sending", attempts: 1 }]);
  const { observer, reports } = notifier(vault, channels, ONE);
  await observer.recover();
  for (let hour = 0; hour < 3; hour++) {
    vault.clock.now += 3600;
    await observer.look();
  }
  assert.deepEqual([received.length, reports.length], [0, 1], "it may have arrived");
  assert.deepEqual(await stateIn(vault), [{ state: "unknown", attempts: 1 }]);

  const lives = Array.from({ length: 15 }, (_, i) => expiryOf(`key ${i}`, NOW - 2, NOW - 1, NOW));
  await Promise.all([1, 2, 3].map(() => notifier(vault, channels, lives).observer.look()));
  await notifier(vault, channels, lives).observer.look();
  const ids = idsOf(received);
  assert.deepEqual([ids.length, new Set(ids).size], [15, 15]);
});

test("a mail is one whole file for each recipient, and a folder that cannot be written waits", async () => {
  const vault = await testVault();
  const to = ["amara@example.org", "bjarne@example.org"];
  const mail = { name: "trustees", folder: "spool", from: "vault@example.org", to, on: ["rejected"] };
  const { channels, root } = await channelsFor({ mailFolders: [mail] });
  const evil = "no\r\nBcc: everybody@example.org\r\n\r\nnot agreed — sorry";
  const { keyid, signature } = await signRejection(A, authority, vault.proposal.id, evil);
  const url = `/events/${formatHex(vault.proposal.id)}/rejections`;
  const sent = await vault.send(A, "POST", url, { keyid, reason: evil, signature: formatHex(signature) });
  assert.equal(sent.status, 200);
  const spool = path.join(root, "spool");
  await writeFile(spool, "a file where the folder belongs");
  await notifier(vault, channels).observer.look();
  assert.deepEqual(
    await stateIn(vault),
    [1, 2].map(() => ({ state: "pending", attempts: 1 })),
  );
  await rm(spool);
  vault.clock.now += 60;
  for (let again = 0; again < 2; again++) await notifier(vault, channels).observer.look();
  const names = await readdir(spool);
  assert.equal(names.length, 2);
  const mails = await Promise.all(names.map((name) => readFile(path.join(spool, name), "latin1")));
  assert.deepEqual(mails.map((text) => /^To: (.*)$/m.exec(text)![1]!.trim()).sort(), to);
  for (const text of mails) {
    const [head, body] = text.split("\r\n\r\n") as [string, string];
    assert.ok(text.split("\r\n").every((line) => line.length <= 998 && !line.includes("\n")));
    assert.ok(!/^Bcc:/im.test(head), "what a trustee writes begins no header");
    const shown = Buffer.from(body, "base64").toString("utf8");
    assert.match(shown, /reason {5}"no\\r\\nBcc/);
    assert.match(shown, /via trustee status/);
  }
});

test("alarms at 50 and 80 % of each lifetime, and at its end; each once", async () => {
  const vault = await testVault();
  const { received, url } = await receiver();
  const { channels } = await channelsFor({ webhooks: [hook(url, { on: ["lifetime"] })] });
  for (const share of [0.4, 0.5, 0.6, 0.8, 0.9, 1, 1.1]) {
    vault.clock.now = NOW + share * 100 * DAY;
    const lives = ["root", "snapshot"].map((what) => expiryOf(what, NOW, NOW + 100 * DAY, vault.clock.now));
    for (let again = 0; again < 2; again++) await notifier(vault, channels, lives).observer.look();
  }
  assert.deepEqual(
    idsOf(received).map((id) =>
      id
        .split("/")
        .filter((_, i) => i !== 2)
        .join(" "),
    ),
    ["50%", "80%", "expired"].flatMap((alarm) => ["root", "snapshot"].map((what) => `lifetime ${what} ${alarm}`)),
  );
  const expires = { root: NOW, targets: NOW, batches: NOW };
  const keys = [
    { key: KEYS.issuer.publicKey, purpose: "issuer", class: "software", from: NOW - DAY, until: NOW },
  ] as const;
  const online = ["snapshot", "timestamp", "revocations"].map((role) => ({ role, from: NOW - DAY, expires: NOW }));
  const all = newsOfLifetimes(expiriesOf({ expires, keys }, online, NOW)).map(
    ({ id }) => id.split("/")[1]!.split(" ")[0],
  );
  assert.deepEqual(all, ["root", "targets", "batches", "snapshot", "timestamp", "revocations", "issuer"]);
});

test("what is no news any more is forgotten after a month; an alarm whose life goes on is not told again", async () => {
  const vault = await testVault();
  const { received, url } = await receiver();
  const { channels } = await channelsFor({ webhooks: [hook(url, { on: ["lifetime"] })] });
  const root = expiryOf("root", NOW - 60 * DAY, NOW + 40 * DAY, NOW);
  await notifier(vault, channels, [root, expiryOf("timestamp", NOW - 20 * DAY, NOW + 10 * DAY, NOW)]).observer.look();
  assert.equal(received.length, 2);
  for (const [days, rows] of [
    [15, 2],
    [35, 1],
    [36, 1],
  ] as const) {
    vault.clock.now = NOW + days * DAY;
    await notifier(vault, channels, [root]).observer.look();
    assert.equal((await stateIn(vault)).length, rows, `after ${days} days`);
  }
  assert.equal(received.length, 2, "nothing is told twice");
});

test("the past is not told to whoever is named today", async () => {
  const vault = await testVault();
  const { received, url } = await receiver();
  const { channels } = await channelsFor({ webhooks: [hook(url, { on: ["proposed"] })] });
  vault.clock.now = NOW + NEWS_SECONDS;
  await notifier(vault, channels).observer.look();
  assert.equal(received.length, 0);
});

test("notify.json is read strictly, and a secret that others can read is refused", async () => {
  const mail = { name: "m", folder: "s", from: "a@b.c", to: ["d@e.f"] };
  const bad: readonly unknown[] = [
    [],
    { webhook: [] },
    { webhooks: {} },
    { webhooks: [{ name: "ops", url: "https://a.example" }] },
    { webhooks: [hook("ftp://a.example")] },
    { webhooks: [hook("https://user:pass@a.example")] },
    { webhooks: [hook("https://a.example", { name: "Ops!" })] },
    { webhooks: [hook("https://a.example", { on: ["everything"] })] },
    { webhooks: [hook("https://a.example", { retries: 3 })] },
    { webhooks: [hook("https://a.example"), hook("https://b.example")] },
    { webhooks: Array.from({ length: 9 }, (_, i) => hook("https://a.example", { name: `n${i}` })) },
    { mailFolders: [{ ...mail, to: [] }] },
    { mailFolders: [{ ...mail, to: ["d@e.f\r\nBcc: g@h.i"] }] },
    { mailFolders: [{ ...mail, from: "Vault <a@b.c>" }] },
  ];
  for (const value of bad)
    assert.throws(
      () => parseNotifyConfig(utf8(JSON.stringify(value))),
      (error) => error instanceof CodedError && error.code === "ERR_NOTIFY",
      JSON.stringify(value),
    );
  assert.throws(() => parseNotifyConfig(new Uint8Array(randomBytes(40))), { code: "ERR_NOTIFY" });
  const { root } = await channelsFor({ webhooks: [hook("http://127.0.0.1:1/")], mailFolders: [mail] });
  await chmod(path.join(root, "secret"), 0o644);
  await assert.rejects(openChannels(homeAt(root), authority), { code: "ERR_NOTIFY" });
  await writeFile(path.join(root, "secret"), "short");
  await chmod(path.join(root, "secret"), 0o600);
  await assert.rejects(openChannels(homeAt(root), authority), { code: "ERR_NOTIFY" });
  const nobody = path.join(root, "nobody");
  await mkdir(nobody);
  assert.deepEqual(await openChannels(homeAt(nobody), authority), []);
  assert.equal(testNews("1", NOW).kind, "test");
});
