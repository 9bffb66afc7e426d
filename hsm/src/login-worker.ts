/**
 * The throw-away thread that logs the process in (see `login` in pkcs11.ts): it alone ever holds the PIN.
 *
 * Login state belongs to the process, not to a thread, so the main thread's sessions are logged in when this ends.
 */
import { stat } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import { readFileBounded } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import { ckrOf } from "./ckr.ts";
import { CK, type LoginAnswer, loadLibrary, PIN_BYTES_MAX } from "./pkcs11.ts";

async function login({ path, slot, pinFile }: { path: string; slot: Uint8Array; pinFile: string }): Promise<void> {
  const pin = await readPin(pinFile);
  // The main thread has initialised the module; doing it here as well would crash it.
  const library = await loadLibrary(path);
  const session = library.C_OpenSession(Buffer.from(slot), CK.CKF_SERIAL_SESSION);
  try {
    library.C_Login(session, CK.CKU_USER, pin);
  } finally {
    library.C_CloseSession(session);
  }
}

async function readPin(file: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found && (found.mode & 0o077) !== 0)
    throw new OperationError("ERR_HSM_PIN", `others can read the PIN file ${file}: chmod 600 it`);
  const pin = Buffer.from(await readFileBounded(file, PIN_BYTES_MAX))
    .toString("utf8")
    .replace(/\r?\n$/, "");
  if (pin.length === 0) throw new OperationError("ERR_HSM_PIN", `the PIN file ${file} is empty`);
  return pin;
}

function reply(answer: LoginAnswer): void {
  parentPort?.postMessage(answer);
}

await login(workerData).then(
  () => reply({ ok: true }),
  (error: unknown) => reply({ ok: false, ckr: ckrOf(error), reason: error instanceof Error ? error.message : "" }),
);
