import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openKeystore } from "@viafabric/platform";
import { signRequest, utf8 } from "@viafabric/schemas";
import { checkHouse, sweep } from "./testing-crash.test.ts";
import { approvedBatch, eventually, foundedVault, type LivingVault } from "./testing-vault.test.ts";

/** Every seventh call, from a drawn one on; crash.long.ts fails them all. */
const STRIDE = 7;

for (const tookEffect of [false, true]) {
  const start = randomInt(1, STRIDE + 1);
  const when = tookEffect ? "after" : "before";
  test(`a failure of a call loses nothing and does nothing twice (${when} it took effect, from call ${start})`, async () => {
    assert.ok((await sweep(tookEffect, start, STRIDE)) >= 5);
  });
}

test("a killed vault is started again and goes on; Ctrl-C leaves no process behind", async () => {
  const vault = await foundedVault();
  const main = path.join(import.meta.dirname, "main.js");
  const start = async () => {
    const args = [main, "serve", "--home", vault.home.root, "--port", "18080", "--json"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    const url = await eventually(async () => /"url": "([^"]+)"/.exec(text)?.[1], "the ready line");
    return { child, ended, url };
  };
  const serverPid = async () => {
    const base = (await readFile(`${vault.home.db}.path`, "utf8").catch(() => vault.home.db)).trim();
    return Number((await readFile(path.join(base, "data/postmaster.pid"), "utf8")).split("\n")[0]);
  };
  const operator = await openKeystore(vault.home.operator, "only a test");

  const first = await start();
  const overHttp: LivingVault = { ...vault, send: (...args) => sendTo(first.url, vault, ...args) };
  const event = await approvedBatch(overHttp, operator, 20);
  first.child.kill("SIGKILL");
  await first.ended;
  const left = await serverPid();

  const second = await start();
  assert.equal(await serverPid(), left, "the database that was left behind is joined");
  const look = async () => {
    const found = (await (await fetch(`${second.url}/events/${event}`)).json()) as { state: string };
    return found.state === "published" ? true : undefined;
  };
  await eventually(look, "the batch that was approved before the kill");
  await checkHouse(vault, 1, 0);
  second.child.kill("SIGINT");
  assert.equal(await second.ended, 0);
  await sleep(50);
  assert.throws(() => process.kill(left, 0), "the database has stopped");
});

async function sendTo(
  url: string,
  vault: LivingVault,
  ...[signer, method, at, body]: Parameters<LivingVault["send"]>
): Promise<Record<string, unknown>> {
  const bytes = body === undefined ? new Uint8Array(0) : utf8(JSON.stringify(body));
  const nonce = new Uint8Array(randomBytes(16));
  const signed = { method, path: at, body: bytes, time: Math.floor(Date.now() / 1000), nonce };
  const headers = signer ? await signRequest(signer, vault.authority, signed) : {};
  const response = await fetch(url + at, {
    method,
    headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: Buffer.from(bytes) }),
  });
  assert.ok(response.ok, `${method} ${at}: ${response.status}`);
  return (await response.json()) as Record<string, unknown>;
}
