/** A second language reads what we publish, from the formats' description alone. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  encodeNdefTlv,
  formatLink,
  formatPointer,
  formatRecord,
  NTAG213,
  NTAG215,
  NTAG216,
  type TagModel,
} from "@viafabric/nfc";
import { EPOCH_ZERO, epochFiles, IndexSet } from "@viafabric/revocation";
import {
  concat,
  decodeCompact,
  encodeHead,
  encodeManifest,
  encodeTrustKeys,
  formatHex,
  genesisHead,
  hashLeaf,
  manifestHash,
  type Role,
  rootOf,
  type Signer,
  sealTokens,
  sha256,
  utf8,
} from "@viafabric/schemas";
import {
  assemble,
  buildBatches,
  buildRoot,
  buildTargets,
  fileInfo,
  metadataFileName,
  signMetadata,
  targetFileName,
} from "@viafabric/tuf";
import { DAY, keyEntries, makeBatch, NOW, seededSigner } from "./authority.ts";
import { lockedPython, plainPython, runPeer, skipReason } from "./peers-python.ts";

const vectors = fileURLToPath(new URL("../vectors/revocation/vectors.json", import.meta.url));
const plain = await plainPython();
const locked = await lockedPython();
for (const reason of new Set([skipReason(plain), skipReason(locked)])) if (reason) console.log(reason);

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "viafabric-peer-"));
});
after(() => rm(folder, { recursive: true, force: true }));

test("Python decodes every RVX1 vector", { skip: skipReason(plain) }, async () => {
  const { exitCode, result } = await runPeer(plain, "decode_rvx1.py", [vectors]);
  assert.deepEqual([exitCode, result.wrong], [0, []]);
  assert.ok((result.checked as number) >= 19);
});

test("Python refuses a vector with one digit changed", { skip: skipReason(plain) }, async () => {
  const text = await readFile(vectors, "utf8");
  const spoiled = path.join(folder, "spoiled.json");
  const changed = text.replace('"body": "1ae05276023b2a98"', '"body": "1ae15276023b2a98"');
  assert.notEqual(changed, text);
  await writeFile(spoiled, changed);
  assert.equal((await runPeer(plain, "decode_rvx1.py", [spoiled])).exitCode, 1);
});

test("Python decodes the set files that an epoch publishes", { skip: skipReason(plain) }, async () => {
  const n = 200_000;
  const planes = [IndexSet.fromIndices([3, 70_000, 199_999]), IndexSet.EMPTY, IndexSet.below(n)] as const;
  const files = await epochFiles(EPOCH_ZERO, { epoch: 1, n, planes }, async () => undefined);
  const paths = await Promise.all(
    files
      .filter((file) => file.path.endsWith(".rvx"))
      .map(async ({ path: name, bytes }) => {
        const file = path.join(folder, name.replaceAll("/", "-"));
        await writeFile(file, bytes);
        return file;
      }),
  );
  assert.equal(paths.length, 6);
  assert.deepEqual((await runPeer(plain, "decode_rvx1.py", paths)).result, { ok: true, checked: 6, wrong: [] });
});

/** An authority of five trustees with one approved batch, published as a vault would. */
async function publishAuthority(at: string) {
  const trustees = [1, 2, 3, 4, 5].map((i) => seededSigner(`trustee ${i}`));
  const online: Role = { keys: [seededSigner("online").publicKey], threshold: 1 };
  const quorum: Role = { keys: trustees.map((signer) => signer.publicKey), threshold: 3 };
  const files = new Map<string, Uint8Array>();
  const signed = async (bytes: Uint8Array, signers: readonly Signer[] = trustees.slice(1, 4)) =>
    assemble(bytes, await Promise.all(signers.map((signer) => signMetadata(signer, bytes))));

  const rootSigned = buildRoot({
    version: 1,
    expires: NOW + 700 * DAY,
    roles: { root: quorum, targets: quorum, snapshot: online, timestamp: online },
  });
  files.set("root/1.root.json", await signed(rootSigned));
  const authority = sha256(rootSigned);
  const batch = await makeBatch({ manifest: { authority } });
  const compact = batch.compact.map((bytes) => concat(bytes.slice(0, 1), authority.slice(0, 4), bytes.slice(5)));
  const tokens = compact.map(decodeCompact);
  const manifest = encodeManifest(batch.manifest);
  files.set("batch/0/manifest.cbor", manifest);
  files.set("batch/0/leaves.bin", batch.files.leaves);
  files.set("batch/0/tokens.bin", sealTokens(authority, tokens));

  const head = encodeHead({
    ...genesisHead(authority, NOW),
    size: 1,
    root: rootOf([hashLeaf(manifestHash(manifest))]),
  });
  const keys = encodeTrustKeys(keyEntries());
  const targets = buildTargets({
    version: 3,
    expires: NOW + 300 * DAY,
    targets: new Map([["trust/keys.cbor", keys]]),
    batches: quorum,
  });
  files.set(`tuf/metadata/${metadataFileName("targets", 3)}`, await signed(targets));
  const batches = buildBatches({ version: 2, expires: NOW + 100 * DAY, head });
  files.set(`tuf/metadata/${metadataFileName("batches", 2)}`, await signed(batches));
  for (const [name, bytes] of [
    ["trust/keys.cbor", keys],
    ["batches/head.cbor", head],
  ] as const) {
    files.set(`tuf/targets/${targetFileName(name, fileInfo(bytes).sha256)}`, bytes);
  }
  for (const [name, bytes] of files) {
    await mkdir(path.dirname(path.join(at, name)), { recursive: true });
    await writeFile(path.join(at, name), bytes);
  }
  return { authority, compact, tokens, cose: batch.cose, files, signed, batches, trustees };
}

/** The memory of a tag as a reader would dump it. */
function dumpOf(model: TagModel, message: Uint8Array): Uint8Array {
  const dump = new Uint8Array(model.pages * 4);
  dump.set(sha256(utf8("serial number")).subarray(0, 10));
  dump.set(model.capabilityContainer, 12);
  dump.set(encodeNdefTlv(message, model.areaBytes), 16);
  return dump;
}

test("Python verifies the token on a tag, whatever the layout", { skip: skipReason(locked) }, async (t) => {
  const home = path.join(folder, "public");
  const published = await publishAuthority(home);
  const { compact, tokens, cose } = published;
  const pinned = ["--authority", formatHex(published.authority)];
  const verify = async (dump: Uint8Array, ...args: string[]) => {
    const file = path.join(folder, "tag.bin");
    await writeFile(file, dump);
    return runPeer(locked, "verify_token.py", [file, home, ...args]);
  };
  const good = dumpOf(NTAG213, formatRecord(compact[2]!));

  const dumps: readonly [string, Uint8Array][] = [
    ["compact", good],
    ["cose", dumpOf(NTAG216, formatRecord(cose[2]!))],
    ["link", dumpOf(NTAG215, formatLink("vault.example", compact[2]!, new Uint8Array(16)))],
    ["pointer", dumpOf(NTAG213, formatPointer("vault.example", tokens[2]!.rctId, 2, new Uint8Array(16)))],
  ];
  for (const [layout, dump] of dumps) {
    await t.test(`a ${layout} tag is accepted, and no neighbour of its token is`, async () => {
      const { exitCode, result } = await verify(dump, ...pinned, "--negative-control");
      assert.equal(exitCode, 0, String(result.error));
      assert.deepEqual([result.layout, result.index, result.batch], [layout, 2, 0]);
      assert.equal((result.negative_control as { accepted: number }).accepted, 0);
    });
  }

  await t.test("one flipped bit on the tag is refused", async () => {
    // In the token's id, in its subject's key, and at the end of its signature.
    for (const at of [40, 60, 16 + 2 + formatRecord(compact[2]!).length - 1]) {
      const dump = good.slice();
      dump[at]! ^= 0x10;
      const { exitCode, result } = await verify(dump, ...pinned);
      assert.deepEqual([exitCode, result.ok], [1, false]);
    }
  });

  await t.test("an empty tag, another authority and a wrong command line have an answer", async () => {
    assert.equal((await verify(dumpOf(NTAG213, new Uint8Array(0)))).exitCode, 1);
    assert.equal((await verify(new Uint8Array(0))).exitCode, 1);
    const { result } = await verify(good, "--authority", "00".repeat(32));
    assert.match(String(result.error), /belongs to authority/);
  });

  await t.test("one flipped bit in any published file is refused", async () => {
    for (const [name, bytes] of published.files) {
      // tokens.bin is read for pointers only, and of it the 112 bytes of the token.
      const [dump, at] = name.endsWith("tokens.bin")
        ? [dumps[3]![1], 2 * 112 + 40]
        : [good, Math.floor(bytes.length * 0.37)];
      const spoiled = bytes.slice();
      spoiled[at]! ^= 0x04;
      await writeFile(path.join(home, name), spoiled);
      const answer = await verify(dump, ...pinned);
      await writeFile(path.join(home, name), bytes);
      assert.equal(answer.exitCode, 1, `${name} with a flipped bit was accepted`);
    }
  });

  await t.test("a head that fewer than the threshold signed is refused", async () => {
    const name = path.join(home, "tuf/metadata", metadataFileName("batches", 2));
    const few = published.trustees.slice(0, 2);
    await writeFile(name, await published.signed(published.batches, [...few, seededSigner("stranger")]));
    const { exitCode, result } = await verify(good, ...pinned);
    assert.equal(exitCode, 1);
    assert.match(String(result.error), /2 of 3 signatures/);
  });
});
