import assert from "node:assert/strict";
import { test } from "node:test";
import {
  buildInclusionProof,
  decodeLeaf,
  encodeHead,
  formatHex,
  hashLeaf,
  manifestHash,
  openSealedToken,
  parseDidKey,
  parseUtf8,
  rootOf,
  SEALED_TOKEN_BYTES,
  sha256,
  subtreeOf,
  utf8,
  verifyInclusion,
} from "@viafabric/schemas";
import { parsePolicy, parseProof, verifyProof } from "@viafabric/transparency-log";
import { POLICY_PATH } from "@viafabric/tuf";
import {
  batchEntries,
  batchEntry,
  batchLeafOffsets,
  batchListFile,
  bundleFiles,
  bundleProof,
  growManifestTree,
  manifestEdge,
  proofFile,
  type SignedBatch,
  signatureOf,
  tokensFile,
} from "./bundle-files.ts";
import {
  genesisWorld,
  issuanceState,
  MemoryLog,
  NOW,
  requestJson,
  seededRandom,
  signAll,
  TRUST,
} from "./fixtures.test.ts";
import { type BatchPlan, type IssuanceState, planBatch, validateRequest } from "./issuance.ts";

const hex = formatHex;
const METADATA = utf8("2.batches.json");

function plan(count: number, seed: string, state: IssuanceState = issuanceState()): BatchPlan {
  return planBatch(validateRequest(requestJson(count), TRUST, NOW), state, seededRandom(seed), NOW);
}

async function signedBatch(count: number): Promise<SignedBatch> {
  return signAll(plan(count, "bundle"));
}

test("whoever holds an id opens its token, and no other", async () => {
  const batch = await signedBatch(3);
  const bin = tokensFile(batch);
  assert.equal(bin.length, 3 * SEALED_TOKEN_BYTES);
  const { authority } = batch.manifest;
  for (const [place, { index, rctId, subject }] of batch.tokens.entries()) {
    const sealed = bin.subarray(place * SEALED_TOKEN_BYTES, (place + 1) * SEALED_TOKEN_BYTES);
    const opened = openSealedToken(authority, rctId, index, sealed)!;
    assert.equal(hex(opened.subjectKey), hex(parseDidKey(subject)));
    assert.equal(hex(opened.signature), hex(signatureOf(batch, place)));
    assert.equal(openSealedToken(authority, batch.tokens[(place + 1) % 3]!.rctId, index, sealed), undefined);
  }
});

test("tokens.bin needs a signature for each token", async () => {
  const batch = await signedBatch(2);
  assert.throws(() => tokensFile({ ...batch, signatures: batch.signatures.subarray(64) }), { code: "ERR_ASSERTION" });
});

test("a batch enters the log as trust leaf, batch leaf, and its tokens at once", async () => {
  const [one, two] = [await signedBatch(2), await signedBatch(3)];
  const batches = [one, two].map((batch) => ({ batch, tokensBin: tokensFile(batch) }));
  const entries = batchEntries(2, METADATA, batches);
  const types = entries.map((entry) => decodeLeaf(entry).type);
  assert.deepEqual(types, ["trust", "batch", "token", "token", "batch", "token", "token", "token"]);
  assert.deepEqual(batchLeafOffsets(batches), [1, 4]);
  const trust = decodeLeaf(entries[0]!);
  assert(trust.type === "trust" && trust.kind === "batches" && trust.number === 2);
  assert.equal(hex(trust.fileHash), hex(sha256(METADATA)));
  const leaf = decodeLeaf(entries[1]!);
  assert(leaf.type === "batch");
  assert.equal(hex(leaf.manifestHash), hex(manifestHash(one.manifestBytes)));
  assert.equal(hex(leaf.metadataHash), hex(sha256(METADATA)));
  assert.equal(hex(leaf.tokensHash), hex(sha256(tokensFile(one))));
  assert.equal(hex(rootOf(entries.slice(2, 4).map(hashLeaf))), hex(one.manifest.root));
});

test("the bundle proves its own batch leaf, under the policy that trustees signed", async () => {
  const { genesis, online } = await genesisWorld();
  const batch = await signedBatch(4);
  const bin = tokensFile(batch);
  const log = new MemoryLog();
  log.append([utf8("something before")]);
  const { firstIndex } = log.append(batchEntries(2, METADATA, [{ batch, tokensBin: bin }]));
  log.append([utf8("something after")]);
  const entry = batchEntry(batch.manifestBytes, METADATA, bin);
  const note = await log.note(genesis.settings.logOrigin, online.log);
  const proof = bundleProof(entry, await log.inclusion(firstIndex + 1), note);
  const policy = parsePolicy(genesis.targetFiles.get(POLICY_PATH)!);
  const { index, checkpoint } = verifyProof(policy, parseProof(proof).extra!, proof);
  assert.equal(index, 2);
  assert.ok(checkpoint.size >= index + 1 + batch.manifest.count);
  assert.deepEqual(proofFile(0, proof), { path: "batch/0/log.proof", bytes: proof });
  const files = bundleFiles(batch, bin);
  assert.deepEqual(
    files.map(({ path }) => path),
    ["manifest.cbor", "leaves.bin", "tokens.bin"].map((name) => `batch/0/${name}`),
  );
  assert.equal(files[1]!.bytes.length, 4 * 73);
  assert.equal(bundleFiles(batch, new Uint8Array(0)).length, 2);
});

test("manifest tiles grow with the head and give its root", async () => {
  const hashes = Array.from({ length: 300 }, (_, i) => sha256(utf8(`manifest ${i}`)));
  const paths = new Map<string, Uint8Array>();
  let edge = manifestEdge([]);
  for (const hash of hashes) {
    const grown = growManifestTree(edge, [hash]);
    edge = grown.edge;
    for (const { path, bytes } of grown.files) {
      assert.ok(!paths.has(path), `${path} is written once`);
      paths.set(path, bytes);
    }
  }
  assert.equal(hex(manifestEdge(hashes).levels[0]!), hex(edge.levels[0]!));
  assert.equal(paths.get("batches/tile/0/000")!.length, 256 * 32);
  assert.equal(hex(paths.get("batches/tile/0/000.p/1")!), hex(hashLeaf(hashes[0]!)));
  const leafHashes = hashes.map(hashLeaf);
  const proof = await buildInclusionProof(299, 300, subtreeOf(leafHashes));
  verifyInclusion({ index: 299, size: 300, leafHash: leafHashes[299]!, proof, root: rootOf(leafHashes) });
});

test("the list of batches is a page of lines", () => {
  const first = plan(2, "list");
  const page = [first.manifest, { ...first.manifest, seq: 1, first: 2 }];
  const { path, bytes } = batchListFile(page);
  assert.equal(path, "batches/list/0");
  assert.equal(parseUtf8(bytes), "0 0 2 edge-basic\n1 2 2 edge-basic\n");
  assert.equal(batchListFile([{ ...first.manifest, seq: 512 }]).path, "batches/list/2");
  assert.throws(() => batchListFile([page[1]!]), { code: "ERR_ASSERTION" });
  assert.throws(() => batchListFile([page[0]!, page[0]!]), { code: "ERR_ASSERTION" });
});

test("a plan's head is what its bytes say", () => {
  const { head, headBytes } = plan(2, "head");
  assert.equal(hex(encodeHead(head)), hex(headBytes));
});
