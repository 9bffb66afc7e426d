import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { decodeKit, encodeKit, equalBytes, formatHex, type Kit, parseHex, utf8 } from "@viafabric/schemas";
import type { NodeState } from "@viafabric/verifier";
import { compactDecrypt } from "jose";
import { signatureOf } from "./bundle-files.ts";
import { KEYS, NOW, publishedWorld } from "./fixtures.test.ts";
import { buildKit, sealKit, verifyKit } from "./kits.ts";
import { SEALED_BYTES_MAX, sealTo } from "./seal.ts";

const ID = parseHex("00112233445566778899aabbccddeeff");
const STATION = KEYS.station.publicKey.kid;

function x25519(): { readonly publicKey: Uint8Array; readonly privateKey: KeyObject } {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  return { publicKey: new Uint8Array(Buffer.from(publicKey.export({ format: "jwk" }).x!, "base64url")), privateKey };
}

test("a kit is what the verifier accepts and the station reads", async () => {
  const { material, node } = await publishedWorld(5);
  const kit = buildKit(material, STATION, ID, NOW);
  const held = verifyKit(kit, node, NOW);
  assert.equal(held.manifest.count, 5);
  const again = decodeKit(encodeKit(kit));
  assert.equal(again.tokens.length, 5);
  assert.deepEqual(
    again.tokens.map(({ index }) => index),
    [0, 1, 2, 3, 4],
  );
  assert.ok(again.tokens.every(({ claimSecret, token }) => claimSecret === undefined && token.length === 121));
});

test("each station gets its own part of the batch, and its own part only", async () => {
  const other = KEYS.otherStation.publicKey.kid;
  const { material, node } = await publishedWorld(5, [
    { kid: formatHex(STATION), count: 2 },
    { kid: formatHex(other), count: 3 },
  ]);
  const [one, two] = [STATION, other].map((kid) => buildKit(material, kid, ID, NOW));
  assert.deepEqual([one!.first, one!.count, two!.first, two!.count], [0, 2, 2, 3]);
  verifyKit(one!, node, NOW);
  verifyKit(two!, node, NOW);
  assert.throws(() => buildKit(material, KEYS.release.publicKey.kid, ID, NOW), { code: "ERR_KIT_STATION" });
});

test("a kit is good before its tokens are valid, and not once they have expired", async () => {
  const { material, node } = await publishedWorld(1);
  const kit = buildKit(material, STATION, ID, NOW);
  verifyKit(kit, { ...node, clockFloor: 0 }, NOW - 3600);
  assert.throws(() => verifyKit(kit, node, NOW + 100 * 86_400), { code: "ERR_KIT_REFUSED" });
});

test("whatever is wrong with a kit keeps it inside", async () => {
  const { material, node } = await publishedWorld(3);
  const kit = buildKit(material, STATION, ID, NOW);
  const flip = (bytes: Uint8Array, at: number): Uint8Array => bytes.with(at, bytes[at]! ^ 1);
  const swap = (change: Partial<Kit>): Kit => ({ ...kit, ...change });
  const tokenChanged = (at: number) =>
    swap({ tokens: kit.tokens.map((t, i) => (i === 1 ? { ...t, token: flip(t.token, at) } : t)) });
  const wrong: readonly (readonly [string, Kit])[] = [
    ["a signature", tokenChanged(120)],
    ["an id", tokenChanged(5)],
    ["a subject", tokenChanged(30)],
    ["an index", tokenChanged(56)],
    ["an authority", tokenChanged(1)],
    ["a version", tokenChanged(0)],
    ["two tokens swapped", swap({ tokens: kit.tokens.map((t, i) => ({ ...t, token: kit.tokens[2 - i]!.token })) })],
    ["a leaf", swap({ leaves: flip(kit.leaves, 70) })],
    ["a missing leaf", swap({ leaves: kit.leaves.subarray(73) })],
    ["tokens.bin", swap({ tokensBin: flip(kit.tokensBin, 0) })],
    ["no tokens.bin", swap({ tokensBin: new Uint8Array(0) })],
    ["the manifest", swap({ manifest: flip(kit.manifest, 200) })],
    ["the log proof", swap({ logProof: flip(kit.logProof, kit.logProof.length - 10) })],
    ["no log proof", swap({ logProof: utf8("") })],
    ["a manifest proof", swap({ manifestProof: [new Uint8Array(32)] })],
    ["an older head", swap({ headSize: kit.headSize + 1 })],
  ];
  for (const [name, bad] of wrong) {
    assert.throws(() => verifyKit(bad, node, NOW), { name: "VerificationError", code: "ERR_KIT_REFUSED" }, name);
  }
});

test("a vault without trust, status or an open log hands out nothing", async () => {
  const { material, node } = await publishedWorld(1);
  const kit = buildKit(material, STATION, ID, NOW);
  const refused = (change: Partial<NodeState>) =>
    assert.throws(() => verifyKit(kit, { ...node, ...change }, NOW), { code: "ERR_KIT_REFUSED" });
  refused({ trust: undefined });
  refused({ status: undefined });
  refused({ clockFloor: NOW + 1_000_000_000 });
  const keys = node.trust!.keys.filter(({ purpose }) => purpose !== "issuer");
  refused({ trust: { ...node.trust!, keys } });
  const rules = { ...node.trust!.rules, classes: new Map([["issuer", "hardware"] as const]) };
  refused({ trust: { ...node.trust!, rules } });
});

test("a token that works before its tag is written stops the kit", async () => {
  const { material, node } = await publishedWorld(2);
  const kit = buildKit(material, STATION, ID, NOW);
  const status = { ...node.status!, unreleased: node.status!.revoked };
  assert.throws(() => verifyKit(kit, { ...node, status }, NOW), { code: "ERR_KIT_REFUSED", message: /works before/ });
});

test("only the station's key opens a sealed kit", async () => {
  const { material } = await publishedWorld(2);
  const kit = buildKit(material, STATION, ID, NOW);
  const [station, thief] = [x25519(), x25519()];
  const sealed = await sealKit(kit, station.publicKey);
  const options = { keyManagementAlgorithms: ["ECDH-ES"], contentEncryptionAlgorithms: ["A256GCM"] };
  const { plaintext, protectedHeader } = await compactDecrypt(sealed, station.privateKey, options);
  assert.equal(protectedHeader.cty, "application/rct-kit+cbor");
  assert.ok(equalBytes(plaintext, encodeKit(kit)));
  await assert.rejects(compactDecrypt(sealed, thief.privateKey, options), { code: "ERR_JWE_DECRYPTION_FAILED" });
  assert.notEqual(await sealKit(kit, station.publicKey), sealed, "every seal has a key of its own");
});

test("a kit is not sealed to a key that anybody could open", async () => {
  const bad = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "00000000000000000000000000000000000000000000000000000000000000",
  ];
  for (const key of bad) await assert.rejects(sealTo(parseHex(key), utf8("kit")), { code: "ERR_KEY" }, key);
  const masked = parseHex(bad[0]!).with(31, 0x80);
  await assert.rejects(sealTo(masked, utf8("kit")), { code: "ERR_KEY" });
});

test("a kit larger than a station accepts is refused before it is sealed", async () => {
  const { publicKey } = x25519();
  await assert.rejects(sealTo(publicKey, new Uint8Array(SEALED_BYTES_MAX + 1)), { code: "ERR_KIT_SIZE" });
});

test("the signatures of a kit are the batch's, in order", async () => {
  const { material } = await publishedWorld(3);
  const kit = buildKit(material, STATION, ID, NOW);
  for (const [place, { token }] of kit.tokens.entries()) {
    assert.ok(equalBytes(token.subarray(57), signatureOf(material.batch, place)));
  }
});
