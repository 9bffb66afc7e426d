import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { isCode } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import { connectionPool, type DatabaseTarget, openDatabase } from "./postgres.ts";

const folder = await mkdtemp(path.join(tmpdir(), "vault-postgres-"));
await chmod(folder, 0o755);
after(() => rm(folder, { recursive: true }));

async function query(target: DatabaseTarget, sql: string): Promise<Record<string, unknown>[]> {
  const pool = connectionPool(target, 1);
  try {
    return (await pool.query(sql)).rows;
  } finally {
    await pool.end();
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    assert.ok(isCode(error, "ESRCH"));
    return false;
  }
};

const SERVER_PID = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

test("the embedded server syncs every commit, opens no port, is joined, and leaves no process behind", async () => {
  const home = path.join(folder, "home");
  await mkdir(home, { mode: 0o711 });
  const database = await openDatabase({ folder: path.join(home, "db") });
  const [settings] = await query(
    database.target,
    "SELECT current_setting('fsync') f, current_setting('synchronous_commit') s, current_setting('listen_addresses') l",
  );
  assert.deepEqual(settings, { f: "on", s: "on", l: "" });
  await query(database.target, "CREATE TABLE kept (n int)");
  const [{ pid } = { pid: 0 }] = await query(database.target, SERVER_PID);

  const host = "host" in database.target ? database.target.host : "";
  const elsewhere = await openDatabase({
    folder: "/nowhere",
    url: `postgresql://vault@localhost/postgres?host=${encodeURIComponent(host)}`,
  });
  assert.deepEqual(await query(elsewhere.target, "SELECT count(*)::int AS n FROM kept"), [{ n: 0 }]);
  await elsewhere.stop();
  assert.equal(isAlive(Number(pid)), true, "a server elsewhere is left alone");

  const joined = await openDatabase({ folder: path.join(home, "db") });
  assert.deepEqual(joined.target, database.target);
  assert.equal((await query(joined.target, SERVER_PID))[0]?.pid, pid, "the second opening joins the first server");
  await joined.stop();
  assert.equal(isAlive(Number(pid)), false);
  await database.stop();

  const again = await openDatabase({ folder: path.join(home, "db") });
  assert.deepEqual(await query(again.target, "SELECT count(*)::int AS n FROM kept"), [{ n: 0 }]);
  await again.stop();
});

test("a home with a long path, or below a folder that others cannot enter, still has a database", async (t) => {
  const home = path.join(folder, "closed", "x".repeat(90));
  await mkdir(home, { recursive: true });
  await chmod(path.join(folder, "closed"), 0o700);
  const database = await openDatabase({ folder: path.join(home, "db") });
  t.after(async () => {
    await database.stop();
    const moved = await readFile(path.join(home, "db.path"), "utf8").catch(() => undefined);
    if (moved) await rm(moved.trim(), { recursive: true });
  });
  const host = "host" in database.target ? database.target.host : "";
  assert.deepEqual(await query(database.target, "SELECT 1 AS one"), [{ one: 1 }]);
  assert.equal((await stat(host)).mode & 0o777, 0o700, "nobody else can walk to the socket");
});

test("a server elsewhere that does not answer is an operation error", async () => {
  const url = "postgresql://nobody@127.0.0.1:1/none";
  await assert.rejects(openDatabase({ folder, url }), (error) => {
    assert.ok(error instanceof OperationError);
    assert.equal(error.code, "ERR_DATABASE");
    return true;
  });
});
