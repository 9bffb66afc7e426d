/**
 * One thread of a signing pool (pool.ts): its own session, signing packed messages one after the other.
 *
 * Each signature is verified before it leaves the thread: against faults, a wrong key and a wrong buffer. The main
 * thread starts the module and logs in; this one only opens sessions. After a fault it hands over what it has made so
 * far and forgets its session; what to do about it is decided in the main thread (recovery.ts).
 */
import { parentPort, workerData } from "node:worker_threads";
import { isValidSignature, OperationError, type PublicKey, parsePublicKey, SIGNATURE_BYTES } from "@viafabric/schemas";
import { faultOf, HsmError, hsmError } from "./ckr.ts";
import { abandon, closeSession, type KeySession, openKeySession, stillOpen } from "./key-session.ts";
import { type PoolAnswer, type PoolTask, signPack } from "./pack.ts";
import { loadLibrary } from "./pkcs11.ts";
import type { PoolWorkerData } from "./pool.ts";

const { path, id, spki } = workerData as PoolWorkerData;
const expected: PublicKey = parsePublicKey(spki);
const library = await loadLibrary(path);
let open: KeySession | undefined;

function sessionFor(task: PoolTask): KeySession {
  const era = { ...task.era, slot: Buffer.from(task.era.slot) };
  open = stillOpen(open, era);
  open ??= openKeySession(library, era, id, expected);
  return open;
}

function verify(message: Uint8Array, signature: Uint8Array): void {
  if (isValidSignature(expected, message, signature)) return;
  throw new HsmError("ERR_HSM_DEVICE", "the token made a signature that does not verify", { fault: "session" });
}

function answer(task: PoolTask): PoolAnswer {
  const signatures = new Uint8Array(task.ends.length * SIGNATURE_BYTES);
  let verified = 0;
  try {
    signPack(sessionFor(task), task, signatures, (message, signature) => {
      verify(message, signature);
      verified++;
    });
    return { signatures };
  } catch (error) {
    if (open) abandon(open.session);
    open = undefined;
    const { code, message } = error instanceof OperationError ? error : hsmError("sign", error);
    const failure = { fault: faultOf(error), code, message };
    return { signatures: signatures.slice(0, verified * SIGNATURE_BYTES), failure };
  }
}

parentPort!.on("message", (task: PoolTask | "close") => {
  if (task !== "close") {
    const result = answer(task);
    return parentPort!.postMessage(result, [result.signatures.buffer as ArrayBuffer]);
  }
  if (open) closeSession(open.session);
  parentPort!.close();
});
