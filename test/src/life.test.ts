/**
 * The life of a token, for a person: `npm start -- --once` on an empty folder, then what each user can do with what it
 * left behind, with vault, signer and database stopped.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseTag } from "@viafabric/nfc";
import { startSimulator } from "@viafabric/nfc/simulator";
import { concat, decodeCompact, encodeCompact } from "@viafabric/schemas";
import { lockedPython, runPeer, skipReason } from "./peers-python.ts";
import { startService } from "./typing-testkit.ts";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const folder = mkdtempSync(path.join(tmpdir(), "via-life-"));
// PostgreSQL does not run as root: its own user must be able to reach the database below this folder.
chmodSync(folder, 0o755);
const home = path.join(folder, "via");
const published = path.join(home, "vault", "public");
const dump = (index: number) => path.join(home, "station", "tags", `${index}.bin`);

interface Finished {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(file: string, args: readonly string[], env = process.env): Promise<Finished> {
  return new Promise((resolve) => {
    execFile(file, args, { cwd: ROOT, env, maxBuffer: 64 * 1024 * 1024, timeout: 400_000 }, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

const start = () =>
  run(process.execPath, [path.join(ROOT, "tour/dist/main.js"), "--once", "--home", home, "--port", "18080"]);

async function via(...args: readonly string[]): Promise<{ exitCode: number; result: Record<string, unknown> }> {
  const { exitCode, stdout } = await run(path.join(ROOT, "via"), [...args, "--json"]);
  return { exitCode, result: JSON.parse(stdout || "{}") };
}

/** Every file below a folder with the hash of its content. */
function snapshot(of: string): ReadonlyMap<string, string> {
  const files = readdirSync(of, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const hashed = files.map((entry): [string, string] => {
    const file = path.join(entry.parentPath, entry.name);
    return [file, createHash("sha256").update(readFileSync(file)).digest("hex")];
  });
  return new Map(hashed.sort());
}

/** Command lines of processes that mention the home. */
function processesOf(text: string): string[] {
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return ids.flatMap((id) => {
    try {
      const line = readFileSync(`/proc/${id}/cmdline`, "utf8").replaceAll("\0", " ");
      return line.includes(text) ? [line] : [];
    } catch {
      return [];
    }
  });
}

let first: Finished;

before(async () => {
  first = await start();
});

after(() => rmSync(folder, { recursive: true, force: true }));

test("npm start takes a token from request to refusal, and leaves no process behind", () => {
  assert.equal(first.exitCode, 0, first.stderr + first.stdout.slice(-2000));
  assert.match(first.stdout, /not-released → accept → revoked/);
  assert.deepEqual(processesOf(home), []);
});

test("what is private is private, and what is public is public", () => {
  const mode = (name: string) => (statSync(path.join(home, "vault", name)).mode & 0o777).toString(8);
  assert.deepEqual([mode("."), mode("public"), mode("private")], ["711", "755", "700"]);
  for (const secret of ["trustees/1/keystore.json", "station/keystore.json"]) {
    assert.equal(statSync(path.join(home, secret)).mode & 0o077, 0, secret);
  }
});

test("the README's tour works on what npm start made, command by command", async () => {
  const readme = readFileSync(path.join(ROOT, "README.md"), "utf8");
  const tour = readme.slice(readme.indexOf("<!-- tour -->"), readme.indexOf("<!-- end of tour -->"));
  const all = tour.split("\n").filter((line) => line.startsWith("./via "));
  const [partners, commands] = [all.filter(isService), all.filter((line) => !isService(line))];
  const serve = partners.pop();
  assert.ok(serve?.startsWith("./via vault serve"));
  assert.ok(partners.length === 3 && commands.length > 18);
  const sockets = mkdtempSync(path.join(tmpdir(), "via-"));
  const simulator = await startSimulator({ folder: sockets });
  const witnesses = await Promise.all(partners.map((line) => startService(argumentsOf(line.replace(/ &$/, "")))));
  const service = await startService(argumentsOf(serve!));
  const url = String(service.ready.url);
  let event = "";
  try {
    await simulator.hand({ folder: path.join(sockets, "tags"), model: "ntag213", count: 3, pauseMs: 50 });
    const env = { ...process.env, PCSCLITE_CSOCK_NAME: simulator.sockets.pcsc };
    for (const command of commands) {
      const args = argumentsOf(command).map((argument) => argument.replace("http://127.0.0.1:8080", url));
      const atVault = /^\.\/via (vault (status|request|wait)|trustee)/.test(command) ? ["--vault", url] : [];
      const typed = [...args, ...atVault].map((argument) => argument.replace("EVENT", event));
      const { exitCode, stdout, stderr } = await run(path.join(ROOT, "via"), typed, env);
      assert.equal(exitCode, 0, `${command}\n${stdout}${stderr}`);
      event = /^ {2}([0-9a-f]{64})$/m.exec(command.includes("vault request") ? stdout : "")?.[1] ?? event;
    }
    assert.match(event, /^[0-9a-f]{64}$/);
  } finally {
    await service.stop();
    for (const witness of witnesses) await witness.stop();
    await simulator.stop();
    rmSync(sockets, { recursive: true, force: true });
  }
  assert.deepEqual(processesOf(home), []);
});

const isService = (command: string) => /^\.\/via (vault|audit witness) serve/.test(command);
/** The partners' addresses are in the policy that the trustees signed, from the ports that were free that day. */
const argumentsOf = (command: string) =>
  command
    .slice("./via ".length)
    .replace(/127\.0\.0\.1:809([123])\b/, (_, n) => readFileSync(path.join(home, "witnesses", n, "address"), "utf8"))
    .replaceAll(".via/", `${home}/`)
    .split(" ");

test("a node with nothing but a copy of the public files and the pinned root accepts one token and refuses the revoked one", async () => {
  const copy = path.join(folder, "copy");
  const node = path.join(folder, "node");
  cpSync(published, copy, { recursive: true });
  const root = path.join(folder, "root.json");
  cpSync(path.join(published, "root", "1.root.json"), root);
  await via("node", "init", "--root", root, "--home", node, "--yes");
  assert.equal((await via("node", "refresh", "--from", copy, "--home", node)).exitCode, 0);
  const accepted = await via("node", "check", "--dump", dump(1), "--home", node);
  assert.deepEqual([accepted.exitCode, accepted.result.code], [0, "accept"]);
  const refused = await via("node", "check", "--dump", dump(0), "--home", node);
  assert.deepEqual([refused.exitCode, refused.result.code], [1, "revoked"]);
});

test("a bundle whose proof too few witnesses cosigned is not taken, and its tokens are refused", async () => {
  const copy = path.join(folder, "unwitnessed");
  const node = path.join(folder, "strict");
  cpSync(published, copy, { recursive: true });
  const file = path.join(copy, "batch", "0", "log.proof");
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  const witnessed = lines.filter((line) => line.startsWith("\u2014 partner-"));
  assert.equal(witnessed.length, 2, "two of three must");
  writeFileSync(file, `${lines.filter((line) => line !== witnessed[0]).join("\n")}\n`);
  await via("node", "init", "--root", path.join(published, "root", "1.root.json"), "--home", node, "--yes");
  const { result } = await via("node", "refresh", "--from", copy, "--home", node);
  const refused = result.refused as readonly { seq: number; code: string }[];
  assert.deepEqual(
    refused.map(({ seq, code }) => [seq, code]),
    [[0, "witness-quorum-missing"]],
  );
  const check = await via("node", "check", "--dump", dump(1), "--home", node);
  assert.deepEqual([check.exitCode, check.result.code], [1, "batch-not-held"]);
});

test("unknown, truncated and foreign tokens are refused, and change nothing on the node's disk", async () => {
  const node = path.join(home, "node2");
  const before = snapshot(node);
  const tag = parseTag(new Uint8Array(readFileSync(dump(1))));
  assert.ok(tag.layout === "compact");
  const token = decodeCompact(tag.token);
  const cases: Record<string, Uint8Array> = {
    malformed: tag.token.slice(0, 100),
    "unknown-authority": encodeCompact({ ...token, selector: new Uint8Array(4) }),
    "batch-not-held": encodeCompact({ ...token, index: 4_000_000 }),
    "leaf-mismatch": encodeCompact({ ...token, rctId: new Uint8Array(16) }),
    "payload-mismatch": encodeCompact({ ...token, subjectKey: decodeCompact(otherToken()).subjectKey }),
    "signature-invalid": encodeCompact({ ...token, signature: new Uint8Array(64) }),
    "unsupported-version": concat(new Uint8Array([9]), tag.token.subarray(1)),
  };
  for (const [code, bytes] of Object.entries(cases)) {
    const file = path.join(folder, "token");
    writeFileSync(file, bytes);
    const { exitCode, result } = await via("node", "check", "--token", file, "--home", node);
    assert.deepEqual([exitCode, result.code], [1, code]);
  }
  assert.deepEqual(snapshot(node), before);
});

function otherToken(): Uint8Array {
  const tag = parseTag(new Uint8Array(readFileSync(dump(2))));
  assert.ok(tag.layout === "compact");
  return tag.token;
}

test("one flipped bit anywhere in the published files never turns a refusal into a yes", async (t) => {
  const seed = Date.now() % 100_000;
  t.diagnostic(`seed ${seed}`);
  const files = [...snapshot(published).keys()];
  for (let i = 0; i < 12; i++) {
    const copy = path.join(folder, "flipped");
    rmSync(copy, { recursive: true, force: true });
    cpSync(published, copy, { recursive: true });
    const file = path.join(copy, path.relative(published, files[(seed * 31 + i * 7919) % files.length]!));
    const bytes = readFileSync(file);
    if (bytes.length === 0) continue;
    const at = (seed + i * 104_729) % bytes.length;
    bytes[at]! ^= 1 << (i % 8);
    writeFileSync(file, bytes);
    const node = path.join(folder, `flipped-node-${i}`);
    await via("node", "init", "--root", path.join(published, "root", "1.root.json"), "--home", node, "--yes");
    await via("node", "refresh", "--from", copy, "--home", node);
    const { result } = await via("node", "check", "--dump", dump(0), "--home", node);
    assert.notEqual(result.code, "accept", `bit in ${path.relative(copy, file)} at ${at}`);
  }
});

test("one flipped bit anywhere in the published files is refused by the audit, and the copy without it is verified", async (t) => {
  const seed = Date.now() % 100_000;
  t.diagnostic(`seed ${seed}`);
  const copy = path.join(folder, "audited");
  cpSync(published, copy, { recursive: true });
  const root = path.join(folder, "audit-root.json");
  cpSync(path.join(published, "root", "1.root.json"), root);
  const audit = () => via("audit", "fsck", copy, "--root", root);
  const whole = await audit();
  assert.deepEqual([whole.exitCode, whole.result.verdict, whole.result.findings], [0, "verified", []]);
  const files = [...snapshot(copy).keys()];
  for (let i = 0; i < 16; i++) {
    const file = files[(seed * 31 + i * 7919) % files.length]!;
    const bytes = readFileSync(file);
    if (bytes.length === 0) continue;
    const at = (seed + i * 104_729) % bytes.length;
    writeFileSync(file, bytes.with(at, bytes[at]! ^ (1 << (i % 8))));
    const { exitCode, result } = await audit();
    assert.deepEqual([exitCode, result.verdict], [1, "refused"], `bit in ${path.relative(copy, file)} at ${at}`);
    writeFileSync(file, bytes);
  }
});

test("a Python program that shares no code with ours verifies the token from the tag's memory and the published files", async (t) => {
  const python = await lockedPython();
  const reason = skipReason(python);
  if (reason !== false) return t.skip(reason);
  const peer = await runPeer(python, "verify_token.py", [dump(1), published, "--negative-control"]);
  assert.equal(peer.exitCode, 0, JSON.stringify(peer.result));
  const truncated = path.join(folder, "truncated.bin");
  writeFileSync(truncated, readFileSync(dump(1)).subarray(0, 90));
  assert.equal((await runPeer(python, "verify_token.py", [truncated, published])).exitCode, 1);
});

test("started again, the same authority issues another batch", async () => {
  const root = readFileSync(path.join(published, "root", "1.root.json"));
  const second = await start();
  assert.equal(second.exitCode, 0, second.stderr + second.stdout.slice(-2000));
  assert.match(second.stdout, /not-released → accept → revoked/);
  assert.deepEqual(readFileSync(path.join(published, "root", "1.root.json")), root);
  assert.deepEqual(readdirSync(path.join(published, "batch")).sort(), ["0", "1", "2"]);
  assert.deepEqual(processesOf(home), []);
});

test("npm run reset removes everything, after a yes", async () => {
  const reset = (...args: string[]) =>
    run(process.execPath, [path.join(ROOT, "tour/dist/main.js"), "reset", "--home", home, ...args]);
  const unasked = await reset();
  assert.notEqual(unasked.exitCode, 0);
  assert.match(unasked.stderr, /ERR_CONFIRMATION/);
  assert.ok(statSync(home).isDirectory());
  assert.equal((await reset("--yes")).exitCode, 0);
  assert.throws(() => statSync(home));
});
