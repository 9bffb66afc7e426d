/** A whole kit through the real PC/SC client library, with tags pulled, readers unplugged and the station killed. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { parseTag } from "@viafabric/nfc";
import { type NfcReader, openReader } from "@viafabric/nfc/reader";
import { type Simulator, startSimulator, VIRTUAL_READER_NAME } from "@viafabric/nfc/simulator";
import {
  coseSigningInput,
  decodeCompact,
  decodeReceipt,
  equalBytes,
  hmacSha256,
  isValidSignature,
  parseHex,
  RECEIPT_TYP,
  sha256,
} from "@viafabric/schemas";
import { kitWorld, NOW, STATION } from "./fixtures.test.ts";
import { type Ledger, openLedger } from "./ledger.ts";
import { payloadHashOf, type VerifiedKit, verifyKit } from "./verify-kit.ts";
import { type WriteEvent, type WriteOptions, type WriteWork, writeTags } from "./write-tags.ts";

const PLAIN: WriteOptions = { overwrite: false, lock: false, idleMs: 4000 };

let folder: string;
let simulator: Simulator;
let reader: NfcReader;
let ledgers = 0;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "via-writer-"));
  simulator = await startSimulator({ folder: path.join(folder, "sim") });
  reader = await openReader({ socket: simulator.sockets.pcsc, apduDeadlineMs: 3000 });
});

after(async () => {
  reader?.close();
  await simulator?.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Desk {
  readonly verified: VerifiedKit;
  ledger: Ledger;
  readonly file: string;
  readonly events: WriteEvent[];
  work(options?: Partial<WriteOptions>): WriteWork;
}

async function desk(count: number): Promise<Desk> {
  const { kit, trust, manifestProof } = await kitWorld(count);
  const verified = verifyKit(kit, { trust, station: STATION.publicKey.kid, manifestProof }, NOW);
  const file = path.join(folder, `ledger-${ledgers++}`);
  const events: WriteEvent[] = [];
  const own = {
    verified,
    file,
    events,
    ledger: await openLedger(file, kit),
    work: (options: Partial<WriteOptions> = {}): WriteWork => ({
      ...{ verified, ledger: own.ledger, signer: STATION, now: () => NOW },
      report: (event) => events.push(event),
      options: { ...PLAIN, ...options },
    }),
  };
  return own;
}

/** Every receipt is signed, chained, of its token, and of the tag that really carries it; no serial is on two tags. */
async function assertSound({ verified, ledger }: Desk, uids: readonly string[]): Promise<void> {
  const { kit } = verified;
  const carried = new Map<number, string>();
  for (const uid of uids) {
    const { memory } = await simulator.readTag(uid);
    const parsed = readable(memory);
    if (!parsed) continue;
    const { index } = decodeCompact(parsed);
    assert.ok(!carried.has(index), `serial ${index} is on ${carried.get(index)} and ${uid}`);
    assert.ok(equalBytes(parsed, kit.tokens[index - kit.first]!.token));
    carried.set(index, uid);
  }
  let previous = new Uint8Array(32);
  for (const [seq, bytes] of ledger.receipts.entries()) {
    const { receipt, algorithm, payload, signature } = decodeReceipt(bytes);
    assert.ok(isValidSignature(STATION.publicKey, coseSigningInput(RECEIPT_TYP, algorithm, payload), signature));
    assert.equal(receipt.seq, seq);
    assert.ok(equalBytes(receipt.previous, previous));
    assert.ok(equalBytes(receipt.payloadHash, payloadHashOf(verified, receipt.index)));
    if (receipt.result === "written") {
      const uid = carried.get(receipt.index);
      assert.ok(uid, `serial ${receipt.index} has a receipt and is on no tag`);
      assert.ok(equalBytes(receipt.uidMac, hmacSha256(kit.uidKey, parseHex(uid))));
    }
    previous = new Uint8Array(sha256(bytes));
  }
  for (const [index] of carried) {
    const { state } = ledger.serialAt(index) ?? {};
    assert.ok(state !== undefined, `serial ${index} is on a tag the ledger knows nothing of`);
  }
}

function readable(memory: Uint8Array): Uint8Array | undefined {
  try {
    const parsed = parseTag(memory);
    return parsed.layout === "compact" ? parsed.token : undefined;
  } catch {
    return undefined;
  }
}

test("a kit is written tag after tag, and the station stops when it is empty", async () => {
  const station = await desk(6);
  const tags = path.join(folder, "tags");
  await simulator.hand({ folder: tags, model: "ntag213", count: 6, pauseMs: 10 });
  await writeTags([reader], station.work());
  assert.deepEqual(station.ledger.counts, { written: 6, void: 0, reserved: 0, free: 0, uploaded: 0 });
  const uids = station.events.map((event) => (event.kind === "written" ? event.uid : assert.fail(event.kind)));
  await assertSound(station, uids);
  await station.ledger.close();
});

test("a tag pulled at any moment keeps its serial, and gets it at the next tap", async () => {
  const station = await desk(46);
  const uids: string[] = [];
  for (let at = 1; at <= 45; at++) {
    const uid = await simulator.createTag("ntag213");
    uids.push(uid);
    await simulator.arm({ kind: "tear", extent: (["none", "half", "whole"] as const)[at % 3]! }, at);
    await simulator.insert(uid);
    const writing = writeTags([reader], station.work({ count: 1 }));
    // The person lays the same tag down again as soon as they see that it was too early.
    const again = setInterval(() => {
      if (station.events.at(-1)?.kind === "interrupted") void simulator.insert(uid).catch(() => {});
    }, 5);
    await writing;
    clearInterval(again);
    await simulator.remove();
    await reader.waitForEmpty();
  }
  // The last faults lie behind the write: they strike at a beep, or at the next tag.
  await assertSound(station, uids);
  assert.equal(station.ledger.counts.reserved, 0);
  assert.equal(station.ledger.counts.written, 45);
  await station.ledger.close();
});

test("killed between any two steps and started again, the station loses no serial and writes none twice", async () => {
  const station = await desk(8);
  const uids: string[] = [];
  for (let round = 0; round < 8; round++) {
    const uid = await simulator.createTag("ntag213");
    uids.push(uid);
    await simulator.arm({ kind: "silence" }, 5 + 5 * round);
    await simulator.insert(uid);
    // The reader hangs, the process of the reader is killed, and the station gives up on the spot.
    const stop = new AbortController();
    const report = (event: WriteEvent) => {
      station.events.push(event);
      if (event.kind === "interrupted") stop.abort(new Error("power cut"));
    };
    const cut = writeTags([reader], { ...station.work({ count: 1, signal: stop.signal }), report });
    await cut.catch((error: Error) => assert.equal(error.message, "power cut"));
    await station.ledger.close();
    station.ledger = await openLedger(station.file, station.verified.kit);
    await assertSound(station, uids);
    if (station.ledger.serialOf(parseHex(uid))?.state !== "written") {
      await writeTags([reader], station.work({ count: 1 }));
    }
    await simulator.remove();
    await reader.waitForEmpty();
  }
  await assertSound(station, uids);
  assert.deepEqual(station.ledger.counts, { written: 8, void: 0, reserved: 0, free: 0, uploaded: 0 });
  await station.ledger.close();
});

test("unfit tags are put aside without using up a serial", async () => {
  const station = await desk(2);
  const other = await desk(2);
  const [wrongModel, first, foreign, good] = await Promise.all(
    ["ntag215", "ntag213", "ntag213", "ntag213"].map((model) => simulator.createTag(model)),
  );
  for (const uid of [first!, foreign!]) {
    await simulator.insert(uid);
    await writeTags([reader], other.work({ count: 1 }));
    await simulator.remove();
    await reader.waitForEmpty();
  }
  const work = station.work({ count: 1 });
  const writing = writeTags([reader], {
    ...work,
    report: (event) => {
      station.events.push(event);
      // Put aside, next.
      if (event.kind !== "refused") return;
      const next = event.uid === wrongModel ? foreign! : good!;
      void simulator.remove().then(() => simulator.insert(next));
    },
  });
  await simulator.insert(wrongModel!);
  await writing;
  const codes = station.events.map((event) => (event.kind === "refused" ? event.code : event.kind));
  assert.deepEqual(codes, ["ERR_TAG_TYPE", "ERR_TAG_FOREIGN", "written"]);
  assert.deepEqual(station.ledger.counts, { written: 1, void: 0, reserved: 0, free: 1, uploaded: 0 });
  // The tag that was just written is no blank one for the next serial.
  await simulator.remove();
  await reader.waitForEmpty();
  await simulator.insert(good!);
  await assert.rejects(writeTags([reader], station.work({ idleMs: 300 })), { code: "ERR_TAG_TIMEOUT" });
  assert.equal(station.events.at(-1)?.kind, "already");
  await simulator.remove();
  await reader.waitForEmpty();
  for (const each of [station, other]) await each.ledger.close();
});

test("a worn-out tag makes its serial void, and the serial goes to no other tag", async () => {
  const station = await desk(2);
  const [worn, good] = [await simulator.createTag("ntag213"), await simulator.createTag("ntag213")];
  await simulator.insert(worn);
  await simulator.arm({ kind: "drop", worn: true }, 12);
  await writeTags([reader], station.work({ count: 1 }));
  await simulator.remove();
  await reader.waitForEmpty();
  await simulator.insert(good);
  await writeTags([reader], station.work());
  assert.deepEqual(
    station.events.map((event) => ("index" in event ? [event.kind, event.index, event.uid] : event)),
    [
      ["void", 100, worn],
      ["written", 101, good],
    ],
  );
  const voided = decodeReceipt(station.ledger.receipts[0]!).receipt;
  assert.deepEqual([voided.result, voided.index], ["void", 100]);
  await assertSound(station, [worn, good]);
  await simulator.remove();
  await reader.waitForEmpty();
  await station.ledger.close();
});

test("with locking, a tag is read-only when its receipt says so", async () => {
  const station = await desk(1);
  const uid = await simulator.createTag("ntag213");
  await simulator.insert(uid);
  await writeTags([reader], station.work({ lock: true }));
  const { memory } = await simulator.readTag(uid);
  assert.deepEqual([memory[10], memory[11], memory[15]], [0xff, 0xff, 0x0f]);
  assert.equal(decodeReceipt(station.ledger.receipts[0]!).receipt.locked, true);
  await simulator.remove();
  await reader.waitForEmpty();
  await station.ledger.close();
});

test("two readers share one kit, and one of them is unplugged in the middle", async () => {
  const name = "ACS ACR122U PICC Interface 01 00";
  await simulator.addReader(name);
  const second = await openReader({ socket: simulator.sockets.pcsc, name, startDeadlineMs: 3000 });
  const station = await desk(10);
  try {
    await simulator.hand({ folder: path.join(folder, "left"), model: "ntag213", count: 10, pauseMs: 5 });
    await simulator.hand({ folder: path.join(folder, "right"), model: "ntag213", count: 2, pauseMs: 5 }, name);
    const work = station.work();
    let unplugged: Promise<void> | undefined;
    const report = (event: WriteEvent) => {
      station.events.push(event);
      if (station.ledger.counts.written >= 4) unplugged ??= simulator.removeReader(name);
    };
    // A tag that lay on the unplugged reader may keep a serial begun: then the work ends by its time.
    await writeTags([reader, second], { ...work, report }).catch((error: { code?: string }) => {
      assert.equal(error.code, "ERR_TAG_TIMEOUT");
    });
    await unplugged;
    const uids = station.events.flatMap((event) => (event.kind === "written" ? [event.uid] : []));
    assert.equal(new Set(uids).size, uids.length);
    const { written, reserved, free } = station.ledger.counts;
    assert.equal(written + reserved + free, 10);
    assert.ok(written >= 9, JSON.stringify(station.events));
    await assertSound(station, uids);
  } finally {
    second.close();
    await station.ledger.close();
    await simulator.remove(VIRTUAL_READER_NAME);
    await reader.waitForEmpty();
  }
});
