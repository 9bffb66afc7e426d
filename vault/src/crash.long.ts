/** The whole sweep: every single call of store and signer fails once, before and after it took effect. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sweep } from "./testing-crash.test.ts";

for (const tookEffect of [false, true]) {
  test(`a failure of any call loses nothing and does nothing twice (${tookEffect ? "after" : "before"} it took effect)`, async () => {
    assert.ok((await sweep(tookEffect, 1, 1)) >= 35);
  });
}
