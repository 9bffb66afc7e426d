/** For tests: one embedded PostgreSQL for each test file, an empty database for each store. */
import { randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import pg from "pg";
import { type Database, type DatabaseTarget, openDatabase } from "./postgres.ts";
import { openStore, type Store } from "./store.ts";

let server: Promise<Database> | undefined;

export async function emptyDatabase(): Promise<DatabaseTarget> {
  server ??= startServer();
  const { target } = await server;
  const database = `test_${randomUUID().replaceAll("-", "")}`;
  await query(target, `CREATE DATABASE "${database}"`);
  return { ...target, database } as DatabaseTarget;
}

/** As DATABASE_URL names it. */
export function urlOf(target: DatabaseTarget): string {
  const { host, database } = target as Extract<DatabaseTarget, { host: string }>;
  return `postgresql://vault@localhost/${database}?host=${encodeURIComponent(host)}`;
}

export async function query(target: DatabaseTarget, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(target);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** A store on an empty database, closed after the tests of the file. */
export async function emptyStore(): Promise<{ readonly store: Store; readonly target: DatabaseTarget }> {
  const target = await emptyDatabase();
  const store = await openStore(target);
  closers.push(() => store.close());
  return { store, target };
}

const closers: (() => Promise<void>)[] = [];

async function startServer(): Promise<Database> {
  const folder = await mkdtemp(path.join(tmpdir(), "vault-test-"));
  await chmod(folder, 0o755);
  const database = await openDatabase({ folder: path.join(folder, "db") });
  closers.push(async () => {
    await database.stop();
    await rm(folder, { recursive: true });
  });
  return database;
}

after(async () => {
  for (const close of closers.reverse()) await close();
});
