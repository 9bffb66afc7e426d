/**
 * A laptop without any PKCS#11 module: the story of `npm start` on keys in files, and the node that asks for hardware.
 */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { freePort, run } from "./typing-testkit.ts";

const folder = mkdtempSync(path.join(tmpdir(), "via-software-"));
// PostgreSQL does not run as root: its own user must be able to reach the database below this folder.
chmodSync(folder, 0o755);
const home = path.join(folder, "via");

after(async () => {
  await via("vault", "remove", "--home", path.join(home, "vault"), "--yes");
  rmSync(folder, { recursive: true, force: true });
});

// No token of this machine is to help out.
const env = { ...process.env, SOFTHSM2_CONF: path.join(folder, "none") };

async function via(...args: readonly string[]): Promise<{ exitCode: number; result: Record<string, unknown> }> {
  const { exitCode, output } = await run("./via", [...args, "--json"], env);
  return { exitCode, result: JSON.parse(output || "{}") };
}

test("keys in files take a token from request to refusal", async () => {
  const tour = ["tour/dist/main.js", "--once", "--software", "--home", home, "--port", String(await freePort())];
  const { exitCode, output, errors } = await run(process.execPath, tour, env);
  assert.equal(exitCode, 0, errors + output.slice(-2000));
  assert.match(output, /not-released → accept → revoked/);
  const checked = await via("vault", "keys", "check", "--home", path.join(home, "vault"));
  const {
    keys,
    class: keyClass,
    device,
  } = checked.result as {
    keys: { role: string }[];
    class: string;
    device: { moduleDescription: string };
  };
  assert.deepEqual(
    [checked.exitCode, keyClass, device.moduleDescription, keys.length],
    [0, "software", "keystore in files", 6],
  );
});

test("a node that asks for hardware refuses what they sign, and one that does not accepts it", async () => {
  const published = path.join(home, "vault", "public");
  const root = path.join(published, "root", "1.root.json");
  const dump = path.join(home, "station", "tags", "1.bin");
  for (const [name, flags, refreshed, expected] of [
    ["lenient", [], [0, undefined], [0, "accept"]],
    // Nothing of this authority is taken: the bundle's issuer and the statement's key are files.
    ["strict", ["--hardware"], [1, "status-invalid"], [1, "batch-not-held"]],
  ] as const) {
    const node = path.join(folder, name);
    assert.equal((await via("node", "init", "--root", root, "--home", node, "--yes", ...flags)).exitCode, 0);
    const refresh = await via("node", "refresh", "--from", published, "--home", node);
    assert.deepEqual([refresh.exitCode, refresh.result.error], refreshed, name);
    const { exitCode, result } = await via("node", "check", "--dump", dump, "--home", node);
    assert.deepEqual([exitCode, result.code], expected, name);
  }
});
