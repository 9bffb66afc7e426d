import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, sha256, utf8 } from "@viafabric/schemas";
import { createAuthority, DAY, ed25519Signer, NOW, roleOf } from "./fixtures.test.ts";
import {
  approve,
  buildBatches,
  createProposal,
  fileOf,
  parseMetadata,
  reject,
  type SigningEvent,
  signMetadata,
  signRejection,
  stateOf,
  verifyRole,
} from "./index.ts";

const refusedWith = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;

async function open() {
  const { trustees, authority } = await createAuthority();
  const quorum = roleOf(trustees, 3);
  const signed = buildBatches({ version: 2, expires: NOW + 100 * DAY, head: utf8("head") });
  const proposal = createProposal({ role: "batches", signed, created: NOW, expires: NOW + DAY, quorums: [quorum] });
  const event: SigningEvent = { proposal, approvals: [], rejections: [] };
  const approval = (i: number) => signMetadata(trustees[i]!, signed);
  const rejection = (i: number, reason = "not agreed") => signRejection(trustees[i]!, authority, proposal.id, reason);
  return { event, approval, rejection, authority, quorum, signed };
}

test("the k-th approval makes an event ready and freezes its file", async () => {
  const { event, approval, quorum, signed } = await open();
  assert.deepEqual(event.proposal.id, sha256(signed));
  let next = event;
  for (const i of [4, 0]) next = approve(next, await approval(i), NOW);
  next = approve(next, await approval(0), NOW);
  assert.equal(next.approvals.length, 2, "the same approval again changes nothing");
  assert.equal(stateOf(next, NOW), "open");
  assert.throws(() => fileOf(next), refusedWith("ERR_THRESHOLD"));
  next = approve(next, await approval(2), NOW);
  assert.equal(stateOf(next, NOW), "ready");
  assert.equal(stateOf(next, NOW + 2 * DAY), "ready", "time does not undo a quorum");
  verifyRole(quorum, "batches", parseMetadata("targets", fileOf(next)));
  const late = await approval(1);
  assert.throws(() => approve(next, late, NOW), refusedWith("ERR_PROPOSAL_CLOSED"));
});

test("n-k+1 rejections end an event; nobody speaks twice", async () => {
  const { event, approval, rejection, authority } = await open();
  let next = event;
  for (const i of [0, 1]) next = reject(next, authority, await rejection(i), NOW);
  assert.equal(stateOf(next, NOW), "open");
  const change = await approval(0);
  assert.throws(() => approve(next, change, NOW), refusedWith("ERR_PROPOSAL_CLOSED"));
  next = reject(next, authority, await rejection(2), NOW);
  assert.equal(stateOf(next, NOW), "rejected");
  const tooLate = await approval(3);
  assert.throws(() => approve(next, tooLate, NOW), refusedWith("ERR_PROPOSAL_CLOSED"));
});

test("strangers, wrong bytes and altered reasons count for nothing", async () => {
  const { event, rejection, authority, signed } = await open();
  const stranger = await signMetadata(ed25519Signer("stranger"), signed);
  assert.throws(() => approve(event, stranger, NOW), refusedWith("ERR_SIGNATURE"));
  const other = await signMetadata(ed25519Signer("trustee 1"), utf8("other"));
  assert.throws(() => approve(event, other, NOW), refusedWith("ERR_SIGNATURE"));
  const altered = { ...(await rejection(0)), reason: "agreed after all" };
  assert.throws(() => reject(event, authority, altered, NOW), refusedWith("ERR_SIGNATURE"));
  const real = await rejection(0);
  assert.throws(() => reject(event, new Uint8Array(32), real, NOW), refusedWith("ERR_SIGNATURE"));
});

test("an event expires by itself and broken thresholds never open one", async () => {
  const { event, approval, quorum, signed } = await open();
  assert.equal(stateOf(event, NOW + DAY), "expired");
  const late = await approval(0);
  assert.throws(() => approve(event, late, NOW + DAY), refusedWith("ERR_PROPOSAL_CLOSED"));
  assert.equal(stateOf({ ...event, outcome: "superseded" }, NOW), "superseded");
  const create = (threshold: number, keys = quorum.keys) =>
    createProposal({ role: "batches", signed, created: NOW, expires: NOW + DAY, quorums: [{ keys, threshold }] });
  for (const threshold of [0, -1, 1.5, 6, Number.NaN])
    assert.throws(() => create(threshold), refusedWith("ERR_PROPOSAL"));
  assert.throws(() => create(2, [quorum.keys[0]!, quorum.keys[0]!]), refusedWith("ERR_PROPOSAL"));
  const none = { role: "batches", signed, created: NOW, expires: NOW + DAY, quorums: [] } as const;
  assert.throws(() => createProposal(none), refusedWith("ERR_PROPOSAL"));
  assert.throws(() => createProposal({ ...none, quorums: [quorum], expires: NOW }), refusedWith("ERR_PROPOSAL"));
});
