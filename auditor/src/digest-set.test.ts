import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256, u32 } from "@viafabric/schemas";
import { DigestSet } from "./digest-set.ts";

test("each of 10,000 hashes is new once", () => {
  const set = new DigestSet();
  for (const first of [true, false]) {
    for (let i = 0; i < 10_000; i++) assert.equal(set.add(sha256(u32(i))), first);
  }
  assert.equal(set.size, 10_000);
});
