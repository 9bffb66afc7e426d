/** `via vault notify`, as a person types it, on the home of a vault after genesis. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, test } from "node:test";
import { foundedVault } from "./testing-vault.test.ts";

const SECRET = "only a test, and long enough to be one";
const received: { readonly body: string; readonly hmac: unknown }[] = [];
let status = 200;
const server = createServer(async (request, response) => {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  received.push({ body: Buffer.concat(parts).toString(), hmac: request.headers["via-hmac"] });
  response.writeHead(status).end();
});

after(() => server.close());

function run(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const main = path.join(import.meta.dirname, "main.js");
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

test("a test reaches every channel, signed; one that does not hear it is named, and nothing else is sent", async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const vault = await foundedVault();
  const notify = (...args: readonly string[]) => run("notify", "--home", vault.home.root, ...args);
  const nobody = await notify("--test");
  assert.equal(nobody.code, 4);
  assert.match(nobody.stderr, /no channel in .*notify\.json; see --help/);
  await writeFile(path.join(vault.home.root, "secret"), SECRET, { mode: 0o600 });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const config = {
    webhooks: [{ name: "ops", url, secretFile: "secret" }],
    mailFolders: [{ name: "people", folder: "spool", from: "vault@example.org", to: ["amara@example.org"] }],
  };
  await writeFile(vault.home.notify, JSON.stringify(config));
  const listed = await notify("--json");
  assert.deepEqual([listed.code, received.length], [0, 0], "to look at the channels sends nothing");
  const sent = await notify("--test", "--json");
  assert.equal(sent.code, 0, sent.stderr);
  const channels = (text: string) =>
    (JSON.parse(text).channels as { channel: string; state: string }[]).map(({ channel, state }) => [channel, state]);
  assert.deepEqual(
    channels(sent.stdout).map(([, state]) => state),
    ["sent", "sent"],
  );
  const [{ body, hmac }] = received as [(typeof received)[number]];
  assert.equal(JSON.parse(body).kind, "test");
  assert.equal(hmac, `sha256=${createHmac("sha256", SECRET).update(body).digest("hex")}`);
  const spool = path.join(vault.home.root, "spool");
  const [mail] = await readdir(spool);
  assert.match(await readFile(path.join(spool, mail!), "latin1"), /^To: amara@example\.org/m);
  status = 403;
  const refused = await notify("--test", "--json");
  assert.equal(refused.code, 4);
  assert.deepEqual(
    channels(refused.stdout).map(([, state]) => state),
    ["failed", "sent"],
  );
  for (const { stdout, stderr } of [listed, sent, refused]) assert.ok(!(stdout + stderr).includes(SECRET));
});
