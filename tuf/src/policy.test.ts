import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import {
  CodedError,
  decodePolicyManifest,
  encodePolicyManifest,
  encodeProfile,
  formatHex,
  type PolicyManifest,
  policyManifestOf,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { loadTrust, refreshTrust } from "./client.ts";
import { createAuthority, type Files, NOW, publish, type TestAuthority } from "./fixtures.test.ts";
import { LINEAGE_PATH, POLICY_FILES, POLICY_MANIFEST_PATH, policyFiles, profilePath } from "./index.ts";
import { storeFile } from "./store.ts";

const LINEAGE = utf8('{"policy_lineage":1}');

interface Bundle {
  readonly bytes: Uint8Array;
  readonly targets: ReadonlyMap<string, Uint8Array>;
}

function bundleOf(
  { authority }: TestAuthority,
  texts: Readonly<Record<string, string>>,
  previous?: Bundle,
  changes: Partial<PolicyManifest> = {},
): Bundle {
  const files = new Map(Object.entries(texts).map(([name, text]) => [name, utf8(text)]));
  const manifest = policyManifestOf(authority, sha256(LINEAGE), previous?.bytes, files);
  const bytes = encodePolicyManifest({ ...manifest, ...changes });
  const own = [...files].map(([name, file]) => [POLICY_FILES + name, file] as const);
  return { bytes, targets: new Map([[LINEAGE_PATH, LINEAGE], [POLICY_MANIFEST_PATH, bytes], ...own]) };
}

interface World {
  readonly authority: TestAuthority;
  readonly folder: string;
  readonly files: Files;
  publish(targets: ReadonlyMap<string, Uint8Array>): Promise<void>;
  refresh(policyFiles?: boolean): ReturnType<typeof refreshTrust>;
}

async function withWorld(work: (world: World) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "tuf-policy-"));
  const authority = await createAuthority();
  const files: Files = new Map();
  let version = 0;
  try {
    await work({
      authority,
      folder,
      files,
      publish: async (targets) => {
        version++;
        await publish(authority, files, { targetsVersion: version, onlineVersion: version, files: targets });
      },
      refresh: (policyFiles) =>
        refreshTrust({
          folder,
          pinned: { file: authority.root },
          fetch: async (name) => files.get(name),
          prove: async () => [],
          now: NOW,
          ...(policyFiles !== undefined && { policyFiles }),
        }),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function refuses(world: World, code: string): Promise<void> {
  const before = await readFile(storeFile(world.folder));
  await assert.rejects(world.refresh(), (error: unknown) => {
    assert.ok(error instanceof CodedError && error.code === code, String(error));
    return true;
  });
  assert.deepEqual(await readFile(storeFile(world.folder)), before);
}

test("a new bundle is taken over within its lineage, and every file of it is at hand offline", () =>
  withWorld(async (world) => {
    const one = bundleOf(world.authority, { "a.rego": "allow", "b/c.json": "{}" });
    await world.publish(one.targets);
    const first = await world.refresh();
    assert.deepEqual(first.policy?.lineage, sha256(LINEAGE));
    assert.equal(first.policy.bundle?.manifest.version, 1);
    const two = bundleOf(world.authority, { "a.rego": "deny" }, one);
    await world.publish(two.targets);
    await world.refresh();
    const held = await loadTrust(world.folder, { file: world.authority.root });
    assert.equal(held.policy?.bundle?.manifest.version, 2);
    assert.deepEqual(policyFiles(held.policy.bundle, held.files), new Map([["a.rego", utf8("deny")]]));
  }));

test("who slept through versions follows the chain back; a broken chain is refused", () =>
  withWorld(async (world) => {
    const one = bundleOf(world.authority, { a: "1" });
    await world.publish(one.targets);
    await world.refresh();
    const two = bundleOf(world.authority, { a: "2" }, one);
    const three = bundleOf(world.authority, { a: "3" }, two);
    const four = bundleOf(world.authority, { a: "4" }, three);
    for (const bundle of [two, three, four]) await world.publish(bundle.targets);
    const between = `tuf/targets/policy/${formatHex(sha256(two.bytes))}.manifest.cbor`;
    const kept = world.files.get(between)!;
    world.files.delete(between);
    await refuses(world, "ERR_POLICY_LINEAGE");
    world.files.set(between, one.bytes);
    await refuses(world, "ERR_POLICY_LINEAGE");
    world.files.set(between, kept);
    assert.equal((await world.refresh()).policy?.bundle?.manifest.version, 4);
  }));

test("another lineage, a rollback, a fork and a lost bundle are refused, though a quorum signed them", () =>
  withWorld(async (world) => {
    const { authority } = world;
    const one = bundleOf(authority, { a: "1" });
    const two = bundleOf(authority, { a: "2" }, one);
    await world.publish(two.targets);
    await world.refresh();
    const otherLineage = utf8('{"policy_lineage":2}');
    const elsewhere = bundleOf(authority, { a: "3" }, two, { lineage: sha256(otherLineage) });
    const stranger = bundleOf(authority, { a: "3" }, bundleOf(authority, { a: "another 2" }, one));
    const cases: readonly (readonly [string, ReadonlyMap<string, Uint8Array>])[] = [
      ["an older bundle", one.targets],
      ["another bundle of the same version", bundleOf(authority, { a: "another 2" }, one).targets],
      ["a bundle of another lineage", elsewhere.targets],
      [
        "a bundle and a lineage that agree, and are others",
        new Map([...elsewhere.targets, [LINEAGE_PATH, otherLineage]]),
      ],
      ["a bundle that follows another one", stranger.targets],
      ["no bundle", new Map([[LINEAGE_PATH, LINEAGE]])],
      ["no lineage", new Map()],
      ["a bundle without its lineage", new Map([...two.targets].filter(([name]) => name !== LINEAGE_PATH))],
      [
        "a bundle of another authority",
        bundleOf(authority, { a: "3" }, two, { authority: new Uint8Array(32) }).targets,
      ],
    ];
    for (const [what, targets] of cases) {
      await world.publish(targets);
      await refuses(world, "ERR_POLICY_LINEAGE").catch((error) => assert.fail(`${what}: ${error}`));
    }
    await world.publish(bundleOf(authority, { a: "3" }, two).targets);
    assert.equal((await world.refresh()).policy?.bundle?.manifest.version, 3);
  }));

test("a pinned lineage is the only one, from the first refresh on", () =>
  withWorld(async (world) => {
    await world.publish(bundleOf(world.authority, { a: "1" }).targets);
    const refresh = (lineage: Uint8Array) =>
      refreshTrust({
        folder: world.folder,
        pinned: { file: world.authority.root },
        fetch: async (name) => world.files.get(name),
        prove: async () => [],
        lineage,
        now: NOW,
      });
    const refused = { code: "ERR_POLICY_LINEAGE" };
    await assert.rejects(refresh(sha256(utf8("another lineage"))), refused);
    await assert.rejects(loadTrust(world.folder, { file: world.authority.root }), { code: "ERR_TRUST_MISSING" });
    assert.equal((await refresh(sha256(LINEAGE))).policy?.bundle?.manifest.version, 1);
  }));

test("manifest and targets must list the same files", () =>
  withWorld(async (world) => {
    const one = bundleOf(world.authority, { a: "1", b: "2" });
    await world.publish(one.targets);
    await world.refresh();
    const two = bundleOf(world.authority, { a: "1", b: "3" }, one).targets;
    const spoilt = [
      new Map([...two, [`${POLICY_FILES}a`, utf8("other")]]),
      new Map([...two, [`${POLICY_FILES}more`, utf8("more")]]),
      new Map([...two].filter(([name]) => name !== `${POLICY_FILES}b`)),
      new Map([...two, ["policy/other.json", utf8("{}")]]),
      new Map([...two].filter(([name]) => name !== POLICY_MANIFEST_PATH)),
    ];
    for (const targets of spoilt) {
      await world.publish(targets);
      await refuses(world, "ERR_POLICY_LINEAGE");
    }
  }));

test("a station takes the manifest and leaves the files", () =>
  withWorld(async (world) => {
    const one = bundleOf(world.authority, { a: "1" });
    await world.publish(one.targets);
    for (const name of world.files.keys()) if (name.startsWith("tuf/targets/policy/files/")) world.files.delete(name);
    const state = await world.refresh(false);
    assert.equal(state.policy?.bundle?.manifest.version, 1);
    assert.throws(() => policyFiles(state.policy!.bundle!, state.files), { code: "ERR_POLICY_BUNDLE" });
    assert.equal(decodePolicyManifest(one.bytes).entries.length, 1);
  }));

test("a profile under another name, or in another spelling, is refused", () =>
  withWorld(async (world) => {
    const profile = encodeProfile({ id: "edge-basic", version: 1, title: "Basic", quotas: new Map() });
    await world.publish(new Map([[profilePath("edge-basic"), profile]]));
    assert.equal((await world.refresh()).profiles.get("edge-basic")?.title, "Basic");
    await world.publish(new Map([[profilePath("edge-other"), profile]]));
    await refuses(world, "ERR_METADATA_MISMATCH");
    await world.publish(new Map([[profilePath("edge-basic"), utf8(` ${Buffer.from(profile).toString()}`)]]));
    await refuses(world, "ERR_PROFILE");
  }));
