/**
 * litewitness, the witness of torchwood, on loopback: it cosigns our checkpoints, and our client notices when it has
 * seen something else.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import {
  formatHex,
  formatVerifierKey,
  noteVerifier,
  OperationError,
  parseVerifierKey,
  u64,
  VerificationError,
} from "@viafabric/schemas";
import { type LogPolicy, type PolicyWitness, policyOfLog, verifyCheckpoint } from "@viafabric/transparency-log";
import { folderFetch, proveConsistency, readCheckpoint } from "@viafabric/transparency-log/client";
import {
  gatherCosignatures,
  openWitness,
  type Submission,
  type WitnessEvidence,
} from "@viafabric/transparency-log/witness";
import { LOG, LOG_ORIGIN, seededSigner } from "./authority.ts";
import { goPeer, LITEWITNESS, type RunningPeer, runGo, skipReason, startGo } from "./peers-go.ts";
import { openSoftwareLog, type SoftwareLog } from "./software-log.ts";

const tool = await goPeer();
const program = await goPeer(LITEWITNESS);
const skip = skipReason(tool) || skipReason(program);
if (skip) console.log(skip);

const NAME = "witness.example/lite";
const logVerifier = noteVerifier(LOG_ORIGIN, LOG.publicKey);
const running: RunningPeer[] = [];
let home: string;
let witness: PolicyWitness;
let policy: LogPolicy;

before(async () => {
  // Short: the path of a UNIX socket has 108 bytes at most.
  home = await mkdtemp(path.join(tmpdir(), "vf-w-"));
  if (skip) return;
  const socket = path.join(home, "agent");
  const agent = startGo(tool, ["agent", socket, formatHex(new Uint8Array(32).fill(2))], home);
  running.push(agent);
  const { fingerprint } = JSON.parse(await agent.line(/fingerprint/));
  const address = `127.0.0.1:${await freePort()}`;
  const database = path.join(home, "witness.db");
  const args = ["-name", NAME, "-db", database, "-ssh-agent", socket, "-listen", address, "-key", fingerprint];
  const server = startGo(program, args, home);
  running.push(server);
  const vkey = /vkey=(\S+)/.exec(await server.line(/vkey=/))![1]!;
  await server.line(/msg=listening/);
  assert.equal((await runGo(tool, "add-log", database, formatVerifierKey(logVerifier))).ok, true);
  witness = { name: "lite", verifier: parseVerifierKey(vkey), url: `http://${address}/` };
  policy = { ...policyOfLog(logVerifier), witnesses: [witness], quorum: "lite" };
});
after(async () => {
  for (const peer of running.reverse()) await peer.end();
  await rm(home, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function submissionOf({ log, folder }: SoftwareLog): Promise<Submission> {
  const head = log.head;
  return { note: log.checkpoint!, prove: (oldSize) => proveConsistency(folderFetch(folder), oldSize, head) };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => u64(from + i));

test("litewitness cosigns our log as it grows, and is told the size it knows", { skip }, async () => {
  const made = await openSoftwareLog(path.join(home, "a"), LOG, LOG_ORIGIN);
  const client = openWitness(logVerifier, [witness]);
  for (const size of [1, 256, 257, 3_000]) {
    await made.log.append(numbers(made.log.size, size), "written");
    const { note: cosigned } = await gatherCosignatures(policy, [client], await submissionOf(made));
    assert.equal(client.size, size);
    await made.log.publish(cosigned);
    const { checkpoint } = await readCheckpoint(folderFetch(made.folder), policy);
    assert.equal(checkpoint.size, size);
    assert.ok(Math.abs(checkpoint.witnesses[0]!.time - Date.now() / 1000) < 600);
  }
  // Its line reads the same to the other library.
  const answer = await runGo(
    tool,
    "cosigners",
    path.join(made.folder, "checkpoint"),
    formatVerifierKey(witness.verifier),
  );
  assert.equal(answer.ok, true, answer.error);

  // One that has forgotten is told the size by the witness; the same checkpoint again is cosigned again.
  const forgetful = openWitness(logVerifier, [witness]);
  await gatherCosignatures(policy, [forgetful], await submissionOf(made));
  assert.equal(forgetful.size, 3_000);
  await made.log.close();
});

test("a log restored from a backup is stopped by the witness's memory", { skip }, async () => {
  const restored = await openSoftwareLog(path.join(home, "b"), LOG, LOG_ORIGIN);
  await restored.log.append(numbers(0, 257));
  await assert.rejects(
    gatherCosignatures(policy, [openWitness(logVerifier, [witness])], await submissionOf(restored)),
    (error: Error) => {
      const evidence = error.cause as WitnessEvidence;
      assert.deepEqual([evidence.status, evidence.answer], [409, "3000\n"]);
      return error instanceof VerificationError && error.code === "ERR_WITNESS_SPLIT";
    },
  );
  await restored.log.close();
});

test("a second history of the log is refused at the same size and beyond it", { skip }, async () => {
  const fork = await openSoftwareLog(path.join(home, "c"), LOG, LOG_ORIGIN);
  await fork.log.append([...numbers(0, 2_999), u64(7)]);
  for (const grown of [false, true]) {
    if (grown) await fork.log.append(numbers(3_000, 5_000));
    await assert.rejects(
      gatherCosignatures(policy, [openWitness(logVerifier, [witness])], await submissionOf(fork)),
      (error: Error) => {
        assert.equal((error.cause as WitnessEvidence).status, 422);
        return error instanceof VerificationError && error.code === "ERR_WITNESS_SPLIT";
      },
    );
  }
  await fork.log.close();
});

test("a log that the witness does not know, and one flipped bit in a proof, get no cosignature", { skip }, async () => {
  const stranger = seededSigner("another log");
  const other = await openSoftwareLog(path.join(home, "d"), stranger, "log.example/unknown");
  await other.log.append(numbers(0, 3));
  const unknown = openWitness(noteVerifier("log.example/unknown", stranger.publicKey), [witness]);
  await assert.rejects(unknown.cosign(await submissionOf(other)), (error: Error) => {
    assert.match(error.message, /answered 404/);
    return error instanceof OperationError && !error.retryable;
  });
  await other.log.close();

  const made = await openSoftwareLog(path.join(home, "e"), LOG, LOG_ORIGIN);
  await made.log.append(numbers(0, 4_000));
  const submission = await submissionOf(made);
  const flipped: Submission = {
    note: submission.note,
    async prove(oldSize) {
      const proof = (await submission.prove(oldSize)).map((hash) => hash.slice());
      if (proof.length > 0) proof[0]![0]! ^= 1;
      return proof;
    },
  };
  const rejected = openWitness(logVerifier, [witness]).cosign(flipped);
  await assert.rejects(rejected, { code: "ERR_WITNESS_SPLIT" });
  // And without the flipped bit it is cosigned.
  const { note: cosigned } = await gatherCosignatures(policy, [openWitness(logVerifier, [witness])], submission);
  assert.equal(verifyCheckpoint(policy, cosigned).size, 4_000);
  // One bit of the cosignature flipped, and the quorum is gone.
  const spoiled = cosigned.slice();
  spoiled[spoiled.length - 20]! ^= 1;
  assert.throws(() => verifyCheckpoint(policy, spoiled));
  await writeFile(path.join(home, "checkpoint.spoiled"), spoiled);
  const answer = await runGo(
    tool,
    "cosigners",
    path.join(home, "checkpoint.spoiled"),
    formatVerifierKey(witness.verifier),
  );
  assert.equal(answer.ok, false);
  await made.log.close();
});
