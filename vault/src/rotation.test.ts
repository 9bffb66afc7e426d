/** Trustees who join and leave, from the request to what clients find, on a real vault. */
import assert from "node:assert/strict";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import {
  decodeLeaf,
  formatBase64,
  formatHex,
  kidText,
  parseBase64,
  parseHex,
  type Signer,
  sha256,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import {
  folderFetch,
  proveConsistency,
  readCheckpoint,
  readEntries,
  subFolder,
} from "@viafabric/transparency-log/client";
import { createEnrolmentCard, deadRoots, detachFormer, keyId, parseMetadata, signRejection } from "@viafabric/tuf";
import { refreshTrust } from "@viafabric/tuf/client";
import { DAY, genesisWorld, NOW, namedSigner, signedBy } from "./fixtures.test.ts";
import { assembleGenesis } from "./genesis-folder.ts";
import { makeKey } from "./online-keys.ts";
import { type Published, readPublished } from "./published.ts";
import { EMPTY_PUBLICATION, type Publication, publicFolder, publish } from "./publisher.ts";
import { nextRoles, parseRotationChange, proposeRotation } from "./rotation.ts";
import {
  approveAs,
  approvedBatch,
  eventually,
  foundedVault,
  type LivingVault,
  requestedRotation,
  TRUSTEES,
} from "./testing-vault.test.ts";

const [A, B, C] = TRUSTEES as [Signer, Signer, Signer];
const D = namedSigner("a fourth trustee");

async function publishedBy(vault: LivingVault): Promise<Published> {
  const found = await readPublished(vault.home.public, new Uint8Array(await readFile(vault.home.pinnedRoot)));
  assert.ok(found);
  return found;
}

async function isPublished(vault: LivingVault, id: string): Promise<void> {
  const look = async () => {
    const { state } = await vault.send(undefined, "GET", `/events/${id}`);
    assert.ok(["open", "ready", "published"].includes(String(state)), `${id} is ${state}`);
    return state === "published" ? true : undefined;
  };
  await eventually(look, `the publication of ${id}`);
}

/** The first line of each mail. */
async function mailsIn(spool: string): Promise<readonly string[]> {
  const names = (await readdir(spool).catch(() => [])).filter((name) => name.endsWith(".eml"));
  const mails = await Promise.all(names.map((name) => readFile(path.join(spool, name), "latin1")));
  return mails.map((mail) => Buffer.from(mail.split("\r\n\r\n")[1]!, "base64").toString("utf8").split(/\r?\n/)[0]!);
}

async function cardOf(signer: Signer, name: string): Promise<string> {
  return formatBase64((await createEnrolmentCard(signer, { name, role: "trustee" })).bytes);
}

async function rejectAs(vault: LivingVault, trustee: Signer, id: string): Promise<void> {
  const { keyid, reason, signature } = await signRejection(trustee, vault.authority, parseHex(id), "not agreed");
  await vault.send(trustee, "POST", `/events/${id}/rejections`, { keyid, reason, signature: formatHex(signature) });
}

/** A client of ours, and inside it tuf-js: from root 1, or from what it accepted before. */
async function clientOf(vault: LivingVault, folder: string, tree: string) {
  const fetch = folderFetch(tree);
  return refreshTrust({
    folder,
    pinned: { file: new Uint8Array(await readFile(vault.home.pinnedRoot)) },
    fetch,
    prove: (oldSize, head) => proveConsistency(subFolder(fetch, "batches"), oldSize, head),
    now: vault.options.now(),
  });
}

/** What was made between two copies of the public folder, as the publisher was given it. */
async function publicationBetween(before: string, after: string): Promise<Publication> {
  const names = (await readdir(after, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const files = await Promise.all(
    names.map(async (entry) => {
      const at = path.relative(after, path.join(entry.parentPath, entry.name));
      return { path: at, bytes: new Uint8Array(await readFile(path.join(after, at))) };
    }),
  );
  const old = new Map(
    await Promise.all(
      files.map(async ({ path: at }) => [at, await readFile(path.join(before, at)).catch(() => undefined)] as const),
    ),
  );
  const fresh = files.filter(({ path: at, bytes }) => !old.get(at)?.equals(bytes));
  const of = (at: string) => fresh.find((file) => file.path === at)?.bytes;
  const pointers = {
    checkpoint: of("log/checkpoint")!,
    timestamp: of("tuf/metadata/timestamp.json")!,
    status: of("revocation/latest")!,
  };
  const isRoot = ({ path: at }: { path: string }) => at.endsWith(".root.json");
  const plain = fresh.filter((file) => !isRoot(file) && !Object.values(pointers).includes(file.bytes));
  return {
    ...EMPTY_PUBLICATION,
    immutable: plain.filter(({ path: at }) => !old.get(at)),
    hints: plain.filter(({ path: at }) => old.get(at)),
    roots: fresh.filter(isRoot),
    pointers,
  };
}

test("a trustee is replaced: old and new sign once, clients follow at every moment, and the new quorum decides", async () => {
  const vault = await foundedVault();
  const mails = { name: "trustees", folder: "spool", from: "vault@example.org", to: ["amara@example.org"] };
  await writeFile(vault.home.notify, JSON.stringify({ mailFolders: [mails] }));
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  await isPublished(vault, await approvedBatch(vault, operator, 3));
  const before = await publishedBy(vault);
  const folder = path.dirname(vault.home.root);
  const copies = { old: path.join(folder, "old"), next: path.join(folder, "next"), at: path.join(folder, "at") };
  const informed = path.join(folder, "informed");
  await clientOf(vault, informed, vault.home.public);

  const change = { add: [await cardOf(D, "A fourth")], remove: [kidText(C.publicKey)] };
  const first = await requestedRotation(vault, A, change);
  for (const trustee of [B, C]) await rejectAs(vault, trustee, first);
  assert.equal((await vault.send(undefined, "GET", `/events/${first}`)).state, "rejected");
  await rejectAs(vault, A, first);
  await assert.rejects(approveAs(vault, B, first), /ERR_PROPOSAL_CLOSED/);

  const id = await requestedRotation(vault, A, change);
  const { attachments, signed } = await vault.send(undefined, "GET", `/events/${id}`);
  const evidence = new Map(
    Object.entries(attachments as Record<string, string>).map(([name, text]) => [name, parseBase64(text)]),
  );
  const former = detachFormer(evidence);
  const [dead] = deadRoots(former, vault.authority, before.trusted.root.roles.root);
  assert.equal(former[0]!.rejections.length, 3, "a dead root is rejected still");
  assert.ok(
    dead !== undefined && dead !== formatHex(sha256(parseBase64(String(signed)))),
    "and another one is proposed",
  );
  await assert.rejects(vault.send(D, "POST", "/rotation-requests", change), /ERR_UNAUTHORIZED/);
  await assert.rejects(approveAs(vault, A, id), /ERR_OWN_REQUEST/);
  for (const trustee of [B, C]) await approveAs(vault, trustee, id);
  const waiting = await vault.send(undefined, "GET", `/events/${id}`);
  assert.equal(waiting.state, "open", "two of the old are one of the new");
  await cp(vault.home.public, copies.old, { recursive: true });
  await approveAs(vault, D, id);
  await isPublished(vault, id);
  const { trusted, files } = await publishedBy(vault);
  assert.deepEqual(
    [trusted.rootVersion, trusted.targetsVersion, trusted.batchesVersion],
    [2, before.trusted.targetsVersion + 2, before.trusted.batchesVersion + 2],
    "the versions of the rejected one are burned, but for the root's",
  );
  assert.deepEqual(trusted.trustees.keys.map(kidText).sort(), [A, B, D].map((each) => kidText(each.publicKey)).sort());
  assert.deepEqual(trusted.approvers.keys.map(kidText).sort(), trusted.trustees.keys.map(kidText).sort());
  assert.deepEqual([trusted.head.size, trusted.head.root], [before.trusted.head.size, before.trusted.head.root]);
  for (const file of [files.targets, files.batches])
    assert.equal(parseMetadata("targets", file).signatures.length, 3, "both quorums signed");

  // The same publication again, stopped after each write: a newcomer and an informed client verify at every moment.
  await cp(vault.home.public, copies.next, { recursive: true });
  const seen = await followEveryWrite(vault, copies, informed);
  assert.deepEqual(
    [...seen].sort(),
    ["informed", "newcomer"].flatMap((name) =>
      ["root 1, targets 1", "root 1, targets 3", "root 2, targets 3"].map((versions) => `${name}: ${versions}`),
    ),
    "the old world, the new one under the old root, the new one",
  );

  // The log holds the three in the order in which each is judged by the one before.
  const log = folderFetch(path.join(vault.home.public, "log"));
  const { checkpoint } = await readCheckpoint(log, parsePolicy(Buffer.from(trusted.policyText)));
  const kinds: string[] = [];
  for await (const entry of readEntries(log, checkpoint, 0, checkpoint.size)) {
    const leaf = decodeLeaf(entry);
    if (leaf.type === "trust" && leaf.kind !== "statement") kinds.push(`${leaf.kind} ${leaf.number}`);
  }
  assert.deepEqual(kinds.slice(-3), ["root 2", "targets 3", "batches 4"]);

  // A rotation is one piece of news at each step: root, targets and batches are signed together.
  const told = await eventually(async () => {
    const texts = await mailsIn(path.join(vault.home.root, "spool"));
    return texts.includes("root 2 is published") ? texts : undefined;
  }, "the news of the new root");
  const about = (text: string) => told.filter((each) => each.startsWith(text)).map((each) => each.slice(text.length));
  assert.deepEqual(about("root 2 is ").sort(), [
    "before the trustees: 2 have to approve it",
    "before the trustees: 2 have to approve it",
    "published",
    "rejected: nobody can sign it any more",
  ]);
  assert.deepEqual(about("targets "), [], "its parts are no news of their own");

  // From now on it is D who has a say, and C who has none.
  await vault.service.stop();
  await vault.start();
  const tooFew = vault.send(operator, "POST", "/rotation-requests", { add: [], remove: [kidText(D.publicKey)] });
  await assert.rejects(tooFew, /ERR_TRUST_CHANGE/);
  const batch = await approvedBatch(vault, operator, 2, [B, D]);
  await assert.rejects(approveAs(vault, C, batch), /ERR_UNAUTHORIZED/);
  await isPublished(vault, batch);
  assert.equal((await publishedBy(vault)).trusted.head.size, 2);
});

const NEWCOMERS = [1, 2, 3].map((n) => namedSigner(`newcomer ${n}`));

async function fiveTrustees() {
  const { genesis, trustees, online } = await genesisWorld();
  const { trusted } = assembleGenesis(genesis, await signedBy(genesis, trustees.slice(0, 3)), NOW);
  const cards = await Promise.all(NEWCOMERS.map((signer) => cardOf(signer, "A newcomer")));
  const kids = trustees.map(({ publicKey }) => kidText(publicKey));
  const change = (value: object) => parseRotationChange({ add: [], remove: [], ...value });
  return { trusted, trustees, online, cards, kids, change };
}

test("who may join and leave at once is what every trustee's tool allows", async () => {
  const { trusted, trustees, online, cards, kids, change } = await fiveTrustees();
  const sizes = (value: object) => {
    const { root } = nextRoles(change(value), trusted);
    return [root.keys.length, root.threshold];
  };
  assert.deepEqual(sizes({ add: cards.slice(0, 2), remove: kids.slice(0, 2) }), [5, 3], "two of five are replaced");
  assert.deepEqual(sizes({ remove: kids.slice(0, 2) }), [3, 3], "two leave for good");
  assert.deepEqual(sizes({ add: cards.slice(0, 2), threshold: 4 }), [7, 4]);
  const station = (await createEnrolmentCard(NEWCOMERS[0]!, { name: "A station", role: "station" })).bytes;
  const spki = (signer: Signer) => formatBase64(signer.publicKey.spki);
  const refused: Readonly<Record<string, readonly [object, string]>> = {
    "as many as could sign alone": [{ add: cards, remove: kids.slice(0, 3) }, "ERR_TRUST_CHANGE"],
    "a lower threshold": [{ threshold: 2 }, "ERR_TRUST_CHANGE"],
    "no majority": [{ add: cards.slice(0, 1) }, "ERR_TRUST_CHANGE"],
    "fewer than must sign": [{ remove: kids.slice(0, 3) }, "ERR_TRUST_CHANGE"],
    "a stranger leaves": [{ remove: ["00".repeat(32)] }, "ERR_TRUST_CHANGE"],
    "a trustee joins again": [{ add: [await cardOf(trustees[0]!, "Again")] }, "ERR_TRUST_CHANGE"],
    "the issuer joins": [{ add: [await cardOf(online.issuer, "Issuer")], remove: [kids[0]] }, "ERR_TRUST_CHANGE"],
    "the snapshot key signs timestamps": [{ timestamp: spki(online.snapshot) }, "ERR_TRUST_CHANGE"],
    "a trustee signs timestamps": [{ timestamp: spki(trustees[0]!) }, "ERR_TRUST_CHANGE"],
    "a station's card": [{ add: [formatBase64(station)] }, "ERR_TRUST_REQUEST"],
    "a fraction": [{ threshold: 3.5 }, "ERR_TRUST_REQUEST"],
    "an unknown wish": [{ expires: 1 }, "ERR_TRUST_REQUEST"],
    "no list": [{ add: "card" }, "ERR_TRUST_REQUEST"],
    "a long list": [{ remove: Array.from({ length: 16 }, () => kids[0]) }, "ERR_TRUST_REQUEST"],
    "no key": [{ snapshot: "AAAA" }, "ERR_KEY"],
  };
  for (const [what, [value, code]] of Object.entries(refused))
    assert.throws(() => nextRoles(change(value), trusted), { code }, what);
});

test("a root that came to nothing is proposed again as it was, and never after it was rejected", async () => {
  const { trusted, cards, kids, change } = await fiveTrustees();
  const wish = change({ add: cards.slice(0, 1), remove: kids.slice(0, 1) });
  const base = { trusted, head: trusted.headBytes, last: { targets: 1, batches: 4 }, former: [], now: NOW };
  const first = proposeRotation(wish, base);
  const { signed } = first.proposal;
  assert.deepEqual([first.parts!.targets.version, first.parts!.batches.version], [2, 5], "other versions are burned");
  const later = { ...base, last: { targets: 2, batches: 5 }, now: NOW + 20 * DAY };
  const again = proposeRotation(wish, { ...later, former: [{ signed, rejected: false }] });
  assert.deepEqual(again.proposal.signed, signed);
  assert.notDeepEqual(again.proposal.id, first.proposal.id, "in the company of later targets and batches");
  const other = proposeRotation(change({}), { ...later, former: [{ signed, rejected: false }] });
  assert.notDeepEqual(other.proposal.signed, signed);
  for (const now of [NOW, NOW + 20 * DAY]) {
    const rejected = proposeRotation(wish, { ...later, now, former: [{ signed, rejected: true }] });
    assert.notDeepEqual(rejected.proposal.signed, signed, `at ${now}`);
  }
});

test("another timestamp key: both sign while the root is not visible, so clients follow at every moment", async () => {
  const vault = await foundedVault();
  const folder = path.dirname(vault.home.root);
  const copies = { old: path.join(folder, "old"), next: path.join(folder, "next"), at: path.join(folder, "at") };
  const informed = path.join(folder, "informed");
  await clientOf(vault, informed, vault.home.public);
  const ceremony = { authority: vault.authority, now: vault.clock.now };
  const { key } = (await makeKey(vault.home, "timestamp", "ed25519", ceremony)).keys[0]!;
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  const change = { add: [], remove: [], timestamp: formatBase64(key.spki) };
  const id = await requestedRotation(vault, operator, change);
  await approveAs(vault, A, id);
  await cp(vault.home.public, copies.old, { recursive: true });
  await approveAs(vault, B, id);
  await isPublished(vault, id);
  await cp(vault.home.public, copies.next, { recursive: true });
  const timestamp = parseMetadata("timestamp", await readFile(path.join(copies.next, "tuf/metadata/timestamp.json")));
  const [old] = parseMetadata("root", await readFile(vault.home.pinnedRoot)).signed.roles.timestamp.keys;
  assert.deepEqual(timestamp.signatures.map(({ keyid }) => keyid).sort(), [key, old!].map(keyId).sort());
  await followEveryWrite(vault, copies, informed);
});

/** @returns what a newcomer and an informed client accepted, over all moments */
async function followEveryWrite(
  vault: LivingVault,
  copies: { readonly old: string; readonly next: string; readonly at: string },
  informed: string,
): Promise<ReadonlySet<string>> {
  const publication = await publicationBetween(copies.old, copies.next);
  assert.equal(publication.roots.length, 2);
  const seen = new Set<string>();
  for (let writes = 0; ; writes++) {
    await cp(copies.old, copies.at, { recursive: true });
    const done = await publish(stoppedAfter(publicFolder(copies.at), writes), publication).then(
      () => true,
      () => false,
    );
    for (const [name, start] of [
      ["newcomer", undefined],
      ["informed", informed],
    ] as const) {
      const home = path.join(path.dirname(copies.at), name + writes);
      if (start) await cp(start, home, { recursive: true });
      const state = await clientOf(vault, home, copies.at);
      seen.add(`${name}: root ${state.rootVersion}, targets ${state.targetsVersion}`);
    }
    await rm(copies.at, { recursive: true });
    if (done) return seen;
  }
}

/** Fails at the write after so many. */
function stoppedAfter(storage: ReturnType<typeof publicFolder>, writes: number): ReturnType<typeof publicFolder> {
  let left = writes;
  const count = () => {
    if (left-- === 0) throw new Error("stopped on purpose");
  };
  return {
    async putImmutable(at, bytes) {
      count();
      await storage.putImmutable(at, bytes);
    },
    async replace(at, bytes) {
      count();
      await storage.replace(at, bytes);
    },
  };
}
