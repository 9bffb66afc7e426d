/** For tests: one embedded PostgreSQL for each test file, an empty database for each store. */
import { randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, beforeEach } from "node:test";
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

/** A store on an empty database, closed after its test, or after those of the file when it is opened outside of one. */
export async function emptyStore(): Promise<{ readonly store: Store; readonly target: DatabaseTarget }> {
  const target = await emptyDatabase();
  const store = await openStore(target);
  stores.push(store);
  return { store, target };
}

const stores: Store[] = [];
let openedBefore = 0;

async function startServer(): Promise<Database> {
  const folder = await mkdtemp(path.join(tmpdir(), "vault-test-"));
  await chmod(folder, 0o755);
  const database = await openDatabase({ folder: path.join(folder, "db") });
  stopServer = async () => {
    await database.stop();
    await rm(folder, { recursive: true });
  };
  return database;
}

let stopServer: (() => Promise<void>) | undefined;

async function closeStores(from: number): Promise<void> {
  for (const store of stores.splice(from)) await store.close();
}

// The connections of a test would be one too many for the server some tests later.
beforeEach(() => {
  openedBefore = stores.length;
});
afterEach(() => closeStores(openedBefore));
after(async () => {
  await closeStores(0);
  await stopServer?.();
});
