import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, utf8 } from "./bytes.ts";
import { hashLeaf, rootOf } from "./merkle.ts";
import { hashLeaves, rootOfHashes, rootOfPairs } from "./merkle-flat.ts";

test("flat hashing gives the hashes of the other implementation, at every size up to 300", () => {
  const entries = Array.from({ length: 300 }, (_, i) => utf8("entry ".repeat(i % 7) + i));
  const hashes = entries.map(hashLeaf);
  assert.deepEqual(hashLeaves(entries), concat(...hashes));
  for (let size = 0; size <= 300; size++) {
    const flat = concat(...hashes.slice(0, size));
    assert.deepEqual(rootOfHashes(flat), rootOf(hashes.slice(0, size)), `size ${size}`);
    if (size > 0 && Number.isInteger(Math.log2(size))) assert.deepEqual(rootOfPairs(flat), rootOfHashes(flat));
  }
});
