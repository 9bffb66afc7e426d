import assert from "node:assert/strict";
import { after, test } from "node:test";
import { StatusLedger } from "@viafabric/revocation";
import {
  CodedError,
  decodeLeaf,
  encodeLeaf,
  equalBytes,
  hashLeaf,
  type Leaf,
  type SubtreeHash,
  subtreeOf,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import { openMirrors, readCheckpoint, readEntries, subFolder } from "@viafabric/transparency-log/client";
import { acceptPublished } from "./accepted.ts";
import { sign } from "./commands.ts";
import { DAY, NOW, removeTemplate, SECRET } from "./fixtures.test.ts";
import { decodeReplay, encodeReplay, type ReplaySources, replay, startReplay } from "./replay.ts";
import { signedEvent, type World, withWorld } from "./world.test.ts";

after(removeTemplate);

async function* each(entries: readonly Uint8Array[]): AsyncIterable<Uint8Array> {
  yield* entries;
}

/** A published authority with one batch of ten tokens, and its log read back. */
async function logOf(world: World): Promise<{ readonly entries: Uint8Array[]; readonly sources: ReplaySources }> {
  const batch = await world.propose({ count: 10 });
  for (const i of [0, 1]) await sign(world.session(i), batch.event.proposal.id, SECRET, async () => true);
  await world.publish(batch);
  const mirrors = openMirrors([`${world.folder}/public`]);
  const { fetch } = mirrors[0]!;
  const { trust } = await acceptPublished(world.homes[0]!, mirrors, NOW);
  const source = subFolder(fetch, "log");
  const { checkpoint } = await readCheckpoint(source, parsePolicy(Buffer.from(trust.policyText)));
  const entries: Uint8Array[] = [];
  for await (const entry of readEntries(source, checkpoint)) entries.push(entry);
  const leaf = entries.map(decodeLeaf).find((candidate) => candidate.type === "batch")!;
  const manifests: SubtreeHash = subtreeOf([hashLeaf(leaf.type === "batch" ? leaf.manifestHash : new Uint8Array())]);
  return { entries, sources: { authority: world.authority, fetch, manifests, manifestCount: 1 } };
}

const unsound = (error: unknown) => {
  assert.ok(error instanceof CodedError, error instanceof Error ? error.stack : String(error));
  assert.equal(error.code, "ERR_LOG_UNSOUND", error.message);
  return true;
};

test("a replay can stop anywhere between batches, be kept, and go on", () =>
  withWorld(async (world) => {
    const { entries, sources } = await logOf(world);
    const suspension = await signedEvent(world, { ranges: [{ first: 2, count: 3 }] }, [2]);
    const revocation = await signedEvent(world, { action: "revoke", ranges: [{ first: 3, count: 1 }] }, [0, 1]);
    const undoing = await signedEvent(
      world,
      { action: "reinstate", ranges: [{ first: 2, count: 1 }], undoes: [entries.length] },
      [0, 2],
    );
    const all = [...entries, ...[suspension, revocation, undoing].map(encodeLeaf)];
    const whole = await replay(startReplay(), each(all), sources);
    const ledger = StatusLedger.decode(whole.ledger);
    const [revoked, suspended, unreleased] = ledger.planes().map((plane) => [...plane.runs()]);
    assert.deepEqual(
      [revoked, suspended, unreleased].map((runs) => runs!.map(({ first, count }) => [first, count])),
      [[[3, 1]], [[3, 2]], [[0, 10]]],
    );
    const isToken = (entry: Uint8Array | undefined) => entry !== undefined && decodeLeaf(entry).type === "token";
    for (let at = 0; at <= all.length; at++) {
      if (isToken(all[at])) {
        await assert.rejects(replay(startReplay(), each(all.slice(0, at)), sources), unsound);
        continue;
      }
      const half = decodeReplay(encodeReplay(await replay(startReplay(), each(all.slice(0, at)), sources)))!;
      assert.ok(
        equalBytes(encodeReplay(await replay(half, each(all.slice(at)), sources)), encodeReplay(whole)),
        `stopped at ${at}`,
      );
    }
    assert.equal(decodeReplay(encodeReplay(whole).slice(1)), undefined);
    assert.equal(decodeReplay(new Uint8Array([0x80])), undefined);
  }));

test("entries that the authority's rules do not allow are evidence", () =>
  withWorld(async (world) => {
    const { entries, sources } = await logOf(world);
    const leaves = entries.map(decodeLeaf);
    const at = leaves.findIndex(({ type }) => type === "batch");
    const batch = leaves[at]!;
    assert.ok(batch.type === "batch");
    const event = (change: Parameters<typeof signedEvent>[1], signers: readonly number[]) =>
      signedEvent(world, change, signers);
    const one = [{ first: 3, count: 1 }];
    const suspended = encodeLeaf(await event({ ranges: one }, [0]));
    const wrong: Readonly<Record<string, readonly Uint8Array[]>> = {
      "a batch again": [...entries, entries[at]!],
      "another manifest": [...entries.slice(0, at), encodeLeaf({ ...batch, manifestHash: new Uint8Array(32) })],
      "a token more": [...entries.slice(0, at + 11), entries[at + 1]!],
      "a token less": [...entries.slice(0, at + 10), entries[0]!],
      "a token without a batch": [...entries.slice(0, 3), entries[at + 1]!],
      "an event before any root": [suspended],
      "a root again": [...entries, entries[0]!],
      "a targets file that is not the published one": [
        ...entries,
        encodeLeaf({ ...(leaves[1] as Leaf & { type: "trust" }), fileHash: new Uint8Array(32) }),
      ],
      "a revocation by one trustee": [...entries, encodeLeaf(await event({ action: "revoke", ranges: one }, [0]))],
      "a reinstatement by one trustee": [
        ...entries,
        suspended,
        encodeLeaf(await event({ action: "reinstate", ranges: one, undoes: [entries.length] }, [1])),
      ],
      "a reinstatement of nothing": [
        ...entries,
        encodeLeaf(await event({ action: "reinstate", ranges: one, undoes: [1] }, [0, 1])),
      ],
      "a release by trustees": [...entries, encodeLeaf(await event({ action: "release", ranges: one }, [0, 1, 2]))],
      "an event about tokens nobody approved": [
        ...entries,
        encodeLeaf(await event({ ranges: [{ first: 10, count: 1 }] }, [0, 1])),
      ],
      "an event of another authority": [...entries, encodeLeaf(await event({ authority: new Uint8Array(32) }, [0, 1]))],
      "the same body twice": [...entries, suspended, suspended],
      "no entry at all": [...entries, new Uint8Array(0)],
    };
    for (const [what, log] of Object.entries(wrong))
      await assert.rejects(replay(startReplay(), each(log), sources), unsound, what);
    const late = await event({ ranges: one, notAfter: NOW - DAY, nonce: new Uint8Array(16).fill(1) }, [0]);
    await replay(startReplay(), each([...entries, encodeLeaf(late)]), sources);
    const hidden = { ...sources, manifestCount: 0 };
    await assert.rejects(replay(startReplay(), each(entries), hidden), unsound, "a batch that is under no signed head");
  }));
