import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, test } from "node:test";
import { CodedError, formatHex } from "@viafabric/schemas";
import { carriedMirror, decodeCarried, encodeCarried } from "./carried.ts";
import { exportProposals, importProposals, offlineSession, readCarried, submit } from "./carry.ts";
import { reject, review, sign, status } from "./commands.ts";
import { encodeDecisionFile, parseDecisionFile } from "./decision-file.ts";
import { fingerprint, NOW, removeTemplate, SECRET, write } from "./fixtures.test.ts";
import { type OpenEvent, type World, withWorld } from "./world.test.ts";

after(removeTemplate);

const yes = async () => true;
const idOf = ({ event }: OpenEvent) => event.proposal.id;

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, error instanceof Error ? error.stack : String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

/** What trustee `i` takes to the laptop, and a session there: it has no vault and no mirror. */
async function offline(world: World, i: number, file: string, out: string) {
  const home = world.homes[i]!;
  return offlineSession(home, await readCarried(home, file), out, () => NOW);
}

async function publishBatch(world: World, count: number): Promise<void> {
  const open = await world.propose({ count });
  for (const i of [0, 1]) await sign(world.session(i), idOf(open), SECRET, yes);
  await world.publish(open);
}

test("a trustee without a network reviews and signs what was carried, again and again, and others bring it back", () =>
  withWorld(async (world) => {
    const file = path.join(world.folder, "proposals.via");
    // The first time the laptop knows nothing but the first root; later it knows an older state.
    for (const round of [1, 2, 3]) {
      await publishBatch(world, 300 * round);
      const open = await world.propose({ count: 2 });
      const { refused } = await exportProposals(world.session(0), [idOf(open)], file);
      assert.equal(refused.size, 0);
      const imported = await importProposals(world.homes[2]!, await readCarried(world.homes[2]!, file), NOW);
      assert.equal(imported.accepted.trust.head.size, round === 1 ? 1 : 2 * round - 1);
      assert.ok(imported.proposals.every(({ review: looked }) => !(looked instanceof CodedError)));
      const out = path.join(world.folder, `decision-${round}.json`);
      const session = await offline(world, 2, file, out);
      assert.ok((await review(session, idOf(open))).review.batches);
      assert.ok(await sign(session, idOf(open), SECRET, yes));
      assert.equal(open.event.approvals.length, 0, "nothing has met the vault yet");
      assert.equal((await submit(world.session(1), out, SECRET)).kind, "approve");
      assert.equal(open.event.approvals.length, 1);
      await submit(world.session(0), out, SECRET);
      assert.equal(open.event.approvals.length, 1, "brought twice, it counts once");
      await sign(world.session(0), idOf(open), SECRET, yes);
      await world.publish(open);
    }
  }));

test("--all carries every open proposal; one for each version is signed offline, too, and a rejection travels", () =>
  withWorld(async (world) => {
    const [first, second] = [await world.propose(), await world.propose({ count: 4 })];
    const file = path.join(world.folder, "proposals.via");
    const { carried } = await exportProposals(world.session(0), undefined, file);
    assert.equal(carried.proposals.length, 2);
    const session = await offline(world, 2, file, path.join(world.folder, "a.json"));
    assert.ok(await sign(session, idOf(first), SECRET, yes));
    await assert.rejects(sign(session, idOf(second), SECRET, yes), refusedWith("ERR_PROPOSAL_TWICE"));
    const out = path.join(world.folder, "b.json");
    const other = await offline(world, 2, file, out);
    assert.ok(await reject(other, idOf(second), "the other one", SECRET, yes));
    await assert.rejects(reject(other, idOf(first), "changed my mind", SECRET, yes), refusedWith("ERR_PROPOSAL_TWICE"));
    await submit(world.session(0), out, SECRET);
    assert.deepEqual(
      second.event.rejections.map(({ reason }) => reason),
      ["the other one"],
    );
    const [mine] = (await importProposals(world.homes[2]!, carried, NOW)).proposals.map((each) => each.mine);
    assert.equal(mine, "sign");
  }));

test("a rehearsal signs nothing, offline or online, and leaves no trace", () =>
  withWorld(async (world) => {
    const open = await world.propose();
    const file = path.join(world.folder, "proposals.via");
    await exportProposals(world.session(0), [idOf(open)], file);
    const out = path.join(world.folder, "decision.json");
    const session = await offline(world, 2, file, out);
    await review(session, idOf(open));
    await status(world.session(0));
    const before = await fingerprint(world.folder);
    assert.equal(await sign(session, idOf(open), SECRET, async () => false), undefined);
    assert.equal(await reject(session, idOf(open), "no", SECRET, async () => false), false);
    assert.equal(await sign(world.session(0), idOf(open), SECRET, async () => false), undefined);
    const later = await fingerprint(world.folder);
    const changed = [...later].filter(([name, hash]) => before.get(name) !== hash).map(([name]) => name);
    assert.deepEqual(
      changed.filter((name) => name !== world.homes[0]!.replay && name !== world.homes[2]!.replay),
      [],
    );
    assert.ok(!existsSync(out));
  }));

test("what was changed on the stick is refused, and nothing is signed", () =>
  withWorld(async (world) => {
    await publishBatch(world, 5);
    const open = await world.propose();
    const file = path.join(world.folder, "proposals.via");
    const { carried } = await exportProposals(world.session(0), [idOf(open)], file);
    const bytes = new Uint8Array(await readFile(file));
    assert.deepEqual(encodeCarried(decodeCarried(bytes)), bytes);
    const out = path.join(world.folder, "decision.json");
    const home = world.homes[2]!;
    await review(await offline(world, 2, file, out), idOf(open));
    const before = await fingerprint(home.folder);
    const attempt = async (changed: typeof carried) => {
      const session = offlineSession(home, changed, out, () => NOW);
      return sign(session, idOf(open), SECRET, yes);
    };
    let refusals = 0;
    for (const [name, content] of carried.files) {
      const damaged = content.slice();
      damaged[Math.floor(damaged.length / 2)]! ^= 1;
      const files = new Map([...carried.files, [name, damaged]]);
      const session = offlineSession(home, { ...carried, files }, out, () => NOW);
      try {
        // This laptop needs some of the files no more, such as the first root; then it sees the honest proposal.
        assert.deepEqual((await review(session, idOf(open))).review.proposal.id, idOf(open));
      } catch (error) {
        assert.ok(error instanceof CodedError, `${name}: ${error instanceof Error ? error.stack : error}`);
        refusals++;
      }
    }
    assert.ok(refusals >= 4, `${refusals} of ${carried.files.size} changed files were noticed`);
    const [detail] = carried.proposals;
    for (const change of [{ version: 9 }, { threshold: 1 }, { expires: NOW - 1 }, { attachments: new Map() }])
      await assert.rejects(attempt({ ...carried, proposals: [{ ...detail!, ...change }] }), CodedError);
    await assert.rejects(attempt({ ...carried, proposals: [] }), refusedWith("ERR_USAGE"));
    await assert.rejects(attempt({ ...carried, files: new Map() }), CodedError);
    assert.deepEqual([...(await fingerprint(home.folder))], [...before]);
    assert.ok(!existsSync(out));
    for (const broken of [bytes.subarray(1), new Uint8Array(0), new Uint8Array([0xa0])])
      assert.throws(() => decodeCarried(broken), refusedWith("ERR_CARRIED"));
    await write(file, encodeCarried({ ...carried, authority: new Uint8Array(32) }));
    await assert.rejects(readCarried(home, file), refusedWith("ERR_AUTHORITY"));
    assert.equal(await carriedMirror(carried).fetch("no/such/file"), undefined);
  }));

test("a decision has one spelling, and the vault takes none that was changed on the way", () =>
  withWorld(async (world) => {
    const [open, other] = [await world.propose(), await world.propose({ count: 4 })];
    const [file, out] = [path.join(world.folder, "proposals.via"), path.join(world.folder, "decision.json")];
    await exportProposals(world.session(0), [idOf(open)], file);
    await sign(await offline(world, 2, file, out), idOf(open), SECRET, yes);
    const decision = parseDecisionFile(new Uint8Array(await readFile(out)));
    assert.ok(decision.kind === "approve");
    const forged = path.join(world.folder, "forged.json");
    await write(forged, encodeDecisionFile({ ...decision, id: idOf(other) }));
    await assert.rejects(submit(world.session(0), forged, SECRET), refusedWith("ERR_VAULT"));
    const rejection = { keyid: decision.approval.keyid, reason: "x", signature: decision.approval.sig };
    await write(forged, encodeDecisionFile({ ...decision, kind: "reject", rejection }));
    await assert.rejects(submit(world.session(0), forged, SECRET), refusedWith("ERR_VAULT"));
    await write(forged, encodeDecisionFile({ ...decision, authority: new Uint8Array(32) }));
    await assert.rejects(submit(world.session(0), forged, SECRET), refusedWith("ERR_AUTHORITY"));
    const text = await readFile(out, "utf8");
    for (const wrong of ["", "{}", "[]", "null", text.trim(), ` ${text}`, text.replace(formatHex(idOf(open)), "00")]) {
      await write(forged, Buffer.from(wrong));
      await assert.rejects(submit(world.session(0), forged, SECRET), refusedWith("ERR_CARRIED"), wrong);
    }
    assert.equal(open.event.approvals.length + other.event.approvals.length + other.event.rejections.length, 0);
  }));
