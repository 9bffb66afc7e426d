/**
 * For tests: fail every call of store and signer, one after the other, while a batch and a suspension go through; after
 * each failure open everything again, and look at the house from outside.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { decodeEventBody, decodeLeaf, formatHex, parseBase64, parseUtf8, sha256, utf8 } from "@viafabric/schemas";
import { folderFetch, readEntries } from "@viafabric/transparency-log/client";
import { approve, fileOf, signMetadata, stateOf } from "@viafabric/tuf";
import type { DeskDependencies } from "./desk.ts";
import { readPublished } from "./published.ts";
import { Sequencer } from "./sequencer.ts";
import { openParts, type Parts } from "./service.ts";
import { batchRequest, foundedVault, type LivingVault, statusEventOf, TRUSTEES } from "./testing-vault.test.ts";

const [A, B] = TRUSTEES as [(typeof TRUSTEES)[0], (typeof TRUSTEES)[0]];

class Fault extends Error {}

/** Fails the n-th call of anything, once; an error does not say whether the call took effect, so there are both kinds. */
class Faults {
  #left: number;
  readonly #tookEffect: boolean;

  constructor(failAt: number, tookEffect: boolean) {
    this.#left = failAt;
    this.#tookEffect = tookEffect;
  }

  get happened(): boolean {
    return this.#left <= 0;
  }

  over<Port extends object>(port: Port): Port {
    return new Proxy(port, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        // Reading a manifest is part of each replay, and there are as many as batches: counted, the end would run away.
        if (typeof member !== "function" || name === "batch") return member;
        return async (...args: readonly unknown[]) => {
          const fails = --this.#left === 0;
          if (fails && !this.#tookEffect) throw new Fault(`before ${String(name)}`);
          const result: unknown = await Reflect.apply(member, target, args);
          if (fails) throw new Fault(`after ${String(name)}`);
          return result;
        };
      },
    });
  }
}

/** Steps until there is nothing to do; a fault is a crash, and opening again is the recovery. */
async function settle(deps: DeskDependencies, faults: Faults): Promise<void> {
  const faulty = { ...deps, store: faults.over(deps.store), signer: faults.over(deps.signer) };
  for (;;) {
    let sequencer: Sequencer | undefined;
    try {
      sequencer = await Sequencer.open({ ...faulty, statementSeconds: 3600, report: () => {} });
      for (let steps = 0; await sequencer.step(); ) assert.ok(++steps < 20, "it comes to an end");
      return;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    } finally {
      await sequencer?.desk.close();
    }
  }
}

/** The request and the approvals of one batch, written as the handlers write them. */
async function request(vault: LivingVault, { deps }: Parts, count: number): Promise<Uint8Array> {
  const id = new Uint8Array(randomBytes(32));
  const body = utf8(JSON.stringify(batchRequest(count, vault.clock.now)));
  const nonce = new Uint8Array(randomBytes(16));
  await deps.store.change({ kid: A.publicKey.kid, nonce, nonceUntil: vault.clock.now + 600 }, (change) =>
    change.addRequest({ id, kind: "batch", kid: A.publicKey.kid, body, proof: "", received: vault.clock.now }),
  );
  return id;
}

async function approveAll(vault: LivingVault, { deps }: Parts): Promise<void> {
  const [open] = await deps.store.events("open");
  assert.ok(open);
  for (const trustee of [A, B]) {
    const approval = await signMetadata(trustee, open.proposal.signed);
    const nonce = new Uint8Array(randomBytes(16));
    const sender = { kid: trustee.publicKey.kid, nonce, nonceUntil: vault.clock.now + 600 };
    await deps.store.change(sender, async (change) => {
      const event = (await change.lockEvent(open.proposal.id))!;
      const next = approve(event, approval, vault.clock.now);
      const when = { received: vault.clock.now, late: false };
      await change.addApproval(open.proposal.id, trustee.publicKey.kid, approval, when);
      if (stateOf(next, vault.clock.now) === "ready")
        await change.moveEvent(open.proposal.id, { state: "ready", at: vault.clock.now, metadata: fileOf(next) });
    });
  }
}

async function suspend(vault: LivingVault, { deps }: Parts, index: number): Promise<Uint8Array> {
  const { body, signature } = await statusEventOf(vault, "suspend", index, 1, A);
  const bytes = parseBase64(body);
  const id = sha256(bytes);
  const sender = {
    kid: A.publicKey.kid,
    nonce: new Uint8Array(randomBytes(16)),
    nonceUntil: vault.clock.now + 600,
  };
  await deps.store.change(sender, async (change) => {
    const { notAfter } = decodeEventBody(bytes);
    await change.addStatusEvent({ id, body: bytes, action: "suspend", created: vault.clock.now, notAfter });
    const signed = { kid: A.publicKey.kid, signature: parseBase64(signature) };
    await change.addStatusSignature(id, signed, vault.clock.now);
  });
  return id;
}

/** From public files alone: everything is there once, and what is signed is what is served. */
export async function checkHouse(vault: LivingVault, batches: number, suspended: number): Promise<void> {
  const published = await readPublished(vault.home.public, new Uint8Array(await readFile(vault.home.pinnedRoot)));
  assert.ok(published);
  assert.equal(published.trusted.head.size, batches, "no batch is lost or doubled");
  const [, plane1] = published.statement.statement.planes;
  assert.equal(plane1.count, suspended);
  const files = folderFetch(path.join(vault.home.public, "log"));
  const [, size, root] = parseUtf8((await files("checkpoint"))!).split("\n");
  const head = { size: Number(size), root: parseBase64(root!) };
  const seen = { batch: new Set<number>(), token: new Set<number>(), event: new Set<string>() };
  for await (const entry of readEntries(files, head)) {
    const leaf = decodeLeaf(entry);
    if (leaf.type === "batch")
      assert.ok(!seen.batch.has(leaf.seq) && seen.batch.add(leaf.seq), `batch ${leaf.seq} once`);
    if (leaf.type === "token") assert.ok(!seen.token.has(leaf.index) && seen.token.add(leaf.index), "a serial once");
    if (leaf.type !== "event") continue;
    const id = formatHex(sha256(leaf.event.body));
    assert.ok(!seen.event.has(id) && seen.event.add(id), "an event once");
  }
  assert.deepEqual([seen.batch.size, seen.event.size], [batches, suspended]);
  const tree = folderFetch(vault.home.public);
  for (let seq = 0; seq < batches; seq++) assert.ok(await tree(`batch/${seq}/log.proof`), `bundle ${seq}`);
}

/** @param stride 1 fails every call, one run for each. @returns how many calls were failed */
export async function sweep(tookEffect: boolean, start: number, stride: number): Promise<number> {
  const vault = await foundedVault();
  const parts = await openParts(vault.home, vault.options);
  try {
    await settle(parts.deps, new Faults(Number.POSITIVE_INFINITY, false));
    for (let batches = 1; ; batches++) {
      const faults = new Faults(start + (batches - 1) * stride, tookEffect);
      await request(vault, parts, 2);
      await settle(parts.deps, faults);
      await approveAll(vault, parts);
      if (batches > 1) await suspend(vault, parts, 2 * (batches - 2));
      await settle(parts.deps, faults);
      await checkHouse(vault, batches, batches - 1);
      assert.equal(await parts.deps.store.openPublication(), undefined);
      if (!faults.happened) return batches - 1;
    }
  } finally {
    await parts.close();
  }
}
