/** A witness as its operator runs it and as logs and strangers meet it. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import os from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  buildConsistencyProof,
  formatNote,
  formatVerifierKey,
  hashLeaf,
  type NoteVerifier,
  noteVerifier,
  parseNote,
  parseVerifierKey,
  rootOf,
  signNote,
  subtreeOf,
  u32,
  utf8,
} from "@viafabric/schemas";
import { formatCheckpoint, type LogPolicy, type PolicyWitness, policyOfLog } from "@viafabric/transparency-log";
import {
  formatAddCheckpoint,
  gatherCosignatures,
  monitoringPath,
  openWitness,
  type Submission,
} from "@viafabric/transparency-log/witness";
import { seededSigner } from "./fixtures.test.ts";

const ORIGIN = "log.example/witnessed";
const signer = seededSigner("a witnessed log");
const logVerifier = noteVerifier(ORIGIN, signer.publicKey);
const leaves = Array.from({ length: 400 }, (_, i) => hashLeaf(u32(i)));
const fork = [...leaves.slice(0, 3), hashLeaf(u32(9)), ...leaves.slice(4)];
const PASSPHRASE = "only a test";
const children = new Set<ChildProcess>();
let folder: string;
let homes = 0;

before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "via-witness-"));
  await writeFile(path.join(folder, "passphrase"), `${PASSPHRASE}\n`);
  await writeFile(path.join(folder, "logs"), `# ours\n${formatVerifierKey(logVerifier)}\n`);
});
after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await rm(folder, { recursive: true });
});

const file = (name: string) => path.join(folder, name);
const program = (name: string) => fileURLToPath(new URL(name, import.meta.url));

async function via(
  ...args: readonly string[]
): Promise<{ exitCode: number; json: Record<string, unknown>; stderr: string }> {
  const child = execFile(process.execPath, [program("./main.js"), "witness", ...args, "--json"]);
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, "exit")]);
  return { exitCode: code as number, json: JSON.parse(stdout || "{}"), stderr };
}

async function newHome(): Promise<{ home: string; verifier: NoteVerifier }> {
  const home = file(`home-${homes++}`);
  const init = ["init", "--name", "witness.example/w1", "--home", home, "--passphrase-file", file("passphrase")];
  const { exitCode, json, stderr } = await via(...init);
  assert.equal(exitCode, 0, stderr);
  return { home, verifier: parseVerifierKey(String(json.vkey)) };
}

interface Served {
  readonly child: ChildProcess;
  readonly url: string;
  readonly ended: Promise<unknown>;
}

async function start(script: string, ...args: readonly string[]): Promise<Served> {
  const child = spawn(process.execPath, [program(script), ...args], { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const ended = once(child, "exit");
  void ended.then(() => children.delete(child));
  let seen = "";
  child.stderr.resume();
  for await (const part of child.stdout.iterator({ destroyOnReturn: false })) {
    seen += String(part);
    const url = /"url": ?"([^"]+)"/.exec(seen)?.[1];
    if (url !== undefined) return { child, url, ended };
  }
  throw new Error(`no address: ${seen}`);
}

const serve = (home: string) =>
  start(
    "./main.js",
    ...["witness", "serve", "--home", home, "--logs", file("logs"), "--listen", "127.0.0.1:0"],
    ...["--passphrase-file", file("passphrase"), "--json"],
  );

async function stop({ child, ended }: Served): Promise<void> {
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
}

async function note(size: number, of = leaves): Promise<Uint8Array> {
  const checkpoint = formatCheckpoint({ origin: ORIGIN, size, root: rootOf(of.slice(0, size)) });
  return formatNote({ text: checkpoint, signatures: [await signNote(checkpoint, ORIGIN, signer)] });
}

async function submission(size: number, of = leaves): Promise<Submission> {
  return { note: await note(size, of), prove: (old) => buildConsistencyProof(old, size, subtreeOf(of)) };
}

async function request(oldSize: number, size: number, of = leaves): Promise<string> {
  const proof = await buildConsistencyProof(oldSize, size, subtreeOf(of));
  return formatAddCheckpoint({ oldSize, proof, note: await note(size, of) });
}

const post = (url: string, body: string | Uint8Array) =>
  fetch(`${url}add-checkpoint`, { method: "POST", body: typeof body === "string" ? body : Buffer.from(body) });

const policyOf = (witness: PolicyWitness): LogPolicy => {
  return { ...policyOfLog(logVerifier), witnesses: [witness], quorum: witness.name };
};

test("a witness cosigns a log as it grows, shows it, and remembers across restarts", async () => {
  const { home, verifier } = await newHome();
  assert.equal((await stat(home)).mode & 0o077, 0);
  let served = await serve(home);
  const witness = () => ({ name: "w1", verifier, url: served.url });
  const client = openWitness(logVerifier, [witness()]);
  for (const size of [1, 255, 256]) {
    const { checkpoint } = await gatherCosignatures(policyOf(witness()), [client], await submission(size));
    assert.equal(checkpoint?.size, size);
  }
  const shown = await fetch(served.url + monitoringPath(ORIGIN));
  assert.deepEqual([shown.status, shown.headers.get("content-type")], [200, "text/plain; charset=utf-8"]);
  const body = await shown.text();
  assert.equal(parseNote(utf8(body)).signatures.length, 2);
  await stop(served);

  served = await serve(home);
  assert.equal(await (await fetch(served.url + monitoringPath(ORIGIN))).text(), body);
  const forgetful = openWitness(logVerifier, [witness()]);
  const { checkpoint } = await gatherCosignatures(policyOf(witness()), [forgetful], await submission(400));
  assert.equal(checkpoint?.size, 400);
  await assert.rejects(openWitness(logVerifier, [witness()]).cosign(await submission(400, fork)), {
    code: "ERR_WITNESS_SPLIT",
  });
  await stop(served);
});

test("every truncation and every changed byte of a request gets a status in time, and changes nothing", async () => {
  const { home } = await newHome();
  const served = await serve(home);
  assert.equal((await post(served.url, await request(0, 3))).status, 200);
  const good = utf8(await request(3, 7));
  const bodies = Array.from(good.keys()).flatMap((at) => {
    const changed = good.slice();
    changed[at]! ^= 1 + (at % 127);
    return [good.slice(0, at), changed];
  });
  const started = performance.now();
  for (let at = 0; at < bodies.length; at += 20) {
    const answers = await Promise.all(bodies.slice(at, at + 20).map((body) => post(served.url, body)));
    for (const answer of answers) {
      assert.ok([400, 403, 404, 409, 422].includes(answer.status), String(answer.status));
      assert.ok((await answer.text()).length < 1024);
    }
  }
  assert.ok(performance.now() - started < 120_000);
  assert.equal((await post(served.url, good)).status, 200);
  await stop(served);
});

test("of a hundred parallel requests over two histories one is cosigned", async () => {
  const { home } = await newHome();
  const served = await serve(home);
  const bodies = await Promise.all(Array.from({ length: 100 }, (_, i) => request(0, 5 + i, i % 2 ? leaves : fork)));
  const answers = await Promise.all(bodies.map((body) => post(served.url, body)));
  const statuses = answers.map(({ status }) => status);
  assert.equal(statuses.filter((status) => status === 200).length, 1, String(statuses));
  assert.ok(statuses.every((status) => [200, 409].includes(status)));
  const shown = await (await fetch(served.url + monitoringPath(ORIGIN))).text();
  const winner = bodies[statuses.indexOf(200)]!;
  assert.ok(winner.includes(parseNote(utf8(shown)).text));
  await stop(served);
});

for (const when of ["before", "after"] as const) {
  test(`a witness killed ${when} it remembers, and before it answers, cosigns one history`, async () => {
    const { home, verifier } = await newHome();
    const killed = await start("./killed-witness-testkit.js", home, PASSPHRASE, file("logs"), when);
    await assert.rejects(post(killed.url, await request(0, 5)));
    assert.deepEqual(await killed.ended, [null, "SIGKILL"]);
    // The log asks again, as after any lost answer.
    const served = await serve(home);
    const witness: PolicyWitness = { name: "w1", verifier, url: served.url };
    if (when === "after") assert.equal((await post(served.url, await request(0, 6, fork))).status, 409);
    const client = openWitness(logVerifier, [witness]);
    const { checkpoint } = await gatherCosignatures(policyOf(witness), [client], await submission(5));
    assert.equal(checkpoint?.size, 5);
    assert.equal((await post(served.url, await request(5, 6, fork))).status, 422);
    await stop(served);
  });
}

test("what no log would send is turned away", async () => {
  const { home } = await newHome();
  const served = await serve(home);
  const status = async (at: string, init?: RequestInit) => (await fetch(served.url + at, init)).status;
  assert.equal(await status(""), 404);
  assert.equal(await status("../keystore.json"), 404);
  assert.equal(await status(monitoringPath(ORIGIN)), 404, "nothing was cosigned yet");
  assert.equal(await status(monitoringPath("log.example/other")), 404);
  assert.equal(await status("add-checkpoint"), 405);
  assert.equal(await status(monitoringPath(ORIGIN), { method: "DELETE" }), 405);
  assert.equal((await post(served.url, "x".repeat(100_000))).status, 413);
  // Without a length, and without an end.
  const open = () => {
    const socket = connect(Number(new URL(served.url).port), "127.0.0.1")
      .resume()
      .on("error", () => {});
    return { socket, closed: new Promise((resolve) => socket.once("close", resolve)) };
  };
  const { socket, closed } = open();
  socket.write("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  const chunk = `4000\r\n${"x".repeat(0x4000)}\r\n`;
  const feeding = setInterval(() => socket.write(chunk), 1);
  await closed;
  clearInterval(feeding);
  // A header that never ends.
  const slow = open();
  slow.socket.write("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nX-Slow: ");
  await slow.closed;
  assert.equal((await post(served.url, await request(0, 3))).status, 200);
  await stop(served);
});

test("a damaged memory is a failure for all who ask, and stays as it is", async () => {
  const { home } = await newHome();
  const first = await serve(home);
  assert.equal((await post(first.url, await request(0, 3))).status, 200);
  await stop(first);
  const memory = path.join(home, "logs", monitoringPath(ORIGIN));
  const spoiled = (await readFile(memory)).map((byte, at) => (at === 30 ? byte ^ 1 : byte));
  await writeFile(memory, spoiled);
  const second = await serve(home);
  assert.equal((await post(second.url, await request(0, 5, fork))).status, 500);
  assert.equal((await fetch(second.url + monitoringPath(ORIGIN))).status, 500);
  assert.deepEqual(await readFile(memory), spoiled);
  await stop(second);
});

test("the command line says what is wrong", async () => {
  const { home } = await newHome();
  const pass = ["--passphrase-file", file("passphrase")];
  const again = await via("init", "--name", "witness.example/w2", "--home", home, ...pass);
  assert.deepEqual([again.exitCode, again.json.error], [4, "ERR_HOME"]);
  for (const name of ["", "has space", "has+plus"]) {
    const { exitCode } = await via("init", "--name", name, "--home", file("unmade"), ...pass);
    assert.equal(exitCode, 2, name);
  }
  const run = (...more: string[]) => via("serve", "--home", home, ...pass, ...more);
  assert.equal((await run("--logs", file("logs"), "--listen", "nowhere")).exitCode, 2);
  assert.equal((await run("--logs", file("passphrase"))).json.error, "ERR_LOG_POLICY");
  await writeFile(file("wrong"), "wrong\n");
  const wrong = await via("serve", "--home", home, "--logs", file("logs"), "--passphrase-file", file("wrong"));
  assert.deepEqual([wrong.exitCode, wrong.json.error], [4, "ERR_PASSPHRASE"]);
  const served = await serve(home);
  const locked = await run("--logs", file("logs"), "--listen", "127.0.0.1:0");
  assert.deepEqual([locked.exitCode, locked.json.error], [4, "ERR_LOCKED"]);
  await stop(served);
});
