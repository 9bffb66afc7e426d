/** Ten thousand tokens on a device that fails one call in a hundred, in eight ways. */
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { type TestContext, test } from "node:test";
import { BadDevice, EIGHT_CODES, messagesOf } from "./faults-testkit.ts";

/** As many as a signer has, and more than there are processors: those wait for each other. */
const WORKERS = new Set([Math.max(2, availableParallelism()), 4]);
/** Of a million calls. A little over one in a hundred, so that chance does not bring less than `FAULTS_MIN`. */
const SHARE = 13_000;
const FAULTS_MIN = 80;

for (const workers of WORKERS)
  test(`10,000 tokens with 1 % of faults over 8 codes, ${workers} threads: none lost, none twice, none unverified`, (t) =>
    signThrough(workers, t));

async function signThrough(workers: number, t: TestContext): Promise<void> {
  const seed = Date.now() % 1_000_000;
  const device = await BadDevice.create();
  try {
    const messages = messagesOf(10_000);
    const faults = { when: "share", n: SHARE, seed, codes: EIGHT_CODES, sticky: true } as const;
    await device.withPool(workers, faults, async (pool) => {
      device.assertWhole(messages, await pool.signAll(messages));
      const counted = device.shim.counters().faults;
      assert.ok(counted >= FAULTS_MIN, `${counted} faults`);
      const times = device.recoveries.map((recovery) => recovery.milliseconds).sort((a, b) => a - b);
      const at = (share: number) => times[Math.ceil(share * times.length) - 1]!.toFixed(1);
      t.diagnostic(
        `seed ${seed}: ${counted} faults, ${times.length} recoveries, median ${at(0.5)} ms, p99 ${at(0.99)} ms`,
      );
    });
  } finally {
    await device.remove();
  }
}
