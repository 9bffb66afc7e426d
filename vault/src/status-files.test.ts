import assert from "node:assert/strict";
import { test } from "node:test";
import {
  catchUp,
  EPOCH_ZERO,
  type EpochPlanes,
  PLANES,
  parseUndoList,
  planeRoots,
  StatusLedger,
  signedSet,
  type VerifiedStatement,
  verifySnapshot,
} from "@viafabric/revocation";
import { type Action, type EventBody, encodeEventBody, encodeLeaf, parseUtf8, sha256, utf8 } from "@viafabric/schemas";
import { parsePolicy, verifyProof } from "@viafabric/transparency-log";
import { POLICY_PATH } from "@viafabric/tuf";
import { AUTHORITY, genesisWorld, KEYS, MemoryLog, NOW, namedSigner, statementNote, TRUST } from "./fixtures.test.ts";
import type { Publication } from "./publisher.ts";
import { eventFile, floorFiles, type StatusChange, statusPublication } from "./status-files.ts";

function body(action: Action, first: number, count: number, undoes: readonly number[] = []): EventBody {
  const nonce = sha256(utf8(`${action} ${first} ${count} ${undoes}`)).slice(0, 16);
  const ranges = [{ first, count }];
  return { authority: AUTHORITY, action, ranges, reason: "a test", notAfter: NOW + 3600, undoes, nonce };
}

/** A day of hours in which something happens in most of them. */
class Day {
  readonly ledger = new StatusLedger();
  readonly files = new Map<string, Uint8Array>();
  held: VerifiedStatement | undefined;
  previous: EpochPlanes = EPOCH_ZERO;
  readonly reinstatements: number[] = [];

  async change(alter: (change: StatusChange) => StatusChange = (change) => change): Promise<Publication> {
    const { ledger } = this;
    const next = { epoch: this.previous.epoch + 1, n: ledger.n, planes: ledger.planes() };
    const note = await statementNote(AUTHORITY, this.held, next, KEYS.status, NOW + next.epoch * 3600);
    const { keys } = TRUST;
    const { held, previous, reinstatements } = this;
    const change = alter({
      authority: AUTHORITY,
      keys,
      held,
      previous,
      next,
      note,
      reinstatements: [...reinstatements],
    });
    const { verified, publication } = await statusPublication(change, async (path) => this.files.get(path));
    for (const { path, bytes } of publication.immutable) {
      assert.ok(!this.files.has(path), `${path} is written once`);
      this.files.set(path, bytes);
    }
    this.held = verified;
    this.previous = next;
    return publication;
  }
}

test("every epoch of a day can be reached from every other by the files alone", async () => {
  const day = new Day();
  const states: EpochPlanes[] = [EPOCH_ZERO];
  const statements: VerifiedStatement[] = [];
  day.ledger.applyBatch(0, 1000);
  for (let hour = 1; hour <= 24; hour++) {
    if (hour % 3 === 1) day.ledger.applyEvent(hour * 10, body("suspend", hour * 7, 5));
    if (hour % 3 === 2) day.ledger.applyEvent(hour * 10, body("revoke", hour * 11, 2));
    if (hour % 6 === 0) {
      day.ledger.applyEvent(hour * 10, body("reinstate", (hour - 2) * 7, 5, [(hour - 2) * 10]));
      day.reinstatements.push(hour * 10);
    }
    if (hour === 12) day.ledger.applyEvent(hour * 10 + 1, body("release", 0, 500));
    await day.change();
    states.push(day.previous);
    statements.push(day.held!);
  }
  const read = async (path: string) => day.files.get(path);
  for (let from = 0; from < 24; from++) {
    for (const to of [from + 1, 24]) {
      for (const plane of PLANES) {
        const held = { plane, epoch: from, n: states[from]!.n, set: states[from]!.planes[plane] };
        await catchUp(held, signedSet(statements[to - 1]!.statement, plane), read);
      }
    }
  }
  assert.deepEqual(parseUndoList(day.files.get("revocation/undo/24.txt")!), [60, 120, 180, 240]);
  assert.equal(day.files.get("revocation/undo/1.txt")!.length, 0);
});

test("a publication moves one pointer, to the statement that is also kept for ever", async () => {
  const day = new Day();
  day.ledger.applyBatch(0, 10);
  const { pointers, immutable } = await day.change();
  assert.deepEqual(Object.keys(pointers), ["status"]);
  const kept = immutable.find(({ path }) => path === "revocation/e/1.txt")!;
  assert.equal(parseUtf8(kept.bytes), parseUtf8(pointers.status!));
});

test("nothing is published unless signer and vault came to the same sets", async () => {
  const day = new Day();
  day.ledger.applyBatch(0, 100);
  await day.change();
  day.ledger.applyEvent(5, body("revoke", 7, 1));
  const other = new StatusLedger();
  other.applyBatch(0, 100);
  other.applyEvent(5, body("revoke", 8, 1));
  const planes = other.planes();
  const refused = (alter: (change: StatusChange) => StatusChange, code: string) =>
    assert.rejects(day.change(alter), { name: "VerificationError", code });
  await refused((change) => ({ ...change, next: { ...change.next, planes } }), "ERR_SET_ROOT");
  await refused((change) => ({ ...change, next: { ...change.next, n: 101 } }), "ERR_SET_OTHER");
  await refused((change) => ({ ...change, next: { ...change.next, epoch: 3 } }), "ERR_SET_OTHER");
  await day.change();
});

test("only the next statement of the listed status key is published", async () => {
  const day = new Day();
  day.ledger.applyBatch(0, 100);
  await day.change();
  const first = day.held;
  const before = day.previous;
  await day.change();
  const note = async (held: VerifiedStatement | undefined, next: EpochPlanes, signer = KEYS.status) =>
    statementNote(AUTHORITY, held, next, signer, NOW + 5 * 3600);
  const next = { ...day.previous, epoch: 3 };
  const stolen = await note(day.held, next, namedSigner("thief"));
  await assert.rejects(
    day.change((change) => ({ ...change, note: stolen })),
    { code: "ERR_NOTE_UNSIGNED" },
  );
  const fork = await note(first, { ...before, epoch: 2 });
  const forked = (change: StatusChange): StatusChange => ({ ...change, note: fork, next: { ...before, epoch: 2 } });
  await assert.rejects(day.change(forked), { code: "ERR_STATUS_FORK" });
});

test("a floor can be fetched for as long as its head lives", async () => {
  const day = new Day();
  day.ledger.applyBatch(0, 100);
  for (let i = 0; i < 3; i++) await day.change();
  const files = floorFiles(day.previous);
  assert.deepEqual(
    files.map(({ path }) => path),
    ["revocation/0/s/3.rvx", "revocation/1/s/3.rvx"],
  );
  for (const plane of [0, 1] as const) verifySnapshot(files[plane]!.bytes, signedSet(day.held!.statement, plane));
  assert.deepEqual(floorFiles(EPOCH_ZERO), []);
});

test("a floor at a snapshot epoch is the file that is already there", async () => {
  const day = new Day();
  day.ledger.applyBatch(0, 100);
  await day.change();
  for (const { path, bytes } of floorFiles(day.previous)) assert.deepEqual(day.files.get(path), bytes);
});

test("an event is published with its proof, under the policy that trustees signed", async () => {
  const { genesis, online } = await genesisWorld();
  const event = { body: encodeEventBody(body("revoke", 1, 1)), signatures: [] };
  const kid = KEYS.station.publicKey.kid;
  const signed = { ...event, signatures: [{ kid, signature: new Uint8Array(64) }] };
  const entry = encodeLeaf({ type: "event", event: signed });
  const log = new MemoryLog();
  log.append([utf8("before"), entry]);
  const file = eventFile(entry, await log.inclusion(1), await log.note(genesis.settings.logOrigin, online.log));
  assert.equal(file.path, "revocation/event/1");
  assert.equal(verifyProof(parsePolicy(genesis.targetFiles.get(POLICY_PATH)!), entry, file.bytes).index, 1);
});

test("the roots a statement signs are those of the planes", () => {
  const ledger = new StatusLedger();
  ledger.applyBatch(0, 3);
  const roots = planeRoots({ epoch: 1, n: 3, planes: ledger.planes() });
  assert.deepEqual(
    roots.map(({ count }) => count),
    [0, 0, 3],
  );
});
