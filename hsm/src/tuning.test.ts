/** How many threads a pool ends up with on tokens of several kinds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tuning } from "./tuning.ts";

/** A token that takes `seconds` for a signature and does `atOnce` of them at the same time. */
function settle(tuning: Tuning, token: { readonly seconds: number; readonly atOnce: number; readonly cpu: number }) {
  const seen: number[] = [];
  for (let call = 0; call < 40; call++) {
    const signatures = 1000;
    const seconds = (signatures * token.seconds) / Math.min(tuning.threads, token.atOnce);
    tuning.measured({ signatures, seconds, cpuSeconds: signatures * token.cpu });
    if (seen.at(-1) !== tuning.threads) seen.push(tuning.threads);
  }
  return seen;
}

test("threads double while a slow token gets faster by it, and stay at what helped last", () => {
  const token = { seconds: 0.005, atOnce: 16, cpu: 0.0001 };
  assert.deepEqual(settle(new Tuning(2, 64), token), [2, 4, 8, 16, 32, 16]);
});

test("a token that does one thing at a time gets no more threads than before", () => {
  assert.deepEqual(settle(new Tuning(2, 64), { seconds: 0.1, atOnce: 1, cpu: 0.0001 }), [2, 4, 2]);
});

test("where the processor is what is short, nothing is tried", () => {
  assert.deepEqual(settle(new Tuning(2, 64), { seconds: 0.0001, atOnce: 2, cpu: 0.0001 }), [2]);
});

test("never more than the token has sessions", () => {
  const token = { seconds: 0.005, atOnce: 64, cpu: 0.0001 };
  assert.deepEqual(settle(new Tuning(2, 7), token), [2, 4, 7]);
  assert.deepEqual(settle(new Tuning(8, 3), token), [3]);
  assert.deepEqual(settle(new Tuning(8, 0), token), [1]);
});

test("a slow first call of more threads, which open their sessions, does not speak against them", () => {
  const tuning = new Tuning(1, 2);
  for (const seconds of [1, 1, 1, 5, 0.5, 0.5]) tuning.measured({ signatures: 100, seconds, cpuSeconds: 0 });
  assert.equal(tuning.threads, 2);
});
