/**
 * The bounded signer on a device that is bad on purpose: what leaves is verified, what does not leave is not lost, and
 * the memory says the same as the world has seen.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { buildShim, CORRUPT, type Shim } from "../shim-testkit.ts";
import { connect, type SignerClient, type SignerProcess, startSigner, type Unfinished } from "../signer-client.ts";
import { assertSigned, type Batch, refusedWith, TestAuthority } from "./testkit.test.ts";

let authority: TestAuthority;
let shim: Shim;
let process: SignerProcess;
let signer: SignerClient;
let size: number;
let batch: Batch;
let expected: Uint8Array;

before(async () => {
  authority = await TestAuthority.create(async (folder, module) => {
    shim = await buildShim(folder, module);
    return shim.module;
  });
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
  size = await authority.found(signer);
  batch = await authority.approve(signer, authority.draft(200));
  expected = await signer.tokens(await authority.tokensRequest(batch));
});

after(async () => {
  shim.set({});
  await signer.close();
  await process.stop();
  shim.close();
  await authority.remove();
});

test("every signature that leaves is one of the issuer key", () => {
  assertSigned(batch, authority.config.keys.issuer[0]!.publicKey, expected);
});

for (const [name, faults] of [
  ["makes wrong signatures", { when: "each", n: 20, codes: [CORRUPT] }],
  ["is removed in the middle of the batch", { when: "once", n: 90, codes: [0x32], sticky: true }],
  ["loses sessions, the login and itself", { when: "each", n: 25, codes: [0xb3, 0x101, 0x30], sticky: true }],
] as const) {
  test(`a batch comes out the same on a device that ${name}`, async () => {
    shim.set(faults);
    assert.deepEqual(await signer.tokens(await authority.tokensRequest(batch)), expected);
    assert.ok(shim.counters().faults > 0);
    shim.set({});
  });
}

test("a checkpoint whose signature is wrong does not leave, and the log is as long as before", async () => {
  const leaf = authority.trustLeaf("batches", 2, authority.batches);
  // The session of the log key is open then: the next call is the checkpoint's signature and no test signature.
  await signer.append({ from: size++, entries: [leaf] });
  const memory = await authority.stateBytes();
  const entries = [authority.batchLeaf(batch), ...batch.leaves];
  shim.set({ when: "once", n: 1, codes: [CORRUPT] });
  await assert.rejects(signer.append({ from: size, entries }), refusedWith("ERR_HSM_DEVICE"));
  assert.ok(memory.equals(await authority.stateBytes()));
  await signer.append({ from: size, entries });
  assert.equal((await signer.state()).log.size, size + entries.length);
});

test("a device that is gone for good: no signature, a code, and the same batch once it is back", async () => {
  shim.set({ when: "each", n: 1, codes: [0x32] });
  const asked = await authority.tokensRequest(batch);
  await assert.rejects(signer.tokens(asked), refusedWith("ERR_HSM_DEVICE"));
  shim.set({});
  // The breaker leaves the device alone for a while; a signer that starts again asks it at once.
  await signer.close();
  await process.stop();
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
  assert.deepEqual(await signer.tokens(asked), expected);
});

/** More than a first answer has, so that some of it was given out when the device goes. */
const LONG = 600;
const FIRST_ANSWER = 256;

test("a batch whose device was removed goes on behind what was given out, and other bodies are refused there too", async () => {
  const long = await authority.approve(signer, authority.draft(LONG));
  let asked = await authority.tokensRequest(long);
  const unfinished: Unfinished = {};
  await signer.close();
  signer = await connect(process.socket, unfinished);
  // Gone in the second answer, and it lets nobody log in again.
  shim.set({ when: "once", n: 400, codes: [0x32], sticky: true, loginCode: 0x32 });
  await assert.rejects(signer.tokens(asked), refusedWith("ERR_HSM_DEVICE"));
  shim.set({});
  await signer.close();
  await process.stop();
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket, unfinished);
  const [first, ...rest] = long.tokens;
  const altered = [{ ...first!, rctId: new Uint8Array(16) }, ...rest];
  for (const bodies of [[altered], [long.tokens.slice(0, 10)]])
    await assert.rejects(signer.tokens({ ...asked, bodies }), refusedWith("ERR_TOKEN_MISMATCH"));
  assert.ok(unfinished.batch, "a refusal costs nothing");
  const another = await authority.approve(signer, authority.draft(FIRST_ANSWER + 1));
  const elsewhere = await connect(process.socket, { ...unfinished });
  const made = await elsewhere.tokens(await authority.tokensRequest(another));
  await elsewhere.close();
  assertSigned(another, authority.config.keys.issuer[0]!.publicKey, made);
  asked = await authority.tokensRequest(long);
  shim.set({});
  const signatures = await signer.tokens(asked);
  const { calls } = shim.counters();
  assert.ok(calls >= LONG - FIRST_ANSWER && calls < LONG - FIRST_ANSWER / 2, `${calls} signatures for the rest`);
  assert.equal(unfinished.batch, undefined);
  shim.set({});
  assert.deepEqual(signatures, await signer.tokens(asked), "the same as in one piece");
  assert.ok(shim.counters().calls >= LONG);
});
