/** A journal survives a torn end, refuses damage, and is replaced whole or not at all. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { OperationError, utf8 } from "@viafabric/schemas";
import { createJournal, openJournal } from "./journal.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "journal-"));
});
after(() => rm(folder, { recursive: true }));

const texts = (records: readonly Uint8Array[]) => records.map((record) => Buffer.from(record).toString());

test("what was appended comes back; cut anywhere, the whole records before the cut do", async () => {
  const file = path.join(folder, "cut");
  const journal = await openJournal(file);
  const ends = [0];
  for (const text of ["one", "two", "three"]) {
    await journal.append(utf8(text));
    ends.push((await stat(file)).size);
  }
  await journal.close();
  const whole = await readFile(file);
  for (let length = whole.length; length >= 0; length--) {
    await writeFile(file, whole.subarray(0, length));
    const again = await openJournal(file);
    const count = ends.filter((end) => end > 0 && end <= length).length;
    assert.deepEqual(texts(again.records), ["one", "two", "three"].slice(0, count));
    await again.close();
    assert.equal((await stat(file)).size, ends[count], "the torn end is gone");
  }
});

test("damage before the last record is refused", async () => {
  const file = path.join(folder, "damaged");
  const journal = await openJournal(file);
  for (const text of ["one", "two"]) await journal.append(utf8(text));
  await journal.close();
  const bytes = await readFile(file);
  bytes[13]! ^= 1;
  await writeFile(file, bytes);
  await assert.rejects(openJournal(file), (error) => error instanceof OperationError && error.code === "ERR_JOURNAL");
});

test("one record takes the place of all, and the next ones follow it", async () => {
  const file = path.join(folder, "replaced");
  const journal = await createJournal(file, utf8("first"));
  await journal.append(utf8("second"));
  // In order, although nobody waits in between.
  await Promise.all([
    journal.append(utf8("third")),
    journal.replace(utf8("all three")),
    journal.append(utf8("fourth")),
  ]);
  assert.deepEqual(texts(journal.records), ["all three", "fourth"]);
  await journal.close();
  const again = await openJournal(file);
  assert.deepEqual(texts(again.records), ["all three", "fourth"]);
  await again.close();
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

test("after a failed write nothing more is written", async () => {
  const file = path.join(folder, "gone", "journal");
  await assert.rejects(createJournal(file, utf8("first")), { code: "ERR_FILE" });
  const failing = await openJournal(path.join(folder, "failing"));
  await failing.append(utf8("one"));
  await failing.close();
  // The handle is closed: the write fails, and the next one is not even tried.
  await assert.rejects(failing.append(utf8("two")), { code: "ERR_FILE" });
  await assert.rejects(failing.replace(utf8("three")), /failed earlier/);
});
