/**
 * The process that signs for hsm.ts: it opens a token once, whose configuration its environment names, and runs what
 * it is asked to, telling how long that took and how much of the processors' time.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { openHsm } from "@viafabric/hsm";
import { Device, loadLibrary, packSize, packTask } from "@viafabric/hsm/measure";
import { openJournal } from "@viafabric/platform";
import {
  isValidSignature,
  type PublicKey,
  parseHex,
  parsePublicKey,
  SIGNATURE_BYTES,
  sha256,
} from "@viafabric/schemas";
import type { Cost, Job, Place } from "./hsm.ts";

const MESSAGE_BYTES = 200;

async function measured(work: () => Promise<void>): Promise<Cost> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { seconds: (performance.now() - start) / 1000, cpuSeconds: (user + system) / 1e6 };
}

function messagesOf(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const message = new Uint8Array(MESSAGE_BYTES);
    new DataView(message.buffer).setUint32(0, i);
    return message;
  });
}

/** The floor: see sign-loop.c. */
async function cLoop({ module, tokenLabel, pinFile, loop }: Place, id: Uint8Array, job: Job): Promise<Cost> {
  const library = await loadLibrary(loop);
  const pin = (await readFile(pinFile, "utf8")).trim();
  const text = Buffer.alloc(2048);
  text.write([module, tokenLabel, pin, Buffer.from(id).toString(), job.threads, job.count].join(" "));
  const answer = library.C_GenerateRandom(Buffer.alloc(8), text).toString();
  const [seconds, cpuSeconds] = answer.slice(0, answer.indexOf("\0")).split(" ").map(Number);
  return { seconds: seconds!, cpuSeconds: cpuSeconds! };
}

/** Threads, packs and the binding; nothing verified. */
async function bare(place: Place, id: Uint8Array, { threads, count }: Job): Promise<Cost> {
  const device = await Device.open(place);
  const era = await device.use((current) => current);
  const workerData = { path: place.module, id, era: { ...era, slot: new Uint8Array(era.slot) } };
  const workers = Array.from({ length: threads }, () => {
    return new Worker(new URL("./hsm-worker.js", import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, "message")));
  const run = async (messages: readonly Uint8Array[]) => {
    let next = 0;
    let made = 0;
    await Promise.all(
      workers.map(async (worker) => {
        while (next < messages.length) {
          const first = next;
          next += packSize(messages.length - first, threads);
          worker.postMessage(packTask(era, messages.slice(first, next)));
          const [signatures] = await once(worker, "message");
          made += signatures.length / SIGNATURE_BYTES;
        }
      }),
    );
    if (made !== messages.length) throw new Error(`${made} signatures`);
  };
  await run(messagesOf(1000));
  const cost = await measured(() => run(messagesOf(count)));
  for (const worker of workers) {
    worker.postMessage("close");
    await once(worker, "exit");
  }
  await device.close();
  return cost;
}

/** The pool as the signer uses it; with a journal, the batch is written down durably before it is signed. */
async function pool(place: Place, id: Uint8Array, key: PublicKey, job: Job): Promise<Cost> {
  const hsm = await openHsm(place);
  const journal = job.journal ? await openJournal(path.join(place.folder, `journal-${process.hrtime.bigint()}`)) : null;
  const threads = await hsm.pool(id, key, job.threads);
  const run = async (messages: readonly Uint8Array[]) => {
    await journal?.append(sha256(messages[0]!));
    await threads.signAll(messages);
  };
  await run(messagesOf(Math.max(1000, job.threads * 8)));
  const cost = await measured(() => run(messagesOf(job.count)));
  await journal?.close();
  await hsm.close();
  return cost;
}

/** The check of a signature alone, which no pipeline that verifies can do without. */
async function verify({ count }: Job): Promise<Cost> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const key = parsePublicKey(new Uint8Array(publicKey.export({ type: "spki", format: "der" })));
  const signed = messagesOf(count).map((message) => ({ message, signature: sign(null, message, privateKey) }));
  return measured(async () => {
    for (const { message, signature } of signed)
      if (!isValidSignature(key, message, signature)) throw new Error("a signature that does not verify");
  });
}

process.on("message", async ({ place, spki, id, job }: { place: Place; spki: string; id: string; job: Job }) => {
  const key = parsePublicKey(parseHex(spki));
  const keyId = parseHex(id);
  if (job.what === "c") process.send!(await cLoop(place, keyId, job));
  else if (job.what === "verify") process.send!(await verify(job));
  else if (job.what === "bare") process.send!(await bare(place, keyId, job));
  else process.send!(await pool(place, keyId, key, job));
});
