/**
 * The throw-away thread that logs the process in (see `LoginThread` in pkcs11.ts): it alone ever holds the PIN.
 *
 * Login state belongs to the process, not to a thread, so the main thread's sessions are logged in when this ends. A
 * token that lost its login signs nothing until a thread like this one has started, and most of that is loading code:
 * so it imports the binding and the file, and nothing of the house, which takes longer than the login itself.
 */
import { parentPort, workerData } from "node:worker_threads";
import { CK, loadBinding } from "./binding.ts";
import type { LoginAnswer, LoginData } from "./pkcs11.ts";
import { readSecret } from "./secret.ts";

// The main thread has initialised the module; doing it here as well would crash it.
const library = await loadBinding(workerData);

function login({ slot, pinFile, pin: typed }: LoginData): void {
  if (pinFile === undefined && typed === undefined) throw new Error("no PIN was given");
  const pin = typed ?? readSecret(pinFile!);
  const session = library.C_OpenSession(Buffer.from(slot), CK.CKF_SERIAL_SESSION);
  try {
    library.C_Login(session, CK.CKU_USER, pin);
  } finally {
    library.C_CloseSession(session);
  }
}

function answerTo(request: LoginData): LoginAnswer {
  try {
    login(request);
    return { ok: true };
  } catch (error) {
    if (!(error instanceof Error)) return { ok: false, code: undefined, reason: "" };
    return { ok: false, code: (error as { readonly code?: unknown }).code, reason: error.message };
  }
}

parentPort!.once("message", (request: LoginData) => parentPort!.postMessage(answerTo(request)));
