import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { equalBytes, OperationError, parseUtf8, utf8 } from "@viafabric/schemas";
import { mergePublications, type Publication, type PublicStorage, publicFolder, publish } from "./publisher.ts";

/** State `n` of a little world: every pointer says `n`, and file `i` must exist for every i up to n. */
function publication(n: number): Publication {
  const pointer = utf8(`${n}`);
  return {
    immutable: Array.from({ length: n }, (_, i) => ({ path: `batch/${i}/manifest.cbor`, bytes: utf8(`file ${i}`) })),
    hints: [{ path: "batches/list/0", bytes: utf8(`${n} lines`) }],
    roots: [{ path: `tuf/metadata/${n}.root.json`, bytes: utf8(`root ${n}`) }],
    pointers: { status: pointer, timestamp: pointer, checkpoint: pointer },
  };
}

interface Fault {
  readonly failAt: number;
  readonly writeTookPlace: boolean;
}

function storageOn(files: Map<string, Uint8Array>, fault?: Fault): PublicStorage {
  let writes = 0;
  const write = (at: string, bytes: Uint8Array): void => {
    const fails = fault !== undefined && ++writes === fault.failAt;
    if (!fails || fault.writeTookPlace) files.set(at, bytes);
    if (fails) throw new OperationError("ERR_FILE", `write ${writes} fails on purpose`);
  };
  return {
    async putImmutable(at, bytes) {
      const existing = files.get(at);
      if (existing && !equalBytes(existing, bytes)) throw new OperationError("ERR_FILE_IMMUTABLE", at);
      write(at, bytes);
    },
    async replace(at, bytes) {
      write(at, bytes);
    },
  };
}

const POINTERS = ["log/checkpoint", "tuf/metadata/timestamp.json", "revocation/latest"];

/** What each reader sees: a pointer may be ahead of the next one in the order, never behind, and never dangling. */
function check(files: Map<string, Uint8Array>): readonly number[] {
  const seen = POINTERS.map((at) => Number(parseUtf8(files.get(at) ?? utf8("0"))));
  for (const n of seen)
    for (let i = 0; i < n; i++) assert.ok(files.has(`batch/${i}/manifest.cbor`), `file ${i} of ${n}`);
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => b - a),
    "checkpoint leads metadata, metadata leads status",
  );
  const roots = [...files.keys()].map((at) => Number(/([0-9]+)\.root\.json$/.exec(at)?.[1] ?? 0));
  const newest = Math.max(...roots);
  assert.ok(seen[1]! >= newest && newest >= seen[2]!, "metadata leads the root that it suits, which leads status");
  return seen;
}

// Each is tried two ways, because an error does not say whether the write took place.
for (const writeTookPlace of [false, true]) {
  test(`publish survives a crash at any write (${writeTookPlace ? "after" : "before"} it is durable)`, async () => {
    let crashes = 0;
    for (let failAt = 1; ; failAt++) {
      const files = new Map<string, Uint8Array>();
      await publish(storageOn(files), publication(3));
      const outcome = await publish(storageOn(files, { failAt, writeTookPlace }), publication(5)).then(
        () => "done",
        () => "crashed",
      );
      for (const n of check(files)) assert.ok([3, 5].includes(n), "a reader sees the old state or the new one");
      if (outcome === "done") break;
      crashes++;
      await publish(storageOn(files), publication(5));
      assert.deepEqual(check(files), [5, 5, 5], "running it again is the recovery");
    }
    assert.equal(crashes, 5 + 1 + 1 + 3, "every write was made to fail once");
  });
}

test("pointers are written in the order of the format, whatever the order of the fields", async () => {
  const order: string[] = [];
  const storage: PublicStorage = {
    async putImmutable(at) {
      order.push(at);
    },
    async replace(at) {
      order.push(at);
    },
  };
  await publish(storage, publication(1));
  assert.deepEqual(order, [
    "batch/0/manifest.cbor",
    "batches/list/0",
    ...POINTERS.slice(0, 2),
    "tuf/metadata/1.root.json",
    ...POINTERS.slice(2),
  ]);
});

test("an immutable file is never replaced, and pointers stay where they were", async () => {
  const files = new Map<string, Uint8Array>();
  await publish(storageOn(files), publication(2));
  const forged: Publication = {
    ...publication(3),
    immutable: [{ path: "batch/1/manifest.cbor", bytes: utf8("another") }],
  };
  await assert.rejects(publish(storageOn(files), forged), { code: "ERR_FILE_IMMUTABLE" });
  assert.deepEqual(check(files), [2, 2, 2]);
});

test("a path cannot leave the public folder", async () => {
  for (const at of ["../private/key", "/etc/passwd", "a//b", "a/./b", "a/.hidden", "", "a/", "a\\b"]) {
    const bad: Publication = { immutable: [{ path: at, bytes: utf8("x") }], hints: [], roots: [], pointers: {} };
    await assert.rejects(publish(storageOn(new Map()), bad), { code: "ERR_ASSERTION" }, at);
  }
});

test("merging keeps every file and the newest pointer", () => {
  const merged = mergePublications(publication(1), { ...publication(2), pointers: { status: utf8("9") } });
  assert.equal(merged.immutable.length, 3);
  assert.equal(merged.hints.length, 1);
  assert.deepEqual(
    [merged.pointers.checkpoint, merged.pointers.timestamp, merged.pointers.status].map((b) => b && parseUtf8(b)),
    ["1", "1", "9"],
  );
});

test("a folder holds what was published, with no temporary files left over", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "publisher-"));
  t.after(() => rm(folder, { recursive: true }));
  for (const n of [1, 2, 2]) await publish(publicFolder(folder), publication(n));
  assert.equal(await readFile(path.join(folder, "revocation/latest"), "utf8"), "2");
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  assert.equal(names.filter((entry) => entry.isFile()).length, 2 + 1 + 2 + 3);
  const other: Publication = {
    immutable: [{ path: "batch/0/manifest.cbor", bytes: utf8("x") }],
    hints: [],
    roots: [],
    pointers: {},
  };
  await assert.rejects(publish(publicFolder(folder), other), { code: "ERR_FILE_IMMUTABLE" });
});
