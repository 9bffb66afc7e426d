import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { removeTemporaries, temporaryName } from "./files.ts";

const folder = await mkdtemp(path.join(tmpdir(), "files-"));
after(() => rm(folder, { recursive: true }));

/** Writes for ever, and is killed in the middle of it. */
async function killedWriter(into: string): Promise<void> {
  const files = JSON.stringify(path.join(import.meta.dirname, "files.js"));
  const program = `
    import { writeFileDurable } from ${files};
    for (;;) await writeFileDurable(${JSON.stringify(path.join(into, "file"))}, new Uint8Array(32 * 2 ** 20));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  while (child.exitCode === null && !(await readdir(into)).some((name) => name.endsWith(".tmp")))
    await new Promise(setImmediate);
  child.kill("SIGKILL");
  await ended;
}

test("what killed writers have left is removed, at any depth, and nothing else", async () => {
  const deep = path.join(folder, "public/batch/0");
  await mkdir(deep, { recursive: true });
  // A write that ended just before the signal leaves nothing; with a few of them one was caught.
  for (let left = 0; left === 0; ) {
    await killedWriter(deep);
    left = (await readdir(deep)).filter((name) => name.endsWith(".tmp")).length;
  }
  const elsewhere = path.join(folder, "elsewhere");
  await mkdir(elsewhere);
  await symlink(elsewhere, path.join(deep, "linked"));
  const others = [".tmp", ".a.tmp", ".a.1.tmp", "a.1.2.tmp", ".a.1.2.tmp.bak", ".a.x.2.tmp", "a", ".1.2.tmp"];
  for (const name of others) await writeFile(path.join(deep, name), name);
  await mkdir(path.join(deep, ".folder.1.2.tmp"));
  const linked = temporaryName(path.join(elsewhere, "file"));
  await writeFile(linked, "of somebody else");
  const kept = new Set([...others, "linked", ".folder.1.2.tmp"]);

  assert.ok((await removeTemporaries(path.join(folder, "public"))) >= 1);
  const names = new Set(await readdir(deep));
  names.delete("file");
  assert.deepEqual(names, kept);
  assert.equal(await readFile(linked, "utf8"), "of somebody else");
  assert.equal(await removeTemporaries(path.join(folder, "public")), 0);
  await assert.rejects(removeTemporaries(path.join(folder, "not there")), { code: "ERR_FILE" });
});
