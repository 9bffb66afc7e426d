import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CodedError,
  EMPTY_ROOT,
  encodeManifest,
  genesisHead,
  type Head,
  hashLeaves,
  type Manifest,
  manifestHash,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { EMPTY_EDGE, growEdge, rootOfEdge, tilePath } from "@viafabric/transparency-log";
import { findBatch } from "./find-batch.ts";

const AUTHORITY = sha256(utf8("authority"));
const BATCHES = 600;
/** Batch i has 3 tokens from 5 i on: two indices after each batch were burned. */
const firstOf = (seq: number) => 5 * seq;
const COUNT = 3;

function manifestOf(seq: number): Uint8Array {
  const first = firstOf(seq);
  const manifest: Manifest = {
    authority: AUTHORITY,
    seq,
    first,
    count: COUNT,
    root: EMPTY_ROOT,
    issuer: AUTHORITY,
    iss: "https://vault.example",
    profile: "edge-basic",
    creditClass: "community",
    quota: 1,
    unit: "hour",
    policyRoot: AUTHORITY,
    nbf: 0,
    claimBy: 1,
    exp: 2,
    claim: "known",
    layout: "compact",
    tagClass: "ntag213",
    offline: "none",
    releaseKeys: [AUTHORITY],
    stations: [{ kid: AUTHORITY, first, count: COUNT }],
    statusUri: "https://vault.example/revocation/list/",
  };
  return encodeManifest(manifest);
}

function tree() {
  const files = new Map<string, Uint8Array>();
  const manifests = Array.from({ length: BATCHES }, (_, seq) => manifestOf(seq));
  const grown = growEdge(EMPTY_EDGE, hashLeaves(manifests.map(manifestHash)));
  for (const { tile, bytes } of grown.tiles) files.set(`batches/${tilePath(tile)}`, bytes);
  manifests.forEach((bytes, seq) => {
    files.set(`batch/${seq}/manifest.cbor`, bytes);
  });
  for (let page = 0; page * 256 < BATCHES; page++) {
    const seqs = Array.from({ length: Math.min(256, BATCHES - page * 256) }, (_, i) => page * 256 + i);
    files.set(`batches/list/${page}`, utf8(seqs.map((seq) => `${seq} ${firstOf(seq)} ${COUNT} edge-basic\n`).join("")));
  }
  const next = firstOf(BATCHES);
  const head: Head = { ...genesisHead(AUTHORITY, 0), size: BATCHES, root: rootOfEdge(grown.edge), next };
  const asked: string[] = [];
  const fetch = async (name: string) => {
    asked.push(name);
    return files.get(name);
  };
  return { files, head, asked, find: (index: number) => findBatch(head, index, fetch) };
}

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError && error.code === code, String(error));
  return true;
};

test("the list leads to the batch, with one manifest read", async () => {
  const { find, asked } = tree();
  for (const seq of [0, 1, 255, 256, 511, 512, 599])
    for (const index of [firstOf(seq), firstOf(seq) + COUNT - 1]) {
      asked.length = 0;
      assert.deepEqual(await find(index), { seq, by: "list" });
      assert.equal(asked.filter((name) => name.startsWith("batch/")).length, 1);
    }
});

test("a list that is missing, malformed or lies is not followed, and the manifests are searched", async () => {
  const index = firstOf(300) + 1;
  const spoilt: Readonly<Record<string, Uint8Array | undefined>> = {
    missing: undefined,
    empty: new Uint8Array(0),
    "no numbers": utf8("a b c d\n"),
    "negative numbers": utf8("-1 -5 9 x\n"),
    "another batch": utf8(`7 ${firstOf(300)} 3 edge-basic\n`),
    "a batch that is not there": utf8(`70000 ${firstOf(300)} 3 edge-basic\n`),
    "a wider batch than it is": utf8(`299 ${firstOf(299)} 10 edge-basic\n`),
    "too many lines": utf8("1 1 1 x\n".repeat(257)),
  };
  for (const [what, page] of Object.entries(spoilt)) {
    const { files, find, asked } = tree();
    if (page) files.set("batches/list/1", page);
    else files.delete("batches/list/1");
    assert.deepEqual(await find(index), { seq: 300, by: "search" }, what);
    assert.ok(asked.length < 50, `${what}: ${asked.length} files were read`);
  }
});

test("a forged manifest is never taken for the batch", async () => {
  const { files, find } = tree();
  files.set("batch/300/manifest.cbor", manifestOf(301));
  await assert.rejects(find(firstOf(300)), refusedWith("manifest-not-in-head"));
  files.delete("batch/300/manifest.cbor");
  await assert.rejects(find(firstOf(300)), refusedWith("ERR_FETCH"));
});

test("an index of no batch is told as that, and it is proven", async () => {
  const { find, head } = tree();
  await assert.rejects(find(firstOf(300) + COUNT), refusedWith("batch-not-held"));
  await assert.rejects(find(head.next), refusedWith("batch-not-held"));
  await assert.rejects(find(2 ** 32 - 1), refusedWith("batch-not-held"));
});
