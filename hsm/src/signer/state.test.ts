/** The signer's memory: what is written comes back, and a damaged file is never taken for a memory. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type LedgerStep, StatusLedger } from "@viafabric/revocation";
import { hashLeaf, MerkleFrontier, OperationError, sha256, utf8 } from "@viafabric/schemas";
import {
  applyChange,
  decodeState,
  emptyState,
  encodeChange,
  encodeState,
  frontierOf,
  type LoggedBatch,
  type Officers,
  type SignerState,
} from "./state.ts";

const hash = (text: string) => sha256(utf8(text));
const officers = (name: string): Officers => ({
  releaseKeys: [hash(`release ${name}`)],
  stations: [{ kid: hash(`station ${name}`), first: 0, count: 5 }],
});

function fullState(): SignerState {
  const tree = new MerkleFrontier();
  for (let i = 0; i < 13; i++) tree.append(hashLeaf(utf8(`${i}`)));
  const shared = officers("shared");
  return {
    authority: hash("authority"),
    trust: {
      roots: [utf8("root 2")],
      targets: utf8("targets"),
      batches: utf8("batches"),
      targetFiles: new Map([["trust/keys.cbor", utf8("keys")]]),
    },
    unlogged: [{ kind: "batches", number: 3, fileHash: hash("3"), content: new Uint8Array(0) }],
    logged: { root: 1, targets: 2, batches: 2, statement: 4, transcript: 1 },
    quorum: { root: utf8("root"), rules: utf8("rules") },
    openHeads: [{ version: 3, size: 9, fileHash: hash("3") }],
    log: { size: 13, peaks: tree.peaks },
    lastAppend: { from: 12, entriesHash: hash("entries"), note: utf8("note") },
    signedManifests: new Map([[4, utf8("manifest")]]),
    batches: [
      { first: 0, count: 10, officers: shared },
      { first: 10, count: 10, officers: officers("other") },
      { first: 40, count: 10, officers: shared },
    ],
    ledger: new StatusLedger(),
    statement: utf8("statement"),
    metadata: new Map([
      ["snapshot", { version: 2, signed: utf8("{}"), signatures: [{ keyid: "ab", sig: hash("sig") }] }],
    ]),
  };
}

const nameless = ({ ledger, ...state }: SignerState) => ({ ...state, ledger: ledger.encode() });

test("a state comes back as it was written", () => {
  for (const state of [emptyState(hash("authority")), fullState()]) {
    const bytes = encodeState(state);
    assert.deepEqual(nameless(decodeState(bytes)), nameless(state));
    assert.deepEqual(encodeState(decodeState(bytes)), bytes);
  }
  assert.equal(frontierOf(fullState()).size, 13);
});

test("a change carries every part that is another one, and nothing when none is", () => {
  const full = fullState();
  const empty = emptyState(full.authority);
  const body = { authority: hash("a"), action: "release", ranges: [{ first: 0, count: 5 }], reason: "r" } as const;
  const event = { ...body, notAfter: 1, undoes: [], nonce: new Uint8Array(16) };
  const steps: readonly LedgerStep[] = [
    { kind: "batch", first: 0, count: 10 },
    { kind: "event", leafIndex: 3, body: event },
  ];
  const change = encodeChange(empty, full, steps);
  assert.ok(change);
  const applied = applyChange(emptyState(full.authority), change);
  full.ledger.apply(steps);
  assert.deepEqual(nameless(applied), nameless(full));
  assert.equal(applied.ledger.n, 10);
  // Equal parts, in objects of their own.
  assert.equal(encodeChange(full, fullState(), []), undefined);
  const part = { ...full, statement: utf8("the next") };
  assert.ok(encodeChange(full, part, [])!.length < 40, "only what changed is written");
  assert.throws(() => applyChange(full, change.slice(1)), { code: "ERR_SIGNER_STATE" });
  assert.throws(() => applyChange(emptyState(full.authority), utf8("x")), { code: "ERR_SIGNER_STATE" });
});

test("with a hundred thousand batches and events, a change is as small as with none", () => {
  const state = { ...emptyState(hash("a")), batches: manyBatches(100_000) };
  state.ledger.applyBatch(0, 1_000_000);
  const next = { ...state, batches: [...state.batches, { first: 1_000_000, count: 10, officers: officers("new") }] };
  assert.ok(encodeChange(state, next, [{ kind: "batch", first: 1_000_000, count: 10 }])!.length < 200);
});

function manyBatches(length: number): readonly LoggedBatch[] {
  const shared = officers("shared");
  return Array.from({ length }, (_, i) => ({ first: i * 10, count: 10, officers: shared }));
}

test("officers that are the same for many batches are written once", () => {
  assert.ok(encodeState({ ...emptyState(hash("a")), batches: manyBatches(1000) }).length < 10_000);
});

test("a file cut short, grown or with peaks of another size is damaged", () => {
  const bytes = encodeState(fullState());
  const wrong = [
    new Uint8Array(0),
    bytes.subarray(0, -1),
    Uint8Array.from([...bytes, 0]),
    encodeState({ ...fullState(), log: { size: 12, peaks: fullState().log.peaks } }),
  ];
  for (const file of wrong) {
    assert.throws(
      () => decodeState(file),
      (error) => error instanceof OperationError && error.code === "ERR_SIGNER_STATE",
    );
  }
});
