/**
 * Witness programs that nobody here wrote, on loopback: omniwitness cosigns our checkpoints and catches a fork; our own
 * witness answers the requests of sigsum's test of a witness as that test expects.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  concat,
  ed25519PublicKey,
  formatBase64,
  formatHex,
  formatVerifierKey,
  noteVerifier,
  OperationError,
  openNote,
  type PublicKey,
  parseHex,
  parseVerifierKey,
  sha256,
  u64,
  utf8,
} from "@viafabric/schemas";
import { type LogPolicy, type PolicyWitness, policyOfLog } from "@viafabric/transparency-log";
import { folderFetch, proveConsistency } from "@viafabric/transparency-log/client";
import { gatherCosignatures, openWitness, type Submission } from "@viafabric/transparency-log/witness";
import { LOG, LOG_ORIGIN, seededSigner } from "./authority.ts";
import { goPeer, OMNIWITNESS, type RunningPeer, SIGSUM_REQUEST, skipReason, startGo } from "./peers-go.ts";
import { openSoftwareLog, type SoftwareLog } from "./software-log.ts";

const omniwitness = await goPeer(OMNIWITNESS, "go-witness");
const sigsum = await goPeer(SIGSUM_REQUEST, "go-witness");
const skip = skipReason(omniwitness) || skipReason(sigsum);
if (skip) console.log(skip);

const VIA = fileURLToPath(new URL("../../via", import.meta.url));
const logVerifier = noteVerifier(LOG_ORIGIN, LOG.publicKey);
const running: RunningPeer[] = [];
const children: ChildProcess[] = [];
let home: string;

before(async () => {
  home = await mkdtemp(path.join(tmpdir(), "vf-witnesses-"));
});
after(async () => {
  for (const child of children) {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  }
  for (const peer of running) await peer.end();
  await rm(home, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function publicKeyOf(seed: Uint8Array): PublicKey {
  const der = concat(parseHex("302e020100300506032b657004220420"), seed);
  const key = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return ed25519PublicKey(spki.slice(12));
}

async function submissionOf({ log, folder }: SoftwareLog): Promise<Submission> {
  const head = log.head;
  return { note: log.checkpoint!, prove: (oldSize) => proveConsistency(folderFetch(folder), oldSize, head) };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => u64(from + i));

test("omniwitness cosigns our log as it grows, and stops a rollback, a fork and a stranger", { skip }, async () => {
  const name = "witness.example/omni";
  const seed = new Uint8Array(32).fill(5);
  const { keyId } = noteVerifier(name, publicKeyOf(seed));
  const keyFile = path.join(home, "omni.key");
  const material = formatBase64(concat(new Uint8Array([1]), seed));
  await writeFile(keyFile, `PRIVATE+KEY+${name}+${formatHex(keyId)}+${material}`, { mode: 0o600 });
  const logs = path.join(home, "logs.yaml");
  await writeFile(
    logs,
    `Logs:\n  - Origin: ${LOG_ORIGIN}\n    PublicKey: ${formatVerifierKey(logVerifier)}\n    Feeder: none\n`,
  );
  const address = `127.0.0.1:${await freePort()}`;
  const args = ["--listen", address, "--metrics_listen", "", "--private_key_path", keyFile, "--additional_logs", logs];
  running.push(startGo(omniwitness, [...args, "--db_file", path.join(home, "omni.db")], home));
  const url = `http://${address}/`;
  await reachable(url);

  const witness: PolicyWitness = { name: "omni", verifier: noteVerifier(name, publicKeyOf(seed), 4), url };
  const policy: LogPolicy = { ...policyOfLog(logVerifier), witnesses: [witness], quorum: "omni" };
  const made = await openSoftwareLog(path.join(home, "a"), LOG, LOG_ORIGIN);
  const client = openWitness(logVerifier, [witness]);
  for (const size of [1, 256, 257, 3_000]) {
    await made.log.append(numbers(made.log.size, size), "written");
    const { checkpoint, failures } = await gatherCosignatures(policy, [client], await submissionOf(made));
    assert.equal(checkpoint?.size, size, failures.map(({ message }) => message).join());
  }
  await openWitness(logVerifier, [witness]).confirm(made.log.checkpoint!);
  await made.log.close();

  const split = (error: Error & { code?: string }) => error.code === "ERR_WITNESS_SPLIT";
  const restored = await openSoftwareLog(path.join(home, "b"), LOG, LOG_ORIGIN);
  await restored.log.append(numbers(0, 257));
  await assert.rejects(openWitness(logVerifier, [witness]).cosign(await submissionOf(restored)), split);
  await assert.rejects(openWitness(logVerifier, [witness]).confirm(restored.log.checkpoint!), split);
  await restored.log.close();
  const fork = await openSoftwareLog(path.join(home, "c"), LOG, LOG_ORIGIN);
  await fork.log.append([...numbers(0, 2_999), u64(7)]);
  for (const grown of [false, true]) {
    if (grown) await fork.log.append(numbers(3_000, 5_000));
    await assert.rejects(openWitness(logVerifier, [witness]).cosign(await submissionOf(fork)), split);
  }
  await fork.log.close();

  const stranger = seededSigner("another log");
  const other = await openSoftwareLog(path.join(home, "d"), stranger, "log.example/unknown");
  await other.log.append(numbers(0, 3));
  const unknown = openWitness(noteVerifier("log.example/unknown", stranger.publicKey), [witness]);
  await assert.rejects(unknown.cosign(await submissionOf(other)), (error: Error) => {
    // With its database this version says 500 where the protocol says 404.
    assert.match(error.message, /answered (404|500)/);
    return error instanceof OperationError;
  });
  await other.log.close();
});

async function reachable(url: string): Promise<void> {
  for (const deadline = Date.now() + 120_000; ; await sleep(100)) {
    const answer = await fetch(url).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer) return;
    if (Date.now() > deadline) throw new Error(`nothing answers at ${url}`);
  }
}

/** sigsum's program makes the request of its deterministic tree. @returns the whole body */
async function sigsumRequest(seed: Uint8Array, oldSize: number, newSize: number): Promise<string> {
  assert.ok("binary" in sigsum);
  const child = execFile(sigsum.binary, [String(oldSize), String(newSize)]);
  child.stdin!.end(formatHex(seed));
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  assert.notEqual(stdout, "", stderr);
  return stdout;
}

test("our witness answers the requests of sigsum's own test as that test demands", { skip }, async () => {
  const seed = new Uint8Array(32).fill(6);
  const origin = `sigsum.org/v1/tree/${formatHex(sha256(publicKeyOf(seed).raw))}`;
  const passphrase = path.join(home, "passphrase");
  await writeFile(passphrase, "only a test\n");
  const logs = path.join(home, "sigsum-logs");
  await writeFile(logs, `${formatVerifierKey(noteVerifier(origin, publicKeyOf(seed)))}\n`);
  const witness = ["--home", path.join(home, "witness"), "--passphrase-file", passphrase, "--json"];
  const init = execFile(VIA, ["audit", "witness", "init", "--name", "witness.example/w1", ...witness]);
  const { vkey } = JSON.parse(await text(init.stdout!)) as { vkey: string };
  const serve = ["audit", "witness", "serve", "--logs", logs, "--listen", "127.0.0.1:0", ...witness];
  const child = spawn(VIA, serve, { stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  let ready = "";
  for await (const part of child.stdout.iterator({ destroyOnReturn: false })) {
    ready += String(part);
    if (ready.trimEnd().endsWith("}")) break;
  }
  const { url } = JSON.parse(ready) as { url: string };

  const ask = async (body: string) => {
    const answer = await fetch(`${url}add-checkpoint`, { method: "POST", body });
    return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.text() };
  };
  // The rows of sigsum's script: old size, new size, status, and what a 409 must say.
  for (const [oldSize, newSize, status, says] of [
    [0, 2, 200],
    [1, 2, 409, "2\n"],
    [2, 4, 200],
    [4, 4, 200],
    [4, 5, 200],
  ] as const) {
    const request = await sigsumRequest(seed, oldSize, newSize);
    const answer = await ask(request);
    assert.equal(answer.status, status, `${oldSize} to ${newSize}: ${answer.body}`);
    if (says !== undefined) assert.deepEqual([answer.type, answer.body], ["text/x.tlog.size", says]);
    if (status !== 200) continue;
    assert.match(answer.body, /^— \S+ [A-Za-z0-9/+]{102}==\n$/);
    const note = request.slice(request.indexOf("\n\n") + 2);
    openNote(utf8(note + answer.body), [parseVerifierKey(vkey)]);
  }
  // Controls: one changed digit of the root, and another log's key.
  const good = await sigsumRequest(seed, 5, 9);
  const [head, ...rest] = good.split("\n\n");
  const spoiled = `${head}\n\n${rest.join("\n\n").replace(/\n9\n./, (line) => `${line.slice(0, -1)}${line.endsWith("A") ? "B" : "A"}`)}`;
  assert.equal((await ask(spoiled)).status, 403);
  assert.equal((await ask(await sigsumRequest(new Uint8Array(32).fill(7), 0, 2))).status, 404);
  assert.equal((await ask(good)).status, 200);
});
