/**
 * kill -9 on the station, again and again, at moments drawn from a printed seed, while a hand lays tag after tag on
 * the reader. This file is both the test and, started with arguments, the station that is killed.
 */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseTag } from "@viafabric/nfc";
import { openReader } from "@viafabric/nfc/reader";
import { startSimulator } from "@viafabric/nfc/simulator";
import {
  decodeCompact,
  decodeReceipt,
  equalBytes,
  formatHex,
  hmacSha256,
  OperationError,
  sha256,
} from "@viafabric/schemas";
import { kitWorld, NOW, STATION } from "./fixtures.test.ts";
import { openLedger } from "./ledger.ts";
import { verifyKit } from "./verify-kit.ts";
import { writeTags } from "./write-tags.ts";

const TOKENS = 25;
/** A tag takes about ten milliseconds: most starts are killed in the middle of one. */
const KILL_MS_MAX = 150;
const STARTS_MAX = 300;

const [socket, ledgerFile] = process.argv.slice(2);
if (socket !== undefined && ledgerFile !== undefined) await runStation(socket, ledgerFile);
else test("killed at any moment, the station loses no serial and writes none twice", killAndCheck);

async function runStation(pcsc: string, file: string): Promise<void> {
  const { kit, trust, manifestProof } = await kitWorld(TOKENS);
  const verified = verifyKit(kit, { trust, station: STATION.publicKey.kid, manifestProof }, NOW);
  const ledger = await openLedger(file, kit);
  const reader = await openReader({ socket: pcsc });
  process.send?.("ready");
  const options = { overwrite: false, lock: false, idleMs: 3000 };
  await writeTags([reader], { verified, ledger, signer: STATION, options, report: () => {}, now: () => NOW });
  reader.close();
  await ledger.close();
  process.disconnect?.();
}

async function killAndCheck(): Promise<void> {
  const seed = Date.now() % 2 ** 31;
  console.log(`# seed ${seed}`);
  const folder = await mkdtemp(path.join(tmpdir(), "via-killed-"));
  const simulator = await startSimulator({ folder: path.join(folder, "sim") });
  const file = path.join(folder, "ledger");
  try {
    // One tag more than tokens: whoever writes a serial twice has room for it.
    const tags = path.join(folder, "tags");
    await simulator.hand({ folder: tags, model: "ntag213", count: TOKENS + 1, pauseMs: 5 });
    let exitCode: number | null = null;
    let start = 0;
    for (; exitCode !== 0; start++) {
      assert.ok(start < STARTS_MAX, "the kit was never finished");
      const draw = sha256(new TextEncoder().encode(`${seed}/${start}`));
      exitCode = await startAndKill(simulator.sockets.pcsc, file, ((draw[0]! * 256 + draw[1]!) * KILL_MS_MAX) / 65536);
    }
    console.log(`# killed ${start - 1} times`);
    await assertWhole(file, tags, simulator);
  } finally {
    await simulator.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** @returns null when it was killed before it was done */
function startAndKill(pcsc: string, file: string, afterMs: number): Promise<number | null> {
  return new Promise((resolve) => {
    const child = fork(fileURLToPath(import.meta.url), [pcsc, file], { execArgv: [] });
    let timer: NodeJS.Timeout | undefined;
    child.once("message", () => {
      timer = setTimeout(() => child.kill("SIGKILL"), afterMs);
    });
    child.once("exit", (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
}

async function assertWhole(file: string, tags: string, simulator: Awaited<ReturnType<typeof startSimulator>>) {
  const { kit } = await kitWorld(TOKENS);
  const ledger = await openLedger(file, kit);
  assert.deepEqual(ledger.counts, { written: TOKENS, void: 0, reserved: 0, free: 0, uploaded: 0 });
  const carried = new Set<number>();
  for (const bytes of ledger.receipts) {
    const { receipt } = decodeReceipt(bytes);
    const uid = ledger.serialAt(receipt.index)!.reservation!.uid;
    // Taken away at its beep, or still lying there because the station was killed before it.
    const saved = await simulator.loadTag(path.join(tags, `${formatHex(uid)}.bin`)).catch((error: unknown) => {
      if (error instanceof OperationError) return formatHex(uid);
      throw error;
    });
    const parsed = parseTag((await simulator.readTag(saved)).memory);
    assert.equal(parsed.layout, "compact");
    if (parsed.layout === "compact") carried.add(decodeCompact(parsed.token).index);
    assert.ok(equalBytes(receipt.uidMac, hmacSha256(kit.uidKey, uid)));
  }
  assert.equal(carried.size, TOKENS);
  await ledger.close();
}
