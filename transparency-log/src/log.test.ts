import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { CodedError, formatBase64, formatHex, sha256, utf8 } from "@viafabric/schemas";
import { folderFetch, openTree, proveConsistency, proveInclusion, readCheckpoint, readEntries } from "./client.ts";
import {
  decimals,
  logVerifier,
  mapFetch,
  memoryFiles,
  memoryLock,
  memoryStaging,
  rememberingSigner,
  signedCheckpoint,
} from "./fixtures.test.ts";
import { folderFiles, folderStaging, type Log, openLog, openLogOn } from "./log.ts";
import { policyOfLog } from "./policy.ts";
import { formatProof } from "./proof.ts";

const ROOTS: readonly (readonly [number, string])[] = [
  [1, "2zQm6HgGjSjSabbIcXIyLOU3K2V1bQeJAB00g19gHAM="],
  [2, "ywCYnZSlacCmeK4EK2Pc1GJduWRAUX83put5duok7Us="],
  [3, "cl1SMNto9VdHDcNfHYhlgTrNfrsHrRUndBQd7LrnEyc="],
  [255, "Mvhbyqh9e80Fco8J6a66NQumovczgwCH8Fl2goSL5cs="],
  [256, "goUV0DPBnYyQHzfsy4rtkZZncDSG+NL/8c9wQDIcXbE="],
  [257, "HtoEmkNR2G92JSvX7At3Rq11t/oDFq1fVB29pFijEsQ="],
  [511, "Xz1p4QI3C+QJEi0RouYF5rZTsHG4tLS9KDP65AZS8R0="],
  [512, "1LIWJJXKYJ3AY5DTU8oMVRB3ZcYJ4CJut0fYkQXcjVU="],
  [65535, "dPE6Dhp1aJNy77mQz2jGZORMdj2TBIRJVbLq/2JOjfE="],
  [65536, "8CXQbtgEhZ/SdKG9rK3W5I6odjSqkeHtsgFD+UmM0Cs="],
  [65537, "3IeVol/UvVKguE9jn9MTm6FggkAj0YjkKOtdsPPOIho="],
  [70000, "Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34="],
];

async function memoryLog(): Promise<{ log: Log; map: Map<string, Uint8Array> }> {
  const files = memoryFiles();
  const ports = { files, staging: memoryStaging(), lock: memoryLock(), sign: rememberingSigner() };
  return { log: await openLogOn({ ...ports, verifier: logVerifier }), map: files.map };
}

test("a log of 70,000 entries has the published roots, proofs and files", async () => {
  const { log, map } = await memoryLog();
  for (const [size, root] of ROOTS) {
    const { firstIndex } = await log.append(decimals(log.size, size));
    assert.equal(log.size, size);
    assert.equal(formatBase64(log.head.root), root, `root at ${size}`);
    assert.ok(firstIndex < size);
  }
  const fetch = mapFetch(map);
  const { checkpoint } = await readCheckpoint(fetch, policyOfLog(logVerifier));
  assert.equal(checkpoint.size, 70_000);
  let index = 0;
  for await (const entry of readEntries(fetch, checkpoint))
    assert.equal(Buffer.from(entry).toString(), String(index++));
  assert.equal(index, 70_000);

  const small = { size: 3, root: (await openTreeAt(fetch, 3)).root };
  assert.deepEqual((await proveInclusion(fetch, small, 2)).map(formatBase64), [ROOTS[1]![1]]);
  const proof = formatProof({
    index: 69_999,
    hashes: await proveInclusion(fetch, checkpoint, 69_999),
    checkpoint: await signedCheckpoint(checkpoint, { witnessed: true }),
  });
  assert.equal(proof.length, 750);
  assert.equal(formatHex(sha256(proof)), "cafde0dcef35ccd167498fa904f6366e35839fcbee494b13492dae8fb96de10d");
  const consistency = (await proveConsistency(fetch, 256, checkpoint)).map(formatBase64);
  assert.equal(consistency.length, 9);
  assert.equal(consistency[0], "fZWzJ1D0wS8NsHcq5PiUfOINRhZtmFwj+iCv6UvHlAs=");
  assert.equal(consistency[8], "QeWddaYWgMFNixZq76xsZTPHpKCsrKbagmJYHYKI2i0=");
  const early = await proveConsistency(fetch, 3, { size: 256, root: (await openTreeAt(fetch, 256)).root });
  assert.deepEqual(early.map(formatBase64).slice(0, 2), [
    "+mHj3sNDlYn0eEyJO/Mh0AhPBMVyx68raOPzNgo1tIY=",
    "kGxdJIXK5yIHOkMPTQT+F2dQdZLO8iZimurbhaLskJ0=",
  ]);
  const body = `old 256\n${consistency.join("\n")}\n\n${Buffer.from(await signedCheckpoint(checkpoint)).toString()}`;
  assert.equal(formatHex(sha256(utf8(body))), "205b06cccb24eb421d97f33b40b5d854c10980807949005e6d54e1d36feb9278");
});

async function openTreeAt(fetch: ReturnType<typeof mapFetch>, size: number): Promise<{ root: Uint8Array }> {
  const { checkpoint } = await readCheckpoint(fetch, policyOfLog(logVerifier));
  return { root: (await (await openTree(fetch, checkpoint)).frontierAt(size)).root() };
}

test("one append of everything writes the same final files as many small ones", async () => {
  const many = await memoryLog();
  for (let size = 0; size < 1300; size += 13) await many.log.append(decimals(size, size + 13));
  const once = await memoryLog();
  await once.log.append(decimals(0, 1300));
  for (const [file, bytes] of once.map) assert.deepEqual(many.map.get(file), bytes, file);
});

test("entries of Tessera's test log give Tessera's roots", async () => {
  const words = "one two three four five six seven eit nain ten ileven twelf threeten fourten fivten".split(" ");
  const roots = new Map([
    [1, "0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek="],
    [3, "Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk="],
    [7, "IrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U="],
    [15, "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs="],
  ]);
  const { log } = await memoryLog();
  for (const word of words) {
    await log.append([utf8(word)]);
    const root = roots.get(log.size);
    if (root) assert.equal(formatBase64(log.head.root), root, `size ${log.size}`);
  }
});

test("a log in folders is the same after it was closed and opened", async () => {
  const home = await mkdtemp(path.join(os.tmpdir(), "log-"));
  try {
    const lock = memoryLock();
    const options = {
      folder: path.join(home, "public"),
      stagingFolder: path.join(home, "private"),
      verifier: logVerifier,
      lock,
      sign: rememberingSigner(),
    };
    let log = await openLog(options);
    await log.append(decimals(0, 300));
    await assert.rejects(openLog(options), { code: "ERR_LOCKED" });
    await log.close();
    log = await openLog(options);
    assert.equal(log.size, 300);
    await log.append(decimals(300, 520));
    await log.close();
    const fetch = folderFetch(options.folder);
    const { checkpoint } = await readCheckpoint(fetch, policyOfLog(logVerifier));
    let count = 0;
    for await (const entry of readEntries(fetch, checkpoint, 100)) {
      assert.equal(Buffer.from(entry).toString(), String(100 + count++));
    }
    assert.equal(count, 420);
  } finally {
    await rm(home, { recursive: true });
  }
});

test("an append answers when it is committed, written or published, as asked", async () => {
  const { log, map } = await memoryLog();
  await log.append(decimals(0, 10), "committed");
  await log.append(decimals(10, 20), "written");
  assert.ok(map.has("tile/0/000.p/20"));
  assert.ok(!map.has("checkpoint"));
  const cosigned = await signedCheckpoint(log.head, { witnessed: true });
  await log.publish(cosigned);
  assert.deepEqual(map.get("checkpoint"), cosigned);
});

test("files of committed appends are written when no append follows, and when the log is closed", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { log, map } = await memoryLog();
  await log.append(decimals(0, 10), "committed");
  await log.append(decimals(10, 300), "committed");
  await setImmediate();
  assert.deepEqual([...map.keys()], [], "the disk is left to the appends");
  context.mock.timers.tick(1000);
  await setImmediate();
  assert.ok(map.has("tile/0/000.p/10") && map.has("tile/0/000") && map.has("tile/0/001.p/44"));
  await log.append(decimals(300, 301), "committed");
  await log.close();
  assert.ok(map.has("tile/0/001.p/45"));
  assert.ok(!map.has("checkpoint"));
});

test("what an entry bundle cannot hold is refused and harms nothing", async () => {
  const { log } = await memoryLog();
  await assert.rejects(log.append([]), { code: "ERR_LOG_ENTRY" });
  await assert.rejects(log.append([new Uint8Array(65_536)]), { code: "ERR_LOG_ENTRY" });
  await log.append([new Uint8Array(65_535), new Uint8Array(0)]);
  assert.equal(log.size, 2);
});

test("a large append has its root recomputed in a thread, and a damaged segment is noticed", async () => {
  const home = await mkdtemp(path.join(os.tmpdir(), "log-"));
  try {
    const options = {
      folder: path.join(home, "public"),
      stagingFolder: path.join(home, "private"),
      verifier: logVerifier,
      lock: memoryLock(),
      sign: rememberingSigner(),
    };
    const log = await openLog(options);
    await log.append(decimals(0, 65_537));
    await log.append(decimals(65_537, 70_000));
    assert.equal(formatBase64(log.head.root), ROOTS.at(-1)![1]);
    await log.close();

    // A disk that returns other bytes than it was given: one bit of one entry.
    const [files, staging] = [await folderFiles(options.folder), await folderStaging(options.stagingFolder)];
    const lying = {
      ...staging,
      write(name: string, bytes: Uint8Array) {
        const wrong = bytes.slice();
        wrong[wrong.length >> 1]! ^= 1;
        return staging.write(name, wrong);
      },
    };
    for (const count of [10, 60_000]) {
      const size = options.lock.held!.size;
      const victim = await openLogOn({ ...options, files, staging: lying });
      const entries = Array.from({ length: count }, () => new Uint8Array(73));
      await assert.rejects(victim.append(entries), CodedError);
      await victim.close();
      assert.equal(options.lock.held!.size, size, "nothing was signed");
      // An append cannot be finished from a damaged segment, nor be forgotten: it may have been signed.
      await assert.rejects(openLogOn({ ...options, files, staging }), { code: "ERR_LOG_SEGMENT" });
      for (const name of await staging.list()) if (name.endsWith(".segment")) await staging.remove(name);
    }
    assert.equal((await openLogOn({ ...options, files, staging })).size, 70_000);
  } finally {
    await rm(home, { recursive: true });
  }
});
