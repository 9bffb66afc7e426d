/**
 * A vault that was off until what its trustees signed had expired: with real lifetimes, only short ones, because the
 * bounded signer has a clock of its own.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openKeystore } from "@viafabric/platform";
import { approveAs, approvedBatch, eventually, foundedVault, TRUSTEES } from "./testing-vault.test.ts";

/** Long enough to found the authority on a loaded machine. */
const LIFE_SECONDS = 120;

test("after a year in a drawer the vault proposes a rotation, and with its signatures everything works again", async () => {
  const vault = await foundedVault({ lifetimes: { targets: LIFE_SECONDS, batches: LIFE_SECONDS } });
  const end = vault.clock.now + LIFE_SECONDS;
  await sleep(Math.max(0, (end + 1) * 1000 - Date.now()));
  await vault.start();
  const events = async () =>
    (await vault.send(undefined, "GET", "/events?state=open")).events as { id: string; role: string }[];
  const [only, ...others] = await eventually(
    async () => ((await events()).length > 0 ? events() : undefined),
    "a proposal",
  );
  assert.deepEqual([only!.role, others], ["root", []], "one proposal for all, because neither can be renewed alone");
  for (const trustee of TRUSTEES.slice(0, 2)) await approveAs(vault, trustee, only!.id);
  const published = async (id: string) =>
    (await vault.send(undefined, "GET", `/events/${id}`)).state === "published" ? true : undefined;
  await eventually(() => published(only!.id), "the rotation");
  const { trusted } = vault.service.sequencer.desk.need();
  assert.equal(trusted.rootVersion, 2);
  for (const [role, expires] of Object.entries(trusted.expires)) assert.ok(expires > Date.now() / 1000, role);
  vault.clock.now = Math.floor(Date.now() / 1000);
  const operator = await openKeystore(vault.home.operator, "only a test");
  const batch = await approvedBatch(vault, operator, 2);
  await eventually(() => published(batch), "a batch");
});
