/** What `vault init` refuses, it refuses without leaving anything behind; a real token stands behind each case. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { initSoftHsmToken, type SoftHsmToken } from "@viafabric/hsm";
import { readSignerConfig } from "@viafabric/hsm/signer";
import { CodedError } from "@viafabric/schemas";
import { genesisWorld, NOW } from "./fixtures.test.ts";
import { type InitOptions, initVault } from "./founding.ts";
import { homeAt } from "./home.ts";

let folder: string;
let token: SoftHsmToken;
let options: InitOptions;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "founding-"));
  token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "vault" });
  const { trustees, stations, releases, host } = (await genesisWorld()).options;
  options = { trustees, stations, releases, host, now: NOW };
});

after(() => rm(folder, { recursive: true }));

test("SoftHSM and keys in files are never hardware, and a refused init leaves an empty place", async () => {
  const { module } = token;
  for (const [code, change] of [
    ["ERR_HSM_TOKEN", { keyClass: "hardware" }],
    ["ERR_HSM_TOKEN", { keyClass: "hardware", software: true }],
    ["ERR_HSM_TOKEN", { keyClass: "hardware", token }],
    ["ERR_HSM_TOKEN", { token: { ...token, model: "another" } }],
    ["ERR_HSM_MODULE", { token: { ...token, module: `${module}.missing` } }],
    ["ERR_HSM_PIN", { token: { ...token, pinFile: "/nowhere" } }],
  ] as const) {
    const home = homeAt(path.join(folder, "refused"));
    await assert.rejects(initVault(home, { ...options, ...change }), (error) => {
      assert.ok(error instanceof CodedError, String(error));
      assert.equal(error.code, code, error.message);
      return true;
    });
    assert.deepEqual(await readdir(home.root).catch(() => []), []);
  }
});

test("P-256 is for every key but the two that sign notes", async () => {
  const home = homeAt(path.join(folder, "p256"));
  const { targetFiles } = await initVault(home, { ...options, token, algorithm: "p256" });
  const { keys } = await readSignerConfig(home.signerConfig);
  const algorithms = Object.entries(keys).map(([role, held]) => [role, held[0]!.publicKey.algorithm]);
  const notes = { log: "ed25519", status: "ed25519" };
  const other = { issuer: "p256", snapshot: "p256", timestamp: "p256", revocations: "p256" };
  assert.deepEqual(Object.fromEntries(algorithms), { ...notes, ...other });
  assert.ok(targetFiles.size > 0);
});
