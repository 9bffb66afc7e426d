import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { formatHex, OperationError } from "@viafabric/schemas";
import { formatLink, formatRecord, parseTag } from "./layout.ts";
import { planWrite } from "./plan.ts";
import { executePlan, inspectTag, lockTag, type NfcReader, openReader, type TagReader } from "./reader.ts";
import { type Fault, type Simulator, startSimulator, VIRTUAL_READER_NAME } from "./simulator.ts";
import { bytes } from "./testing.test.ts";

const COMPACT = formatRecord(new Uint8Array([1, ...bytes(120, 7)]));
const LINK = formatLink("tap.example.org", new Uint8Array([1, ...bytes(120, 7)]), bytes(16, 1));

/** A loaded machine is slow, and a deadline that passes for that reason alone is no tear. */
const APDU_DEADLINE_MS = 3000;

let folder: string;
let simulator: Simulator;
let reader: NfcReader;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "via-nfc-"));
  simulator = await startSimulator({ folder: path.join(folder, "sim") });
  reader = await openReader({ socket: simulator.sockets.pcsc, apduDeadlineMs: APDU_DEADLINE_MS });
});

after(async () => {
  reader?.close();
  await simulator?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function layDown(uid: string): Promise<TagReader> {
  await simulator.insert(uid);
  return reader.waitForTag();
}

/** Threads of a client that wait for a change: one for the list of readers, one for its only reader. */
const OWN_WATCHERS = 2;

async function takeAway(): Promise<void> {
  await simulator.remove();
  await reader.waitForEmpty();
}

async function write(tag: TagReader, message: Uint8Array): Promise<void> {
  const inspection = await inspectTag(tag, message.length);
  const plan = planWrite(inspection.memory, message);
  if (plan.kind === "refused") throw new OperationError(plan.code, plan.reason);
  if (plan.kind === "write") await executePlan(tag, inspection, message, plan);
}

/** What a phone shows of a tag: our token, nothing, or something wrong. */
async function visible(uid: string): Promise<"right" | "nothing" | "wrong"> {
  const { memory } = await simulator.readTag(uid);
  try {
    parseTag(memory);
    return "right";
  } catch (error) {
    assert.ok(error instanceof Error);
    return /the tag is empty/.test(error.message) ? "nothing" : "wrong";
  }
}

function isOperationError(...codes: readonly string[]): (error: unknown) => boolean {
  return (error) => error instanceof OperationError && codes.includes(error.code);
}

const LAYOUTS = [
  ["ntag213", COMPACT],
  ["ntag215", LINK],
  ["ntag216", LINK],
] as const;

for (const [model, message] of LAYOUTS) {
  test(`${model}: a blank tag takes the message, and holds nothing else to do afterwards`, async () => {
    const uid = await simulator.createTag(model);
    const tag = await layDown(uid);
    await write(tag, message);
    await tag.signal(true);
    const { apdus, successes } = await simulator.status();
    const pages = Math.ceil((message.length + 3) / 4);
    const bound = pages + 1 + Math.ceil(pages / 48) + 8;
    assert.ok(apdus <= 1.1 * bound, `${apdus} APDUs for ${pages} pages`);
    assert.ok(successes > 0);
    assert.equal(await visible(uid), "right");
    const again = await inspectTag(tag, message.length);
    assert.equal(planWrite(again.memory, message).kind, "written");
    await takeAway();
  });
}

// Every APDU of a write, each way a tag can leave at it. No list of tear points to keep up to date: the loop ends
// with the first write that the fault no longer reaches.
for (const [model, message] of LAYOUTS.slice(0, 2)) {
  for (const extent of ["none", "half", "whole"] as const) {
    test(`${model}: pulled at any APDU (write ${extent}), no wrong message shows and the next tap completes`, async () => {
      for (let at = 1; ; at++) {
        const uid = await simulator.createTag(model);
        await simulator.arm({ kind: "tear", extent }, at);
        const outcome = await write(await layDown(uid), message).then(
          () => "done",
          (error: unknown) => {
            assert.ok(isOperationError("ERR_TAG_GONE", "ERR_NO_READER")(error), String(error));
            return "gone";
          },
        );
        if (outcome === "done") {
          // The fault waits for its APDU still; a beep or a few use it up.
          for (const tag = await reader.waitForTag(); ; )
            if (
              await tag.signal(true).then(
                () => false,
                () => true,
              )
            )
              break;
          assert.ok(at > message.length / 4, "the loop went through the whole write");
          await reader.waitForEmpty();
          return;
        }
        assert.notEqual(await visible(uid), "wrong", `torn at APDU ${at}`);
        await reader.waitForEmpty();
        await write(await layDown(uid), message);
        assert.equal(await visible(uid), "right", `completed after APDU ${at}`);
        await takeAway();
      }
    });
  }
}

for (const kind of ["refuse", "communication"] as const) {
  for (const extent of ["none", "half", "whole"] as const) {
    test(`a failed answer (${kind}, write ${extent}) while the tag stays is read back and completed at once`, async () => {
      for (let at = 5; at <= 45; at += 4) {
        const uid = await simulator.createTag("ntag213");
        const tag = await layDown(uid);
        const inspection = await inspectTag(tag, COMPACT.length);
        const plan = planWrite(inspection.memory, COMPACT);
        assert.equal(plan.kind, "write");
        await simulator.arm({ kind, extent }, Math.min(at, 36));
        if (plan.kind === "write") await executePlan(tag, inspection, COMPACT, plan);
        assert.equal(await visible(uid), "right");
        await takeAway();
      }
    });
  }
}

test("a write that did not take is found by reading back, and written again", async () => {
  const uid = await simulator.createTag("ntag213");
  const tag = await layDown(uid);
  const inspection = await inspectTag(tag, COMPACT.length);
  const plan = planWrite(inspection.memory, COMPACT);
  await simulator.arm({ kind: "drop", worn: false }, 7);
  if (plan.kind === "write") await executePlan(tag, inspection, COMPACT, plan);
  assert.equal(await visible(uid), "right");
  await takeAway();
});

test("a worn-out page, the commit's own included, ends in a refusal, and no wrong message shows", async () => {
  for (const at of [1, 7, 35, 38]) {
    const uid = await simulator.createTag("ntag213");
    const tag = await layDown(uid);
    const inspection = await inspectTag(tag, COMPACT.length);
    const plan = planWrite(inspection.memory, COMPACT);
    await simulator.arm({ kind: "drop", worn: true }, at);
    if (plan.kind === "write") {
      await assert.rejects(
        executePlan(tag, inspection, COMPACT, plan),
        isOperationError("ERR_TAG_WRITE"),
        `APDU ${at}`,
      );
    }
    assert.equal(await visible(uid), "nothing");
    await takeAway();
  }
});

test("a tag exchanged unnoticed never gets the commit", async () => {
  for (const at of [1, 2, 20, 34, 35]) {
    const uid = await simulator.createTag("ntag213");
    const other = await simulator.createTag("ntag213");
    const tag = await layDown(uid);
    const inspection = await inspectTag(tag, COMPACT.length);
    const plan = planWrite(inspection.memory, COMPACT);
    await simulator.arm({ kind: "swap", uid: other }, at);
    if (plan.kind === "write") {
      await assert.rejects(
        executePlan(tag, inspection, COMPACT, plan),
        isOperationError("ERR_TAG_CHANGED", "ERR_TAG_WRITE"),
      );
    }
    assert.notEqual(await visible(other), "right", `swapped at ${at}`);
    await takeAway();
  }
});

test("a hung reader ends at the deadline, and the next tap works in a fresh process", async () => {
  const uid = await simulator.createTag("ntag213");
  const tag = await layDown(uid);
  await simulator.arm({ kind: "silence" }, 12);
  const started = Date.now();
  await assert.rejects(write(tag, COMPACT), isOperationError("ERR_READER", "ERR_NO_READER"));
  assert.ok(Date.now() - started < 3 * APDU_DEADLINE_MS);
  assert.equal(await visible(uid), "nothing");
  await write(await reader.waitForTag(), COMPACT);
  assert.equal(await visible(uid), "right");
  await takeAway();
});

test("a tag swapped faster than the reader reports is noticed as another tag", async () => {
  const uids = await Promise.all(Array.from({ length: 20 }, () => simulator.createTag("ntag213")));
  for (const uid of uids) {
    // No pause between the two: the status reports may coalesce.
    await Promise.all([simulator.remove(), simulator.insert(uid)]);
    for (let tries = 0; ; tries++) {
      const found = await reader
        .waitForTag()
        .then((tag) => tag.uid())
        .then(formatHex, () => "");
      if (found === uid) break;
      assert.ok(tries < 1000, "the new tag was never seen");
    }
  }
  await takeAway();
});

test("a tag that cannot be powered is reported, and a good one after it works", async () => {
  const reports: string[] = [];
  const own = await openReader({ socket: simulator.sockets.pcsc, onUnpowered: () => reports.push("unpowered") });
  try {
    const uid = await simulator.createTag("ntag213");
    await simulator.insert(uid, VIRTUAL_READER_NAME, true);
    for (let waited = 0; reports.length === 0; waited += 50) {
      assert.ok(waited < 5000);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await simulator.remove();
    await simulator.insert(uid);
    assert.equal(formatHex(await (await own.waitForTag()).uid()), uid);
    await takeAway();
  } finally {
    own.close();
  }
});

test("refusals reach the caller by code: another chip, a full tag, a locked tag, another message", async () => {
  const small = await simulator.createTag("ntag213");
  await assert.rejects(write(await layDown(small), LINK), isOperationError("ERR_TAG_FULL"));
  await takeAway();

  const locked = await simulator.createTag("ntag213");
  const tag = await layDown(locked);
  await write(tag, COMPACT);
  await lockTag(tag, await inspectTag(tag, COMPACT.length));
  await write(tag, COMPACT);
  const other = formatRecord(new Uint8Array([1, ...bytes(120, 8)]));
  await assert.rejects(write(tag, other), isOperationError("ERR_TAG_LOCKED"));
  assert.equal(await visible(locked), "right");
  await takeAway();

  const used = await simulator.createTag("ntag215");
  const first = await layDown(used);
  await write(first, other);
  await assert.rejects(write(first, LINK), isOperationError("ERR_TAG_FOREIGN"));
  await takeAway();
});

test("a reader without raw commands writes too: by the size that the capability container states", async () => {
  const name = "ACS ACR1252 1S CL Reader 00 00";
  await simulator.addReader(name, { passThrough: false });
  const own = await openReader({ socket: simulator.sockets.pcsc, name });
  try {
    const uid = await simulator.createTag("ntag215");
    await simulator.insert(uid, name);
    await write(await own.waitForTag(), LINK);
    assert.equal(await visible(uid), "right");
  } finally {
    own.close();
    await simulator.removeReader(name);
  }
});

test("a reader that is unplugged and comes back is used again", async () => {
  const name = "ACS ACR122U PICC Interface 01 00";
  const desk = await startSimulator({ folder: path.join(folder, "desk"), readers: [name] });
  const own = await openReader({ socket: desk.sockets.pcsc, name, startDeadlineMs: 3000 });
  try {
    // The library lists readers and then begins to watch them: what is unplugged in between, it never hears of.
    while ((await desk.status(name)).watchers < OWN_WATCHERS) await sleep(10);
    const ended = assert.rejects(own.waitForTag(), isOperationError("ERR_NO_READER"));
    await desk.removeReader(name);
    await ended;
    await assert.rejects(own.waitForTag(), isOperationError("ERR_NO_READER"));
    await desk.addReader(name);
    const uid = await desk.createTag("ntag213");
    await desk.insert(uid, name);
    assert.equal(formatHex(await (await own.waitForTag()).uid()), uid);
  } finally {
    own.close();
    await desk.stop();
  }
});

test("no reader, another reader, no service: each says what to do", async () => {
  const bare = await startSimulator({ folder: path.join(folder, "bare"), readers: [] });
  const options = { socket: bare.sockets.pcsc, startDeadlineMs: 2000 };
  await assert.rejects(openReader(options), (error: unknown) => {
    assert.ok(isOperationError("ERR_NO_READER")(error));
    return /no reader is plugged in/.test((error as Error).message);
  });
  await bare.addReader("Some Other Reader");
  await assert.rejects(openReader({ ...options, name: "Wanted" }), /found only: Some Other Reader/);
  await bare.stop();
  await assert.rejects(openReader(options), (error: unknown) => {
    assert.ok(isOperationError("ERR_NO_PCSC")(error));
    return /apt-get install pcscd/.test((error as Error).message);
  });
});

test("a service that dies while waiting ends the wait", async () => {
  const dying = await startSimulator({ folder: path.join(folder, "dying") });
  const own = await openReader({ socket: dying.sockets.pcsc });
  const ended = assert.rejects(own.waitForTag(), isOperationError("ERR_NO_READER"));
  await dying.stop();
  await ended;
  await assert.rejects(own.waitForTag(), isOperationError("ERR_NO_PCSC"));
  own.close();
});

test("the simulated hand lays down blank tags and changes them at the success beep", async () => {
  const tags = path.join(folder, "tags");
  await simulator.hand({ folder: tags, model: "ntag213", count: 5, pauseMs: 10 });
  const seen = new Set<string>();
  for (let i = 0; i < 5; i++) {
    const tag = await reader.waitForTag();
    seen.add(formatHex(await tag.uid()));
    await write(tag, COMPACT);
    await tag.signal(true);
    await reader.waitForRemoval();
  }
  assert.equal(seen.size, 5);
  assert.equal((await simulator.status()).handLeft, 0);
  for (const uid of seen) assert.equal(await simulator.loadTag(path.join(tags, `${uid}.bin`)), uid);
});

test("faults of every kind are refused for a reader or tag that is not there", async () => {
  const fault: Fault = { kind: "swap", uid: "04000000000000" };
  await assert.rejects(simulator.arm(fault, 1), isOperationError("ERR_SIMULATOR"));
  await assert.rejects(simulator.insert("04", "nowhere"), isOperationError("ERR_SIMULATOR"));
  await assert.rejects(simulator.createTag("ntag999"), isOperationError("ERR_SIMULATOR"));
});
