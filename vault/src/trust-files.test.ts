import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeLeaf, equalBytes, formatHex, parseUtf8, parseVerifierKey, sha256, utf8 } from "@viafabric/schemas";
import {
  assemble,
  HEAD_PATH,
  isTargetPath,
  parseMetadata,
  parseSigned,
  STATEMENT_PATH,
  signMetadata,
  verifyTrust,
} from "@viafabric/tuf";
import { DAY, type GenesisWorld, genesisWorld, NOW, signedBy } from "./fixtures.test.ts";
import { assembleGenesis, type SignedGenesis } from "./genesis-folder.ts";
import { mergePublications, type Publication } from "./publisher.ts";
import {
  genesisEntries,
  genesisFiles,
  genesisMetadata,
  headFile,
  nextOnlineMetadata,
  planBatchesMetadata,
  type SignMetadata,
  targetFile,
} from "./trust-files.ts";

interface Signed extends GenesisWorld {
  readonly signed: SignedGenesis;
  readonly sign: SignMetadata;
}

async function signedWorld(): Promise<Signed> {
  const world = await genesisWorld();
  const signed = assembleGenesis(world.genesis, await signedBy(world.genesis, world.trustees.slice(1, 4)), NOW);
  return { ...world, signed, sign: async (role, bytes) => [await signMetadata(world.online[role], bytes)] };
}

function filesOf(...publications: readonly Publication[]): Map<string, Uint8Array> {
  const { immutable, pointers } = mergePublications(...publications);
  const files = new Map<string, Uint8Array>();
  for (const { path, bytes } of immutable) {
    const existing = files.get(path);
    assert.ok(!existing || equalBytes(existing, bytes), `${path} has one content`);
    files.set(path, bytes);
  }
  return files.set("tuf/metadata/timestamp.json", pointers.timestamp!);
}

/** Follows the names as a TUF client does, from timestamp.json downwards. */
function refresh(files: ReadonlyMap<string, Uint8Array>, now: number) {
  const need = (path: string): Uint8Array => {
    assert.ok(files.has(path), `${path} is published`);
    return files.get(path)!;
  };
  const timestamp = need("tuf/metadata/timestamp.json");
  const snapshot = need(`tuf/metadata/${parseMetadata("timestamp", timestamp).signed.snapshot.version}.snapshot.json`);
  const { meta } = parseMetadata("snapshot", snapshot).signed;
  const role = (name: string): Uint8Array => need(`tuf/metadata/${meta.get(`${name}.json`)!.version}.${name}.json`);
  const targetFiles = new Map<string, Uint8Array>();
  for (const name of ["targets", "batches", "revocations"]) {
    for (const [path, { sha256: hash }] of parseMetadata("targets", role(name)).signed.targets) {
      const slash = path.lastIndexOf("/") + 1;
      targetFiles.set(path, need(`tuf/targets/${path.slice(0, slash)}${formatHex(hash)}.${path.slice(slash)}`));
    }
  }
  const trust = {
    pinned: { file: need("root/1.root.json") },
    roots: [],
    targets: role("targets"),
    batches: role("batches"),
    revocations: role("revocations"),
    snapshot,
    timestamp,
    targetFiles,
  };
  return { trusted: verifyTrust(trust, now), statement: targetFiles.get(STATEMENT_PATH)! };
}

async function firstPublication(world: Signed) {
  const first: Publication = {
    immutable: genesisFiles(world.genesis, world.signed, world.online.log.publicKey),
    hints: [],
    roots: [],
    pointers: {},
  };
  const statement = utf8("first statement");
  const next = await nextOnlineMetadata(genesisMetadata(world.signed), { statement }, world.sign, NOW);
  return { state: next.state, publications: [first, next.publication] };
}

test("genesis publishes a complete repository", async () => {
  const world = await signedWorld();
  const { publications } = await firstPublication(world);
  const files = filesOf(...publications);
  const { trusted, statement } = refresh(files, NOW);
  assert.equal(formatHex(trusted.authority), formatHex(world.genesis.authority));
  assert.equal(trusted.files.size, 7);
  assert.equal(parseUtf8(statement), "first statement");
  assert.ok(equalBytes(files.get("tuf/metadata/1.root.json")!, files.get("root/1.root.json")!));
  assert.equal(parseVerifierKey(parseUtf8(files.get("log.vkey")!).trimEnd()).name, "vault.example/log");
});

test("each day's statement makes a new revocations, snapshot and timestamp, and nothing else", async () => {
  const world = await signedWorld();
  const { state, publications } = await firstPublication(world);
  const day = await nextOnlineMetadata(state, { statement: utf8("second") }, world.sign, NOW + DAY);
  const names = day.publication.immutable.map(({ path }) => path);
  assert.deepEqual(names.slice(1), ["tuf/metadata/2.revocations.json", "tuf/metadata/2.snapshot.json"]);
  assert.match(names[0]!, /^tuf\/targets\/revocation\/[0-9a-f]{64}\.statement$/);
  const { trusted, statement } = refresh(filesOf(...publications, day.publication), NOW + 29 * DAY);
  assert.equal(parseUtf8(statement), "second");
  assert.equal(trusted.batchesVersion, 1);
});

test("a new batches version is found, and the statement of before stays", async () => {
  const world = await signedWorld();
  const { state, publications } = await firstPublication(world);
  const bytes = planBatchesMetadata(2, world.genesis.headBytes, NOW + DAY);
  const approvals = await Promise.all(world.trustees.slice(0, 3).map((trustee) => signMetadata(trustee, bytes)));
  const batches = { version: 2, file: assemble(bytes, approvals) };
  const next = await nextOnlineMetadata(state, { batches }, world.sign, NOW + DAY);
  const head: Publication = { immutable: [headFile(world.genesis.headBytes)], hints: [], roots: [], pointers: {} };
  const { trusted, statement } = refresh(filesOf(...publications, head, next.publication), NOW + DAY);
  assert.equal(trusted.batchesVersion, 2);
  assert.equal(trusted.expires.batches, NOW + 121 * DAY);
  assert.equal(parseUtf8(statement), "first statement");
  assert.equal(next.state.revocations!.version, 1);
});

test("online roles live thirty days", async () => {
  const world = await signedWorld();
  const { publications } = await firstPublication(world);
  const files = filesOf(...publications);
  refresh(files, NOW + 30 * DAY - 1);
  assert.throws(() => refresh(files, NOW + 30 * DAY), { code: "ERR_METADATA_EXPIRED" });
});

test("a signature by the wrong online key does not get through", async () => {
  const world = await signedWorld();
  const swapped: SignMetadata = async (_, bytes) => [await signMetadata(world.online.revocations, bytes)];
  const next = await nextOnlineMetadata(genesisMetadata(world.signed), { statement: utf8("x") }, swapped, NOW);
  const first: Publication = {
    immutable: genesisFiles(world.genesis, world.signed, world.online.log.publicKey),
    hints: [],
    roots: [],
    pointers: {},
  };
  assert.throws(() => refresh(filesOf(first, next.publication), NOW), { code: "ERR_THRESHOLD" });
});

test("a plan that died is signed again, not differently", async () => {
  const world = await signedWorld();
  const again = () => nextOnlineMetadata(genesisMetadata(world.signed), { statement: utf8("x") }, world.sign, NOW);
  const [one, two] = [await again(), await again()];
  assert.deepEqual(filesOf(one.publication), filesOf(two.publication));
});

test("the first entries of the log are the files that trustees signed", async () => {
  const { signed } = await signedWorld();
  const leaves = genesisEntries(signed).map(decodeLeaf);
  assert.deepEqual(
    leaves.map((leaf) => leaf.type === "trust" && [leaf.kind, leaf.number, formatHex(leaf.fileHash)]),
    (["root", "targets", "batches"] as const).map((role) => [role, 1, formatHex(sha256(signed.files[role]))]),
  );
});

test("targets are published under their hash, in folders that every client accepts", () => {
  const { path } = targetFile(HEAD_PATH, utf8("head"));
  assert.equal(path, `tuf/targets/batches/${formatHex(sha256(utf8("head")))}.head.cbor`);
  assert.ok(isTargetPath(HEAD_PATH));
  assert.equal(parseSigned("targets", planBatchesMetadata(7, utf8("head"), NOW)).version, 7);
});
