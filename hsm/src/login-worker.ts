/**
 * The throw-away thread that logs the process in (see `LoginThread` in pkcs11.ts): it alone ever holds the PIN.
 *
 * Login state belongs to the process, not to a thread, so the main thread's sessions are logged in when this ends.
 */
import { parentPort, workerData } from "node:worker_threads";
import { ckrOf } from "./ckr.ts";
import { CK, type LoginAnswer, type LoginData, loadLibrary } from "./pkcs11.ts";
import { readSecretFile } from "./secret-file.ts";

// The main thread has initialised the module; doing it here as well would crash it.
const library = await loadLibrary(workerData);

async function login({ slot, pinFile, pin: typed }: LoginData): Promise<void> {
  if (pinFile === undefined && typed === undefined) throw new Error("no PIN was given");
  const pin = typed ?? (await readSecretFile(pinFile!));
  const session = library.C_OpenSession(Buffer.from(slot), CK.CKF_SERIAL_SESSION);
  try {
    library.C_Login(session, CK.CKU_USER, pin);
  } finally {
    library.C_CloseSession(session);
  }
}

function reply(answer: LoginAnswer): void {
  parentPort?.postMessage(answer);
}

parentPort!.once("message", async (request: LoginData) => {
  await login(request).then(
    () => reply({ ok: true }),
    (error: unknown) => reply({ ok: false, ckr: ckrOf(error), reason: error instanceof Error ? error.message : "" }),
  );
});
