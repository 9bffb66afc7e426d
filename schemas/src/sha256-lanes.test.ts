import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { sha256 } from "./crypto.ts";
import { hashLeaf } from "./merkle.ts";
import { hashLeaves, hashLeavesSingly } from "./merkle-flat.ts";
import { blocksOf, LANE_BYTES_MAX, LANES, padLanes, sha256Lanes } from "./sha256-lanes.ts";

test("four random messages of every length have the digests that node:crypto gives them", () => {
  const lanes = sha256Lanes();
  for (let round = 0; round < 8; round++) {
    for (let length = 0; length <= LANE_BYTES_MAX; length++) {
      // Anywhere in the memory, and behind whatever lay there before.
      const [input, output] = [1024 + 3 * length, 32_768 + 5 * length];
      lanes.memory.set(randomBytes(40_000));
      padLanes(lanes, input, length);
      const messages = Array.from({ length: LANES }, () => new Uint8Array(randomBytes(length)));
      messages.forEach((message, lane) => {
        lanes.memory.set(message, input + lane * 64 * blocksOf(length));
      });
      lanes.hash(input, blocksOf(length), output);
      messages.forEach((message, lane) => {
        const digest = lanes.memory.slice(output + 32 * lane, output + 32 * (lane + 1));
        assert.deepEqual(
          digest,
          sha256(message),
          `lane ${lane} of ${length} bytes: ${Buffer.from(message).toString("hex")}`,
        );
      });
    }
  }
});

test("leaves of any mixture of lengths are hashed as one by one", () => {
  // Runs of one length, from empty to longer than a lane takes, at their borders and across them.
  const lengths = [0, 1, 54, 55, 62, 63, 73, LANE_BYTES_MAX - 1, LANE_BYTES_MAX, 5000];
  for (const run of [1, 3, 4, 5, 255, 256, 257, 515]) {
    const entries = lengths.flatMap((length) => Array.from({ length: run }, () => new Uint8Array(randomBytes(length))));
    const found = hashLeaves(entries);
    assert.deepEqual(hashLeavesSingly(entries), found);
    entries.forEach((entry, i) => {
      assert.deepEqual(found.slice(32 * i, 32 * (i + 1)), hashLeaf(entry), `entry ${i}, runs of ${run}`);
    });
  }
});
