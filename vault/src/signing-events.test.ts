/** Signing events where they happen: over HTTP, many at once, on a real database. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatHex, type Signer, utf8 } from "@viafabric/schemas";
import { keyId, type Proposal, signMetadata } from "@viafabric/tuf";
import { DAY, NOW } from "./fixtures.test.ts";
import { ACTORS, propose, testVault, world } from "./testing-app.test.ts";
import { query } from "./testing-database.test.ts";
import { approveAs, ask, rejectAs, voicesAtOnce, withdraw, withdrawalAtOnce } from "./testing-voices.test.ts";

const [A, B, C, D, E] = world.trustees as [Signer, Signer, Signer, Signer, Signer];
/** `signing-events.long.ts` plays more. */
const ROUNDS = 6;

test("trustees who speak at one moment: every voice survives once, and the k-th freezes the file once", (t) =>
  voicesAtOnce(ROUNDS, (line) => t.diagnostic(line)));

test("a withdrawal and the k-th approval at one moment: exactly one of them wins", (t) =>
  withdrawalAtOnce(ROUNDS, (line) => t.diagnostic(line)));

test("an event goes forward only: the database refuses every other way, and the end of a burned version", async () => {
  const { store, target, proposal } = await testVault();
  const at = NOW;
  const id = `decode('${formatHex(proposal.id)}', 'hex')`;
  assert.equal(
    await store.moveEvent(proposal.id, { state: "published", at }),
    false,
    "nothing unapproved is published",
  );
  assert.equal(await store.moveEvent(proposal.id, { state: "superseded", at, reason: "overtaken" }), true);
  for (const state of ["ready", "published", "expired", "rejected"] as const)
    assert.equal(await store.moveEvent(proposal.id, { state, at, metadata: utf8("a file") }), false, state);
  for (const state of ["open", "ready", "published"])
    await assert.rejects(
      query(target, `UPDATE "event" SET "state" = '${state}' WHERE "id" = ${id}`),
      /does not become/,
    );
  await assert.rejects(query(target, `UPDATE "event" SET "signed" = 'other' WHERE "id" = ${id}`), /frozen/);
  for (const table of ["event", "batch", "token"])
    await assert.rejects(query(target, `DELETE FROM "${table}"`), /append-only/);
  assert.equal(await store.lastVersion("batches"), 3);
  const event = (await store.event(proposal.id))!;
  assert.deepEqual([event.state, event.endReason, event.metadata], ["superseded", "overtaken", undefined]);
});

test("n - k + 1 reasons stay with the event and with the request that it answered", async () => {
  const vault = await testVault();
  const request = await ask(vault, "rejected");
  const proposal = await propose(vault.store, 10, { by: [request] });
  for (const [trustee, reason] of [
    [A, "the quota is wrong"],
    [B, "twice the agreed number"],
    [C, "as B says"],
  ] as const)
    assert.equal((await rejectAs(vault, trustee, proposal, reason)).status, 200);
  const { json } = await vault.send(undefined, "GET", `/events/${formatHex(proposal.id)}`);
  assert.equal(json.state, "rejected");
  assert.match(String(json.endReason), /the quota is wrong; .*twice the agreed number; .*as B says/);
  const asked = await vault.send(undefined, "GET", `/requests/${formatHex(request)}`);
  assert.equal(asked.json.state, "rejected");
  assert.match(String(asked.json.refusal), /twice the agreed number/);
  for (const late of [await approveAs(vault, D, proposal), await rejectAs(vault, E, proposal)])
    assert.deepEqual([late.status, late.json.code], [409, "ERR_PROPOSAL_CLOSED"]);
});

test("what expired or was superseded sends its request back to wait; what is published does not", async () => {
  const vault = await testVault();
  const { store } = vault;
  for (const [state, version] of [
    ["expired", 10],
    ["superseded", 11],
  ] as const) {
    const request = await ask(vault, state);
    const proposal = await propose(store, version, { by: [request] });
    assert.equal((await store.request(request))!.state, "planned");
    await store.moveEvent(proposal.id, { state, at: NOW, reason: "a test" });
    const { json } = await vault.send(undefined, "GET", `/requests/${formatHex(request)}`);
    assert.equal(json.state, "waiting");
    assert.deepEqual(json.died, { event: formatHex(proposal.id), state, reason: "a test" });
    assert.equal(json.event, undefined, "nothing is before the trustees");
  }
  const [first, second] = await store.waitingRequests("batch", 10);
  const again = await propose(store, 12, { by: [first!.id, second!.id] });
  await store.moveEvent(again.id, { state: "ready", at: NOW, metadata: utf8("a file") });
  await store.moveEvent(again.id, { state: "published", at: NOW });
  assert.deepEqual(
    (await store.requests()).map(({ state }) => state),
    ["published", "published"],
  );
});

test("only whoever asked withdraws, and what others asked for waits again", async () => {
  const vault = await testVault();
  const [mine, theirs] = [await ask(vault, "mine"), await ask(vault, "theirs", D)];
  const foreign = await propose(vault.store, 10, { by: [await ask(vault, "another's", D)] });
  const refused = await withdraw(vault, foreign);
  assert.deepEqual([refused.status, refused.json.code], [401, "ERR_UNAUTHORIZED"]);
  assert.equal((await vault.store.event(foreign.id))!.state, "open", "and nothing has changed");
  const shared = await propose(vault.store, 11, { by: [mine, theirs] });
  assert.equal((await withdraw(vault, shared)).json.state, "superseded");
  assert.equal((await vault.store.request(mine))!.state, "withdrawn");
  assert.equal((await vault.store.request(theirs))!.state, "waiting");
  assert.equal((await withdraw(vault, shared)).status, 409);
  assert.equal((await approveAs(vault, A, shared)).status, 409, "nobody signs it any more");
  const waiting = await ask(vault, "not planned yet");
  const url = `/requests/${formatHex(waiting)}/withdrawal`;
  assert.equal((await vault.send(ACTORS.operator, "POST", url)).status, 200);
  assert.equal((await vault.send(ACTORS.operator, "POST", url)).json.code, "ERR_CLOSED");
  assert.equal((await vault.send(ACTORS.operator, "POST", `/requests/${formatHex(theirs)}/withdrawal`)).status, 409);
});

test("a proposal past its time is told and treated as expired before the sequencer has looked", async () => {
  const vault = await testVault();
  const { clock, proposal } = vault;
  clock.now = NOW + DAY;
  const url = `/events/${formatHex(proposal.id)}`;
  assert.equal((await vault.send(undefined, "GET", url)).json.state, "expired");
  assert.equal((await approveAs(vault, A, proposal)).json.code, "ERR_PROPOSAL_CLOSED");
  assert.equal((await withdraw(vault, proposal)).json.code, "ERR_PROPOSAL_CLOSED");
  await vault.store.moveEvent(proposal.id, { state: "expired", at: clock.now });
  clock.now = NOW;
  assert.equal(
    (await approveAs(vault, A, proposal)).json.code,
    "ERR_PROPOSAL_CLOSED",
    "a clock set back revives nothing",
  );
});

test("late voices are shown as late", async () => {
  const vault = await testVault();
  const { proposal } = vault;
  for (const trustee of [A, B, C]) await approveAs(vault, trustee, proposal);
  assert.equal((await approveAs(vault, D, proposal)).json.late, 1);
  assert.deepEqual((await rejectAs(vault, E, proposal)).json, { state: "ready", approved: 3, rejected: 0, late: 2 });
  assert.equal((await approveAs(vault, E, proposal)).status, 409, "nobody speaks twice, late or not");
  const { json } = await vault.send(undefined, "GET", `/events/${formatHex(proposal.id)}`);
  const { approvals, rejections } = json.lateVoices as { approvals: { keyid: string }[]; rejections: unknown[] };
  assert.deepEqual([approvals[0]!.keyid, rejections.length], [keyId(D.publicKey), 1]);
  assert.equal((json.approvals as unknown[]).length, 3);
});

test("a trustee who asked does not approve it as well, unless the settings say so; and may always reject", async () => {
  for (const ownApprovals of [false, true]) {
    const vault = await testVault({ ownApprovals });
    const proposal = await propose(vault.store, 10, { by: [await ask(vault, "mine", A)] });
    const { json } = await vault.send(undefined, "GET", `/events/${formatHex(proposal.id)}`);
    assert.deepEqual([json.requestedBy, json.ownApprovals], [[formatHex(A.publicKey.kid)], ownApprovals]);
    const { keyid, sig } = await signMetadata(A, proposal.signed);
    const url = `/events/${formatHex(proposal.id)}/approvals`;
    // It is the approval that is refused, whoever brings it.
    for (const carrier of [A, B]) {
      const { status, json: answer } = await vault.send(carrier, "POST", url, { keyid, signature: formatHex(sig) });
      assert.deepEqual([status, answer.code], ownApprovals ? [200, undefined] : [403, "ERR_OWN_REQUEST"]);
    }
    const others = [B, C, D].slice(0, ownApprovals ? 2 : 3);
    for (const trustee of others) assert.equal((await approveAs(vault, trustee, proposal)).status, 200);
    assert.equal((await vault.store.event(proposal.id))!.state, "ready");
    const second = await propose(vault.store, 11, { by: [await ask(vault, "mine again", A)] });
    assert.equal((await rejectAs(vault, A, second)).status, 200);
  }
});

test("the vault's page tells each state as it is, and a trustee's reason as text", async () => {
  const vault = await testVault();
  const { clock, proposal } = vault;
  const rejected = await propose(vault.store, 10, { by: [await ask(vault, "rejected")] });
  for (const trustee of [A, B, C]) await rejectAs(vault, trustee, rejected, "<script>alert(1)</script> & no");
  const overtaken = await propose(vault.store, 11, { by: [await ask(vault, "overtaken")] });
  await vault.store.moveEvent(overtaken.id, {
    state: "superseded",
    at: NOW,
    reason: "batches 4 was published before it",
  });
  for (const trustee of [A, B, C, D]) await approveAs(vault, trustee, proposal);
  const open = await propose(vault.store, 12);
  await approveAs(vault, A, open);
  const read = async () => (await vault.app.inject("/")).body;
  const itemOf = (page: string, { id }: Proposal) =>
    page
      .split("<li>")
      .find((item) => item.includes(formatHex(id)))!
      .replace(/<[^>]*>/g, " ");
  const page = await read();
  assert.match(itemOf(page, rejected), /batches 10: +rejected +, 0 of 3 approvals, 3 of 3 rejections/);
  assert.match(itemOf(page, rejected), /&#60;script&#62;alert\(1\)&#60;\/script&#62; &#38; no/);
  assert.match(itemOf(page, overtaken), /superseded .*batches 4 was published before it/);
  assert.match(itemOf(page, proposal), /batches 3: +ready +, 3 of 3 approvals, .*1 after it was decided/);
  assert.match(itemOf(page, open), /batches 12: +open +, 1 of 3 approvals/);
  assert.match(page, /waits again: its proposal is superseded/);
  assert.match(page, /Nothing has half of its life behind it/);
  clock.now = NOW + 100 * DAY;
  const later = await read();
  assert.match(itemOf(later, open), /batches 12: +expired/, "also before the sequencer has looked");
  assert.match(later, /80 % are over: sign now/);
});
