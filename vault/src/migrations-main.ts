/**
 * For developers: writes and checks migrations without Prisma's downloaded engine.
 *
 *     node vault/dist/migrations-main.js new NAME     writes prisma/migrations/<time>_NAME/migration.sql
 *     node vault/dist/migrations-main.js check        exit code 1 when schema.prisma has a change without a migration
 *
 * Prisma's schema engine runs as WebAssembly against an embedded server made for the moment. One engine per process:
 * a second instance in the same process crashes its glue code.
 */
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { PrismaPg } from "@prisma/adapter-pg";
import {
  bindMigrationAwareSqlAdapterFactory,
  ColumnTypeEnum,
  type SqlDriverAdapter,
  type SqlMigrationAwareDriverAdapterFactory,
} from "@prisma/driver-adapter-utils";
import * as glue from "@prisma/schema-engine-wasm/schema_engine_bg";
import pg from "pg";
import { MIGRATIONS_FOLDER, readMigrations } from "./migrate.ts";
import { type DatabaseTarget, openDatabase } from "./postgres.ts";

const SCHEMA_FILE = path.join(import.meta.dirname, "../prisma/schema.prisma");
const LOCK_FILE = { path: "migration_lock.toml", content: 'provider = "postgresql"\n' };

// adapter-pg has no mapping for the catalogue type "char" (OID 18), which the engine reads when it describes a
// database: it passes as text under a marked name, and name and type are restored behind the adapter.
const CHAR_OID = 18;
const TEXT_OID = 25;
const MARK = "\u0001char";

interface RowDescription {
  readonly fields: { dataTypeID: number; name: string }[];
}

class MigrationClient extends pg.Client {
  _handleRowDescription(message: RowDescription): void {
    for (const field of message.fields) {
      if (field.dataTypeID !== CHAR_OID) continue;
      field.dataTypeID = TEXT_OID;
      field.name += MARK;
    }
    // @ts-expect-error private to pg
    super._handleRowDescription(message);
  }
}

function repaired<Adapter extends SqlDriverAdapter>(adapter: Adapter, config: pg.ClientConfig): Adapter {
  // adapter-pg's own version splits a script at every semicolon, also inside the body of a function.
  adapter.executeScript = async (script) => {
    const client = new pg.Client(config);
    await client.connect();
    await client.query(script).finally(() => client.end());
  };
  const queryRaw = adapter.queryRaw.bind(adapter);
  adapter.queryRaw = async (query) => {
    const result = await queryRaw(query);
    result.columnNames.forEach((name, i) => {
      if (!name.endsWith(MARK)) return;
      result.columnNames[i] = name.slice(0, -MARK.length);
      result.columnTypes[i] = ColumnTypeEnum.Character;
    });
    return result;
  };
  return adapter;
}

function adapterFactory(target: DatabaseTarget): SqlMigrationAwareDriverAdapterFactory {
  const config = { ...target, Client: MigrationClient };
  const main = new PrismaPg(config);
  return {
    provider: "postgres",
    adapterName: main.adapterName,
    connect: async () => repaired(await main.connect(), target),
    // adapter-pg's own version drops the database while its pool is still connected to it.
    async connectToShadowDb() {
      const database = `shadow_${randomUUID().replaceAll("-", "")}`;
      const admin = new pg.Client(target);
      await admin.connect();
      await admin.query(`CREATE DATABASE "${database}"`);
      const shadow = repaired(await new PrismaPg({ ...config, database }).connect(), { ...target, database });
      const dispose = shadow.dispose.bind(shadow);
      shadow.dispose = async () => {
        await dispose();
        await admin.query(`DROP DATABASE IF EXISTS "${database}" WITH (FORCE)`);
        await admin.end();
      };
      return shadow;
    },
  };
}

/** The SQL that leads from the migrations to the schema; undefined when they agree. */
async function difference(target: DatabaseTarget): Promise<string | undefined> {
  const require = createRequire(import.meta.url);
  const schema = { files: [{ path: SCHEMA_FILE, content: await readFile(SCHEMA_FILE, "utf8") }] };
  const migrations = await readMigrations();
  Object.assign(globalThis, { PRISMA_WASM_PANIC_REGISTRY: { set_message: (text: string) => console.error(text) } });
  const wasm = path.join(
    path.dirname(require.resolve("@prisma/schema-engine-wasm/schema_engine_bg")),
    "schema_engine_bg.wasm",
  );
  const { instance } = await WebAssembly.instantiate(await readFile(wasm), { "./schema_engine_bg.js": glue as never });
  glue.__wbg_set_wasm(instance.exports);
  (instance.exports.__wbindgen_start as () => void)();
  const engine = await glue.SchemaEngine.new(
    { datamodels: schema.files.map((file) => [file.path, file.content]) },
    () => {},
    bindMigrationAwareSqlAdapterFactory(adapterFactory(target)),
  );
  const result = await engine.diff({
    from: {
      tag: "migrations",
      baseDir: MIGRATIONS_FOLDER,
      shadowDbInitScript: "",
      lockfile: LOCK_FILE,
      migrationDirectories: migrations.map(({ name, sql }) => ({
        path: name,
        migrationFile: { path: "migration.sql", content: { tag: "ok", value: sql } },
      })),
    },
    to: { tag: "schemaDatamodel", ...schema },
    script: true,
    exitCode: true,
    filters: { externalTables: [], externalEnums: [] },
  } as never);
  return result.exitCode === 2 ? (result.stdout ?? "") : undefined;
}

async function write(name: string, sql: string): Promise<string> {
  const stamp = new Date().toISOString().replace(/\D/g, "").slice(0, 14);
  const folder = path.join(MIGRATIONS_FOLDER, `${stamp}_${name}`);
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, "migration.sql"), sql);
  await writeFile(path.join(MIGRATIONS_FOLDER, LOCK_FILE.path), LOCK_FILE.content);
  return folder;
}

const [command, name = "change"] = process.argv.slice(2);
const folder = await mkdtemp(path.join(tmpdir(), "vault-migrations-"));
const database = await openDatabase({ folder });
let sql: string | undefined;
try {
  sql = await difference(database.target);
} finally {
  await database.stop();
  await rm(folder, { recursive: true });
}
if (sql === undefined) console.log("migrations and schema agree");
else if (command === "new") console.log(await write(name, sql));
else console.error(`schema.prisma has changes without a migration:\n${sql}`);
process.exit(sql === undefined || command === "new" ? 0 : 1);
