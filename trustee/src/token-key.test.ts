/** A trustee whose key is in a token: a real SoftHSM2 token, behind a shim that counts logins and can refuse them. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { generateKeys, initSoftHsmToken, type SoftHsmToken } from "@viafabric/hsm";
import { buildShim, type Shim } from "@viafabric/hsm/measure";
import { CodedError, formatHex, isValidSignature, utf8 } from "@viafabric/schemas";
import { isMetadataSignature, signMetadata, verifyEnrolmentCard } from "@viafabric/tuf";
import { init, initToken } from "./commands.ts";
import { homeAt, openSigner, readOwnKey } from "./home.ts";
import { tokenPlace } from "./token-key.ts";

let folder: string;
let token: SoftHsmToken;
let shim: Shim;
let pin: string;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "trustee-token-"));
  token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "amina" });
  process.env.SOFTHSM2_CONF = token.confFile;
  shim = await buildShim(folder, token.module);
  pin = (await readFile(token.pinFile, "utf8")).trim();
});

after(async () => {
  shim.close();
  await rm(folder, { recursive: true });
});

const uri = (id: string, query = `module-path=${shim.module}`) => `pkcs11:token=amina;id=${id}?${query}`;
const place = (id: string) => tokenPlace(uri(id));
const homeOf = (name: string) => homeAt(path.join(folder, name));

const refused = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test("a PIN that the token refuses is not tried again", async () => {
  const home = homeOf("locked");
  shim.set({});
  // In a process that nobody has logged in yet, and before any other test does.
  await assert.rejects(initToken(home, "Amina", place("%01"), "wrong", "ed25519"), refused("ERR_HSM_PIN"));
  assert.equal(shim.counters().logins, 1);
  await assert.rejects(stat(home.token), "nothing was written");
  await assert.rejects(stat(home.card), "nothing was written");
});

for (const kind of ["ed25519", "p256"] as const) {
  test(`${kind}: a key made in the token makes the card and signs metadata; the home holds no secret`, async () => {
    const home = homeOf(kind);
    const card = await initToken(home, "Amina", place(`%aa${kind}`), pin, kind);
    assert.equal(verifyEnrolmentCard(new Uint8Array(await readFile(home.card))).name, "Amina");
    assert.equal(card.key.algorithm, kind);
    assert.equal(formatHex((await readOwnKey(home)).kid), formatHex(card.key.kid));
    const signer = await openSigner(home, pin);
    const signed = utf8('{"_type":"targets"}');
    assert.ok(isMetadataSignature(card.key, signed, (await signMetadata(signer, signed)).sig));
    assert.ok(isValidSignature(card.key, signed, await signer.sign(signed)));
    const written = await readFile(home.token, "utf8");
    assert.ok(!written.includes(pin) && written.includes(token.tokenSerial));
    const other = () => initToken(home, "Amina", place(`%bb${kind}`), pin, kind);
    await assert.rejects(other, refused("ERR_HOME"));
    await assert.rejects(() => init(home, "Amina", "a passphrase"), refused("ERR_HOME"));
  });
}

test("a key that is there is taken; one that is not, is another, or lies in another token is refused", async () => {
  const [first, second] = await generateKeys(token, [
    { id: utf8("first"), label: "first", algorithm: "ed25519" },
    { id: utf8("second"), label: "second", algorithm: "ed25519" },
  ]);
  const home = homeOf("existing");
  const card = await initToken(home, "Amina", place("first"), pin);
  assert.equal(formatHex(card.key.kid), formatHex(first!.kid));
  await assert.rejects(initToken(homeOf("missing"), "Amina", place("missing"), pin), refused("ERR_HSM_KEY"));
  await assert.rejects(initToken(homeOf("taken"), "Amina", place("first"), pin, "ed25519"), refused("ERR_HSM_KEY"));

  const good = await readFile(home.token, "utf8");
  const change = async (code: string, text: string) => {
    await writeFile(home.token, text);
    await assert.rejects(openSigner(home, pin), refused(code), text);
  };
  await change("ERR_HSM_KEY", good.replace("%66%69%72%73%74", "%73%65%63%6f%6e%64"));
  await change("ERR_HSM_TOKEN", good.replace(token.tokenSerial, "0000000000000000"));
  await change("ERR_HSM_MODULE", good.replace(shim.module, path.join(folder, "no-module.so")));
  await change("ERR_HOME", good.replace("{", "{ "));
  await change("ERR_HOME", good.replace("pkcs11:", "pkcs12:"));
  await change("ERR_HOME", "{}");
  assert.ok(second);
});

test("a URI for a trustee names a key by id and a module, and no PIN", () => {
  for (const [code, text] of [
    ["ERR_USAGE", "pkcs11:token=amina"],
    ["ERR_USAGE", "pkcs11:token=amina;id=%01"],
    ["ERR_USAGE", `${uri("%01")}&pin-source=/pin`],
    ["ERR_USAGE", uri("%01").replace("id=", "object=key;id=")],
    ["ERR_HSM_URI", `${uri("%01")}&pin-value=1234`],
  ] as const)
    assert.throws(() => tokenPlace(text), refused(code), text);
});
