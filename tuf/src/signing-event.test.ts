import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, sha256, utf8 } from "@viafabric/schemas";
import { createAuthority, DAY, ed25519Signer, NOW, p256Signer, roleOf } from "./fixtures.test.ts";
import {
  approve,
  buildBatches,
  createProposal,
  fileOf,
  openEvent,
  parseMetadata,
  provenRejections,
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
  const event = openEvent(proposal);
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
});

test("what arrives after the k-th approval is kept as late: it is in no file and undoes nothing", async () => {
  const { event, approval, rejection, authority } = await open();
  let next = event;
  for (const i of [0, 1, 2]) next = approve(next, await approval(i), NOW);
  const frozen = fileOf(next);
  for (const outcome of [undefined, "published"] as const) {
    let later: SigningEvent = { ...next, ...(outcome && { outcome }) };
    later = approve(later, await approval(3), NOW + 2 * DAY);
    later = approve(later, await approval(3), NOW + 2 * DAY);
    later = reject(later, authority, await rejection(4), NOW + 2 * DAY);
    assert.deepEqual([later.late.approvals.length, later.late.rejections.length], [1, 1], "each once");
    assert.deepEqual([later.approvals.length, later.rejections.length], [3, 0]);
    assert.deepEqual(fileOf(later), frozen);
    assert.equal(stateOf(later, NOW + 2 * DAY), outcome ?? "ready");
    const [again, change] = [await rejection(3), await approval(4)];
    assert.throws(
      () => reject(later, authority, again, NOW),
      refusedWith("ERR_PROPOSAL_CLOSED"),
      "nobody speaks twice",
    );
    assert.throws(() => approve(later, change, NOW), refusedWith("ERR_PROPOSAL_CLOSED"), "nobody speaks twice");
  }
});

test("after its death an event takes nothing, however it died", async () => {
  const { event, approval, rejection, authority } = await open();
  let rejected = event;
  for (const i of [0, 1, 2]) rejected = reject(rejected, authority, await rejection(i), NOW);
  const ways: Record<string, readonly [SigningEvent, number]> = {
    expired: [event, NOW + DAY],
    "expired, and then the clock was set back": [{ ...event, outcome: "expired" }, NOW],
    superseded: [{ ...event, outcome: "superseded" }, NOW],
    rejected: [rejected, NOW],
  };
  const [yes, no] = [await approval(3), await rejection(4)];
  for (const [way, [dead, now]] of Object.entries(ways)) {
    assert.equal(stateOf(dead, now), way.split(",")[0]);
    assert.throws(() => approve(dead, yes, now), refusedWith("ERR_PROPOSAL_CLOSED"), way);
    assert.throws(() => reject(dead, authority, no, now), refusedWith("ERR_PROPOSAL_CLOSED"), way);
  }
});

test("one trustee with two devices is one voice: the first one counts, the other way is refused", async () => {
  const device = p256Signer();
  const others = [1, 2].map((i) => ed25519Signer(`trustee ${i}`));
  const keys = [device, ...others].map(({ publicKey }) => publicKey);
  const signed = buildBatches({ version: 2, expires: NOW + 100 * DAY, head: utf8("head") });
  const quorums = [{ keys, threshold: 2 }];
  const proposal = createProposal({ role: "batches", signed, created: NOW, expires: NOW + DAY, quorums });
  const [laptop, spare] = [await signMetadata(device, signed), await signMetadata(device, signed)];
  assert.notDeepEqual(laptop.sig, spare.sig, "P-256 signatures are drawn anew each time");
  const once = approve(openEvent(proposal), laptop, NOW);
  assert.equal(approve(once, spare, NOW), once, "one key is one approval");
  assert.equal(stateOf(once, NOW), "open");
  const authority = sha256(utf8("authority"));
  const no = await signRejection(device, authority, proposal.id, "on second thoughts");
  assert.throws(() => reject(once, authority, no, NOW), refusedWith("ERR_PROPOSAL_CLOSED"));
  const rejected = reject(openEvent(proposal), authority, no, NOW);
  assert.throws(() => approve(rejected, spare, NOW), refusedWith("ERR_PROPOSAL_CLOSED"));
  assert.deepEqual([rejected.approvals.length, rejected.rejections.length], [0, 1]);
});

test("only rejections that prove themselves are shown, each key once", async () => {
  const { event, rejection, authority } = await open();
  const [one, two] = [await rejection(0), await rejection(1)];
  const forged = { ...two, reason: "something they never said" };
  const stranger = await signRejection(ed25519Signer("stranger"), authority, event.proposal.id, "me too");
  const unusable = { ...two, reason: "x".repeat(1000) };
  const shown = provenRejections(event.proposal, authority, [forged, stranger, unusable, one, one, two]);
  assert.deepEqual(shown, [one, two]);
  assert.deepEqual(provenRejections({ ...event.proposal, id: sha256(utf8("other")) }, authority, [one]), []);
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
