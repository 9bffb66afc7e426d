import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Metadata, MetadataKind } from "@tufjs/models";
import {
  buildConsistencyProof,
  CodedError,
  genesisHead,
  type Hash,
  type Head,
  hashLeaf,
  OperationError,
  rootOf,
  sha256,
  subtreeOf,
  utf8,
} from "@viafabric/schemas";
import { loadTrust, refreshTrust } from "./client.ts";
import {
  createAuthority,
  DAY,
  ed25519Signer,
  type Files,
  NOW,
  p256Signer,
  publish,
  publishOnline,
  roleOf,
  signed,
  type TestAuthority,
} from "./fixtures.test.ts";
import {
  assemble,
  buildBatches,
  buildRoot,
  buildTimestamp,
  canonicalJson,
  formatExpires,
  keyJson,
  signMetadata,
} from "./index.ts";
import { storeFile } from "./store.ts";

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

const manifests = Array.from({ length: 20 }, (_, i) => hashLeaf(sha256(utf8(`manifest ${i}`))));

function headOf(authority: TestAuthority, size: number, leaves: readonly Hash[] = manifests): Head {
  return { ...genesisHead(authority.authority, NOW), size, root: rootOf(leaves.slice(0, size)), next: size * 10 };
}

interface World {
  readonly authority: TestAuthority;
  readonly files: Files;
  readonly folder: string;
  readonly asked: string[];
  refresh(now?: number): ReturnType<typeof refreshTrust>;
}

/** A node with an empty home, a static server it reads from, and what it asked for. */
async function withWorld(
  work: (world: World) => Promise<void>,
  trustees?: Parameters<typeof createAuthority>[0],
): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "tuf-client-"));
  const authority = await createAuthority(trustees);
  const files: Files = new Map();
  const asked: string[] = [];
  const world: World = {
    authority,
    files,
    folder,
    asked,
    refresh: (now = NOW) =>
      refreshTrust({
        folder,
        pinned: { file: authority.root },
        fetch: async (name) => {
          asked.push(name);
          const bytes = files.get(name);
          return bytes && new Uint8Array(bytes);
        },
        prove: (oldSize, { size }) => buildConsistencyProof(oldSize, size, subtreeOf(manifests.slice(0, size))),
        now,
      }),
  };
  try {
    await work(world);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The refusal must also leave what was accepted before as it was, to the byte. */
async function refuses(world: World, code: string, now?: number): Promise<void> {
  const before = await readFile(storeFile(world.folder)).catch(() => undefined);
  await assert.rejects(world.refresh(now), refusedWith(code));
  assert.deepEqual(await readFile(storeFile(world.folder)).catch(() => undefined), before);
}

test("a good repository is read by tuf-js and by us, with mixed keys, and kept for offline use", () =>
  withWorld(
    async (world) => {
      const { authority, files, folder } = world;
      await publish(authority, files, { head: headOf(authority, 3) });
      const state = await world.refresh();
      assert.equal(state.head.size, 3);
      assert.deepEqual(state.authority, authority.authority);
      assert.equal(state.trustees.threshold, 3);
      assert.equal(state.keys.length, 1);
      assert.match(state.policyText, /^log example/);
      files.clear();
      assert.deepEqual(await loadTrust(folder, { file: authority.root }), state);
      assert.deepEqual((await readdir(folder)).sort(), ["clock", "trust.cbor"]);
    },
    [ed25519Signer("a"), p256Signer(), p256Signer(), ed25519Signer("b"), p256Signer()],
  ));

test("a refresh with nothing new asks for a root that is not there and for the timestamp, nothing else", () =>
  withWorld(async (world) => {
    await publish(world.authority, world.files);
    await world.refresh();
    world.asked.length = 0;
    await world.refresh();
    assert.deepEqual(world.asked, ["tuf/metadata/2.root.json", "tuf/metadata/timestamp.json"]);
    await publish(world.authority, world.files, {
      onlineVersion: 2,
      batchesVersion: 2,
      head: headOf(world.authority, 2),
    });
    world.asked.length = 0;
    assert.equal((await world.refresh()).head.size, 2);
    assert.equal(world.asked.length, 5, "root, timestamp, snapshot, batches and the head");
  }));

test("the clock is the caller's", () =>
  withWorld(async (world) => {
    await publish(world.authority, world.files);
    await world.refresh(NOW + 29 * DAY);
    await refuses(world, "ERR_METADATA_EXPIRED", NOW + 31 * DAY);
    await publish(world.authority, world.files, { onlineVersion: 2, onlineExpires: NOW + 500 * DAY });
    await refuses(world, "ERR_METADATA_EXPIRED", NOW + 101 * DAY);
    assert.ok(
      await loadTrust(world.folder, { file: world.authority.root }),
      "offline, expiry is the verdict's to judge",
    );
  }));

test("a head that too few trustees signed is refused", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files);
    await world.refresh();
    const two = authority.trustees.slice(0, 2);
    const strangers = [...two, ed25519Signer("stranger")];
    for (const batchesSigners of [[], two, strangers]) {
      await publish(authority, files, {
        onlineVersion: 2,
        batchesVersion: 2,
        head: headOf(authority, 1),
        batchesSigners,
      });
      await refuses(world, "ERR_THRESHOLD");
    }
  }));

test("older versions are refused, also by whoever holds every online key", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    const old = { onlineVersion: 1, batchesVersion: 1, head: headOf(authority, 1) };
    await publish(authority, files, old);
    await publish(authority, files, { onlineVersion: 2, batchesVersion: 2, head: headOf(authority, 2) });
    await world.refresh();
    await publish(authority, files, old);
    await refuses(world, "ERR_ROLLBACK");
    await publish(authority, files, { ...old, onlineVersion: 3 });
    await refuses(world, "ERR_ROLLBACK");
  }));

test("a new snapshot key makes tuf-js forget the old snapshot; the accepted state is not forgotten", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files, { onlineVersion: 2, batchesVersion: 2, head: headOf(authority, 2) });
    await world.refresh();
    const snapshot = ed25519Signer("another snapshot key");
    const timestamp = ed25519Signer("another timestamp key");
    const quorum = roleOf(authority.trustees, authority.threshold);
    const roles = { root: quorum, targets: quorum, snapshot: roleOf([snapshot], 1), timestamp: roleOf([timestamp], 1) };
    const root = await signed(
      buildRoot({ version: 2, expires: NOW + 700 * DAY, roles }),
      authority.trustees.slice(0, 3),
    );
    await publish({ ...authority, snapshot, timestamp }, files, { batchesVersion: 1, head: headOf(authority, 1) });
    files.set("tuf/metadata/2.root.json", root);
    await refuses(world, "ERR_ROLLBACK");
    await publish({ ...authority, snapshot, timestamp }, files, { batchesVersion: 3, head: headOf(authority, 3) });
    const state = await world.refresh();
    assert.deepEqual([state.rootVersion, state.head.size], [2, 3]);
    assert.deepEqual(await loadTrust(world.folder, { file: authority.root }), state);
    assert.deepEqual(await loadTrust(world.folder, { file: root, authority: authority.authority }), state);
  }));

test("a head that does not extend the accepted one is refused, even with a full quorum", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files, { head: headOf(authority, 5) });
    await world.refresh();
    const publishHead = (head: Head) => publish(authority, files, { onlineVersion: 2, batchesVersion: 2, head });
    await publishHead(headOf(authority, 6, [...manifests].reverse()));
    await refuses(world, "ERR_PROOF");
    await publishHead(headOf(authority, 4));
    await refuses(world, "ERR_HEAD_FORK");
    await publishHead({ ...headOf(authority, 6), next: 1 });
    await refuses(world, "ERR_HEAD_FORK");
    await publish(authority, files, { onlineVersion: 2, head: headOf(authority, 6) });
    await refuses(world, "ERR_HEAD_FORK");
    await publishHead(headOf(authority, 6));
    assert.equal((await world.refresh()).head.size, 6);
  }));

test("an altered target, an altered snapshot and a foreign head are refused", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files);
    const policy = [...files.keys()].find((name) => name.endsWith(".tlog-policy"))!;
    const good = files.get(policy)!;
    files.set(policy, utf8("x".repeat(good.length)));
    await refuses(world, "ERR_METADATA_MISMATCH");
    files.delete(policy);
    await refuses(world, "ERR_FETCH");
    files.set(policy, good);
    const snapshot = files.get("tuf/metadata/1.snapshot.json")!;
    files.set("tuf/metadata/1.snapshot.json", snapshot.slice(0, -1));
    await refuses(world, "ERR_METADATA_MISMATCH");
    files.set("tuf/metadata/1.snapshot.json", snapshot);
    await publish(authority, files, { head: genesisHead(new Uint8Array(32), NOW) });
    await refuses(world, "ERR_AUTHORITY");
    await publish(authority, files);
    assert.ok(await world.refresh());
  }));

test("what tuf-js accepts and other clients do not is refused", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files);
    const snapshot = files.get("tuf/metadata/1.snapshot.json")!;
    const timestamp = buildTimestamp({ version: 1, expires: NOW + DAY, snapshot: { version: 1, file: snapshot } });
    const changes = [
      (text: string) => text.replace(formatExpires(NOW + DAY), new Date((NOW + DAY) * 1000).toISOString()),
      (text: string) => text.replace('"version":1}', '"version":1,"x-note":"hello"}'),
    ];
    for (const change of changes) {
      const bytes = canonicalJson(JSON.parse(change(Buffer.from(timestamp).toString())));
      files.set("tuf/metadata/timestamp.json", await signed(bytes, [authority.timestamp]));
      await refuses(world, "ERR_METADATA");
    }
  }));

test("two people with three key ids do not make a quorum of three, though they do in tuf-js", () =>
  withWorld(async (world) => {
    const { authority, files } = world;
    await publish(authority, files);
    const targets = JSON.parse(Buffer.from(files.get("tuf/metadata/1.targets.json")!).toString()).signed;
    const [batches] = targets.delegations.roles;
    const [first, second] = authority.trustees;
    const alias = "ab".repeat(32);
    targets.delegations.keys[alias] = keyJson(first!.publicKey);
    batches.keyids.push(alias);
    const signedTargets = await signed(canonicalJson(targets), authority.trustees.slice(0, 3));
    const head = buildBatches({
      version: 1,
      expires: NOW + DAY,
      head: [...files].find(([name]) => name.endsWith("head.cbor"))![1],
    });
    const twice = [await signMetadata(first!, head), await signMetadata(second!, head)];
    const signedBatches = assemble(head, [...twice, { ...twice[0]!, keyid: alias }]);
    files.set("tuf/metadata/1.targets.json", signedTargets).set("tuf/metadata/1.batches.json", signedBatches);
    await publishOnline(authority, files, signedTargets, signedBatches);
    await refuses(world, "ERR_METADATA");
    const theirs = Metadata.fromJSON(MetadataKind.Targets, JSON.parse(Buffer.from(signedTargets).toString()));
    const counted = Metadata.fromJSON(MetadataKind.Targets, JSON.parse(Buffer.from(signedBatches).toString()));
    theirs.verifyDelegate("batches", counted);
  }));

test("a network that fails is not mistaken for an attack", () =>
  withWorld(async (world) => {
    await refuses(world, "ERR_FETCH");
    await publish(world.authority, world.files);
    world.files.delete("tuf/metadata/1.targets.json");
    await refuses(world, "ERR_FETCH");
    const failing = refreshTrust({
      folder: world.folder,
      pinned: { file: world.authority.root },
      fetch: () => Promise.reject(new Error("socket hang up")),
      prove: async () => [],
      now: NOW,
    });
    await assert.rejects(
      failing,
      (error) => error instanceof OperationError && error.code === "ERR_FETCH" && error.retryable,
    );
  }));

test("a server that sends without end is cut off at the role's size", () =>
  withWorld(async (world) => {
    await publish(world.authority, world.files);
    world.files.set("tuf/metadata/timestamp.json", new Uint8Array(17 * 1024).fill(0x20));
    await refuses(world, "ERR_METADATA");
  }));

test("a truncated or scribbled store is rebuilt from the pinned root", () =>
  withWorld(async (world) => {
    const { authority, files, folder } = world;
    await publish(authority, files, { head: headOf(authority, 2) });
    const state = await world.refresh();
    const bytes = await readFile(storeFile(folder));
    for (const length of [0, 1, 36, bytes.length - 1]) {
      await writeFile(storeFile(folder), bytes);
      await truncate(storeFile(folder), length);
      await assert.rejects(loadTrust(folder, { file: authority.root }), refusedWith("ERR_TRUST_MISSING"));
      assert.deepEqual(await world.refresh(), state);
    }
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(storeFile(folder), bytes);
    await assert.rejects(loadTrust(folder, { file: authority.root }), refusedWith("ERR_TRUST_MISSING"));
    assert.deepEqual(await world.refresh(), state);
    const stranger = await createAuthority([1, 2, 3].map((i) => ed25519Signer(`stranger ${i}`)));
    await assert.rejects(loadTrust(folder, { file: stranger.root }), refusedWith("ERR_TRUST_MISSING"));
  }));
