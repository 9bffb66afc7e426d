/** `via node refresh` with several mirrors: which state it takes, and what it says when it takes none. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { entityTag } from "@viafabric/transparency-log/client";
import { DAY } from "./authority.ts";
import { folder, fresh, listen, NOW, newNode, refresh, serve, via, world } from "./mirrors-testkit.ts";

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

test("a file that has not changed is not sent again, and a mirror that says so of everything hides nothing", async () => {
  const sent: string[] = [];
  const vaultLike = await listen((request, response) => {
    const name = request.url!.slice(1);
    const bytes = world.now.files.get(name);
    if (!bytes) return response.writeHead(404).end();
    if (request.headers["if-none-match"] === entityTag(bytes)) return response.writeHead(304).end();
    sent.push(name);
    return response.end(bytes);
  });
  const home = await newNode();
  assert.equal((await refresh(home, vaultLike)).code, 0);
  assert.ok(sent.includes("tuf/metadata/timestamp.json") && sent.includes("revocation/latest"));
  sent.length = 0;
  const idle = await refresh(home, vaultLike);
  assert.deepEqual([idle.code, idle.json.epoch], [0, 3], idle.err);
  const pointers = sent.filter((name) => /^tuf\/|^revocation\//.test(name));
  assert.deepEqual(pointers, []);

  const liar = await listen(({ headers }, response) => {
    response.writeHead(headers["if-none-match"] === undefined ? 404 : 304).end();
  });
  const unasked = await refresh(await newNode(), await listen((_, response) => response.writeHead(304).end()));
  assert.deepEqual([unasked.code, unasked.json.error], [4, "ERR_FETCH"]);
  const empty = await refresh(await newNode(), liar);
  assert.deepEqual([empty.code, empty.json.error], [4, "ERR_FETCH"]);
  const behind = await newNode();
  assert.equal((await refresh(behind, await serve(world.old.files))).json.epoch, 1);
  const liarFirst = await refresh(behind, liar, fresh);
  assert.deepEqual([liarFirst.code, liarFirst.json.epoch, liarFirst.json.mirror], [0, 3, fresh], liarFirst.err);
  // Weeks later, by the clock that signed times have raised: what a mirror truly has not changed since has expired.
  await writeFile(path.join(home, "trust/clock"), `${NOW + 40 * DAY}\n`);
  const frozen = await refresh(home, vaultLike);
  assert.deepEqual([frozen.code, frozen.json.error], [1, "ERR_FREEZE"], frozen.err);
});
