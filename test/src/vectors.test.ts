/**
 * Format vectors: what other programs must read and refuse, read and refused here.
 *
 * The files are checked through the public functions of schemas; the signatures in them also by a second library.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import { parseTag } from "@viafabric/nfc";
import {
  decodeCompact,
  decodeEventBody,
  decodeHead,
  decodeKit,
  decodeLeaf,
  decodeManifest,
  decodePolicyManifest,
  decodeProfile,
  decodeReceipt,
  decodeRules,
  decodeToken,
  decodeTranscript,
  decodeTrustKeys,
  EVENT_CONTEXT,
  encodeCompact,
  encodeEventBody,
  encodeHead,
  encodeKit,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  encodePolicyManifest,
  encodeProfile,
  encodeReceiptPayload,
  encodeRules,
  encodeToken,
  encodeTranscript,
  encodeTrustKeys,
  equalBytes,
  expandCompact,
  formatHex,
  formatRctId,
  formatTokenJson,
  hashLeaf,
  hmacSha256,
  isValidSignature,
  manifestHash,
  openSealedToken,
  type PublicKey,
  parseHex,
  parsePublicKey,
  parseRctId,
  parseRequestHeaders,
  parseTokenJson,
  parseUtf8,
  receiptSignatureInput,
  rootOf,
  sha256,
  signatureInput,
  signingInput,
  verifyRequest,
} from "@viafabric/schemas";
import { formatVectorFile, formatVectors } from "./vectors/index.ts";

const folder = new URL("../vectors/formats/", import.meta.url);
// biome-ignore lint/suspicious/noExplicitAny: vectors are read as anybody else would read them
const read = (name: string): any => JSON.parse(readFileSync(new URL(name, folder), "utf8"));
const hex = (text: string): Uint8Array => parseHex(text);

/** Reads, and writes again: a format has one spelling. */
const READERS: Record<string, (bytes: Uint8Array) => Uint8Array> = {
  decodeManifest: (bytes) => encodeManifest(decodeManifest(bytes)),
  decodeHead: (bytes) => encodeHead(decodeHead(bytes)),
  decodeToken: (bytes) => encodeToken(decodeToken(bytes)),
  decodeCompact: (bytes) => encodeCompact(decodeCompact(bytes)),
  decodeLeaf: (bytes) => encodeLeaf(decodeLeaf(bytes)),
  decodeEventBody: (bytes) => encodeEventBody(decodeEventBody(bytes)),
  decodeReceipt: (bytes) => encodeReceiptPayload(decodeReceipt(bytes).receipt),
  decodeKit: (bytes) => encodeKit(decodeKit(bytes)),
  decodeTrustKeys: (bytes) => encodeTrustKeys(decodeTrustKeys(bytes)),
  decodeTranscript: (bytes) => encodeTranscript(decodeTranscript(bytes)),
  decodeRules: (bytes) => encodeRules(decodeRules(bytes)),
  decodePolicyManifest: (bytes) => encodePolicyManifest(decodePolicyManifest(bytes)),
  decodeProfile: (bytes) => encodeProfile(decodeProfile(bytes)),
  parseTag: (bytes) => parseTag(bytes) && bytes,
  parseTokenJson: (bytes) => parseTokenJson(parseUtf8(bytes), "ed25519"),
};

test("making the vectors again gives the same files", async () => {
  const made = await formatVectors();
  assert.deepEqual(
    readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .sort(),
    [...made.keys()],
  );
  for (const [name, file] of made) {
    assert.equal(readFileSync(new URL(name, folder), "utf8"), formatVectorFile(file), `${name}: run make-vectors`);
  }
});

test("every invalid vector is refused with its code", () => {
  let count = 0;
  for (const name of readdirSync(folder)) {
    if (name === "request.json" || !name.endsWith(".json")) continue;
    for (const vector of read(name).invalid) {
      assert.throws(
        () => READERS[vector.read]!(hex(vector.hex)),
        { name: "FormatError", code: vector.code },
        `${name}: ${vector.name}`,
      );
      count++;
    }
  }
  assert.ok(count > 150, `${count} invalid vectors`);
});

test("every valid vector is written again as it was read", () => {
  const simple = { "manifest.json": "decodeManifest", "head.json": "decodeHead", "leaf.json": "decodeLeaf" };
  for (const [name, reader] of Object.entries({
    ...simple,
    "event.json": "decodeEventBody",
    "kit.json": "decodeKit",
    "trust.json": "",
    "policy.json": "",
  })) {
    for (const vector of read(name).valid) {
      const bytes = READERS[vector.read ?? reader]!(hex(vector.hex));
      assert.equal(formatHex(bytes), vector.hex, `${name}: ${vector.name}`);
    }
  }
});

test("a node finds the token in the memory of a tag", () => {
  const file = read("tag.json");
  for (const vector of file.valid) {
    const tag = parseTag(hex(vector.hex));
    assert(tag.layout !== "pointer" && tag.layout === vector.layout);
    assert.equal(formatHex(tag.token), file.token, vector.name);
    assert.equal(
      tag.claimSecret && formatHex(tag.claimSecret),
      vector.name.includes("secret") ? file.claim_secret : undefined,
    );
  }
});

test("hashes in the vectors are the hashes", () => {
  for (const { hex: bytes, hash } of read("manifest.json").valid)
    assert.equal(formatHex(manifestHash(hex(bytes))), hash);
  for (const { hex: bytes, hash } of read("leaf.json").valid) assert.equal(formatHex(hashLeaf(hex(bytes))), hash);
});

function keyOf(file: { keys: Record<string, { spki: string; kid: string }> }, name: string): PublicKey {
  const key = parsePublicKey(hex(file.keys[name]!.spki));
  assert.equal(formatHex(key.kid), file.keys[name]!.kid);
  return key;
}

/** By node:crypto, and by a library that shares no code with it. */
function assertSigned(key: PublicKey, message: Uint8Array, signature: Uint8Array, name: string): void {
  assert.ok(isValidSignature(key, message, signature), name);
  const second =
    key.algorithm === "ed25519"
      ? ed25519.verify(signature, message, key.raw, { zip215: false })
      : p256.verify(signature, message, key.raw, { lowS: true });
  assert.ok(second, `${name}, second library`);
}

test("a token is one thing in three spellings", () => {
  const file = read("rct.json");
  const manifest = decodeManifest(hex(file.manifest));
  for (const vector of file.valid) {
    const issuer = keyOf(file, vector.issuer);
    const token = decodeToken(hex(vector.cose));
    assert.equal(formatHex(token.payload), vector.payload, vector.name);
    assert.equal(formatHex(encodePayload(token.body)), vector.payload, vector.name);
    assert.equal(formatHex(signatureInput(issuer.algorithm, token.payload)), vector.to_be_signed);
    assertSigned(issuer, hex(vector.to_be_signed), hex(vector.signature), vector.name);
    assert.equal(formatHex(parseTokenJson(JSON.stringify(vector.json), issuer.algorithm)), vector.cose, vector.name);
    assert.deepEqual(formatTokenJson(token), vector.json);
    assert.equal(formatRctId(hex(vector.rct_id)), vector.rct_id_text);
    assert.equal(formatHex(parseRctId(vector.rct_id_text)), vector.rct_id);
    if (vector.compact) {
      const compact = decodeCompact(hex(vector.compact));
      assert.equal(formatHex(expandCompact(compact, manifest).payload), vector.payload, vector.name);
      assert.equal(formatHex(compact.signature), vector.signature);
      assert.equal(formatHex(compact.selector), file.authority.slice(0, 8));
    }
    const leaf = decodeLeaf(hex(vector.leaf));
    assert(leaf.type === "token" && leaf.index === token.body.index);
    assert.equal(formatHex(leaf.payloadHash), formatHex(sha256(token.payload)));
  }
});

test("the manifest commits to its tokens, and tokens.bin opens with their ids", () => {
  const file = read("rct.json");
  const manifest = decodeManifest(hex(file.manifest));
  const own = file.valid.slice(0, manifest.count);
  assert.equal(
    formatHex(rootOf(own.map(({ leaf }: { leaf: string }) => hashLeaf(hex(leaf))))),
    formatHex(manifest.root),
  );
  const sealed = hex(file.tokens_bin);
  for (const [place, vector] of own.entries()) {
    const part = sealed.subarray(place * 112, (place + 1) * 112);
    const opened = openSealedToken(hex(file.authority), hex(vector.rct_id), manifest.first + place, part)!;
    assert.equal(formatHex(opened.signature), vector.signature);
    assert.equal(formatHex(opened.subjectKey), formatHex(keyOf(file, "holder").raw));
    assert.equal(openSealedToken(hex(file.authority), hex(vector.rct_id), manifest.first + 9, part), undefined);
  }
});

test("a policy bundle commits to its files, its lineage and the bundle before it", () => {
  const file = read("policy.json");
  const [one, two] = file.valid.map(({ hex: bytes }: { hex: string }) => hex(bytes));
  const [first, second] = [decodePolicyManifest(one), decodePolicyManifest(two)];
  assert.equal(formatHex(first.lineage), formatHex(sha256(hex(file.lineage))));
  assert.equal(formatHex(second.previous), formatHex(sha256(one)));
  const paths = Object.keys(file.files).sort();
  const leaves = paths.map((path) => {
    const bytes = hex(file.files[path]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(bytes.length));
    return Buffer.concat([Buffer.from(`viafabric/policy-entry/v1\0${path}`), sha256(bytes), length]);
  });
  assert.deepEqual(
    leaves.map((leaf) => leaf.toString("hex")),
    file.leaves.map(({ leaf }: { leaf: string }) => leaf),
  );
  assert.equal(formatHex(rootOf(leaves.map(hashLeaf))), formatHex(first.root));
});

test("events carry signatures over their body and no other", () => {
  const file = read("event.json");
  const keys = Object.keys(file.keys).map((name) => keyOf(file, name));
  for (const vector of file.valid) {
    assert.equal(decodeEventBody(hex(vector.hex)).action, vector.action);
    assert.equal(formatHex(signingInput(EVENT_CONTEXT, hex(file.authority), hex(vector.hex))), vector.to_be_signed);
    for (const { kid, signature } of vector.signatures) {
      const key = keys.find((candidate) => formatHex(candidate.kid) === kid)!;
      assertSigned(key, hex(vector.to_be_signed), hex(signature), vector.name);
    }
  }
});

test("receipts are signed, chained, and hide the UID", () => {
  const file = read("receipt.json");
  const station = keyOf(file, "station");
  let previous: Uint8Array = new Uint8Array(32);
  for (const vector of file.valid) {
    const { receipt, signature, payload } = decodeReceipt(hex(vector.hex));
    assert.equal(formatHex(encodeReceiptPayload(receipt)), formatHex(payload));
    assert.equal(formatHex(receiptSignatureInput("ed25519", receipt)), vector.to_be_signed);
    assertSigned(station, hex(vector.to_be_signed), signature, vector.name);
    assert.ok(equalBytes(receipt.previous, previous), vector.name);
    assert.ok(equalBytes(receipt.uidMac, hmacSha256(hex(file.uid_key), hex(file.uid))));
    previous = sha256(hex(vector.hex));
  }
});

test("requests verify as they were sent, and in no other way", () => {
  const file = read("request.json");
  const station = keyOf(file, "station");
  const check = (vector: {
    headers: Record<string, string>;
    method: string;
    path: string;
    body: string;
    now: number;
  }) => {
    const proof = parseRequestHeaders((name) => vector.headers[name]);
    verifyRequest(station, hex(file.authority), proof, { ...vector, body: hex(vector.body) }, vector.now);
  };
  for (const vector of file.valid) check(vector);
  for (const vector of file.invalid) assert.throws(() => check(vector), { code: vector.code }, vector.name);
});
