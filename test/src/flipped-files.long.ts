/**
 * Every file that a real authority published, changed in one place: a flipped bit, a byte missing at the end, a byte too
 * many. Who notices, and with which code.
 *
 * Whatever is changed, an auditor with the folder refuses it. A node refuses it, or never needed it and accepts exactly
 * what it accepts from the whole folder; so does an auditor over the web, who cannot list the files.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const room = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url));
const TOUR_MS_MAX = 600_000;

/** As in auditor/src/audit-lines-testkit.ts and edge/src/refresh-lines-testkit.ts, whose processes answer. */
interface AuditAnswer {
  readonly all: readonly string[];
  readonly unlisted: readonly string[];
  readonly asked: readonly string[];
}
interface RefreshAnswer {
  readonly codes: readonly string[];
  readonly state: string;
  readonly asked: readonly string[];
}

/** A process that answers each line of JSON with another one. */
class Asked<Answer> {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string) {
    this.#child = spawn(process.execPath, [room(program)], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async ask(question: object): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(question)}\n`);
    const line = await this.#lines.next();
    assert.ok(!line.done, "the process ended instead of answering");
    return JSON.parse(line.value);
  }

  async end(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.stdin!.end();
    await ended;
  }
}

const CHANGES: Readonly<Record<string, (bytes: Uint8Array, random: (below: number) => number) => Uint8Array>> = {
  "a flipped bit": (bytes, random) => {
    const at = random(bytes.length);
    return bytes.with(at, bytes[at]! ^ (1 << random(8)));
  },
  "a byte less": (bytes) => bytes.slice(0, -1),
  "a byte more": (bytes, random) => Uint8Array.of(...bytes, [0, 0x0a, 0x20, random(256)][random(4)]!),
};

/** Numbers and hashes in names are of no interest. */
function kindOf(file: string): string {
  return file
    .replace(/[0-9a-f]{64}/, "HASH")
    .replace(/^(log|batches)\/tile\/(entries|\d+)\/.*/, "$1/tile/$2/…")
    .replace(/(^|[/-])\d+(?=[-./]|$)/g, "$1N");
}

let folder: string;
let published: string;
/** Of a node for each case; in memory, because each is made of synced files. */
let nodes: string;
let auditor: Asked<AuditAnswer>;
let node: Asked<RefreshAnswer>;
const now = Math.floor(Date.now() / 1000) + 60;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "via-flipped-"));
  nodes = await mkdtemp(path.join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "via-flipped-"));
  // PostgreSQL does not run as root: its own user must be able to reach the database below this folder.
  await chmod(folder, 0o755);
  const home = path.join(folder, "via");
  const tour = [room("tour/dist/main.js"), "--once", "--home", home, "--port", "18280"];
  await promisify(execFile)(process.execPath, tour, { timeout: TOUR_MS_MAX, maxBuffer: 64 * 1024 * 1024 });
  published = path.join(home, "vault/public");
  auditor = new Asked("auditor/dist/audit-lines-testkit.js");
  node = new Asked("edge/dist/refresh-lines-testkit.js");
});

after(async () => {
  await auditor?.end();
  await node?.end();
  for (const made of [folder, nodes]) await rm(made, { recursive: true, force: true });
});

test("one wrong byte in any published file is refused by whoever needs the file, and by every audit of the folder", async (t) => {
  const seed = Number(process.env.VIA_SEED ?? randomInt(2 ** 31));
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  const root = path.join(folder, "root.json");
  await writeFile(root, await readFile(path.join(published, "root/1.root.json")));
  const audit = () => auditor.ask({ folder: published, root });
  const refresh = () => node.ask({ folder: published, root, home: path.join(nodes, "node"), now });

  const [sound, whole] = [await audit(), await refresh()];
  assert.deepEqual([sound.all, sound.unlisted, whole.codes], [[], [], []]);
  assert.deepEqual(await refresh(), whole, "what a node accepts depends on the files alone");

  const files = (await readdir(published, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(published, path.join(entry.parentPath, entry.name)));
  const table = new Map<string, { cases: number; node: Set<string>; web: Set<string>; folder: Set<string> }>();
  let cases = 0;
  for (const file of files.sort()) {
    const bytes = new Uint8Array(await readFile(path.join(published, file)));
    for (const [name, change] of Object.entries(CHANGES)) {
      if (bytes.length === 0 && name !== "a byte more") continue;
      await writeFile(path.join(published, file), change(bytes, random));
      const [audited, refreshed] = [await audit(), await refresh()];
      const told = `${file} with ${name}`;
      assert.notDeepEqual(audited.all, [], `${told}: the audit of the folder refuses`);
      if (audited.unlisted.length === 0) assert.ok(!audited.asked.includes(file), `${told}: an audit overlooks it`);
      if (refreshed.codes.length === 0) assert.equal(refreshed.state, whole.state, `${told}: the node is not misled`);
      const kind = kindOf(file);
      const row = table.get(kind) ?? { cases: 0, node: new Set(), web: new Set(), folder: new Set() };
      table.set(kind, row);
      row.cases++;
      cases++;
      const first = (codes: readonly string[], asked: readonly string[]) =>
        codes[0] ?? (asked.includes(file) ? "another way" : "not read");
      row.node.add(first(refreshed.codes, refreshed.asked));
      row.web.add(first(audited.unlisted, audited.asked));
      row.folder.add(audited.all[0]!);
    }
    await writeFile(path.join(published, file), bytes);
  }
  assert.deepEqual(await audit(), sound, "put back, everything is sound again");

  t.diagnostic(`${files.length} files, ${cases} cases; kind | node | audit over the web | audit of the folder`);
  const list = (codes: ReadonlySet<string>) => [...codes].sort().join(", ");
  for (const [kind, row] of table) {
    t.diagnostic(`${kind} (${row.cases}) | ${list(row.node)} | ${list(row.web)} | ${list(row.folder)}`);
  }
});

/** Small and repeatable (mulberry32). */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
