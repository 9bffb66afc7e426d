/**
 * Applies prisma/migrations at start, each in one transaction, and keeps Prisma's own book of them
 * (`_prisma_migrations`: names, checksums, lock key), so that Prisma's tools and ours agree on what was applied.
 *
 * An applied migration whose file was edited afterwards is refused: two deployments would otherwise have the same
 * name for different tables.
 */
import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "@viafabric/schemas";
import type { PoolClient } from "pg";

/** The advisory lock of Prisma's own migration engine. */
const LOCK = 72_707_369;

const BOOK = `CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
  "id" VARCHAR(36) PRIMARY KEY NOT NULL, "checksum" VARCHAR(64) NOT NULL, "finished_at" TIMESTAMPTZ,
  "migration_name" VARCHAR(255) NOT NULL, "logs" TEXT, "rolled_back_at" TIMESTAMPTZ,
  "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(), "applied_steps_count" INTEGER NOT NULL DEFAULT 0)`;

interface Applied {
  readonly migration_name: string;
  readonly checksum: string;
  readonly finished_at: Date | null;
}

export interface Migration {
  readonly name: string;
  readonly sql: string;
}

/** The migrations of this release, in their order. */
export const MIGRATIONS_FOLDER = path.join(import.meta.dirname, "../prisma/migrations");

export async function readMigrations(folder: string = MIGRATIONS_FOLDER): Promise<readonly Migration[]> {
  const folders = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const names = folders.map(({ name }) => name).sort();
  return Promise.all(
    names.map(async (name) => ({ name, sql: await readFile(path.join(folder, name, "migration.sql"), "utf8") })),
  );
}

/** @returns the names of those it applied. @throws OperationError ERR_DATABASE */
export async function migrate(client: PoolClient, migrations: readonly Migration[]): Promise<readonly string[]> {
  // Two vaults starting against one server: the second waits, and then finds nothing to do.
  await client.query("SELECT pg_advisory_lock($1)", [LOCK]);
  try {
    await client.query(BOOK);
    const { rows } = await client.query<Applied>(
      'SELECT migration_name, checksum, finished_at FROM "_prisma_migrations" WHERE rolled_back_at IS NULL',
    );
    const applied = new Map(rows.map((row) => [row.migration_name, row]));
    const unknown = [...applied.keys()].find((name) => !migrations.some((migration) => migration.name === name));
    if (unknown) {
      throw new OperationError("ERR_DATABASE", `the database has ${unknown}: it belongs to a newer release`);
    }
    const names: string[] = [];
    for (const migration of migrations) {
      if (isApplied(migration, applied.get(migration.name))) continue;
      await apply(client, migration);
      names.push(migration.name);
    }
    return names;
  } finally {
    await client.query("SELECT pg_advisory_unlock($1)", [LOCK]);
  }
}

function isApplied(migration: Migration, row: Applied | undefined): boolean {
  if (!row) return false;
  if (!row.finished_at) throw new OperationError("ERR_DATABASE", `migration ${migration.name} failed earlier`);
  if (row.checksum !== checksumOf(migration)) {
    throw new OperationError("ERR_DATABASE", `migration ${migration.name} was edited after it was applied`);
  }
  return true;
}

async function apply(client: PoolClient, migration: Migration): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query(migration.sql);
    await client.query(
      `INSERT INTO "_prisma_migrations" ("id", "checksum", "migration_name", "finished_at", "applied_steps_count")
       VALUES ($1, $2, $3, now(), 1)`,
      [randomUUID(), checksumOf(migration), migration.name],
    );
    await client.query("COMMIT");
  } catch (cause) {
    await client.query("ROLLBACK");
    throw new OperationError("ERR_DATABASE", `migration ${migration.name} failed`, { cause });
  }
}

function checksumOf(migration: Migration): string {
  return createHash("sha256").update(migration.sql).digest("hex");
}
