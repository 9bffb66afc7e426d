/** The bad device is as bad as it is told to be: otherwise every test that relies on it proves nothing. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { isValidSignature, utf8 } from "@viafabric/schemas";
import { ckrOf } from "./ckr.ts";
import { generateKeys, initSoftHsmToken } from "./index.ts";
import { findKey, type Session, signWith, type TokenKey } from "./keys.ts";
import { CK, findToken, LoginThread, type Module, openModule } from "./pkcs11.ts";
import { buildShim, CORRUPT, type Shim } from "./shim-testkit.ts";

let folder: string;
let shim: Shim;
let module: Module;
let session: Session;
let key: TokenKey;
const MESSAGE = utf8("message");

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shim-"));
  const token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "shim" });
  await generateKeys(token, [{ id: utf8("k"), label: "k", algorithm: "ed25519" }]);
  shim = await buildShim(folder, token.module);
  process.env.SOFTHSM2_CONF = token.confFile;
  module = await openModule(shim.module);
  const { slot } = findToken(module, token);
  const { library } = module;
  session = { library, handle: library.C_OpenSession(slot, CK.CKF_SERIAL_SESSION) };
  await new LoginThread(module).login(slot, token);
  key = findKey(session, utf8("k"));
});

after(async () => {
  module.release();
  shim.close();
  await rm(folder, { recursive: true });
});

/** What each of `count` calls came to: a CKR code, or whether the signature verifies. */
function outcomes(count: number): (number | boolean)[] {
  return Array.from({ length: count }, () => {
    try {
      return isValidSignature(key.publicKey, MESSAGE, signWith(session, key, MESSAGE));
    } catch (error) {
      // The operation that failed is still active in the module; the next C_SignInit would say so.
      module.library.C_Sign(session.handle, Buffer.from(MESSAGE), Buffer.alloc(64));
      return ckrOf(error)!;
    }
  });
}

test("the n-th call fails, or each n-th, by turns", () => {
  shim.set({ when: "once", n: 3, codes: [6] });
  assert.deepEqual(outcomes(5), [true, true, 6, true, true]);
  shim.set({ when: "each", n: 3, codes: [CORRUPT, CORRUPT] });
  assert.deepEqual(outcomes(6), [true, true, false, true, true, false]);
  assert.deepEqual([shim.counters().calls, shim.counters().faults], [6, 2]);
});

test("a share of the calls fails, the same ones from the same seed", () => {
  const run = () => {
    shim.set({ when: "share", n: 100_000, seed: 7, codes: [CORRUPT] });
    return outcomes(300);
  };
  const first = run();
  const failed = first.filter((outcome) => outcome === false).length;
  assert.ok(failed > 10 && failed < 60, `${failed} of 300 at a tenth`);
  assert.deepEqual(run(), first);
});

test("a signature takes as long as it is told", () => {
  shim.set({ delayMicroseconds: 20_000 });
  const start = performance.now();
  outcomes(3);
  assert.ok(performance.now() - start >= 60);
});

test("a device that is gone stays gone", () => {
  shim.set({ when: "once", n: 1, sticky: true, codes: [0x32] });
  for (let i = 0; i < 3; i++) {
    assert.throws(
      () => signWith(session, key, MESSAGE),
      (error) => ckrOf(error) === 0x32,
    );
  }
});
