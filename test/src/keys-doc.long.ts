/** What docs/keys.md tells people to type, typed: on two SoftHSM tokens, the authority's and a trustee's. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { initSoftHsmToken, type SoftHsmToken } from "@viafabric/hsm";
import { commandsIn, freePort, ROOT, run } from "./typing-testkit.ts";

const folder = mkdtempSync(path.join(tmpdir(), "via-keys-"));
// PostgreSQL does not run as root: its own user must be able to reach the database below this folder.
chmodSync(folder, 0o755);
const secret = path.join(folder, "passphrase");
const OTHERS = ["2", "3"];
/** Where the others ask for a passphrase, Amina's token asks for a PIN. */
const ASKS_PIN = /trustee init .*trustees\/1/;
const ASKS_PASSPHRASE = /^\.\/via (trustee (init|enroll|sign)|writer init) .*(trustees\/[23]|station|release)/;
const ASKS_YES = /^\.\/via (trustee (enroll|sign)|node init) /;
let service: ChildProcess | undefined;

after(async () => {
  if (service?.exitCode === null) {
    service.kill("SIGTERM");
    await once(service, "exit");
  }
  if (existsSync(path.join(folder, "vault")))
    await run("./via", ["vault", "remove", "--home", `${folder}/vault`, "--yes"]);
  rmSync(folder, { recursive: true, force: true });
});

test("docs/keys.md: two tokens, a transcript, a class that a node asks for, an issuer that is followed", async () => {
  writeFileSync(secret, "a drill, and no secret\n", { mode: 0o600 });
  const vault = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "vault" });
  const amina = await initSoftHsmToken({ folder: path.join(folder, "amina"), label: "amina" });
  const url = `http://127.0.0.1:${await freePort()}`;
  let event = "";

  const type = async (written: string): Promise<Record<string, unknown>> => {
    const ofAmina = written.includes(".via/trustees/1 ") || written.endsWith(".via/trustees/1");
    const token = ofAmina && written.startsWith("./via trustee") ? amina : vault;
    let command = onToken(written, token)
      .replaceAll(".via/", `${folder}/`)
      .replace(/\bEVENT\b/, event);
    command = command.replace("amina.pin", amina.pinFile);
    if (ASKS_PIN.test(written)) command += ` --pin-file ${amina.pinFile}`;
    if (ASKS_PASSPHRASE.test(written)) command += ` --passphrase-file ${secret}`;
    if (ASKS_YES.test(written)) command += " --yes";
    if (/trustee (review|sign)|vault (wait|keys rotate)/.test(written)) command += ` --vault ${url}`;
    const env = { ...process.env, SOFTHSM2_CONF: token.confFile };
    const { exitCode, output, errors } = await run("bash", ["-c", `${command} --json`], env);
    assert.equal(exitCode, 0, `${written}\n${output}${errors}`);
    return JSON.parse(output) as Record<string, unknown>;
  };

  for (const n of OTHERS) await type(`./via trustee init --name Other --home .via/trustees/${n}`);
  await type("./via writer init --name Station --home .via/station");
  await type("./via writer init --release --name Release --home .via/release");
  const commands = commandsIn("keys.md");
  assert.ok(commands.length >= 10, `${commands.length} commands`);
  const lists: (readonly ListedKey[])[] = [];
  for (const command of commands) {
    const result = await type(command);
    if (command.includes("trustee enroll")) {
      for (const n of OTHERS) await type(`./via trustee enroll --genesis .via/vault/genesis --home .via/trustees/${n}`);
      await type("./via vault genesis --home .via/vault");
      service = await serve(url);
    }
    if (command.includes("keys list")) lists.push(result.keys as readonly ListedKey[]);
    if (command.includes("keys check"))
      assert.equal((result.device as { tokenSerial: string }).tokenSerial, vault.tokenSerial, "made in that token");
    if (command.includes("keys rotate")) event = String(result.event);
  }
  const [before, then] = lists.map((keys) => keys.filter(({ role }) => role === "issuer"));
  assert.deepEqual([before!.length, then!.length], [1, 2], "the old key stays, and the new one is listed");
  assert.ok(then!.every(({ standing }) => standing.startsWith("listed until")));
  assert.ok(then![0]!.until < before![0]!.until, "the old one has an end");
});

interface ListedKey {
  readonly role: string;
  readonly standing: string;
  readonly until: number;
}

/** The document names a token that nobody has here. */
function onToken(command: string, { module, tokenSerial, pinFile }: SoftHsmToken): string {
  return command
    .replace("serial=0123", `serial=${tokenSerial}`)
    .replace(/module-path=[^&']*/, `module-path=${module}`)
    .replace("/etc/via/hsm-pin", pinFile);
}

async function serve(url: string): Promise<ChildProcess> {
  const args = ["vault", "serve", "--home", path.join(folder, "vault"), "--port", new URL(url).port, "--json"];
  const child = spawn("./via", args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit").then(([code]) => Promise.reject(new Error(`the vault ended with ${code}`)));
  await Promise.race([once(child.stdout, "data"), ended]);
  ended.catch(() => {});
  return child;
}
