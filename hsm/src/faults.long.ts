/** Ten thousand tokens on a device that fails one call in a hundred, in eight ways. */
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { BadDevice, EIGHT_CODES, messagesOf } from "./faults-testkit.ts";

/** As many as a signer has; never one alone, which meets nobody else's faults. */
const WORKERS = Math.max(2, availableParallelism());

test("10,000 tokens with 1 % of faults over 8 codes: none lost, none twice, none unverified", async (t) => {
  const seed = Date.now() % 1_000_000;
  const device = await BadDevice.create();
  try {
    const messages = messagesOf(10_000);
    const faults = { when: "share", n: 10_000, seed, codes: EIGHT_CODES, sticky: true } as const;
    await device.withPool(WORKERS, faults, async (pool) => {
      device.assertWhole(messages, await pool.signAll(messages));
      const counted = device.shim.counters().faults;
      // One in a hundred of some ten thousand calls: by chance alone never half of that.
      assert.ok(counted >= 50, `${counted} faults`);
      const times = device.recoveries.map((recovery) => recovery.milliseconds).sort((a, b) => a - b);
      const at = (share: number) => times[Math.ceil(share * times.length) - 1]!.toFixed(1);
      t.diagnostic(
        `seed ${seed}: ${counted} faults, ${times.length} recoveries, median ${at(0.5)} ms, p99 ${at(0.99)} ms`,
      );
    });
  } finally {
    await device.remove();
  }
});
