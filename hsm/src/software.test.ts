/** Keys in files behave as keys in a token do, and the signer's configuration can name them. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { CodedError, isValidSignature, utf8 } from "@viafabric/schemas";
import { generateKeys, type Hsm, openKeys, openSoftwareKeys } from "./index.ts";
import { formatSignerConfig, readSignerConfig, SIGNER_KEYS, type SignerConfig, signerKeys } from "./signer/config.ts";

let folder: string;
let keys: Hsm;
let reference: { readonly software: string; readonly passphraseFile: string };

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "software-"));
  reference = { software: path.join(folder, "keys"), passphraseFile: path.join(folder, "passphrase") };
  await writeFile(reference.passphraseFile, "correct horse\n", { mode: 0o600 });
  keys = await openSoftwareKeys(reference);
});

after(() => rm(folder, { recursive: true }));

const refused = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;

test("a software key is made once, found by its id, and signs one by one and in batches", async () => {
  const id = utf8("issuer");
  const key = await keys.generateKey(id, "issuer", "ed25519");
  assert.equal((await stat(reference.software)).mode & 0o777, 0o700);
  const signer = await keys.signer(id, key);
  assert.ok(isValidSignature(key, utf8("x"), await signer.sign(utf8("x"))));
  const messages = Array.from({ length: 150 }, (_, i) => utf8(`message ${i}`));
  const pool = await keys.pool(id, key, 2);
  const signatures = await pool.signAll(messages);
  assert.equal(signatures.length, messages.length);
  for (const [i, message] of messages.entries()) assert.ok(isValidSignature(key, message, signatures[i]!));
  await assert.rejects(keys.generateKey(id, "again", "ed25519"), refused("ERR_HSM_KEY"));
});

test("another key, a missing one, another algorithm and a wrong passphrase are refused", async () => {
  const [one, two] = await generateKeys(reference, [
    { id: utf8("one"), label: "one", algorithm: "ed25519" },
    { id: utf8("two"), label: "two", algorithm: "ed25519" },
  ]);
  await assert.rejects(keys.signer(utf8("one"), two), refused("ERR_HSM_KEY"));
  await assert.rejects(keys.pool(utf8("one"), two!, 1), refused("ERR_HSM_KEY"));
  await assert.rejects(keys.signer(utf8("three")), refused("ERR_HSM_KEY"));
  await assert.rejects(keys.generateKey(utf8("four"), "four", "p256"), refused("ERR_HSM_KEY"));
  const passphraseFile = path.join(folder, "wrong");
  await writeFile(passphraseFile, "wrong\n", { mode: 0o600 });
  const wrong = await openKeys({ ...reference, passphraseFile });
  await assert.rejects(wrong.signer(utf8("one"), one), refused("ERR_PASSPHRASE"));
  await chmod(passphraseFile, 0o644);
  await assert.rejects(openKeys({ ...reference, passphraseFile }), refused("ERR_HSM_PIN"));
  await assert.rejects(openKeys({ ...reference, passphraseFile: "/nowhere" }), refused("ERR_HSM_PIN"));
});

test("a configuration names a token or software keys, and not both", async () => {
  const wanted = SIGNER_KEYS.map((name) => ({ id: utf8(`c-${name}`), label: name, algorithm: "ed25519" as const }));
  const made = await generateKeys(reference, wanted);
  const config: SignerConfig = {
    hsm: reference,
    root: path.join(folder, "root.json"),
    public: path.join(folder, "public"),
    socket: path.join(folder, "signer.sock"),
    keys: signerKeys((_name, i) => [{ id: wanted[i]!.id, publicKey: made[i]! }]),
  };
  const file = path.join(folder, "signer.json");
  await writeFile(file, formatSignerConfig(config));
  assert.deepEqual((await readSignerConfig(file)).hsm, reference);
  const both = JSON.parse(Buffer.from(formatSignerConfig(config)).toString());
  await writeFile(file, JSON.stringify({ ...both, module: "/usr/lib/module.so", pinFile: "pin" }));
  await assert.rejects(readSignerConfig(file), refused("ERR_SIGNER_CONFIG"));
});
