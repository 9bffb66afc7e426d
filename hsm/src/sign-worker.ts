/**
 * One thread of a signing pool (pool.ts): its own session, signing packed messages one after the other.
 *
 * Each signature is verified before it leaves the thread: against faults, a wrong key and a wrong buffer. The main
 * thread has initialised the module and logged in; this one only opens a session.
 */
import { parentPort, workerData } from "node:worker_threads";
import { isValidSignature, OperationError, parsePublicKey, SIGNATURE_BYTES } from "@viafabric/schemas";
import { ckrOf } from "./ckr.ts";
import { checkKey, findKey, type Session, signWith, type TokenKey } from "./keys.ts";
import { CK, loadLibrary } from "./pkcs11.ts";
import type { PoolAnswer, PoolTask, PoolWorkerData } from "./pool.ts";

const { path, slot, id, spki } = workerData as PoolWorkerData;
const expected = parsePublicKey(spki);
const library = await loadLibrary(path);
let open: { readonly session: Session; readonly key: TokenKey } | undefined;

function openSession(): { readonly session: Session; readonly key: TokenKey } {
  const session = { library, handle: library.C_OpenSession(Buffer.from(slot), CK.CKF_SERIAL_SESSION) };
  try {
    const key = findKey(session, id);
    checkKey(key, id, expected);
    return { session, key };
  } catch (error) {
    library.C_CloseSession(session.handle);
    throw error;
  }
}

function signTask({ packed, ends }: PoolTask): Uint8Array {
  open ??= openSession();
  const { session, key } = open;
  const signatures = new Uint8Array(ends.length * SIGNATURE_BYTES);
  let start = 0;
  ends.forEach((end, i) => {
    const message = packed.subarray(start, end);
    const signature = signWith(session, key, message);
    if (!isValidSignature(expected, message, signature))
      throw new OperationError("ERR_HSM_DEVICE", "the token made a signature that does not verify");
    signatures.set(signature, i * SIGNATURE_BYTES);
    start = end;
  });
  return signatures;
}

function answer(task: PoolTask): PoolAnswer {
  try {
    return { ok: true, signatures: signTask(task) };
  } catch (error) {
    // After a failed call the state of the session is unknown: it signs nothing more.
    const lost = open?.session.handle;
    open = undefined;
    try {
      if (lost) library.C_CloseSession(lost);
    } catch {
      // The module has lost it already.
    }
    const code = error instanceof OperationError ? error.code : undefined;
    const reason = error instanceof Error ? error.message : String(error);
    return { ok: false, code, ckr: ckrOf(error), reason };
  }
}

parentPort!.on("message", (task: PoolTask | "close") => {
  if (task === "close") {
    if (open) library.C_CloseSession(open.session.handle);
    parentPort!.close();
    return;
  }
  const result = answer(task);
  parentPort!.postMessage(result, result.ok ? [result.signatures.buffer as ArrayBuffer] : []);
});
