/**
 * Drills: what docs/runbook.md tells people to do is done, command by command, with real homes, a real vault and a
 * laptop that has no network. The transcript stays in the temporary folder.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { type Thief, thiefIn } from "./thief-testkit.ts";
import { followVault, vaultClients } from "./tuf-clients/follow-vault.ts";
import { skipReason } from "./tuf-clients/peers.ts";
import { commandsIn, type Finished, freePort, ROOT, run } from "./typing-testkit.ts";

const folder = mkdtempSync(path.join(tmpdir(), "via-drill-"));
const transcript = path.join(folder, "transcript.txt");
const home = path.join(folder, "via");
/** Their tools ask for a passphrase; those in the second list ask for a yes as well. */
const ASKS_PASSPHRASE = /^\.\/via (trustee (init|enroll|sign|reject|submit|rotate)|writer init) /;
const ASKS_YES = /^\.\/via (trustee (enroll|join|sign|reject)|node init) /;
/** The laptop that never meets a network. */
const OFFLINE_HOME = "trustees/5";

let service: ChildProcess | undefined;

after(async () => {
  if (service?.exitCode === null) {
    const ended = new Promise((resolve) => service?.once("exit", resolve));
    service.kill("SIGTERM");
    await ended;
  }
  if (existsSync(path.join(home, "vault"))) await run("./via", ["vault", "remove", "--home", `${home}/vault`, "--yes"]);
  rmSync(home, { recursive: true, force: true });
});

/** A network with nothing in it, not even a loopback that is up; where the system lets us have one. */
async function networkless(): Promise<readonly string[]> {
  return (await run("unshare", ["--net", "true"])).exitCode === 0 ? ["unshare", "--net"] : [];
}

async function serve(command: string): Promise<void> {
  const child = spawn("bash", ["-c", `exec ${command.replace(/ &$/, "")} --json`], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  service = child;
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`the vault ended with ${code}`)));
  });
}

test("the runbook: ceremony, batch, rejection, rotations and stolen keys; one laptop without a network", async (t) => {
  const offline = await networkless();
  t.diagnostic(offline.length > 0 ? "the fifth laptop has no network at all" : "no network of its own to take away");
  t.diagnostic(`transcript: ${transcript}`);
  mkdirSync(home);
  const secret = path.join(home, "passphrase");
  writeFileSync(secret, "a drill, and no secret\n", { mode: 0o600 });
  const port = String(await freePort());
  const commands = commandsIn("runbook.md", "<!-- drill -->", "<!-- end of drill -->");
  assert.ok(commands.length > 30, `${commands.length} commands`);
  const said: string[] = [];
  // What a person copies from one screen to the next command.
  const copied: Record<string, string> = { EVENT: "", AUTHORITY: "" };
  let thief: Thief | undefined;
  for (const written of commands) {
    if (written.includes("keys rotate timestamp")) {
      thief = await thiefIn(path.join(home, "vault"));
      after(() => thief?.close());
      await meetThief(thief);
    }
    let command = written.replaceAll(".via/", `${home}/`).replaceAll("8080", port);
    for (const [name, value] of Object.entries(copied))
      command = command.replaceAll(new RegExp(`\\b${name}\\b`, "g"), value);
    if (ASKS_PASSPHRASE.test(written)) command += ` --passphrase-file ${secret}`;
    if (ASKS_YES.test(written)) command += " --yes";
    if (command.endsWith("&")) {
      await serve(command);
      said.push(`$ ${written}\n`);
      continue;
    }
    if (command.startsWith("./via ")) command += " --json";
    const [file, ...before] = written.includes(`.via/${OFFLINE_HOME}`) ? [...offline, "bash"] : ["bash"];
    const { exitCode, output, errors } = await run(file!, [...before, "-c", command]);
    said.push(`$ ${written}\n${output}${errors}`);
    writeFileSync(transcript, said.join("\n"));
    assert.equal(exitCode, 0, `${written}\n${output}${errors}`);
    const result = command.endsWith("--json") ? (JSON.parse(output) as Record<string, unknown>) : {};
    assertStep(written, result);
    const trustee = /trustee init .*trustees\/([0-9]+)$/.exec(written)?.[1];
    if (trustee !== undefined) copied[`KID${trustee}`] = String(result.kid);
    if (/vault (request|propose|rotate|keys rotate|policy add|profile add)|trustee rotate/.test(written))
      copied.EVENT = String(result.event);
    if (written.includes("trustee sheet")) copied.AUTHORITY = String((result.authority as { hex: string }).hex);
    if (written.includes("node device")) writeFileSync(path.join(home, "devices", "subjects.txt"), `${result.did}\n`);
  }
  await leaveThief(thief!);
  const catalogue = await (await fetch(`http://127.0.0.1:${port}/capabilities`)).text();
  assert.match(catalogue, /"Maps on a GPU"/);
  // After all those roots, every client still comes from the first one to the last.
  assert.ok(existsSync(path.join(home, "vault/public/root/5.root.json")), "two rotations, two keys of the metadata");
  for (const each of await vaultClients()) {
    const skipped = skipReason(each.client, each.peer);
    if (skipped) t.diagnostic(String(skipped));
    else await followVault(each, path.join(home, "vault/public"), path.join(home, "clients"));
  }
  // This authority asks for no witness: only a node that was told to may live with that.
  const strict = path.join(home, "strict");
  const root = path.join(home, "1.root.json");
  await run("bash", ["-c", `./via node init --root ${root} --home ${strict} --yes`]);
  const refresh = await run("bash", ["-c", `./via node refresh --from ${home}/vault/public --home ${strict} --json`]);
  assert.deepEqual([refresh.exitCode, JSON.parse(refresh.output).error], [1, "witness-quorum-missing"]);
  const keystore = readFileSync(path.join(home, OFFLINE_HOME, "keystore.json"), "utf8");
  for (const secretText of [keystore, "a drill, and no secret"])
    assert.ok(!readFileSync(transcript, "utf8").includes(secretText), "no secret is in the transcript");
});

/** Of a version that no vault reaches in a life. */
const FAR_AHEAD = 2 ** 31;

function refreshVictim(from: string): Promise<Finished> {
  return run("./via", ["node", "refresh", "--from", from, "--home", path.join(home, "victim"), "--json"]);
}

const codeOf = ({ exitCode, errors }: Finished) => [exitCode, /ERR_[A-Z_]+/.exec(errors)?.[0]];

/** A node that is shown a version far ahead follows it, and then refuses every true one. */
async function meetThief(thief: Thief): Promise<void> {
  cpSync(path.join(home, "node2"), path.join(home, "victim"), { recursive: true });
  await thief.fastForward(path.join(home, "vault/public"), path.join(home, "thief"), FAR_AHEAD);
  const met = await refreshVictim(path.join(home, "thief"));
  assert.equal(met.exitCode, 0, met.errors);
  assert.deepEqual(codeOf(await refreshVictim(path.join(home, "vault/public"))), [1, "ERR_ROLLBACK"]);
}

/** Once other keys are in force, it follows the true files again, and what the stolen ones sign is nobody's. */
async function leaveThief(thief: Thief): Promise<void> {
  const healed = await refreshVictim(path.join(home, "vault/public"));
  assert.equal(healed.exitCode, 0, healed.errors);
  await thief.fastForward(path.join(home, "vault/public"), path.join(home, "thief2"), FAR_AHEAD + 1);
  assert.deepEqual(codeOf(await refreshVictim(path.join(home, "thief2"))), [1, "ERR_THRESHOLD"]);
}

/** What a person would look at after some of the steps. */
function assertStep(command: string, result: unknown): void {
  const signers = (each: unknown) =>
    (each as { quorums: { signed: { name?: string }[] }[] }).quorums[0]!.signed.map(({ name }) => name).sort();
  if (command.includes("verify .via/vault/genesis"))
    for (const part of result as unknown[]) assert.deepEqual(signers(part), ["Amara", "Bjarne", "Esi"]);
  if (command.includes("2.batches.json"))
    assert.deepEqual(signers((result as unknown[])[0]), ["Amara", "Bjarne", "Esi"]);
  if (command.includes("2.targets.json"))
    assert.deepEqual(signers((result as unknown[])[0]), ["Carmen", "Dinesh", "Esi"]);
  if (command.includes("node policy")) {
    const { version, files } = result as { version: number; files: { path: string }[] };
    const expected = command.includes("policies-next") ? 2 : 1;
    assert.deepEqual([version, files.map(({ path: name }) => name)], [expected, ["limits/basic.rego"]]);
  }
  if (command.includes("--dry-run")) assert.equal((result as { dryRun: boolean }).dryRun, true);
  if (command.includes("2.root.json")) {
    const [root] = result as { quorums: { what: string; signed: unknown[]; threshold: number }[] }[];
    assert.deepEqual(
      root!.quorums.map(({ signed, threshold }) => signed.length >= threshold),
      [true, true],
    );
  }
  if (command.includes("vault keys list"))
    // Root names the metadata keys, the key list the others: the log's alone is still the one of the first day.
    assert.deepEqual(heldTwice(result), ["issuer", "revocations", "snapshot", "status", "timestamp"]);
  if (command.includes("trustee status")) assert.deepEqual((result as { proposals: unknown[] }).proposals, []);
}

/** Roles for which the signer holds a key and the one that follows it. */
function heldTwice(result: unknown): readonly string[] {
  const roles = (result as { keys: { role: string }[] }).keys.map(({ role }) => role);
  return [...new Set(roles.filter((role, index) => roles.indexOf(role) !== index))].sort();
}
