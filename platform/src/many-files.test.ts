import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { putImmutable } from "./files.ts";
import { putImmutableMany } from "./many-files.ts";

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "files-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("many files are written, in folders that did not exist, and again without harm", () =>
  inFolder(async (folder) => {
    const files = Array.from({ length: 600 }, (_, i) => {
      return { path: `tile/${i % 3}/x${i}/${i}`, bytes: new TextEncoder().encode(`file ${i}`) };
    });
    for (let round = 0; round < 2; round++) {
      await putImmutableMany(folder, files);
      for (const { path: file, bytes } of files) {
        assert.deepEqual(new Uint8Array(await readFile(path.join(folder, file))), bytes);
      }
    }
    assert.equal((await stat(path.join(folder, "tile/0/x0/0"))).mode & 0o777, 0o644);
    assert.deepEqual(await readdir(path.join(folder, "tile/0/x0")), ["0"]);
    await putImmutableMany(folder, []);
  }));

test("an immutable file with other bytes is never replaced, and nothing temporary stays", () =>
  inFolder(async (folder) => {
    await writeFile(path.join(folder, "b"), "first");
    const bytes = new TextEncoder().encode("other");
    const all = ["a", "b", "c"].map((name) => ({ path: name, bytes }));
    await assert.rejects(putImmutableMany(folder, all), { code: "ERR_FILE_IMMUTABLE" });
    await assert.rejects(putImmutable(path.join(folder, "b"), bytes), { code: "ERR_FILE_IMMUTABLE" });
    assert.equal(await readFile(path.join(folder, "b"), "utf8"), "first");
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith(".")),
      [],
    );
    await assert.rejects(putImmutableMany(path.join(folder, "b"), all), { code: "ERR_FILE" });
  }));
