/**
 * What is out when the trustees list other witnesses: a node that holds a batch, a node that is never refreshed, and a
 * kit that is half written. Every step is a command; the authority is the one that `npm start` makes.
 */
import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startSimulator } from "@viafabric/nfc/simulator";
import { freePort, ROOT, run as runProgram, type Service, startService } from "./typing-testkit.ts";

const folder = mkdtempSync(path.join(tmpdir(), "via-w-"));
// PostgreSQL does not run as root: its own user must be able to reach the database below this folder.
chmodSync(folder, 0o755);
const home = (...names: string[]) => path.join(folder, "via", ...names);
const PROOFS_SECONDS_MAX = 120;

interface Answered {
  readonly exitCode: number;
  readonly result: Record<string, unknown>;
  readonly errors: string;
}

async function run(file: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Answered> {
  const { exitCode, output, errors } = await runProgram(file, args, env);
  return { exitCode, result: output.startsWith("{") ? JSON.parse(output) : {}, errors: `${errors}${output}` };
}

const tried = (args: readonly string[], env?: NodeJS.ProcessEnv) => run("./via", [...args, "--json"], env);

async function via(...args: readonly string[]): Promise<Record<string, unknown>> {
  const { exitCode, result, errors } = await tried(args);
  assert.equal(exitCode, 0, `via ${args.join(" ")}\n${errors}`);
  return result;
}

const keyOf = (...names: string[]) => ["--home", home(...names), "--passphrase-file", home(...names, "passphrase")];

const services = new Set<Service>();
after(async () => {
  for (const service of [...services].toReversed()) await service.stop();
  await run("./via", ["vault", "remove", "--home", home("vault"), "--yes"]);
  rmSync(folder, { recursive: true, force: true });
});

async function serve(...args: readonly string[]): Promise<Service> {
  const service = await startService(args);
  services.add(service);
  return service;
}

const partner = (n: number, logs: string, address: string) =>
  serve("audit", "witness", "serve", ...keyOf("witnesses", String(n)), "--logs", logs, "--listen", address);

/** Three of five trustees sign, and it is published. */
async function approved(event: string, vault: readonly string[]): Promise<void> {
  for (const n of ["1", "2", "3"]) await via("trustee", "sign", event, "--yes", ...keyOf("trustees", n), ...vault);
  await via("vault", "wait", event, "--home", home("vault"), ...vault);
}

const dump = (index: number) => home("station", "tags", `${index}.bin`);

async function verdict(node: string, index: number): Promise<unknown> {
  return (await tried(["node", "check", "--dump", dump(index), "--home", node])).result.code;
}

test("a node, a node without news and a half-written kit are taken through a change of witnesses", async () => {
  const tour = path.join(ROOT, "tour/dist/main.js");
  const port = String(await freePort());
  const first = await run(process.execPath, [tour, "--once", "--home", home(), "--port", port]);
  assert.equal(first.exitCode, 0, first.errors);
  const policy = home("vault/genesis/targets/trust/tlog-policy");
  const partners = [];
  for (const n of [1, 2, 3])
    partners.push(await partner(n, policy, readFileSync(home("witnesses", String(n), "address"), "utf8")));
  const { ready } = await serve("vault", "serve", "--home", home("vault"), "--port", port);
  const vault = ["--vault", String(ready.url)];
  const published = home("vault", "public");
  const refresh = (node: string, from = published) => via("node", "refresh", "--from", from, "--home", node);

  const request = ["--subjects", home("devices", "subjects.txt"), "--home", home("vault"), ...vault];
  const requested = await via("vault", "request", ...request);
  await approved(String(requested.event), vault);
  const station = [...keyOf("station")];
  await via("writer", "fetch", "--batch", "1", ...station, ...vault);
  const sockets = mkdtempSync(path.join(tmpdir(), "via-"));
  const simulator = await startSimulator({ folder: sockets });
  after(async () => {
    await simulator.stop();
    rmSync(sockets, { recursive: true, force: true });
  });
  await simulator.hand({ folder, model: "ntag213", count: 3, pauseMs: 50 });
  const write = (...args: readonly string[]) =>
    tried(["writer", "write", "--batch", "1", "--idle", "30", ...args], {
      ...process.env,
      PCSCLITE_CSOCK_NAME: simulator.sockets.pcsc,
    });
  const node = home("node");
  await refresh(node);
  cpSync(node, home("still"), { recursive: true });
  cpSync(published, home("before"), { recursive: true });

  // w1 and w2 go, two others join: not one quorum of the old list is a quorum of the new one.
  const joining: string[] = [];
  for (const n of [4, 5]) {
    const key = keyOf("witnesses", String(n));
    await run("mkdir", ["-p", home("witnesses", String(n))]);
    writeFileSync(home("witnesses", String(n), "passphrase"), "only a test\n", { mode: 0o600 });
    const { vkey } = await via("audit", "witness", "init", "--name", `partner-${n}.example`, ...key);
    const { ready: at } = await partner(n, path.join(published, "log.vkey"), "127.0.0.1:0");
    joining.push("--witness", `${vkey}+${String(at.url)}`);
  }
  const operator = ["--home", home("vault"), ...vault];
  const change = await via("vault", "witnesses", "--without", "w1", "--without", "w2", ...joining, ...operator);
  await approved(String(change.event), vault);
  for (const gone of partners.slice(0, 2)) await gone.stop();

  // Proofs that the new witnesses have seen: what somebody who comes fresh takes all of.
  const root = path.join(published, "root", "1.root.json");
  await via("node", "init", "--root", root, "--home", home("fresh"), "--yes");
  for (let waited = 0; ; waited++) {
    const { refused } = await refresh(home("fresh"));
    if ((refused as readonly unknown[]).length === 0) break;
    assert.ok(waited < PROOFS_SECONDS_MAX, JSON.stringify(refused));
    await sleep(1000);
  }

  assert.equal(await verdict(home("still"), 1), "accept", "without news, under the list it knows");
  assert.equal(await verdict(home("still"), 0), "revoked");
  assert.equal(await verdict(node, 1), "accept", "before its refresh");
  // What the change is for: under the new list the old proofs count for nothing.
  const withOldProofs = (name: string) => {
    cpSync(published, home(name), { recursive: true });
    for (const batch of ["0", "1"])
      cpSync(home("before", "batch", batch, "log.proof"), home(name, "batch", batch, "log.proof"));
    return home(name);
  };
  cpSync(node, home("behind"), { recursive: true });
  await tried(["node", "refresh", "--from", withOldProofs("mixed"), "--home", home("behind")]);
  assert.equal(await verdict(home("behind"), 1), "witness-quorum-missing");
  await refresh(home("behind"));
  assert.equal(await verdict(home("behind"), 1), "accept", "with its next refresh");
  await refresh(node);
  assert.equal(await verdict(node, 1), "accept", "the batch from before, after the refresh");
  assert.equal(await verdict(node, 0), "revoked");

  const one = await write("--count", "1", ...station);
  assert.equal(one.exitCode, 0, `a station without news writes on: ${one.errors}`);
  // The newest trust, and the old proof: nothing is written that a node could refuse.
  await via("writer", "fetch", "--batch", "1", "--from", withOldProofs("mixed 2"), ...station, ...vault);
  const refused = await write("--count", "1", ...station);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.errors, /ERR_KIT_REFUSED.*witness-quorum-missing/s);
  await via("writer", "fetch", "--batch", "1", ...station, ...vault);
  // A mirror that lags takes nothing back.
  await via("writer", "fetch", "--batch", "1", "--from", withOldProofs("mixed 3"), ...station, ...vault);
  const rest = await write(...station);
  assert.equal(rest.exitCode, 0, rest.errors);
  const [kit] = (await via("writer", "status", "--home", home("station"))).kits as { written: number }[];
  assert.equal(kit!.written, 3);
  await via("writer", "upload", ...station, ...vault);
});
