/** A thread that signs packs and does nothing else: the pool's thread without the check of each signature. */
import { parentPort, workerData } from "node:worker_threads";
import { loadLibrary, openKeySession, type PoolTask, signPack } from "@viafabric/hsm/measure";
import { SIGNATURE_BYTES } from "@viafabric/schemas";

const { path, id, era } = workerData;
const library = await loadLibrary(path);
const session = openKeySession(library, { ...era, slot: Buffer.from(era.slot) }, id, undefined);

parentPort!.on("message", (task: PoolTask | "close") => {
  if (task === "close") return parentPort!.close();
  const signatures = new Uint8Array(task.ends.length * SIGNATURE_BYTES);
  signPack(session, task, signatures, () => {});
  parentPort!.postMessage(signatures, [signatures.buffer]);
});
parentPort!.postMessage("ready");
