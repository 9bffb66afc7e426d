import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openKeystore } from "@viafabric/platform";
import { formatHex } from "@viafabric/schemas";
import { folderFetch } from "@viafabric/transparency-log/client";
import { readPublished } from "./published.ts";
import { approvedBatch, eventually, foundedVault, stateOfEvent } from "./testing-vault.test.ts";

test("an authority is founded, issues a batch and publishes it", async () => {
  const vault = await foundedVault();
  const { home } = vault;
  for (const [folder, mode] of [
    [home.root, 0o711],
    [home.public, 0o755],
    [home.private, 0o700],
    [home.db, 0o700],
  ] as const)
    assert.equal((await stat(folder)).mode & 0o777, mode, folder);
  const pinned = new Uint8Array(await readFile(home.pinnedRoot));
  const first = await readPublished(home.public, pinned);
  assert.equal(formatHex(first!.trusted.authority), formatHex(vault.authority));
  assert.equal(first!.statement.statement.epoch, 1);

  await vault.start();
  const operator = await openKeystore(home.operator, "only a test");
  const event = await approvedBatch(vault, operator, 5);
  await eventually(async () => ((await stateOfEvent(vault, event)) === "published" ? true : undefined), "publication");
  const published = await readPublished(home.public, pinned);
  assert.equal(published!.trusted.head.size, 1);
  assert.equal(published!.statement.statement.n, 5);
  const bundle = folderFetch(path.join(home.public, "batch/0"));
  for (const name of ["manifest.cbor", "leaves.bin", "tokens.bin", "log.proof"]) assert.ok(await bundle(name), name);
});
