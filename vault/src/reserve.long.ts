/** A vault whose disk fills up: batches wait, revocations and statements go on, and nothing has to be repaired. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import {
  approveAs,
  approvedBatch,
  batchRequest,
  eventually,
  foundedVault,
  statusEventOf,
  TRUSTEES,
} from "./testing-vault.test.ts";

const [A, B] = TRUSTEES as [(typeof TRUSTEES)[0], (typeof TRUSTEES)[0]];

test("an approved batch waits for room while a suspension is logged and published", async () => {
  const vault = await foundedVault();
  const { disk } = vault;
  await vault.start();
  const operator = await openKeystore(vault.home.operator, "only a test");
  const state = async (url: string) => String((await vault.send(undefined, "GET", url)).state);
  const published = (url: string) =>
    eventually(async () => ((await state(url)) === "published" ? true : undefined), `the publication of ${url}`);
  await published(`/events/${await approvedBatch(vault, operator, 3)}`);

  const { id } = await vault.send(operator, "POST", "/requests", batchRequest(3, vault.clock.now));
  const look = async () => (await vault.send(undefined, "GET", `/requests/${id}`)).event as string | undefined;
  const event = await eventually(look, "a proposal");
  disk.free = 100 * 2 ** 20;
  for (const trustee of [A, B]) await approveAs(vault, trustee, event);
  const suspend = await statusEventOf(vault, "suspend", 1, 1, A);
  await vault.send(A, "POST", "/status-events", { body: suspend.body, signature: suspend.signature });
  await published(`/status-events/${suspend.id}`);
  assert.equal(await state(`/events/${event}`), "ready", "the batch is approved, and waits");
  await assert.rejects(vault.send(undefined, "GET", "/healthz"), /503 .*batches wait: 100 MiB are free .* make room/);
  assert.equal(vault.reports.filter((line) => line.startsWith("batches wait")).length, 1, "it is said once");
  await assert.rejects(
    vault.send(operator, "POST", "/requests", batchRequest(1, vault.clock.now)),
    /507 .*ERR_DISK_FULL/,
  );

  disk.free = Number.POSITIVE_INFINITY;
  vault.service.sequencer.wake();
  await published(`/events/${event}`);
  assert.equal((await vault.send(undefined, "GET", "/healthz")).problem, undefined);
});
