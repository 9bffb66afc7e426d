import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { lockFolder } from "./lock.ts";

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "lock-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a folder is locked once, by this process or another, and free again afterwards", () =>
  inFolder(async (folder) => {
    const both = await Promise.allSettled([lockFolder(folder), lockFolder(folder)]);
    assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    await assert.rejects(lockFolder(path.join(folder, ".")), { code: "ERR_LOCKED" });
    const [unlock] = both.filter((outcome) => outcome.status === "fulfilled");
    await unlock!.value();
    await (await lockFolder(folder))();

    const other = spawn("sleep", ["60"]);
    try {
      const stat = await readFile(`/proc/${other.pid}/stat`, "utf8");
      const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
      await writeFile(path.join(folder, "lock"), `${other.pid} ${started}\n`);
      await assert.rejects(lockFolder(folder), { code: "ERR_LOCKED" });
    } finally {
      other.kill();
      await once(other, "exit");
    }
    await (await lockFolder(folder))();
  }));

test("a lock that this process left behind after an error does not lock it out", () =>
  inFolder(async (folder) => {
    const unlock = await lockFolder(folder);
    const text = await readFile(path.join(folder, "lock"));
    await unlock();
    await writeFile(path.join(folder, "lock"), text);
    await (await lockFolder(folder))();
    await assert.rejects(access(path.join(folder, "lock")), { code: "ENOENT" });
  }));

test("what goes wrong on the disk has a code", () =>
  inFolder(async (folder) => {
    await assert.rejects(lockFolder(path.join(folder, "missing")), { code: "ERR_FILE" });
    const unlock = await lockFolder(folder);
    await rm(path.join(folder, "lock"));
    await assert.rejects(unlock(), { code: "ERR_FILE" });
  }));
