/**
 * What a vault publishes, read by TUF clients of other people: not golden files, but those of an authority that was
 * founded and issued a batch a minute ago. After rotations of its root they read it in drills.long.ts.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { followVault, vaultClients } from "./tuf-clients/follow-vault.ts";
import { skipReason } from "./tuf-clients/peers.ts";

const TOUR = fileURLToPath(new URL("../../tour/dist/main.js", import.meta.url));
const TOUR_MS_MAX = 600_000;

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "viafabric-tuf-vault-"));
  const home = path.join(folder, "via");
  await promisify(execFile)(process.execPath, [TOUR, "--once", "--home", home, "--port", "18180"], {
    timeout: TOUR_MS_MAX,
    maxBuffer: 64 * 1024 * 1024,
  });
});
after(() => rm(folder, { recursive: true, force: true }));

for (const each of await vaultClients()) {
  const skip = skipReason(each.client, each.peer);
  test(`${each.client} follows a vault from root 1, and again with nothing new`, { skip }, async () => {
    await followVault(each, path.join(folder, "via/vault/public"), folder);
  });
}
