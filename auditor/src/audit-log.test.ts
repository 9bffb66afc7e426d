import assert from "node:assert/strict";
import { test } from "node:test";
import {
  concat,
  EMPTY_ROOT,
  type ErrorCode,
  encodeEventBody,
  encodeLeaf,
  encodeManifest,
  hashLeaf,
  type Leaf,
  type Manifest,
  manifestHash,
  noteVerifier,
  OperationError,
  rootOf,
  sha256,
  tokenLeaf,
  utf8,
} from "@viafabric/schemas";
import { formatProof, policyOfLog } from "@viafabric/transparency-log";
import { proveInclusion, subFolder } from "@viafabric/transparency-log/client";
import { type AuditReport, auditLog } from "./audit-log.ts";
import { type Files, fetchFrom, publish, seededSigner } from "./fixtures.test.ts";

const ORIGIN = "log.example/audited";
const AUTHORITY = sha256(utf8("authority"));

const signer = seededSigner("log");
const policy = policyOfLog(noteVerifier(ORIGIN, signer.publicKey));

function audit(files: Files, published = true): Promise<AuditReport> {
  const fetch = fetchFrom(files);
  return auditLog({ log: subFolder(fetch, "log"), published: published ? fetch : undefined }, { policy });
}

interface Batch {
  readonly manifest: Uint8Array;
  readonly leaf: Uint8Array;
  readonly tokens: readonly Uint8Array[];
  readonly metadata: Uint8Array;
  readonly tokensBin: Uint8Array;
}

function batchOf(seq: number, first: number, count: number, change: Partial<Manifest> = {}): Batch {
  const tokens = Array.from({ length: count }, (_, i) =>
    tokenLeaf(first + i, sha256(utf8(`id ${first + i}`)).slice(0, 16), utf8(`payload ${first + i}`)),
  );
  const metadata = utf8(`batches ${seq + 1}`);
  const tokensBin = utf8(`sealed ${seq}`);
  const manifest = encodeManifest({
    authority: AUTHORITY,
    seq,
    first,
    count,
    root: rootOf(tokens.map(hashLeaf)),
    issuer: sha256(utf8("issuer")),
    iss: "https://vault.example",
    profile: "water",
    creditClass: "litre",
    quota: 20,
    unit: "L",
    policyRoot: EMPTY_ROOT,
    nbf: 1,
    claimBy: 2,
    exp: 3,
    claim: "assisted",
    layout: "compact",
    tagClass: "NTAG213",
    offline: "none",
    releaseKeys: [sha256(utf8("release"))],
    stations: [],
    statusUri: "https://vault.example/status/",
    ...change,
  });
  const hashes = { metadataHash: sha256(metadata), tokensHash: sha256(tokensBin) };
  const leaf = encodeLeaf({ type: "batch", seq, manifestHash: manifestHash(manifest), ...hashes });
  return { manifest, leaf, tokens, metadata, tokensBin };
}

const trust = (kind: Extract<Leaf, { type: "trust" }>["kind"], number: number, file: Uint8Array): Uint8Array =>
  encodeLeaf({ type: "trust", kind, number, fileHash: sha256(file) });

function suspension(nonce: number, change: { undoes?: number[] } = {}): Uint8Array {
  const body = encodeEventBody({
    authority: AUTHORITY,
    action: change.undoes ? "reinstate" : "suspend",
    ranges: [{ first: 3, count: 1 }],
    reason: "lost",
    notAfter: 9,
    undoes: change.undoes ?? [],
    nonce: new Uint8Array(16).fill(nonce),
  });
  const signatures = [{ kid: new Uint8Array(32), signature: new Uint8Array(64) }];
  return encodeLeaf({ type: "event", event: { body, signatures } });
}

const batchEntries = (batch: Batch): Uint8Array[] => [batch.leaf, ...batch.tokens];

/** Genesis, two batches with a burned range between them, an event and its undoing, a statement. */
async function healthy(): Promise<{ files: Files; entries: Uint8Array[] }> {
  const [one, two] = [batchOf(0, 0, 300), batchOf(1, 1000, 5)];
  const [root, targets, statement] = [utf8("root"), utf8("targets"), utf8("statement")];
  const entries = [
    trust("root", 1, root),
    trust("targets", 1, targets),
    trust("batches", 1, one.metadata),
    ...batchEntries(one),
    trust("batches", 4, two.metadata),
    ...batchEntries(two),
    suspension(1),
    trust("statement", 2, statement),
    encodeLeaf({ type: "binding", rctIdHash: sha256(utf8("id")), epoch: 1, commitment: sha256(utf8("c")) }),
    encodeLeaf({ type: "holder-event", evidenceHash: sha256(utf8("e")), index: 1002 }),
  ];
  entries.push(suspension(2, { undoes: [entries.findIndex((entry) => entry[0] === 3)] }));
  const beside: Files = new Map([
    ["tuf/metadata/1.root.json", root],
    ["root/1.root.json", root],
    ["tuf/metadata/1.targets.json", targets],
    ["tuf/metadata/1.batches.json", one.metadata],
    ["tuf/metadata/4.batches.json", two.metadata],
    ["revocation/e/2.txt", statement],
  ]);
  for (const [seq, batch] of [one, two].entries()) {
    beside.set(`batch/${seq}/manifest.cbor`, batch.manifest);
    beside.set(`batch/${seq}/leaves.bin`, concat(...batch.tokens));
    beside.set(`batch/${seq}/tokens.bin`, batch.tokensBin);
  }
  const files = await publish(ORIGIN, signer, entries, beside);
  const size = entries.length;
  const head = { size, root: rootOf(entries.map(hashLeaf)) };
  for (const [seq, batch] of [one, two].entries()) {
    const index = entries.indexOf(batch.leaf);
    const hashes = await proveInclusion(subFolder(fetchFrom(files), "log"), head, index);
    const proof = { extra: batch.leaf, index, hashes, checkpoint: files.get("log/checkpoint")! };
    files.set(`batch/${seq}/log.proof`, formatProof(proof));
  }
  return { files, entries };
}

test("a log in order is verified, with everything in it counted", async () => {
  const { files, entries } = await healthy();
  const report = await audit(files);
  assert.deepEqual(report.findings, []);
  assert.equal(report.verdict, "verified");
  assert.equal(report.checkpoint?.size, entries.length);
  assert.deepEqual(report.counts, { token: 305, batch: 2, event: 2, "holder-event": 1, binding: 1, trust: 5 });
  assert.deepEqual(report.batches, { checked: 2, notHeld: 0 });
  assert.deepEqual(report.trustFiles, { checked: 5, notHeld: 0 });
  const alone = await audit(files, false);
  assert.equal(alone.verdict, "verified");
  assert.deepEqual(alone.batches, { checked: 0, notHeld: 2 });
});

test("one flipped bit in any published file is refused", async () => {
  const { files } = await healthy();
  for (const [file, bytes] of files) {
    for (const part of [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1]) {
      const at = Math.floor(part * (bytes.length - 1));
      const wrong = bytes.slice();
      wrong[at]! ^= 1;
      const report = await audit(new Map(files).set(file, wrong));
      assert.equal(report.verdict, "refused", `${file} at ${at}`);
      assert.ok(report.findings.length > 0);
    }
  }
});

test("a log that is cut short is not verified: its source lacks files", async () => {
  const { files } = await healthy();
  for (const file of files.keys()) {
    if (!file.startsWith("log/")) continue;
    const map = new Map(files);
    map.delete(file);
    await assert.rejects(audit(map), (error) => error instanceof OperationError && error.code === "ERR_LOG_FILE", file);
  }
});

/** Entries in an order that a rule forbids, and the code they are refused with. */
async function broken(entries: readonly Uint8Array[], code: ErrorCode = "ERR_LOG_RULE", beside?: Files): Promise<void> {
  const report = await audit(await publish(ORIGIN, signer, entries, beside));
  assert.equal(report.verdict, "refused");
  assert.deepEqual(
    [...new Set(report.findings.map((finding) => finding.code))],
    [code],
    JSON.stringify(report.findings),
  );
}

test("entries that contradict each other are refused", async () => {
  const [one, two] = [batchOf(0, 0, 3), batchOf(1, 3, 3)];
  const logged = (batch: Batch, version: number) => [trust("batches", version, batch.metadata), ...batchEntries(batch)];
  await broken([one.tokens[0]!]);
  await broken([...logged(one, 1), suspension(1), one.tokens[0]!]);
  await broken(batchEntries(one));
  await broken([...logged(two, 1)]);
  await broken([...logged(one, 1), ...logged(batchOf(2, 3, 1), 2)]);
  await broken([...logged(one, 1), ...logged(batchOf(1, 2, 3), 2)]);
  await broken([...logged(one, 1), one.tokens[2]!]);
  await broken([trust("batches", 1, one.metadata), one.leaf, one.tokens[0]!, one.tokens[2]!]);
  await broken([trust("batches", 1, one.metadata), one.leaf, one.tokens[1]!, one.tokens[0]!]);
  await broken([trust("root", 2, utf8("root"))]);
  await broken([trust("root", 1, utf8("root")), trust("root", 3, utf8("root"))]);
  await broken([trust("batches", 2, utf8("b")), trust("batches", 2, utf8("c"))]);
  await broken([trust("statement", 2, utf8("b")), trust("statement", 1, utf8("c"))]);
  await broken([suspension(1), suspension(1)]);
  await broken([suspension(1), suspension(2, { undoes: [1] })]);
  await broken([suspension(1, { undoes: [5] })]);
  const again = encodeLeaf({ type: "binding", rctIdHash: sha256(utf8("id")), epoch: 1, commitment: EMPTY_ROOT });
  await broken([again, again]);
});

test("an id that is issued twice is found, whatever its index", async () => {
  const one = batchOf(0, 0, 3);
  const reused = tokenLeaf(3, sha256(utf8("id 1")).slice(0, 16), utf8("another payload"));
  await broken([trust("batches", 1, one.metadata), ...batchEntries(one), reused]);
});

test("an entry of no known kind is refused", async () => {
  await broken([utf8("\x09unknown")], "ERR_LEAF");
  await broken([new Uint8Array(0)], "ERR_LEAF");
  await broken([batchOf(0, 0, 1).tokens[0]!.subarray(0, 72)], "ERR_LEAF");
});

test("a manifest states exactly the token leaves behind its batch leaf", async () => {
  const logged = (batch: Batch, tokens: readonly Uint8Array[]) => [
    trust("batches", 1, batch.metadata),
    batch.leaf,
    ...tokens,
  ];
  const beside = (batch: Batch): Files =>
    new Map([
      ["batch/0/manifest.cbor", batch.manifest],
      ["batch/0/tokens.bin", batch.tokensBin],
    ]);
  const good = batchOf(0, 10, 4);
  const report = await audit(await publish(ORIGIN, signer, logged(good, good.tokens), beside(good)));
  assert.deepEqual(report.findings, []);
  const cases: readonly [batch: Batch, tokens: readonly Uint8Array[]][] = [
    [good, good.tokens.slice(0, 3)],
    [good, []],
    [good, [...good.tokens, batchOf(0, 14, 1).tokens[0]!]],
    [batchOf(0, 10, 4, { first: 11 }), good.tokens],
    [batchOf(0, 10, 4, { root: EMPTY_ROOT }), good.tokens],
    [batchOf(0, 10, 4, { seq: 1 }), good.tokens],
    [good, batchOf(0, 11, 4).tokens],
    [good, [...good.tokens.slice(0, 3), tokenLeaf(13, new Uint8Array(16), utf8("slipped in"))]],
  ];
  for (const [batch, tokens] of cases) {
    const leaf = encodeLeaf({
      type: "batch",
      seq: 0,
      manifestHash: manifestHash(batch.manifest),
      metadataHash: sha256(batch.metadata),
      tokensHash: sha256(batch.tokensBin),
    });
    await broken(logged({ ...batch, leaf }, tokens), "ERR_LOG_EVIDENCE", beside(batch));
  }
});

test("a log that does not extend the checkpoint someone kept is refused", async () => {
  const { files, entries } = await healthy();
  const fetch = fetchFrom(files);
  const source = { log: subFolder(fetch, "log"), published: fetch };
  const at = (size: number) => ({ origin: ORIGIN, size, root: rootOf(entries.slice(0, size).map(hashLeaf)) });
  for (const size of [0, 1, 100, entries.length]) {
    assert.equal((await auditLog(source, { policy, earlier: at(size) })).verdict, "verified");
  }
  for (const earlier of [
    { ...at(100), size: 101 },
    { ...at(entries.length), root: EMPTY_ROOT },
    { ...at(9), size: 9999 },
  ]) {
    const report = await auditLog(source, { policy, earlier });
    assert.deepEqual(
      report.findings.map(({ code }) => code),
      ["ERR_PROOF"],
    );
  }
});

test("findings are counted beyond the ones that are shown", async () => {
  const entries = Array.from({ length: 1000 }, (_, i) => utf8(`\x09${i}`));
  const report = await audit(await publish(ORIGIN, signer, entries));
  assert.equal(report.findings.length, 20);
  assert.equal(report.findingsTotal, 1000);
});
