/** The program as a person runs it. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  concat,
  ed25519PublicKey,
  encodeLeaf,
  formatNote,
  formatVerifierKey,
  hashLeaf,
  MerkleFrontier,
  noteVerifier,
  parseHex,
  type Signer,
  sha256,
  signNote,
  u32,
} from "@viafabric/schemas";
import { formatCheckpoint } from "@viafabric/transparency-log";
import { type LockedHead, openLog } from "@viafabric/transparency-log/log";
import { publish, TestAuthority } from "./fixtures.test.ts";

const ORIGIN = "log.example/audited";
const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

function signerOf(fill: number): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), new Uint8Array(32).fill(fill));
  const key = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return {
    publicKey: ed25519PublicKey(spki.slice(12)),
    sign: async (message) => new Uint8Array(sign(null, message, key)),
  };
}

const signer = signerOf(7);
const vkey = formatVerifierKey(noteVerifier(ORIGIN, signer.publicKey));
let home: string;

before(async () => {
  home = await mkdtemp(path.join(os.tmpdir(), "audit-"));
  let held: LockedHead | undefined;
  const log = await openLog({
    folder: path.join(home, "public", "log"),
    stagingFolder: path.join(home, "staging"),
    verifier: noteVerifier(ORIGIN, signer.publicKey),
    lock: {
      read: async () => held,
      async replace(_oldSize, next) {
        held = next;
      },
    },
    async sign(entries) {
      const frontier = new MerkleFrontier();
      for (const entry of entries) frontier.append(hashLeaf(entry));
      const text = formatCheckpoint({ origin: ORIGIN, size: frontier.size, root: frontier.root() });
      return formatNote({ text, signatures: [await signNote(text, ORIGIN, signer)] });
    },
  });
  const statement = (number: number) =>
    encodeLeaf({ type: "trust", kind: "statement", number, fileHash: sha256(u32(number)) });
  await log.append(Array.from({ length: 1000 }, (_, i) => statement(i + 1)));
  await log.close();
  await writeFile(path.join(home, "log.vkey"), `${vkey}\n`);
  await writeFile(path.join(home, "policy"), `log ${vkey}\nquorum none\n`);
});

after(() => rm(home, { recursive: true }));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(...args: string[]): Promise<Ran> {
  return new Promise((done) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) => {
      done({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

test("a folder of the published tree, or of the log alone, is verified by its key, key file or policy", async () => {
  for (const source of ["public", "public/log"]) {
    for (const trust of [
      ["--vkey", vkey],
      ["--vkey", path.join(home, "log.vkey")],
      ["--policy", path.join(home, "policy")],
    ]) {
      const { code, stdout, stderr } = await run("log", path.join(home, source), ...trust);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /VERIFIED: all 1000 entries/);
    }
  }
});

test("--json gives one document that names the log, its size and its counts", async () => {
  const kept = path.join(home, "public", "log", "checkpoint");
  const { code, stdout } = await run("log", path.join(home, "public"), "--vkey", vkey, "--earlier", kept, "--json");
  assert.equal(code, 0);
  const report = JSON.parse(stdout);
  assert.deepEqual([report.verdict, report.origin, report.size], ["verified", ORIGIN, 1000]);
  assert.equal(report.counts.trust, 1000);
  assert.deepEqual(report.trustFiles, { checked: 0, notHeld: 1000 });
});

test("a log behind a web server is verified the same way", async () => {
  const server = createServer((request, response) => {
    readFile(path.join(home, "public", request.url!)).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, stdout, stderr } = await run("log", url, "--vkey", vkey);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /VERIFIED/);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});

/** A first copy that breaks down half-way is replaced by the next; one that shows something false is not. */
async function auditMirrors(folder: string, root: string): Promise<void> {
  let answers = 0;
  const spoil = (url: string, bytes: Buffer) => {
    if (url.startsWith("/false/log/tile/entries/")) bytes[bytes.length >> 1]! ^= 1;
    return bytes;
  };
  const server = createServer(({ url = "" }, response) => {
    if (url.startsWith("/broken/") && answers++ > 8) return response.writeHead(503).end();
    return readFile(path.join(folder, url.replace(/^\/(broken|false)/, ""))).then(
      (bytes) => response.end(spoil(url, bytes)),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const helped = await run("all", `${url}/broken/`, "--mirror", folder, "--root", root, "--json");
    assert.equal(helped.code, 0, helped.stderr);
    assert.ok(answers > 8, "the first copy was read until it broke down");
    const { verdict, source, failures } = JSON.parse(helped.stdout);
    assert.deepEqual([verdict, source, failures[0].code], ["verified", folder, "ERR_FETCH"]);
    assert.match(helped.stderr, /broken.* could not be read/);
    const serial = await run("serial", "12", `${url}/broken/`, "--mirror", folder, "--root", root, "--json");
    assert.deepEqual([serial.code, JSON.parse(serial.stdout).source], [0, folder]);
    const refused = await run("all", `${url}/false/`, "--mirror", folder, "--root", root, "--json");
    assert.deepEqual([refused.code, JSON.parse(refused.stdout).source], [1, `${url}/false/`]);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

test("an authority is audited whole from its pinned root, and one flipped bit exits with 1", async () => {
  const authority = await TestAuthority.active();
  const folder = path.join(home, "authority");
  for (const [name, bytes] of await authority.publish()) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), bytes);
  }
  const root = path.join(home, "root.json");
  await writeFile(root, authority.root);
  const all = await run("all", folder, "--root", root, "--state", path.join(home, "all-state"));
  assert.equal(all.code, 0, all.stdout + all.stderr);
  assert.match(all.stdout, /root 2, targets 2, batches 3[\s\S]*2 revoked, 1 suspended[\s\S]*VERIFIED: all/);
  const again = await run("all", folder, "--root", root, "--state", path.join(home, "all-state"), "--json");
  assert.deepEqual([again.code, JSON.parse(again.stdout).from], [0, authority.entries.length]);
  const serial = await run("serial", "12", folder, "--root", root, "--out", path.join(home, "token.proof"), "--json");
  assert.equal(serial.code, 0, serial.stderr);
  const found = JSON.parse(serial.stdout);
  assert.deepEqual([found.index, found.batch.seq, found.approval.signers.length], [12, 1, 3]);
  assert.equal(await readFile(path.join(home, "token.proof"), "utf8"), found.proof);
  assert.equal((await run("serial", "9999", folder, "--root", root)).code, 4);
  await auditMirrors(folder, root);
  const checkpoint = path.join(folder, "log", "checkpoint");
  const compared = await run("compare", checkpoint, folder, "--vkey", path.join(folder, "log.vkey"));
  assert.deepEqual([compared.code, compared.stdout.slice(0, 4)], [0, "SAME"]);
  const watch = ["watch", folder, "--state", path.join(home, "watch"), "--root", root, "--json"];
  assert.equal(JSON.parse((await run(...watch)).stdout).result, "first");
  const fsck = await run("fsck", folder, "--root", root, "--html", path.join(home, "report.html"));
  assert.match(await readFile(path.join(home, "report.html"), "utf8"), /Verified: all/);
  assert.match(fsck.stdout, /0 that no format knows[\s\S]*VERIFIED/);
  const file = path.join(folder, "revocation/undo/2.txt");
  await writeFile(file, "7\n");
  const flipped = await run("fsck", folder, "--root", root, "--json");
  assert.equal(flipped.code, 1);
  assert.match(JSON.parse(flipped.stdout).findings[0].message, /undo\/2\.txt/);
  await writeFile(checkpoint, "nonsense");
  const alarm = await run(...watch);
  assert.deepEqual([alarm.code, JSON.parse(alarm.stdout).result], [1, "refused"]);
  assert.equal((await run("all", path.join(home, "nowhere"), "--root", root)).code, 4);
  assert.equal((await run("all", folder)).code, 2);
});

test("a fork exits with 1, leaves evidence and calls the webhook", async () => {
  const entries = (name: string) => Array.from({ length: 40 }, (_, i) => new TextEncoder().encode(`${name} ${i}`));
  for (const name of ["one", "other"]) {
    for (const [file, bytes] of await publish(ORIGIN, signer, entries(name))) {
      const target = path.join(home, "forked", name, file);
      await mkdir(path.dirname(target), { recursive: true });
      await writeFile(target, bytes);
    }
  }
  const [one, other] = ["one", "other"].map((name) => path.join(home, "forked", name));
  const evidence = path.join(home, "evidence");
  const compared = await run("compare", one!, other!, "--vkey", vkey, "--evidence", evidence, "--json");
  assert.deepEqual([compared.code, JSON.parse(compared.stdout).result], [1, "fork"]);
  assert.deepEqual((await readdir(JSON.parse(compared.stdout).evidence)).length, 3);
  const posted: string[] = [];
  const server = createServer(async (request, response) => {
    for await (const part of request) posted.push(String(part));
    response.end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    const webhook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/alarm`;
    const watch = ["--state", path.join(home, "fork-watch"), "--vkey", vkey, "--webhook", webhook, "--json"];
    assert.equal((await run("watch", one!, ...watch)).code, 0);
    assert.deepEqual(posted, []);
    const alarm = await run("watch", other!, ...watch, "--every", "1");
    assert.deepEqual([alarm.code, JSON.parse(alarm.stdout).result], [1, "fork"]);
    assert.deepEqual(JSON.parse(posted.join("")), { source: other, ...JSON.parse(alarm.stdout) });
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});

test("what does not verify exits with 1, what is not understood with 2, what cannot be read with 4", async () => {
  const other = formatVerifierKey(noteVerifier(ORIGIN, signerOf(8).publicKey));
  const refused = await run("log", path.join(home, "public"), "--vkey", other);
  assert.equal(refused.code, 1);
  assert.match(refused.stdout, /ERR_NOTE_UNSIGNED[\s\S]*REFUSED: one finding/);
  const tile = path.join(home, "public", "log", "tile", "entries", "001");
  const bytes = await readFile(tile);
  bytes[2000]! ^= 4;
  await writeFile(tile, bytes);
  const flipped = await run("log", path.join(home, "public"), "--vkey", vkey, "--json");
  assert.equal(flipped.code, 1);
  assert.equal(JSON.parse(flipped.stdout).findings[0].code, "ERR_LOG_MISMATCH");
  assert.equal((await run("log", path.join(home, "public"))).code, 2);
  assert.equal((await run("log")).code, 2);
  assert.equal((await run("log", home, "--vkey", "nonsense")).code, 2);
  assert.equal((await run("log", path.join(home, "nowhere"), "--vkey", vkey)).code, 4);
  assert.equal((await run("--help")).code, 0);
  assert.match((await run("log", "--help")).stdout, /Examples[\s\S]*Exit codes/);
});

test("whoever stops reading ends the program: quietly, and also one that would go on looking for ever", async () => {
  const log = path.join(home, "public", "log");
  const watch = ["watch", log, "--state", path.join(home, "left"), "--vkey", vkey, "--every", "1"];
  for (const args of [["--help"], watch]) {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    let said = "";
    child.stderr.on("data", (part) => {
      said += part;
    });
    assert.deepEqual([(await once(child, "close"))[0], said], [141, ""], args[0]);
  }
});
