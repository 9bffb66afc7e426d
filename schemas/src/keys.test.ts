import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { test } from "node:test";
import { concat, formatBase64, parseHex, utf8 } from "./bytes.ts";
import { ed25519PublicKey, isValidSignature, type PublicKey, parsePublicKey, signingInput } from "./crypto.ts";
import { FormatError, VerificationError } from "./errors.ts";
import { verifyThreshold } from "./keys.ts";
import {
  cosignatureInput,
  formatVerifierKey,
  noteVerifier,
  openNote,
  parseNote,
  parseVerifierKey,
  signNote,
} from "./note.ts";
import { parseRequestHeaders, REQUEST_WINDOW_SECONDS, signRequest, verifyRequest } from "./request.ts";

function pair(): { key: PublicKey; secret: KeyObject; sign: (message: Uint8Array) => Promise<Uint8Array> } {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const key = parsePublicKey(new Uint8Array(publicKey.export({ format: "der", type: "spki" })));
  return { key, secret: privateKey, sign: async (message) => new Uint8Array(sign(null, message, privateKey)) };
}

const AUTHORITY = new Uint8Array(32).fill(7);
const BYTES = utf8("what people agreed to");

test("keys of small order are refused, in every spelling", () => {
  const points = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
  ];
  for (const hex of points) assert.throws(() => ed25519PublicKey(parseHex(hex)), FormatError, hex);
});

test("an S at or above the group order is refused", async () => {
  const { key, sign } = pair();
  const signature = await sign(BYTES);
  assert.ok(isValidSignature(key, BYTES, signature));
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  let s = 0n;
  for (let i = 63; i >= 32; i--) s = (s << 8n) | BigInt(signature[i]!);
  s += order;
  const forged = signature.slice();
  for (let i = 32; i < 64; i++) {
    forged[i] = Number(s & 255n);
    s >>= 8n;
  }
  assert.ok(!isValidSignature(key, BYTES, forged));
});

test("a P-256 signature has one spelling: low S", () => {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const key = parsePublicKey(new Uint8Array(publicKey.export({ format: "der", type: "spki" })));
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const raw = new Uint8Array(sign("sha256", BYTES, { key: privateKey, dsaEncoding: "ieee-p1363" }));
  const s = BigInt(`0x${Buffer.from(raw.subarray(32)).toString("hex")}`);
  const mirrored = concat(raw.subarray(0, 32), parseHex((order - s).toString(16).padStart(64, "0")));
  assert.equal([raw, mirrored].filter((signature) => isValidSignature(key, BYTES, signature)).length, 1);
  assert.ok(isValidSignature(key, BYTES, new Uint8Array(sign("sha256", BYTES, privateKey)), "der"));
});

test("a threshold counts distinct keys that signed exactly this", async () => {
  const [a, b, c] = [pair(), pair(), pair()];
  const role = { keys: [a.key, b.key, c.key], threshold: 2 };
  const by = async (p: typeof a, type = "event", authority = AUTHORITY) => ({
    kid: p.key.kid,
    signature: await p.sign(signingInput(type, authority, BYTES)),
  });
  const refused = (signatures: { kid: Uint8Array; signature: Uint8Array }[], changed = role) =>
    assert.throws(
      () => verifyThreshold(changed, "event", AUTHORITY, BYTES, signatures),
      (error) => error instanceof VerificationError && error.code === "ERR_THRESHOLD",
    );
  const [byA, byB] = [await by(a), await by(b)];
  assert.equal(verifyThreshold(role, "event", AUTHORITY, BYTES, [byA, byB]).length, 2);
  refused([byA]);
  refused([byA, byA]);
  refused([byA, { kid: b.key.kid, signature: byA.signature }]);
  refused([byA, await by(pair())]);
  refused([byA, await by(b, "request")]);
  refused([byA, await by(b, "event", new Uint8Array(32))]);
  refused([]);
  // The same key listed twice is one person; rules that nobody can meet, or anybody, are not rules.
  refused([byA, byA], { keys: [a.key, a.key], threshold: 2 });
  for (const threshold of [0, -1, 1.5, Number.NaN]) refused([byA, byB], { ...role, threshold });
});

test("the published example note opens, and each change to it does not", () => {
  const vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
  const verifier = parseVerifierKey(vkey);
  assert.equal(formatVerifierKey(verifier), vkey);
  const line =
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=";
  const note = utf8(`This is an example message.\n\n${line}\n`);
  assert.equal(openNote(note, [verifier]).text, "This is an example message.\n");
  for (let at = 0; at < note.length; at++) {
    const changed = note.slice();
    changed[at]! ^= 1;
    assert.throws(() => openNote(changed, [verifier]), `byte ${at}`);
  }
  for (let end = 0; end < vkey.length; end++) assert.throws(() => parseVerifierKey(vkey.slice(0, end)), FormatError);
  assert.throws(
    () => openNote(note, []),
    (error) => error instanceof VerificationError && error.code === "ERR_NOTE_UNSIGNED",
  );
});

test("the text of a note may hold empty lines; lines of unknown keys are skipped", async () => {
  const [log, stranger] = [pair(), pair()];
  const text = "first\n\nlast\n";
  const own = await signNote(text, "log.example", { publicKey: log.key, sign: log.sign });
  const other = await signNote(text, "other.example", { publicKey: stranger.key, sign: stranger.sign });
  const format = (s: { name: string; keyId: Uint8Array; signature: Uint8Array }) =>
    `\u2014 ${s.name} ${formatBase64(concat(s.keyId, s.signature))}\n`;
  const opened = openNote(utf8(`${text}\n${format(other)}${format(own)}`), [noteVerifier("log.example", log.key)]);
  assert.equal(opened.text, text);
  assert.equal(opened.signatures.length, 1);
  assert.throws(() => parseNote(utf8(`${text}`)), FormatError);
  assert.throws(() => parseNote(utf8("a\rb\n\n— x AAAAAAA=\n")), FormatError);
});

test("a cosignature covers its time", async () => {
  const witness = pair();
  const signer = { publicKey: witness.key, sign: witness.sign };
  const line = await signNote("text\n", "witness.example", signer, 1_700_000_000);
  const input = cosignatureInput("text\n", 1_700_000_000);
  assert.ok(isValidSignature(witness.key, input, line.signature.slice(8)));
  assert.ok(!isValidSignature(witness.key, cosignatureInput("text\n", 1_700_000_001), line.signature.slice(8)));
});

test("a signed request is bound to its method, path, body, time and authority", async () => {
  const operator = pair();
  const signer = { publicKey: operator.key, sign: operator.sign };
  const now = 1_800_000_000;
  const request = { method: "POST", path: "/requests?x=1", body: utf8("{}"), time: now, nonce: new Uint8Array(16) };
  const headers = await signRequest(signer, AUTHORITY, request);
  const proof = parseRequestHeaders((name) => headers[name as keyof typeof headers]);
  verifyRequest(operator.key, AUTHORITY, proof, request, now + REQUEST_WINDOW_SECONDS);
  const refused = (change: object, at = now, authority = AUTHORITY) =>
    assert.throws(
      () => verifyRequest(operator.key, authority, proof, { ...request, ...change }, at),
      VerificationError,
    );
  refused({ method: "PUT" });
  refused({ path: "/requests" });
  refused({ body: utf8("{ }") });
  refused({}, now + REQUEST_WINDOW_SECONDS + 1);
  refused({}, now - REQUEST_WINDOW_SECONDS - 1);
  refused({}, now, new Uint8Array(32));
  assert.throws(
    () => verifyRequest(operator.key, AUTHORITY, { ...proof, time: now + 1 }, request, now),
    VerificationError,
  );
  for (const missing of Object.keys(headers)) {
    const get = (name: string) => (name === missing ? undefined : headers[name as keyof typeof headers]);
    assert.throws(() => parseRequestHeaders(get), FormatError, missing);
  }
});

test("a public key has one spelling", () => {
  const { key } = pair();
  assert.throws(() => parsePublicKey(key.spki.slice(0, -1)), FormatError);
  assert.throws(() => parsePublicKey(concat(key.spki, new Uint8Array(1))), FormatError);
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ format: "der", type: "spki" });
  assert.throws(() => parsePublicKey(new Uint8Array(rsa)), FormatError);
  const offCurve = concat(
    parseHex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),
    new Uint8Array([4]),
    new Uint8Array(64).fill(5),
  );
  assert.throws(() => parsePublicKey(offCurve), FormatError);
});
