/** What each class of fault leads to, on a device that is bad on purpose. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isValidSignature, OperationError, utf8 } from "@viafabric/schemas";
import { BadDevice, EIGHT_CODES, KEY_ID, messagesOf } from "./faults-testkit.ts";
import { Gate } from "./gate.ts";
import { openHsm } from "./index.ts";
import { Breaker, waitAfter } from "./recovery.ts";
import { CORRUPT } from "./shim-testkit.ts";

let device: BadDevice;
const MESSAGES = messagesOf(300);

before(async () => {
  device = await BadDevice.create();
});

after(() => device.remove());

/** The login is all threads'. SoftHSM tells one that is signing just then of a general error, as a broken device would. */
const LOGIN_LOST = 0x101;

for (const code of [...EIGHT_CODES, CORRUPT]) {
  test(`0x${code.toString(16)} in the middle of a batch costs time and nothing else`, () =>
    device.withPool(
      code === LOGIN_LOST ? 1 : 2,
      { when: "once", n: 150, codes: [code], sticky: true },
      async (pool) => {
        device.assertWhole(MESSAGES, await pool.signAll(MESSAGES));
        assert.ok(device.recoveries.length >= 1);
        const { initialisations, logins } = device.shim.counters();
        assert.equal(initialisations > 0, [0x5, 0x6, 0x30, 0x32].includes(code), "the module is started again");
        assert.equal(logins > 0, initialisations > 0 || code === LOGIN_LOST, "and logged in to");
      },
    ));
}

for (const [code, name] of [
  [0xa4, "ERR_HSM_PIN"],
  [0x7, "ERR_HSM_DEVICE"],
  [0x150, "ERR_HSM_DEVICE"],
  [0x21, "ERR_HSM_DEVICE"],
] as const) {
  test(`0x${code.toString(16)} is final: one call, no login, no signature released`, () =>
    device.withPool(1, { when: "each", n: 1, codes: [code] }, async (pool) => {
      await assert.rejects(pool.signAll(MESSAGES), refused(name, false));
      const { calls, logins, initialisations } = device.shim.counters();
      assert.deepEqual([calls, logins, initialisations], [1, 0, 0]);
    }));
}

test("a PIN that is locked when the login must be had again is tried once, whoever asks", () =>
  device.withPool(2, { when: "each", n: 1, codes: [0x101], loginCode: 0xa4 }, async (pool) => {
    await assert.rejects(pool.signAll(MESSAGES), refused("ERR_HSM_PIN", false));
    await assert.rejects(pool.signAll(MESSAGES), refused("ERR_HSM_PIN", false));
    assert.equal(device.shim.counters().logins, 1);
  }));

test("a token whose PIN is locked is not opened, after one try", async () => {
  device.shim.set({ loginCode: 0xa4 });
  await assert.rejects(openHsm({ ...device.token, module: device.shim.module }), refused("ERR_HSM_PIN", false));
  assert.equal(device.shim.counters().logins, 1);
});

test("on a token that lets one wait, threads double, and never past its sessions", async () => {
  const sessionsMax = 8;
  const slow = { delayMicroseconds: 5000, sessionsMax };
  device.shim.set(slow);
  const hsm = await openHsm({ ...device.token, module: device.shim.module });
  try {
    const pool = await hsm.pool(KEY_ID, device.key);
    const messages = messagesOf(sessionsMax * 16);
    for (let call = 0; call < 9; call++) device.assertWhole(messages, await pool.signAll(messages));
    // All but the one that stays for looking after the token.
    assert.equal(device.shim.counters().sessions, sessionsMax - 1);
    // That one is free: who looks at the token now is not turned away.
    assert.ok((await hsm.attributes(KEY_ID)).get("SIGN"));
  } finally {
    device.shim.set({});
    await hsm.close();
  }
});

function refused(code: string, retryable: boolean) {
  return (error: unknown) => {
    assert.ok(error instanceof OperationError, String(error));
    assert.deepEqual([error.code, error.retryable], [code, retryable], error.message);
    return true;
  };
}

test("a device that fails every call is left alone", () =>
  device.withPool(2, { when: "each", n: 1, codes: [0x6] }, async (pool) => {
    await assert.rejects(pool.signAll(MESSAGES), refused("ERR_HSM_DEVICE", true));
    const { calls } = device.shim.counters();
    assert.ok(calls < 100, `${calls} calls`);
    await assert.rejects(pool.signAll(MESSAGES), /left alone/);
    assert.equal(device.shim.counters().calls, calls, "the open breaker asks the device nothing");
  }));

test("a device whose every signature is wrong gets none out", () =>
  device.withPool(2, { when: "each", n: 1, codes: [CORRUPT] }, async (pool) => {
    await assert.rejects(pool.signAll(MESSAGES), refused("ERR_HSM_KEY", false));
    assert.ok(device.shim.counters().calls < 100);
  }));

test("a signer goes on after a fault of each class", () =>
  device.withPool(1, {}, async (_, hsm) => {
    const signer = await hsm.signer(KEY_ID, device.key);
    for (const code of EIGHT_CODES) {
      device.shim.set({ when: "once", n: 1, codes: [code], sticky: true });
      assert.ok(isValidSignature(device.key, utf8("x"), await signer.sign(utf8("x"))), code.toString(16));
    }
  }));

test("among a thousand messages one call in twenty fails, with each of eight codes", async (t) => {
  const seed = Date.now() % 1_000_000;
  t.diagnostic(`seed ${seed}`);
  const messages = messagesOf(1000);
  await device.withPool(3, { when: "share", n: 50_000, seed, codes: EIGHT_CODES, sticky: true }, async (pool) => {
    device.assertWhole(messages, await pool.signAll(messages));
    assert.ok(device.shim.counters().faults >= 8);
  });
});

test("the waiting doubles up to a limit, and is spread", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 20].map((failures) => waitAfter(failures, 1)),
    [0, 10, 20, 40, 2000],
  );
  assert.equal(waitAfter(3, 0), 10);
});

test("an open breaker refuses, then allows one try, then closes or opens again", () => {
  const breaker = new Breaker();
  const many = breaker.attempts(0);
  assert.ok(many > 1);
  breaker.opened(0);
  assert.throws(() => breaker.attempts(1), /left alone/);
  assert.equal(breaker.attempts(10_000), 1);
  breaker.opened(10_000);
  assert.throws(() => breaker.attempts(10_001), /left alone/);
  breaker.closed();
  assert.equal(breaker.attempts(10_002), many);
});

test("who must be alone waits for all, and all wait for who is alone", async () => {
  const gate = new Gate();
  const events: string[] = [];
  const step = (name: string) => async () => {
    events.push(`${name} in`);
    await new Promise((resolve) => setTimeout(resolve, 5));
    events.push(`${name} out`);
  };
  await Promise.all([gate.pass(step("a")), gate.pass(step("b")), gate.alone(step("c")), gate.pass(step("d"))]);
  assert.deepEqual(events, ["a in", "b in", "a out", "b out", "c in", "c out", "d in", "d out"]);
});
