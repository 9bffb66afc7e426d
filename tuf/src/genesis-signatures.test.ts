import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import { CodedError, concat, parseHex, parsePublicKey, parseUtf8, type Signer, sha256, utf8 } from "@viafabric/schemas";
import { type GenesisParts, parseGenesisSignatures, signGenesis } from "./genesis-signatures.ts";
import { isMetadataSignature, keyId } from "./keys.ts";

const PARTS: GenesisParts = { root: utf8("root"), targets: utf8("targets"), batches: utf8("batches") };

function ed25519Signer(name: string): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), sha256(utf8(name)));
  const secret = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(secret).export({ format: "der", type: "spki" }));
  return { publicKey: parsePublicKey(spki), sign: async (message) => new Uint8Array(sign(null, message, secret)) };
}

function p256Signer(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const key = { key: privateKey, dsaEncoding: "ieee-p1363" } as const;
  return {
    publicKey: parsePublicKey(new Uint8Array(publicKey.export({ format: "der", type: "spki" }))),
    sign: async (message) => new Uint8Array(sign("sha256", message, key)),
  };
}

test("a trustee's three signatures come back, for both kinds of keys", async () => {
  for (const signer of [ed25519Signer("trustee"), p256Signer()]) {
    const signatures = parseGenesisSignatures(await signGenesis(signer, PARTS));
    for (const role of ["root", "targets", "batches"] as const) {
      assert.equal(signatures[role].keyid, keyId(signer.publicKey));
      assert.ok(isMetadataSignature(signer.publicKey, PARTS[role], signatures[role].sig), role);
    }
  }
});

test("the file has one spelling", async () => {
  const bytes = await signGenesis(ed25519Signer("trustee"), PARTS);
  const text = parseUtf8(bytes);
  const wrong = [
    text.trimEnd(),
    `${text}\n`,
    ` ${text}`,
    text.replace(":", ": "),
    text.replace('"batches"', '"batch"'),
    text.replace('"keyid":"', '"keyid":"A'),
    text.replace(/"root":"./, '"root":"'),
    text.replace(/"root":"[^"]*"/, '"root":1'),
    text.replace("}", ',"extra":1}'),
    text.toUpperCase(),
    "[]",
    "null",
    "",
    "x".repeat(3000),
  ];
  for (const each of wrong) assert.throws(() => parseGenesisSignatures(utf8(each)), { name: "FormatError" }, each);
});

test("every byte changed gives a refusal or another file, never a crash", async () => {
  const bytes = await signGenesis(ed25519Signer("trustee"), PARTS);
  for (let at = 0; at < bytes.length; at++) {
    for (const value of [0, 0x22, 0x30, bytes[at]! ^ 1]) {
      try {
        parseGenesisSignatures(bytes.with(at, value));
      } catch (error) {
        assert.ok(error instanceof CodedError, `byte ${at} as ${value}`);
      }
    }
  }
});
