/**
 * The bounded signer, killed at any point of a batch: it starts again with everything that anybody may have seen, the
 * same batch has the same signatures, and a batch that nobody approved has none.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { concat, hashLeaf, rootOf, SIGNATURE_BYTES } from "@viafabric/schemas";
import { connect, type SignerClient, type SignerProcess, startSigner } from "../signer-client.ts";
import { encodeParams } from "./messages.ts";
import { type Batch, RawSigner, refusedWith, TestAuthority } from "./testkit.test.ts";

const TOKENS = 60;
const PACK = 20;
/** After the question was sent, in milliseconds; Infinity: after its answer. */
const MOMENTS = [0, 1, 2, 4, 8, 16, 32, Number.POSITIVE_INFINITY];

let authority: TestAuthority;
let process: SignerProcess;
let signer: SignerClient;
const log: Uint8Array[] = [];

before(async () => {
  authority = await TestAuthority.create();
  await start();
  await authority.found(signer);
  log.push(
    authority.trustLeaf("root", 1, authority.rootFile),
    authority.trustLeaf("targets", 1, authority.targetsFile),
    authority.trustLeaf("batches", 1, authority.batches),
  );
});

after(async () => {
  await signer.close();
  await process.stop();
  await authority.remove();
});

async function start(): Promise<void> {
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
}

/** Asks, and kills the signer at the moment. @returns the answer, when there was one */
async function killedAt<T>(moment: number, ask: () => Promise<T>): Promise<T | undefined> {
  const answer = ask().catch(() => undefined);
  await (Number.isFinite(moment) ? sleep(moment) : answer);
  globalThis.process.kill(process.pid, "SIGKILL");
  await process.exited;
  return answer;
}

/** What a batch is asked for, step by step, on a connection of its own. */
async function tokensUntil(batch: Batch, killAfter: string, moment: number): Promise<(Uint8Array | undefined)[]> {
  const wire = await RawSigner.open(process.socket);
  const { proof } = await authority.tokensRequest(batch);
  const got: (Uint8Array | undefined)[] = [];
  const step = async <T>(name: string, ask: () => Promise<T>): Promise<T | undefined> =>
    name === killAfter ? killedAt(moment, ask) : ask();
  try {
    await step("batch", () => wire.ask("batch", encodeParams.batch({ manifest: batch.bytes, proof })));
    for (let at = 0; at < TOKENS && killAfter !== "batch"; at += PACK) {
      const some = batch.tokens.slice(at, at + PACK);
      const columns = {
        ids: concat(...some.map(({ rctId }) => rctId)),
        subjects: some.map(({ subject }) => subject),
        confirmations: new Map(),
      };
      const asked = step(`bodies ${at}`, () => wire.ask("bodies", encodeParams.bodies(1, columns)));
      await asked;
      if (killAfter === `bodies ${at}`) return got;
    }
    for (let from = 0; from < TOKENS && killAfter !== "batch"; from += PACK) {
      const params = encodeParams.tokens({ batch: 1, from, count: PACK });
      const signatures = await step(`tokens ${from}`, () => wire.ask("tokens", params));
      got.push(signatures as Uint8Array | undefined);
      if (killAfter === `tokens ${from}`) return got;
    }
    return got;
  } finally {
    wire.close();
  }
}

const POINTS = ["trust", "batch", `bodies ${PACK}`, "tokens 0", `tokens ${2 * PACK}`, "append", "statement"];

for (const point of POINTS) {
  test(`killed at ${point}: nothing is lost, and nothing is signed that was not approved`, async (t) => {
    let answered = 0;
    for (const moment of MOMENTS) {
      const batch = authority.draft(TOKENS);
      authority.include(batch);
      await authority.signHead();
      const trust = await authority.trustRequest();
      if (point === "trust") await killedAt(moment, () => signer.trust(trust));
      else await signer.trust(trust);
      const before = !point.match(/batch|bodies|tokens/) ? [] : await tokensUntil(batch, point, moment);
      if (point !== "append" && point !== "statement") await start();

      // What the sequencer does when it finds the batch undone.
      await signer.trust(trust);
      authority.accepted();
      const unapproved = authority.draft(3);
      await assert.rejects(
        signer.tokens({ manifest: unapproved.bytes, proof: trust.headProof, bodies: [unapproved.tokens] }),
        refusedWith("ERR_UNAPPROVED"),
      );
      const signatures = await signer.tokens(await authority.tokensRequest(batch));
      for (const [pack, seen] of before.entries()) {
        if (!seen) continue;
        answered++;
        const at = pack * PACK * SIGNATURE_BYTES;
        assert.deepEqual(seen, signatures.slice(at, at + PACK * SIGNATURE_BYTES), "the same signatures");
      }
      const leaf = authority.trustLeaf("batches", authority.batchesVersion, authority.batches);
      const entries = [leaf, authority.batchLeaf(batch), ...batch.leaves];
      const from = log.length;
      if (point === "append") {
        await killedAt(moment, () => signer.append({ from, entries }));
        await start();
      }
      await signer.append({ from, entries });
      log.push(...entries);
      if (point === "statement") {
        const first = await killedAt(moment, () => signer.statement());
        await start();
        const { statement, unlogged } = await signer.state();
        if (first) assert.deepEqual(statement, first, "what has left is remembered");
        const note = unlogged.length > 0 ? statement : await signer.statement();
        const entry = authority.trustLeaf("statement", unlogged[0]?.number ?? (await epoch()), note);
        await signer.append({ from: log.length, entries: [entry] });
        log.push(entry);
      }
      const { log: known, signed, batches } = await signer.state();
      assert.deepEqual([known.size, signed, batches], [log.length, [], batch.manifest.seq + 1]);
      assert.deepEqual(known.root, rootOf(log.map(hashLeaf)));
    }
    t.diagnostic(`${MOMENTS.length} kills; ${answered} packs of signatures had left before`);
  });
}

/** Of the statement that waits for its leaf. */
async function epoch(): Promise<number> {
  const { unlogged } = await signer.state();
  return unlogged[0]!.number;
}
