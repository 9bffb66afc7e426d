/** The signer's memory: what is written comes back, and a damaged file is never taken for a memory. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hashLeaf, MerkleFrontier, OperationError, sha256, utf8 } from "@viafabric/schemas";
import { decodeState, emptyState, encodeState, frontierOf, type Officers, type SignerState } from "./state.ts";

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
    logged: { root: 1, targets: 2, batches: 2, statement: 4 },
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
    ledger: utf8("ledger"),
    statement: utf8("statement"),
    metadata: new Map([["snapshot", { version: 2, signed: utf8("{}"), keyid: "ab", sig: hash("sig") }]]),
  };
}

test("a state comes back as it was written", () => {
  for (const state of [emptyState(hash("authority")), fullState()]) {
    const bytes = encodeState(state);
    assert.deepEqual(decodeState(bytes), state);
    assert.deepEqual(encodeState(decodeState(bytes)), bytes);
  }
  assert.equal(frontierOf(fullState()).size, 13);
});

test("officers that are the same for many batches are written once", () => {
  const shared = officers("shared");
  const batches = Array.from({ length: 1000 }, (_, i) => ({ first: i * 10, count: 10, officers: shared }));
  assert.ok(encodeState({ ...emptyState(hash("a")), batches }).length < 10_000);
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
