/** The command as a person types it: what it makes, and what it says when something is missing. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { verifyEnrolmentCard } from "@viafabric/tuf";

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

let folder: string;
let passphrase: string;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "via-writer-main-"));
  passphrase = path.join(folder, "passphrase");
  await writeFile(passphrase, "a passphrase for this test\n");
});
after(() => rm(folder, { recursive: true, force: true }));

interface Finished {
  readonly exitCode: number;
  readonly result: Record<string, unknown>;
  readonly errors: string;
}

function writer(...args: readonly string[]): Promise<Finished> {
  return new Promise((resolve) => {
    const run = [MAIN, ...args, "--json"];
    execFile(process.execPath, run, (error, stdout, errors) => {
      resolve({ exitCode: error ? Number(error.code) : 0, result: JSON.parse(stdout || "{}"), errors });
    });
  });
}

test("a station and a release officer make their cards, once, and keep their keys to themselves", async () => {
  for (const [role, flags] of [
    ["station", []],
    ["release", ["--release"]],
  ] as const) {
    const home = path.join(folder, role);
    const init = ["init", ...flags, "--name", `A ${role}`, "--home", home, "--passphrase-file", passphrase];
    assert.equal((await writer(...init)).exitCode, 0);
    const card = verifyEnrolmentCard(new Uint8Array(await readFile(path.join(home, "card.json"))));
    assert.deepEqual([card.role, card.name], [role, `A ${role}`]);
    assert.equal((await stat(path.join(home, "keystore.json"))).mode & 0o777, 0o600);
    assert.equal((await stat(home)).mode & 0o777, 0o700);
    const again = await writer(...init);
    assert.deepEqual([again.exitCode, again.result.error], [4, "ERR_HOME"]);
  }
});

test("each command says what has to come before it", async () => {
  const home = path.join(folder, "station");
  const key = ["--home", home, "--passphrase-file", passphrase];
  const fetched = await writer("fetch", "--vault", "http://127.0.0.1:1", "--batch", "0", ...key);
  assert.match(fetched.errors, /ERR_HOME: .*via writer enroll --root FILE/);
  const written = await writer("write", ...key);
  assert.match(written.errors, /ERR_NOT_FOUND: .*via writer fetch first/);
  const notARoot = await writer("enroll", "--root", passphrase, "--home", home, "--yes");
  assert.equal(notARoot.exitCode, 1);
  const noHome = await writer("status", "--home", path.join(folder, "nowhere"));
  assert.deepEqual([noHome.exitCode, noHome.result.error], [4, "ERR_HOME"]);
  assert.equal((await writer("fetch", ...key)).exitCode, 2, "no vault, no batch");
  const status = await writer("status", "--home", home);
  assert.deepEqual(status.result.kits, []);
});
