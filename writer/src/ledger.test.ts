import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { encodeReceipt, type OperationError, sha256, utf8 } from "@viafabric/schemas";
import { type ChainPlace, type Ledger, openLedger } from "./ledger.ts";

const KIT = { authority: sha256(utf8("authority")), id: sha256(utf8("kit")).slice(0, 16), first: 40, count: 4 };
const HASH = new Uint8Array(32);

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "via-ledger-"));
});
after(() => rm(folder, { recursive: true, force: true }));

function uid(n: number): Uint8Array {
  return new Uint8Array([4, 0, 0, 0, 0, 0, n]);
}

/** Shape is all that the ledger looks at. */
function receipt(index: number, result: "written" | "void") {
  return async ({ seq, previous }: ChainPlace) => {
    const own = { seq, previous, index, result, authority: KIT.authority, kit: KIT.id };
    const rest = { payloadHash: HASH, uidMac: HASH, imageHash: HASH, locked: false, time: 1 };
    return encodeReceipt({ ...own, ...rest }, { algorithm: "ed25519", kid: HASH, signature: new Uint8Array(64) });
  };
}

async function reserve(ledger: Ledger, n: number): Promise<number> {
  const index = ledger.claim();
  assert.ok(index !== undefined);
  await ledger.reserve({ index, uid: uid(n), imageHash: HASH, time: n });
  return index;
}

test("a serial goes to one tag and a tag gets one serial, also after a restart", async () => {
  const file = path.join(folder, "once");
  let ledger = await openLedger(file, KIT);
  assert.equal(await reserve(ledger, 1), 40);
  assert.equal(await reserve(ledger, 2), 41);
  await ledger.finish(40, "written", receipt(40, "written"));
  await ledger.close();
  ledger = await openLedger(file, KIT);
  assert.deepEqual(ledger.counts, { written: 1, void: 0, reserved: 1, free: 2, uploaded: 0 });
  assert.equal(ledger.serialOf(uid(2))?.index, 41);
  assert.equal(ledger.serialOf(uid(1))?.state, "written");
  assert.equal(await reserve(ledger, 3), 42);
  const taken = (error: OperationError) => error.code === "ERR_SERIAL";
  await assert.rejects(ledger.reserve({ index: 43, uid: uid(2), imageHash: HASH, time: 1 }), taken);
  await assert.rejects(ledger.reserve({ index: 41, uid: uid(9), imageHash: HASH, time: 1 }), taken);
  await assert.rejects(ledger.finish(40, "written", receipt(40, "written")), taken);
  await assert.rejects(ledger.finish(43, "written", receipt(43, "written")), taken, "never reserved");
  await ledger.finish(43, "void", receipt(43, "void"));
  assert.equal(ledger.claim(), undefined);
  await ledger.close();
});

test("a claim keeps a serial from other readers until it is given back", async () => {
  const ledger = await openLedger(path.join(folder, "claims"), KIT);
  const claims = [ledger.claim(), ledger.claim(), ledger.claim(), ledger.claim(), ledger.claim()];
  assert.deepEqual(claims, [40, 41, 42, 43, undefined]);
  ledger.giveBack(41);
  assert.equal(ledger.claim(), 41);
  await ledger.close();
});

test("receipts are chained in the order in which they are made, however they are asked for", async () => {
  const ledger = await openLedger(path.join(folder, "chain"), KIT);
  const places: ChainPlace[] = [];
  for (const n of [1, 2, 3]) await reserve(ledger, n);
  const sign = (index: number) => async (place: ChainPlace) => {
    places.push(place);
    return receipt(index, "written")(place);
  };
  await Promise.all([42, 40, 41].map((index) => ledger.finish(index, "written", sign(index))));
  assert.deepEqual(
    places.map(({ seq }) => seq),
    [0, 1, 2],
  );
  for (const [i, { previous }] of places.entries()) {
    assert.deepEqual(previous, i === 0 ? new Uint8Array(32) : sha256(ledger.receipts[i - 1]!));
  }
  await ledger.markUploaded(2);
  await ledger.markUploaded(1);
  assert.equal(ledger.counts.uploaded, 2);
  await ledger.close();
});

test("cut off at any byte, the ledger opens with every record that was acknowledged before it", async () => {
  const file = path.join(folder, "whole");
  const ledger = await openLedger(file, KIT);
  const sizes: number[] = [(await readFile(file)).length];
  for (const n of [1, 2]) {
    const index = await reserve(ledger, n);
    sizes.push((await readFile(file)).length);
    await ledger.finish(index, "written", receipt(index, "written"));
    sizes.push((await readFile(file)).length);
  }
  await ledger.close();
  const bytes = await readFile(file);
  const cut = path.join(folder, "cut");
  for (let length = sizes[0]!; length <= bytes.length; length += 3) {
    await rm(cut, { force: true });
    await appendFile(cut, bytes.subarray(0, length));
    const opened = await openLedger(cut, KIT);
    const steps = sizes.filter((size) => size <= length).length - 1;
    assert.equal(opened.counts.written, Math.floor(steps / 2));
    assert.equal(opened.counts.reserved, steps % 2);
    await opened.close();
  }
});

test("the ledger of another kit, and a damaged one, are refused", async () => {
  const file = path.join(folder, "bound");
  const ledger = await openLedger(file, KIT);
  await reserve(ledger, 1);
  await reserve(ledger, 2);
  await ledger.close();
  const refused = (error: OperationError) => error.code === "ERR_JOURNAL";
  await assert.rejects(openLedger(file, { ...KIT, id: new Uint8Array(16) }), refused);
  const bytes = await readFile(file);
  bytes[bytes.length - 80]! ^= 1;
  await truncate(file);
  await appendFile(file, bytes);
  await assert.rejects(openLedger(file, KIT), refused);
});
