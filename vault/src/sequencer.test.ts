import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect, formatSignerConfig, readSignerConfig, startSigner } from "@viafabric/hsm/signer";
import { openKeystore } from "@viafabric/platform";
import { decodeSetFile, parseStatement, parseUndoList, statementHash } from "@viafabric/revocation";
import {
  type Algorithm,
  decodeKit,
  decodeManifest,
  EVENT_CONTEXT,
  encodeLeaf,
  encodeReceipt,
  formatBase64,
  formatHex,
  kidText,
  type PublicKey,
  parseBase64,
  parseNote,
  type Receipt,
  receiptSignatureInput,
  sha256,
  signingInput,
  verifyTranscript,
} from "@viafabric/schemas";
import { folderFetch, readEntries } from "@viafabric/transparency-log/client";
import { createEnrolmentCard } from "@viafabric/tuf";
import { compactDecrypt, exportJWK, generateKeyPair } from "jose";
import { namedSigner } from "./fixtures.test.ts";
import { heldKeys, makeKey, type RotatedKey, successorOf } from "./online-keys.ts";
import { type Published, readPublished } from "./published.ts";
import { startService } from "./service.ts";
import {
  approveAs,
  approvedBatch,
  batchRequest,
  eventually,
  foundedVault,
  type LivingVault,
  RELEASE,
  STATION,
  statusEventOf,
  TRUSTEES,
} from "./testing-vault.test.ts";

const [A, B] = TRUSTEES as [(typeof TRUSTEES)[0], (typeof TRUSTEES)[0]];

async function publishedBy(vault: LivingVault): Promise<Published> {
  const found = await readPublished(vault.home.public, new Uint8Array(await readFile(vault.home.pinnedRoot)));
  assert.ok(found);
  return found;
}

/** More than the rows of one page of an answer. */
const STUCK_EVENTS = 120;

const countsOf = (published: Published): number[] => published.statement.statement.planes.map(({ count }) => count);

async function isPublished(vault: LivingVault, url: string): Promise<void> {
  const look = async () => ((await vault.send(undefined, "GET", url)).state === "published" ? true : undefined);
  await eventually(look, `the publication of ${url}`);
}

async function receiptsFor(vault: LivingVault, sealed: string, privateKey: CryptoKey): Promise<string[]> {
  const kit = decodeKit((await compactDecrypt(sealed, privateKey)).plaintext);
  const files: string[] = [];
  let previous: Uint8Array = new Uint8Array(32);
  for (const [seq, { index }] of kit.tokens.entries()) {
    const leafEnd = (index - kit.first + 1) * 73;
    const receipt: Receipt = {
      authority: vault.authority,
      kit: kit.id,
      seq,
      previous,
      index,
      payloadHash: kit.leaves.slice(leafEnd - 32, leafEnd),
      uidMac: new Uint8Array(32),
      result: "written",
      imageHash: new Uint8Array(32),
      locked: true,
      time: vault.clock.now,
    };
    const { algorithm, kid } = STATION.publicKey;
    const signature = await STATION.sign(receiptSignatureInput(algorithm, receipt));
    const bytes = encodeReceipt(receipt, { algorithm, kid, signature });
    previous = sha256(bytes);
    files.push(formatBase64(bytes));
  }
  return files;
}

test("an authority founds itself, issues, releases, suspends, reinstates and revokes, across restarts", async () => {
  const vault = await foundedVault();
  const { home } = vault;
  const modes = [
    [home.root, 0o711],
    [home.public, 0o755],
    [home.private, 0o700],
    [home.db, 0o700],
  ] as const;
  for (const [folder, mode] of modes) assert.equal((await stat(folder)).mode & 0o777, mode, folder);
  const first = await publishedBy(vault);
  assert.equal(formatHex(first.trusted.authority), formatHex(vault.authority));
  assert.deepEqual([first.statement.statement.epoch, first.trusted.head.size], [1, 0]);

  await vault.start();
  const operator = await openKeystore(home.operator, "only a test");
  await isPublished(vault, `/events/${await approvedBatch(vault, operator, 5)}`);
  const issued = await publishedBy(vault);
  assert.deepEqual([issued.trusted.head.size, issued.trusted.head.next], [1, 5]);
  assert.deepEqual(countsOf(issued), [0, 0, 5], "nothing works before its release");
  const bundle = folderFetch(path.join(home.public, "batch/0"));
  for (const name of ["manifest.cbor", "leaves.bin", "tokens.bin", "log.proof"]) assert.ok(await bundle(name), name);

  const { publicKey, privateKey } = await generateKeyPair("ECDH-ES", { crv: "X25519", extractable: true });
  const x25519 = Buffer.from((await exportJWK(publicKey)).x!, "base64url").toString("base64");
  const kit = await vault.send(STATION, "POST", "/kits", { batch: 0, publicKey: x25519 });
  const receipts = await receiptsFor(vault, String(kit.kit), privateKey as CryptoKey);
  await vault.send(STATION, "POST", `/kits/${kit.id}/receipts`, { receipts });

  const release = await statusEventOf(vault, "release", 0, 5, RELEASE);
  await vault.send(RELEASE, "POST", "/status-events", { body: release.body, signature: release.signature });
  await isPublished(vault, `/status-events/${release.id}`);
  assert.deepEqual(countsOf(await publishedBy(vault)), [0, 0, 0]);

  await vault.service.stop();
  await vault.start();
  // Revocations that one trustee alone wants: they wait for a second one, and hold up nobody else's.
  for (let i = 0; i < STUCK_EVENTS; i++) {
    const alone = await statusEventOf(vault, "revoke", 4, 1, A);
    await vault.send(A, "POST", "/status-events", { body: alone.body, signature: alone.signature });
  }
  const suspend = await statusEventOf(vault, "suspend", 1, 2, A);
  await vault.send(A, "POST", "/status-events", { body: suspend.body, signature: suspend.signature });
  await isPublished(vault, `/status-events/${suspend.id}`);
  assert.deepEqual(countsOf(await publishedBy(vault)), [0, 2, 0]);

  const leaf = Number((await vault.send(undefined, "GET", `/status-events/${suspend.id}`)).leafIndex);
  const reinstate = await statusEventOf(vault, "reinstate", 2, 1, A, [leaf]);
  await vault.send(A, "POST", "/status-events", { body: reinstate.body, signature: reinstate.signature });
  const again = await signatureOf(reinstate.body, B, vault);
  await vault.send(B, "POST", `/status-events/${reinstate.id}/signatures`, { signature: again });
  await isPublished(vault, `/status-events/${reinstate.id}`);
  const after = await publishedBy(vault);
  assert.deepEqual(countsOf(after), [0, 1, 0]);
  const { epoch } = after.statement.statement;
  const files = folderFetch(home.public);
  const undone = parseUndoList((await files(`revocation/undo/${epoch}.txt`))!);
  assert.equal(undone.length, 1);
  assert.ok(await files(`revocation/event/${undone[0]}`), "a reinstatement can be proven");
  const delta = decodeSetFile((await files(`revocation/1/d/${epoch - 1}-${epoch}.rvx`))!);
  assert.deepEqual([...delta.del.runs()], [{ first: 2, count: 1 }]);

  await isPublished(vault, `/events/${await approvedBatch(vault, operator, 3)}`);
  const second = await publishedBy(vault);
  assert.deepEqual([second.trusted.head.size, second.trusted.head.floor.epoch], [2, epoch]);
  assert.deepEqual(countsOf(second), [0, 1, 3]);
  assert.ok(await files(`revocation/1/s/${epoch}.rvx`), "the floor of a head can be fetched");
});

async function signatureOf(body: string, signer: (typeof TRUSTEES)[0], vault: LivingVault): Promise<string> {
  return formatBase64(await signer.sign(signingInput(EVENT_CONTEXT, vault.authority, parseBase64(body))));
}

test("trustees admit another station; statements go on by themselves, and each names the one before", async () => {
  const vault = await foundedVault();
  await vault.start(2);
  const operator = await openKeystore(vault.home.operator, "only a test");
  const another = namedSigner("another station");
  const card = await createEnrolmentCard(another, { name: "Another station", role: "station" });
  const early = vault.send(operator, "POST", "/requests", batchRequest(1, vault.clock.now, another));
  await assert.rejects(early, /ERR_BATCH_KEY/);
  const change = { add: [formatBase64(card.bytes)], remove: [] };
  const { id } = await vault.send(operator, "POST", "/trust-requests", change);
  const event = await eventually(async () => {
    return (await vault.send(undefined, "GET", `/requests/${id}`)).event as string | undefined;
  }, "a proposal");
  for (const trustee of [A, B]) await approveAs(vault, trustee, event);
  await isPublished(vault, `/events/${event}`);
  const { trusted } = await publishedBy(vault);
  assert.equal(trusted.targetsVersion, 2);
  assert.ok(
    trusted.keys.some(({ key, purpose }) => purpose === "station" && kidText(key) === kidText(another.publicKey)),
  );
  await vault.send(operator, "POST", "/requests", batchRequest(1, vault.clock.now, another));
  await assert.rejects(vault.send(operator, "POST", "/trust-requests", change), /ERR_TRUST_CHANGE/);
  const issuer = trusted.keys.find(({ purpose }) => purpose === "issuer")!;
  const remove = [kidText(issuer.key)];
  await assert.rejects(vault.send(operator, "POST", "/trust-requests", { add: [], remove }), /ERR_TRUST_CHANGE/);

  const { epoch } = (await publishedBy(vault)).statement.statement;
  const later = async () => {
    const published = await publishedBy(vault);
    return published.statement.statement.epoch >= epoch + 2 ? published : undefined;
  };
  const files = folderFetch(vault.home.public);
  const newest = (await eventually(later, "two more statements")).statement.statement;
  const text = async (of: number) => parseNote((await files(`revocation/e/${of}.txt`))!).text;
  for (let at = 2; at <= newest.epoch; at++) {
    const { previous } = parseStatement(await text(at));
    assert.deepEqual(previous, statementHash(await text(at - 1)), `epoch ${at}`);
  }
});

/** A terminal of its own, and a person who types the PIN the moment they are asked. @returns what the screen shows */
async function checkKeysTyping(vault: LivingVault, pin: string): Promise<string> {
  const main = fileURLToPath(new URL("./main.js", import.meta.url));
  const command = [process.execPath, main, "keys", "check", "--ask-pin", "--home", vault.home.root];
  const quoted = command.map((word) => `'${word}'`).join(" ");
  const terminal = spawn("script", ["-qec", quoted, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  let screen = "";
  terminal.stdout.on("data", (chunk: Buffer) => {
    const asked = screen.includes("PIN of the token");
    screen += chunk.toString("utf8");
    if (!asked && screen.includes("PIN of the token")) terminal.stdin.write(`${pin}\r`);
  });
  await once(terminal, "close");
  return screen;
}

test("keys of the HSM are followed by new ones: made, listed by trustees, in force with the files that name them", async () => {
  const vault = await foundedVault();
  await vault.start(2);
  const operator = await openKeystore(vault.home.operator, "only a test");
  await isPublished(vault, `/events/${await approvedBatch(vault, operator, 2)}`);
  const before = await publishedBy(vault);
  const pin = (await readFile(path.join(vault.home.hsm, "pin"), "utf8")).trim();
  const checked = await checkKeysTyping(vault, pin);
  assert.ok(
    checked.includes(formatHex(before.trusted.keys.find(({ purpose }) => purpose === "issuer")!.key.kid)),
    checked,
  );
  assert.ok(!checked.includes(pin), "nobody who looks at the screen learns it");
  assert.match(await checkKeysTyping(vault, "not the PIN"), /ERR_HSM_PIN/);
  const ceremony = { authority: vault.authority, now: vault.clock.now };
  const make = async (...[role, algorithm]: [RotatedKey, Algorithm]) => {
    return (await makeKey(vault.home, role, algorithm, ceremony)).keys[0]!.key;
  };
  const issuer = await make("issuer", "p256");
  const status = await make("status", "ed25519");
  const online = await make("revocations", "p256");
  const waiting = await successorOf(vault.home, "issuer", "p256", before.trusted, ceremony);
  assert.deepEqual(waiting, { key: issuer, class: "software" }, "a key that waits is taken, not made again");
  const hardware = makeKey(vault.home, "issuer", "p256", { ...ceremony, keyClass: "hardware" });
  await assert.rejects(hardware, /ERR_HSM_TOKEN|not hardware/);
  const successor = (purpose: string, key: PublicKey) => {
    return { purpose, spki: formatBase64(key.spki), class: "software" };
  };
  const rotate = [successor("issuer", issuer), successor("status", status), successor("revocations", online)];
  const { id } = await vault.send(operator, "POST", "/trust-requests", { add: [], remove: [], rotate });
  const event = await eventually(async () => {
    return (await vault.send(undefined, "GET", `/requests/${id}`)).event as string | undefined;
  }, "a proposal");
  for (const trustee of [A, B]) await approveAs(vault, trustee, event);
  await isPublished(vault, `/events/${event}`);
  // Read back whole: metadata under the new delegation, the statement by the new status key.
  const after = await publishedBy(vault);
  assert.equal(kidText(after.statement.signer.key), kidText(status));
  const config = await readSignerConfig(vault.home.signerConfig);
  const listed = heldKeys(config, after.trusted).map(({ role, listed }) => [role, listed !== undefined]);
  assert.deepEqual(
    listed.filter(([, named]) => !named),
    [["revocations", false]],
    "only a delegation forgets",
  );
  // The batch that starts now is signed by the new issuer, and its kits pass the verifier that nodes run.
  vault.clock.now = Math.floor(Date.now() / 1000);
  await isPublished(vault, `/events/${await approvedBatch(vault, operator, 2)}`);
  const manifest = async (seq: number) =>
    decodeManifest((await folderFetch(vault.home.public)(`batch/${seq}/manifest.cbor`))!);
  const old = before.trusted.keys.find(({ purpose }) => purpose === "issuer")!;
  assert.equal(formatHex((await manifest(0)).issuer), kidText(old.key));
  assert.equal(formatHex((await manifest(1)).issuer), kidText(issuer));
  const x25519 = Buffer.from(
    (await exportJWK((await generateKeyPair("ECDH-ES", { crv: "X25519" })).publicKey)).x!,
    "base64url",
  );
  for (const batch of [0, 1])
    assert.ok((await vault.send(STATION, "POST", "/kits", { batch, publicKey: x25519.toString("base64") })).kit);

  // Each ceremony has left its transcript, logged and public: the first keys, and one for each key made since.
  for (const number of [1, 2, 3, 4]) {
    const bytes = await folderFetch(vault.home.public)(`transcripts/${number}.json`);
    const { keys, action } = verifyTranscript(bytes!, vault.authority);
    assert.deepEqual([keys.length, action], number === 1 ? [6, "init"] : [1, "generate"]);
    const leaf = encodeLeaf({ type: "trust", kind: "transcript", number, fileHash: sha256(bytes!) });
    const { head } = vault.service.sequencer.desk.log;
    const entries = readEntries(folderFetch(path.join(vault.home.public, "log")), head, 0, head.size);
    let found = 0;
    for await (const entry of entries) if (formatHex(entry) === formatHex(leaf)) found++;
    assert.equal(found, 1, `transcript ${number} is logged once`);
    assert.match(await readFile(path.join(vault.home.transcripts, `${number}.md`), "utf8"), /NEVER_EXTRACTABLE yes/);
  }
});

test("a damaged transcript is told, and holds up nothing else", async () => {
  const vault = await foundedVault();
  await vault.start(2);
  await writeFile(path.join(vault.home.transcripts, "2.json"), "{}");
  await eventually(async () => vault.reports.find((line) => line === "transcript refused"), "a report");
  const { epoch } = (await publishedBy(vault)).statement.statement;
  await eventually(
    async () => ((await publishedBy(vault)).statement.statement.epoch > epoch + 1 ? true : undefined),
    "statements",
  );
  assert.equal(vault.reports.filter((line) => line === "transcript refused").length, 1);
});

test("a signer that runs as a service of its own is used, and left running", async () => {
  const vault = await foundedVault();
  const config = await readSignerConfig(vault.home.signerConfig);
  await writeFile(vault.home.signerConfig, formatSignerConfig({ ...config, socketGroup: true }));
  const attached = { ...vault.options, attachSigner: true, statementSeconds: 2 };
  await assert.rejects(startService(vault.home, attached), /ERR_SIGNER|nobody listens/);
  const signer = await startSigner(vault.home.signerConfig);
  try {
    assert.equal((await stat(config.socket)).mode & 0o777, 0o660, "its group may use the socket");
    vault.service = await startService(vault.home, attached);
    const { epoch } = (await publishedBy(vault)).statement.statement;
    const later = async () => ((await publishedBy(vault)).statement.statement.epoch > epoch ? true : undefined);
    await eventually(later, "a statement");
    await vault.service.stop();
    const client = await connect(signer.socket);
    assert.ok((await client.state()).log.size > 0);
    await client.close();
  } finally {
    await signer.stop();
  }
});
