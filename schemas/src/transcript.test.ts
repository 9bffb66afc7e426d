import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { test } from "node:test";
import { formatBase64, utf8 } from "./bytes.ts";
import { NO_AUTHORITY, parsePublicKey } from "./crypto.ts";
import { CodedError } from "./errors.ts";
import {
  type DeviceInfo,
  decodeTranscript,
  encodeTranscript,
  type Transcript,
  type TranscriptBody,
  transcriptInput,
  verifyTranscript,
} from "./transcript.ts";

const AUTHORITY = new Uint8Array(32).fill(7);
const DEVICE: DeviceInfo = {
  module: "libhsm.so",
  moduleSha256: "00".repeat(32),
  cryptoki: "2.40",
  moduleManufacturer: "Maker",
  moduleDescription: "A module",
  moduleVersion: "1.2",
  tokenLabel: "vault",
  tokenSerial: "0123",
  tokenManufacturer: "Maker",
  tokenModel: "M1",
  hardwareVersion: "1.0",
  firmwareVersion: "3.1",
};
const INSIDE = new Map(
  Object.entries({ SENSITIVE: true, ALWAYS_SENSITIVE: true, EXTRACTABLE: false, NEVER_EXTRACTABLE: true, LOCAL: true }),
);
const PAIRS = ["issuer", "log"].map((role) => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  return { role, privateKey, key: parsePublicKey(new Uint8Array(publicKey.export({ type: "spki", format: "der" }))) };
});

function body(change: Partial<TranscriptBody> = {}): TranscriptBody {
  const keys = PAIRS.map(({ role, key }, i) => ({ role, id: Uint8Array.of(i), key, attributes: INSIDE }));
  const fixed = { authority: AUTHORITY, number: 3, made: 1_700_000_000, action: "generate", tool: "test 1" } as const;
  return { ...fixed, class: "hardware", device: DEVICE, keys, ...change };
}

function signed(
  of: TranscriptBody,
  keys: readonly KeyObject[] = PAIRS.map(({ privateKey }) => privateKey),
): Transcript {
  return { ...of, signatures: keys.map((key) => new Uint8Array(sign(null, transcriptInput(of), key))) };
}

const refused = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test("a transcript is what its keys signed, in one spelling", () => {
  const transcript = signed(body());
  const bytes = encodeTranscript(transcript);
  assert.deepEqual(
    verifyTranscript(bytes, AUTHORITY).keys.map(({ role }) => role),
    ["issuer", "log"],
  );
  const text = Buffer.from(bytes).toString();
  for (const other of [
    text.trimEnd(),
    text.replace("  ", " "),
    text.replace('"number": 3', '"number": 3.0'),
    text.replace('"made"', '"extra": 1,\n  "made"'),
    text.replace('"SENSITIVE": true', '"SENSITIVE": 1'),
    text.replace('"kid": "', '"kid": "0'),
    text.replace('"tool": "test 1"', '"tool": "test\\u0007"'),
    "[]",
    "{}",
    "null",
    "{",
    `{"__proto__": ${text}}`,
  ])
    assert.throws(() => decodeTranscript(utf8(other)), refused("ERR_TRANSCRIPT"), other.slice(0, 60));
  assert.throws(() => decodeTranscript(new Uint8Array(300_000)), refused("ERR_TRANSCRIPT"));
});

test("no byte of it can change without a refusal", () => {
  const bytes = encodeTranscript(signed(body()));
  for (let at = 0; at < bytes.length; at += 3) {
    const other = bytes.slice();
    other[at]! ^= 1;
    assert.throws(() => verifyTranscript(other, AUTHORITY), CodedError, `byte ${at}`);
  }
});

test("a transcript by other keys, of another authority, or of keys that could leave is refused", () => {
  const [issuer, log] = PAIRS.map(({ privateKey }) => privateKey) as [KeyObject, KeyObject];
  const verify = (transcript: Transcript) => verifyTranscript(encodeTranscript(transcript), AUTHORITY);
  assert.throws(() => verify(signed(body(), [log, issuer])), refused("ERR_TRANSCRIPT_REFUSED"));
  assert.throws(() => verify({ ...signed(body({ made: 5 })), made: 6 }), refused("ERR_TRANSCRIPT_REFUSED"));
  const twice = body({ keys: [body().keys[0]!, body().keys[0]!] });
  assert.throws(() => verify(signed(twice, [issuer, issuer])), refused("ERR_TRANSCRIPT_REFUSED"));
  assert.throws(() => verify(signed(body({ keys: [] }), [])), refused("ERR_TRANSCRIPT_REFUSED"));
  assert.throws(() => verify(signed(body({ authority: new Uint8Array(32).fill(8) }))), refused("ERR_AUTHORITY"));
  assert.throws(() => verify(signed(body({ authority: NO_AUTHORITY }))), refused("ERR_AUTHORITY"));
  assert.ok(verify(signed(body({ authority: NO_AUTHORITY, number: 1 }))));
  for (const name of INSIDE.keys()) {
    const attributes = new Map([...INSIDE, [name, !INSIDE.get(name)]]);
    const keys = body().keys.map((key) => ({ ...key, attributes }));
    assert.throws(() => verify(signed(body({ keys }))), refused("ERR_TRANSCRIPT_REFUSED"), name);
    assert.ok(verify(signed(body({ keys, class: "software" }))));
  }
});

test("SoftHSM is never hardware, wherever it says its name, and neither are files", () => {
  for (const change of [
    { module: "" },
    { module: "libsofthsm2.so" },
    { tokenModel: "SoftHSM v2" },
    { moduleManufacturer: "SoftHSM" },
  ]) {
    const device = { ...DEVICE, ...change };
    const bytes = encodeTranscript(signed(body({ device })));
    assert.throws(() => verifyTranscript(bytes, AUTHORITY), refused("ERR_TRANSCRIPT_REFUSED"), formatBase64(bytes));
    assert.ok(verifyTranscript(encodeTranscript(signed(body({ device, class: "software" }))), AUTHORITY));
  }
});
