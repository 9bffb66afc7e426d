/** `via node refresh` with several mirrors: which state it takes, and what it says when it takes none. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { folder, fresh, newNode, refresh, serve, via, world } from "./mirrors-testkit.ts";

test("an attack, a freeze and a dead network have codes of their own", async () => {
  const [expired, nobody] = [await serve(world.expired.files), "http://127.0.0.1:1"];
  const home = await newNode();
  const dead = await refresh(home, nobody, path.join(folder, "nothing"));
  assert.deepEqual([dead.code, dead.json.error], [4, "ERR_FETCH"]);
  const frozen = await refresh(home, expired, nobody);
  assert.deepEqual([frozen.code, frozen.json.error], [1, "ERR_FREEZE"]);
  assert.equal((await refresh(home, fresh)).code, 0);
  const again = await refresh(home, nobody, expired);
  assert.match(String(again.json.message), /expired|rollback|less than/i);
  const rolledBack = await refresh(home, await serve(world.old.files));
  assert.deepEqual([rolledBack.code, rolledBack.json.error], [1, "ERR_ROLLBACK"]);
});

test("a mirror that lags behind does not hide what another one has", async () => {
  const old = await serve(world.old.files);
  const home = await newNode();
  const alone = await refresh(home, old);
  assert.deepEqual([alone.code, alone.json.epoch, alone.json.overdue], [0, 1, true]);
  const both = await refresh(home, old, fresh);
  assert.deepEqual([both.code, both.json.epoch, both.json.mirror], [0, 3, fresh]);
  // A bundle that the first mirror has not got is taken from the second.
  const lacking = new Map([...world.now.files].filter(([name]) => !name.startsWith("batch/2/")));
  const complete = await refresh(await newNode(), await serve(lacking), fresh);
  assert.deepEqual([complete.code, complete.json.held, complete.json.refused], [0, [0, 1, 2, 3], []]);
  // So does a node that holds the batch of one token only.
  const small = await newNode();
  const held = await via("hold", "--index", "9", "--home", small, "--from", await serve(lacking), "--from", fresh);
  assert.deepEqual([held.code, held.json.batch, held.json.foundBy, held.json.mirror], [0, 2, "list", fresh], held.err);
  const nobody = await via("hold", "--index", "16", "--home", small, "--from", fresh);
  assert.deepEqual([nobody.code, nobody.json.error], [1, "batch-not-held"]);
});
