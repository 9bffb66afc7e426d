/** For tests: trustees and operators who speak over HTTP, and what happens when they do so at one moment. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { formatHex, type Signer, sha256, utf8 } from "@viafabric/schemas";
import { type Proposal, parseMetadata, signMetadata, signRejection } from "@viafabric/tuf";
import { NOW, seededRandom } from "./fixtures.test.ts";
import { ACTORS, authority, propose, type TestVault, testVault, world } from "./testing-app.test.ts";

const [A, B, C] = world.trustees as [Signer, Signer, Signer];

export async function approveAs(vault: TestVault, trustee: Signer, { id, signed }: Proposal) {
  const { keyid, sig } = await signMetadata(trustee, signed);
  const url = `/events/${formatHex(id)}/approvals`;
  return vault.send(trustee, "POST", url, { keyid, signature: formatHex(sig) });
}

export async function rejectAs(vault: TestVault, trustee: Signer, { id }: Proposal, reason = "not agreed") {
  const { keyid, signature } = await signRejection(trustee, authority, id, reason);
  const url = `/events/${formatHex(id)}/rejections`;
  return vault.send(trustee, "POST", url, { keyid, reason, signature: formatHex(signature) });
}

export const withdraw = (vault: TestVault, { id }: Proposal, who: Signer = ACTORS.operator) =>
  vault.send(who, "POST", `/events/${formatHex(id)}/withdrawal`);

/** A request as its handler records it. @returns its id */
export async function ask(vault: TestVault, name: string, operator: Signer = ACTORS.operator): Promise<Uint8Array> {
  const id = sha256(utf8(name));
  const { kid } = operator.publicKey;
  const sender = { kid, nonce: new Uint8Array(randomBytes(16)), nonceUntil: NOW + 600 };
  const request = { id, kind: "batch", kid, body: utf8("{}"), proof: "", received: NOW } as const;
  await vault.store.change(sender, (change) => change.addRequest(request));
  return id;
}

/** Whole numbers below `end`, from a seed that is printed: the same seed plays the same rounds. */
function drawFrom(seed: string): (end: number) => number {
  const random = seededRandom(seed);
  return (end) => new DataView(random(4).buffer).getUint32(0) % end;
}

/** Each trustee has two devices, which say the same or the opposite, all at one moment. @param say what there is to print */
export async function voicesAtOnce(rounds: number, say: (line: string) => void): Promise<void> {
  const seed = process.env.VIA_SEED ?? formatHex(new Uint8Array(randomBytes(8)));
  say(`VIA_SEED=${seed}`);
  const draw = drawFrom(seed);
  const vault = await testVault();
  for (let round = 0; round < rounds; round++) {
    const proposal = await propose(vault.store, 10 + round);
    const voices = world.trustees.flatMap((trustee) =>
      [draw(4), draw(4)].map((way) => ({ trustee, yes: way > 0, at: draw(1000) })),
    );
    voices.sort((a, b) => a.at - b.at);
    const answers = await Promise.all(
      voices.map(({ trustee, yes }) => (yes ? approveAs : rejectAs)(vault, trustee, proposal)),
    );
    for (const { status, json } of answers)
      assert.ok(status === 200 || (status === 409 && json.code === "ERR_PROPOSAL_CLOSED"), JSON.stringify(json));
    const event = (await vault.store.event(proposal.id))!;
    const counted = [...event.approvals, ...event.rejections].map(({ keyid }) => keyid);
    const all = [...counted, ...event.late.approvals, ...event.late.rejections].map((voice) =>
      typeof voice === "string" ? voice : voice.keyid,
    );
    assert.equal(new Set(all).size, all.length, "one key, one voice");
    const [approved, rejected] = [event.approvals.length, event.rejections.length];
    assert.equal(event.state, approved === 3 ? "ready" : rejected === 3 ? "rejected" : "open");
    if (event.state === "open") assert.equal(all.length, 5, "nobody's voice was lost");
    if (event.state !== "ready") assert.equal(event.metadata, undefined);
    else {
      const signers = parseMetadata("targets", event.metadata!).signatures.map(({ keyid }) => keyid);
      assert.deepEqual(signers, event.approvals.map(({ keyid }) => keyid).sort(), "the file has exactly the first k");
      assert.equal(all.length, 5, "whoever came later is kept");
    }
  }
}

export async function withdrawalAtOnce(rounds: number, say: (line: string) => void): Promise<void> {
  const vault = await testVault();
  const wins = { approval: 0, withdrawal: 0 };
  for (let round = 0; round < rounds; round++) {
    const request = await ask(vault, `round ${round}`);
    const proposal = await propose(vault.store, 10 + round, { by: [request] });
    for (const trustee of [A, B]) assert.equal((await approveAs(vault, trustee, proposal)).status, 200);
    const pair = [() => approveAs(vault, C, proposal), () => withdraw(vault, proposal)];
    const [yes, back] = await Promise.all((round % 2 ? pair : pair.toReversed()).map((act) => act())).then((both) =>
      round % 2 ? both : both.toReversed(),
    );
    const event = (await vault.store.event(proposal.id))!;
    assert.deepEqual([yes!.status, back!.status].sort(), [200, 409]);
    const frozen = yes!.status === 200;
    assert.equal(event.state, frozen ? "ready" : "superseded");
    assert.equal(event.metadata !== undefined, frozen, "what was superseded has no file that could be used");
    assert.equal((await vault.store.request(request))!.state, frozen ? "planned" : "withdrawn");
    wins[frozen ? "approval" : "withdrawal"]++;
  }
  say(JSON.stringify(wins));
}
