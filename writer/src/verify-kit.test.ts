import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTag } from "@viafabric/nfc";
import { decodeEventBody, equalBytes, isValidSignature, type Kit, signingInput } from "@viafabric/schemas";
import { CompactEncrypt, importJWK } from "jose";
import { AUTHORITY, DAY, kitWorld, NOW, RELEASE, STATION } from "./fixtures.test.ts";
import { releaseRanges, signRelease } from "./release.ts";
import { generateSealKey, openSealed } from "./unseal.ts";
import { messageOf, verifyKit } from "./verify-kit.ts";

const station = STATION.publicKey.kid;

test("a kit as the vault builds it is written, and its messages are its tokens", async () => {
  const { kit, trust, manifestProof } = await kitWorld(3);
  const verified = verifyKit(kit, { trust, station, manifestProof }, NOW);
  for (const { index } of kit.tokens) assert.deepEqual(parseTag(messageOf(verified, index)).layout, "compact");
  assert.equal(verified.model.name, "ntag213");
  assert.deepEqual(parseTag(messageOf(verified, 101)), { layout: "compact", token: kit.tokens[1]!.token });
  verifyKit(kit, { trust, station, manifestProof }, NOW - 2 * DAY);
});

test("the link layout carries the claim secret, and the compact one refuses it", async () => {
  const link = await kitWorld(1, { layout: "link", tagClass: "ntag215" });
  const claimSecret = new Uint8Array(16).fill(7);
  const secret = (kit: Kit): Kit => ({ ...kit, tokens: kit.tokens.map((t) => ({ ...t, claimSecret })) });
  const own = { trust: link.trust, station, manifestProof: link.manifestProof };
  const parsed = parseTag(messageOf(verifyKit(secret(link.kit), own, NOW), 100));
  assert.deepEqual(parsed, { layout: "link", token: link.kit.tokens[0]!.token, claimSecret });
  const compact = await kitWorld(1);
  const verified = verifyKit(
    secret(compact.kit),
    { trust: compact.trust, station, manifestProof: compact.manifestProof },
    NOW,
  );
  assert.throws(() => messageOf(verified, 100), { code: "ERR_KIT_REFUSED" });
});

test("whatever was altered in a kit keeps it off every tag", async () => {
  const { kit, trust, manifestProof } = await kitWorld(3);
  const flip = (bytes: Uint8Array, at: number): Uint8Array => bytes.with(at, bytes[at]! ^ 1);
  const tokenChanged = (at: number): Kit => {
    return { ...kit, tokens: kit.tokens.map((t, i) => (i === 1 ? { ...t, token: flip(t.token, at) } : t)) };
  };
  const own = { trust, station, manifestProof };
  const cases: Record<string, readonly [Kit, typeof own, number]> = {
    "a signature": [tokenChanged(120), own, NOW],
    "an id": [tokenChanged(6), own, NOW],
    "a subject": [tokenChanged(30), own, NOW],
    "an index": [tokenChanged(56), own, NOW],
    "a selector": [tokenChanged(2), own, NOW],
    "two tokens swapped": [
      { ...kit, tokens: kit.tokens.map((t, i) => ({ ...t, token: kit.tokens[2 - i]!.token })) },
      own,
      NOW,
    ],
    "a leaf": [{ ...kit, leaves: flip(kit.leaves, 80) }, own, NOW],
    "the manifest": [{ ...kit, manifest: flip(kit.manifest, 60) }, own, NOW],
    "tokens.bin": [{ ...kit, tokensBin: flip(kit.tokensBin, 9) }, own, NOW],
    "the log proof": [{ ...kit, logProof: flip(kit.logProof, kit.logProof.length - 20) }, own, NOW],
    "another station's": [kit, { ...own, station: RELEASE.publicKey.kid }, NOW],
    "another head": [kit, { ...own, trust: { ...trust, head: { ...trust.head, root: AUTHORITY } } }, NOW],
    "no proof": [kit, { ...own, manifestProof: [] }, NOW],
    "another authority": [{ ...kit, authority: new Uint8Array(32) }, own, NOW],
    "expired tokens": [kit, own, NOW + 91 * DAY],
    "expired trust": [kit, { ...own, trust: { ...trust, expires: { ...trust.expires, batches: NOW } } }, NOW],
  };
  for (const [name, [altered, against, now]] of Object.entries(cases)) {
    assert.throws(() => verifyKit(altered, against, now), { code: "ERR_KIT_REFUSED" }, name);
  }
});

test("a sealed kit opens with its own key only", async () => {
  const [own, other] = [generateSealKey(), generateSealKey()];
  const seal = async (cty: string) => {
    const x = Buffer.from(own.publicKey).toString("base64url");
    const key = await importJWK({ kty: "OKP", crv: "X25519", x }, "ECDH-ES");
    const jwe = new CompactEncrypt(new Uint8Array([1, 2, 3]));
    return new TextEncoder().encode(await jwe.setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM", cty }).encrypt(key));
  };
  const sealed = await seal("application/rct-kit+cbor");
  assert.ok(equalBytes(await openSealed(sealed, own.privateKey), new Uint8Array([1, 2, 3])));
  await assert.rejects(openSealed(sealed, other.privateKey), { code: "ERR_KIT_REFUSED" });
  await assert.rejects(openSealed(sealed.with(sealed.length - 3, 65), own.privateKey), { code: "ERR_KIT_REFUSED" });
  await assert.rejects(openSealed(await seal("text/plain"), own.privateKey), { code: "ERR_KIT" });
});

test("a release leaves spoiled serials out, and only the manifest's release key signs it", async () => {
  const { manifest } = await kitWorld(6);
  assert.deepEqual(releaseRanges(manifest, []), [{ first: 100, count: 6 }]);
  const ranges = releaseRanges(manifest, [100, 103]);
  assert.deepEqual(ranges, [
    { first: 101, count: 2 },
    { first: 104, count: 2 },
  ]);
  assert.throws(() => releaseRanges(manifest, [100, 101, 102, 103, 104, 105]), { code: "ERR_USAGE" });
  const options = { reason: "delivered", nonce: new Uint8Array(16), now: NOW };
  const { body, signature } = await signRelease(RELEASE, manifest, ranges, options);
  assert.ok(isValidSignature(RELEASE.publicKey, signingInput("event", AUTHORITY, body), signature));
  assert.deepEqual(decodeEventBody(body).ranges, ranges);
  await assert.rejects(signRelease(STATION, manifest, ranges, options), { code: "ERR_UNAUTHORIZED" });
});
