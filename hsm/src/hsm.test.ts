/** Keys in a real SoftHSM2 token: what can be made, what can never be had, and each way of being refused. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { CodedError, formatHex, isValidSignature, utf8 } from "@viafabric/schemas";
import { ckrError, hsmError } from "./ckr.ts";
import { generateKeys, type Hsm, type HsmOptions, initSoftHsmToken, openHsm, type SoftHsmToken } from "./index.ts";
import { parsePoint, withLowS } from "./keys.ts";
import { CK, findToken, openModule } from "./pkcs11.ts";

let folder: string;
let token: SoftHsmToken;
let hsm: Hsm;
const ID = utf8("issuer-1");

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "hsm-"));
  token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "vault" });
  process.env.SOFTHSM2_CONF = token.confFile;
  hsm = await openHsm(token);
});

after(async () => {
  await hsm.close();
  await rm(folder, { recursive: true });
});

function refused(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CodedError, String(error));
    assert.equal(error.code, code);
    return true;
  };
}

test("a token folder is private and its PIN stands nowhere else", async () => {
  for (const [name, mode] of [
    ["hsm", 0o700],
    ["hsm/tokens", 0o700],
    ["hsm/pin", 0o600],
    ["hsm/so-pin", 0o600],
    ["hsm/softhsm2.conf", 0o600],
  ] as const) {
    assert.equal((await stat(path.join(folder, name))).mode & 0o777, mode, name);
  }
  assert.equal(hsm.tokenLabel, "vault");
  assert.equal(hsm.tokenSerial, token.tokenSerial);
});

test("an initialised folder is not initialised again", async () => {
  const pin = await readFile(token.pinFile, "utf8");
  await assert.rejects(
    initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "other" }),
    refused("ERR_HSM_TOKEN"),
  );
  assert.equal(await readFile(token.pinFile, "utf8"), pin);
});

for (const algorithm of ["ed25519", "p256"] as const) {
  test(`${algorithm}: a key made in the token signs what node:crypto verifies`, async () => {
    const id = utf8(`key-${algorithm}`);
    const publicKey = await hsm.generateKey(id, `test ${algorithm}`, algorithm);
    assert.equal(publicKey.algorithm, algorithm);
    const signer = await hsm.signer(id, publicKey);
    for (let i = 0; i < 40; i++) {
      const message = utf8(`message ${i}`);
      const signature = await signer.sign(message);
      assert.equal(isValidSignature(publicKey, message, signature), true);
      assert.equal(isValidSignature(publicKey, utf8("another"), signature), false);
    }
    await assert.rejects(hsm.generateKey(id, "again", algorithm), refused("ERR_HSM_KEY"));
  });
}

test("a private key can be neither read nor made readable", async () => {
  await hsm.generateKey(ID, "issuer", "ed25519");
  const module = await openModule(token.module);
  const { library } = module;
  const { slot } = findToken(module, token);
  const session = library.C_OpenSession(slot, CK.CKF_SERIAL_SESSION | CK.CKF_RW_SESSION);
  try {
    library.C_FindObjectsInit(session, [
      { type: CK.CKA_CLASS, value: CK.CKO_PRIVATE_KEY },
      { type: CK.CKA_ID, value: Buffer.from(ID) },
    ]);
    const [key] = library.C_FindObjects(session, 1);
    library.C_FindObjectsFinal(session);
    assert.ok(key);
    assert.throws(() => library.C_GetAttributeValue(session, key, [{ type: CK.CKA_VALUE }]));
    for (const [type, value] of [
      [CK.CKA_EXTRACTABLE, true],
      [CK.CKA_SENSITIVE, false],
    ] as const) {
      assert.throws(() => library.C_SetAttributeValue(session, key, [{ type, value }]));
    }
    // Nor does a permissive copy slip past the check of attributes: a key that may decrypt is refused.
    const pair = library.C_GenerateKeyPair(
      session,
      { mechanism: CK.CKM_EC_KEY_PAIR_GEN },
      [
        { type: CK.CKA_TOKEN, value: true },
        { type: CK.CKA_ID, value: Buffer.from("permissive") },
        { type: CK.CKA_EC_PARAMS, value: Buffer.from("06082a8648ce3d030107", "hex") },
      ],
      [
        { type: CK.CKA_TOKEN, value: true },
        { type: CK.CKA_ID, value: Buffer.from("permissive") },
        { type: CK.CKA_EXTRACTABLE, value: true },
      ],
    );
    assert.ok(pair.privateKey);
    await assert.rejects(hsm.signer(utf8("permissive")), refused("ERR_HSM_KEY"));
  } finally {
    library.C_CloseSession(session);
    module.release();
  }
});

test("another key than the one written down is refused", async () => {
  const other = await hsm.generateKey(utf8("other"), "other", "ed25519");
  const own = await hsm.generateKey(utf8("own"), "own", "ed25519");
  await hsm.signer(utf8("own"), own);
  await assert.rejects(hsm.signer(utf8("own"), other), refused("ERR_HSM_KEY"));
  await assert.rejects(hsm.signer(utf8("missing")), refused("ERR_HSM_KEY"));
});

test("a public object exchanged beside a private key is found out by a test signature", async () => {
  const id = utf8("exchanged");
  await hsm.generateKey(id, "exchanged", "ed25519");
  const decoy = await hsm.generateKey(utf8("decoy"), "decoy", "ed25519");
  const module = await openModule(token.module);
  const { library } = module;
  const session = library.C_OpenSession(findToken(module, token).slot, CK.CKF_SERIAL_SESSION | CK.CKF_RW_SESSION);
  try {
    library.C_FindObjectsInit(session, [
      { type: CK.CKA_CLASS, value: CK.CKO_PUBLIC_KEY },
      { type: CK.CKA_ID, value: Buffer.from(id) },
    ]);
    const [object] = library.C_FindObjects(session, 1);
    library.C_FindObjectsFinal(session);
    library.C_DestroyObject(session, object!);
    library.C_CreateObject(session, [
      { type: CK.CKA_CLASS, value: CK.CKO_PUBLIC_KEY },
      { type: CK.CKA_KEY_TYPE, value: CK.CKK_EC_EDWARDS },
      { type: CK.CKA_TOKEN, value: true },
      { type: CK.CKA_ID, value: Buffer.from(id) },
      { type: CK.CKA_EC_PARAMS, value: Buffer.from("06032b6570", "hex") },
      { type: CK.CKA_EC_POINT, value: Buffer.concat([Buffer.from([4, 32]), decoy.raw]) },
    ]);
    await assert.rejects(hsm.signer(id), refused("ERR_HSM_KEY"));
  } finally {
    library.C_CloseSession(session);
    module.release();
  }
});

test("a signer whose login and session are lost signs again", async () => {
  const id = utf8("survivor");
  const key = await hsm.generateKey(id, "survivor", "ed25519");
  const signer = await hsm.signer(id, key);
  await closeAllSessions();
  assert.equal(isValidSignature(key, utf8("x"), await signer.sign(utf8("x"))), true);
});

/** The login goes with the last session. */
async function closeAllSessions(): Promise<void> {
  const module = await openModule(token.module);
  module.library.C_CloseAllSessions(findToken(module, token).slot);
  module.release();
}

for (const algorithm of ["ed25519", "p256"] as const) {
  test(`${algorithm}: a pool of threads signs every message once, in order`, async () => {
    const id = utf8(`pool-${algorithm}`);
    const key = await hsm.generateKey(id, "pool", algorithm);
    const pool = await hsm.pool(id, key, 3);
    for (const count of [0, 1, 31, 32, 33, 500]) {
      const messages = Array.from({ length: count }, (_, i) => utf8(`${count} ${i}`.repeat(1 + (i % 5))));
      const signatures = await pool.signAll(messages);
      assert.equal(signatures.length, count);
      signatures.forEach((signature, i) => {
        assert.ok(isValidSignature(key, messages[i]!, signature), `${count}: ${i}`);
      });
    }
    await pool.close();
    await assert.rejects(pool.signAll([utf8("x")]), refused("ERR_HSM_DEVICE"));
    await assert.rejects(hsm.pool(utf8("missing"), key, 1), refused("ERR_HSM_KEY"));
  });
}

test("a pool whose login and sessions are lost goes on", async () => {
  const id = utf8("pool-lost");
  const key = await hsm.generateKey(id, "pool", "ed25519");
  const pool = await hsm.pool(id, key, 2);
  const messages = Array.from({ length: 200 }, (_, i) => utf8(`${i}`));
  const before = await pool.signAll(messages);
  await closeAllSessions();
  assert.deepEqual(await pool.signAll(messages), before);
});

test("openHsm says what is wrong: module, token, PIN", async () => {
  // The wrong PINs need a process that is not logged in yet.
  await hsm.close();
  const attempts: readonly (readonly [string, Partial<HsmOptions>])[] = [
    ["ERR_HSM_MODULE", { module: path.join(folder, "no-module.so") }],
    ["ERR_HSM_MODULE", { module: token.confFile }],
    ["ERR_HSM_TOKEN", { tokenLabel: "nobody's" }],
    ["ERR_HSM_TOKEN", { tokenSerial: "0000000000000000" }],
    ["ERR_HSM_PIN", { pinFile: path.join(folder, "wrong-pin") }],
    ["ERR_HSM_PIN", { pinFile: path.join(folder, "no-pin") }],
    ["ERR_HSM_PIN", { pinFile: path.join(folder, "open-pin") }],
  ];
  await writeFile(path.join(folder, "wrong-pin"), "wrong\n", { mode: 0o600 });
  await writeFile(path.join(folder, "open-pin"), await readFile(token.pinFile));
  await chmod(path.join(folder, "open-pin"), 0o644);
  for (const [code, change] of attempts) {
    await assert.rejects(openHsm({ ...token, ...change }), refused(code), JSON.stringify(change));
  }
  hsm = await openHsm(token);
});

test("keys can be made by a process of their own", async () => {
  const wanted = [
    { id: utf8("made-1"), label: "first", algorithm: "ed25519" },
    { id: utf8("made-2"), label: "second", algorithm: "p256" },
  ] as const;
  const keys = await generateKeys(token, wanted);
  for (const [i, { id }] of wanted.entries())
    assert.deepEqual((await hsm.signer(id, keys[i])).publicKey.kid, keys[i]!.kid);
  await assert.rejects(generateKeys(token, wanted), refused("ERR_HSM_KEY"));
  await assert.rejects(generateKeys({ ...token, pinFile: "/nowhere" }, wanted), refused("ERR_HSM_PIN"));
});

test("return values become codes, and a PIN error is never retryable", () => {
  const table: readonly (readonly [number, string, boolean])[] = [
    [0xa0, "ERR_HSM_PIN", false],
    [0xa4, "ERR_HSM_PIN", false],
    [0x3, "ERR_HSM_TOKEN", false],
    [0x60, "ERR_HSM_KEY", false],
    [0x30, "ERR_HSM_DEVICE", true],
    [0xb3, "ERR_HSM_DEVICE", true],
    [0x7, "ERR_HSM_DEVICE", false],
  ];
  for (const [ckr, code, retryable] of table) {
    const error = ckrError("test", ckr, "CKR");
    assert.deepEqual([error.code, error.retryable], [code, retryable]);
  }
  assert.equal(hsmError("test", new Error("CKR_PIN_LOCKED:164\n at x")).code, "ERR_HSM_PIN");
});

test("a public point is read in each known form, told apart by length", async () => {
  const ed = (await hsm.generateKey(utf8("point-ed"), "p", "ed25519")).raw;
  const p256 = (await hsm.generateKey(utf8("point-p256"), "p", "p256")).raw;
  const forms = [[], [0x04, 0x20], [0x03, 0x21, 0x00]].map((prefix) => Uint8Array.from([...prefix, ...ed]));
  for (const form of forms) assert.equal(formatHex(parsePoint(form).raw), formatHex(ed));
  for (const prefix of [[], [0x04, 0x41]])
    assert.equal(formatHex(parsePoint(Uint8Array.from([...prefix, ...p256])).raw), formatHex(p256));
  for (const wrong of [ed.slice(1), Uint8Array.from([0x04, 0x21, ...ed]), new Uint8Array(32)])
    assert.throws(() => parsePoint(wrong), refused("ERR_HSM_KEY"));
});

test("a signature of either S is brought to its low spelling once", () => {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const withS = (s: bigint) => Uint8Array.from(Buffer.from("11".repeat(32) + s.toString(16).padStart(64, "0"), "hex"));
  assert.deepEqual(withLowS(withS(5n)), withS(5n));
  assert.deepEqual(withLowS(withS(order - 5n)), withS(5n));
});
