import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { CodedError, genesisHead, type Head } from "@viafabric/schemas";
import {
  assertClock,
  CLOCK_FLOOR_MIN,
  loadClockFloor,
  nextClockFloor,
  raiseClockFloor,
  refreshTrust,
} from "./client.ts";
import { createAuthority, DAY, type Files, NOW, publish } from "./fixtures.test.ts";

const refusedWith = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "tuf-clock-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("the floor rises with quorum-signed times, one day past a right clock at most, and never falls", () => {
  const cases: readonly (readonly [string, number, number, number, number])[] = [
    ["a newer signed time", NOW, NOW + 50, NOW + 100, NOW + 50],
    ["an older signed time", NOW, NOW - 50, NOW + 100, NOW],
    ["a signed time a little ahead of the clock", NOW, NOW + 60, NOW + 30, NOW + 60],
    ["a mistyped year", NOW, NOW + 3650 * DAY, NOW + 30, NOW + 30 + DAY],
    ["a clock behind the floor measures nothing", NOW, NOW + 3650 * DAY, NOW - 1, NOW],
  ];
  for (const [what, floor, signed, rtc, next] of cases) assert.equal(nextClockFloor(floor, signed, rtc), next, what);
});

test("the floor outlives the process, and a damaged file is the least floor", () =>
  withFolder(async (folder) => {
    assert.equal(await loadClockFloor(folder), CLOCK_FLOOR_MIN);
    assert.equal(await raiseClockFloor(path.join(folder, "new"), NOW, NOW), NOW);
    assert.equal(await loadClockFloor(path.join(folder, "new")), NOW);
    assert.equal(await raiseClockFloor(path.join(folder, "new"), NOW - DAY, NOW), NOW);
    for (const text of ["", "abc\n", "-5\n", "1e9\n"]) {
      await writeFile(path.join(folder, "clock"), text);
      assert.equal(await loadClockFloor(folder), CLOCK_FLOOR_MIN, text);
    }
    // A flat battery says 1970, also on a machine that has seen nothing yet.
    await assert.rejects(assertClock(folder, 0), refusedWith("ERR_CLOCK"));
    await assertClock(folder, NOW);
    await assert.rejects(assertClock(path.join(folder, "new"), NOW - 1), refusedWith("ERR_CLOCK"));
  }));

test("a clock that is set back does not bring expired metadata to life", () =>
  withFolder(async (folder) => {
    const authority = await createAuthority();
    const files: Files = new Map();
    const head = (issued: number): Head => ({ ...genesisHead(authority.authority, NOW), issued });
    const refresh = (now: number) =>
      refreshTrust({
        folder,
        pinned: { file: authority.root },
        fetch: async (name) => files.get(name),
        prove: async () => [],
        now,
      });
    await publish(authority, files, { head: head(NOW + 20 * DAY) });
    await refresh(NOW + 20 * DAY);
    assert.equal(await loadClockFloor(folder), NOW + 20 * DAY);
    await publish(authority, files, { onlineVersion: 2, onlineExpires: NOW + 10 * DAY, head: head(NOW + 20 * DAY) });
    await assert.rejects(refresh(NOW), (error: unknown) => {
      assert.ok(refusedWith("ERR_METADATA_EXPIRED")(error), String(error));
      assert.match(String(error), /accepted here before: batches 1, issued 2027-02-04/);
      return true;
    });
    // What one online key signs moves nothing: the timestamp's dates are years ahead here.
    await publish(authority, files, { onlineVersion: 3, onlineExpires: NOW + 3650 * DAY, head: head(NOW + 20 * DAY) });
    await refresh(NOW + 21 * DAY);
    assert.equal(await readFile(path.join(folder, "clock"), "utf8"), `${NOW + 20 * DAY}\n`);
  }));
