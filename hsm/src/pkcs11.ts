/**
 * A PKCS#11 module in this process: loading it, slots, tokens, login.
 *
 * Rules that keep native code from crashing the process: only the main thread initialises and finalises a module (two
 * first C_Initialize at once crash SoftHSM), and `close()`, which unloads the library, is never called.
 */
import path from "node:path";
import { Worker } from "node:worker_threads";
import { readFileBounded } from "@viafabric/platform";
import { type DeviceInfo, formatHex, OperationError, sha256 } from "@viafabric/schemas";
import type { Attribute, Handle, PKCS11, Version } from "pkcs11js";
import { CK, loadBinding } from "./binding.ts";
import { CKR_USER_ALREADY_LOGGED_IN, ckrError, ckrOf, hsmError } from "./ckr.ts";

export type { Attribute, Handle };
export { CK };

/** The largest vendor libraries are some tens of megabytes. */
const MODULE_BYTES_MAX = 256 * 1024 * 1024;

export interface Module {
  readonly path: string;
  readonly library: PKCS11;
  /** Finalises the module when its last user lets go. */
  release(): void;
}

interface LoadedModule {
  readonly library: PKCS11;
  users: number;
}

// A module is one per process, whoever opens it: its sessions and its login are shared by everybody in here.
const loadedModules = new Map<string, LoadedModule>();

/**
 * Loads and initialises a module. SoftHSM reads SOFTHSM2_CONF from the environment here. Without it, it would silently
 * show the machine's own tokens, which is why a token is chosen by its serial or label and never by its place.
 * @throws OperationError ERR_HSM_MODULE
 */
export async function openModule(file: string): Promise<Module> {
  const loaded = loadedModules.get(file) ?? { library: await loadLibrary(file), users: 0 };
  loadedModules.set(file, loaded);
  // Signing threads share the module: without this flag it would use no locks, and corrupt its memory.
  const flags = CK.CKF_OS_LOCKING_OK;
  if (loaded.users === 0) attempt(`initialise ${file}`, () => loaded.library.C_Initialize({ flags }));
  loaded.users++;
  let held = true;
  return {
    path: file,
    library: loaded.library,
    release() {
      if (!held) return;
      held = false;
      loaded.users--;
      if (loaded.users === 0) attempt(`finalise ${file}`, () => loaded.library.C_Finalize());
    },
  };
}

/** For a worker thread: the module that the main thread has initialised already. @throws OperationError ERR_HSM_MODULE */
export async function loadLibrary(file: string): Promise<PKCS11> {
  try {
    return await loadBinding(file);
  } catch (cause) {
    throw new OperationError("ERR_HSM_MODULE", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

export interface TokenSlot {
  readonly slot: Handle;
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly initialised: boolean;
}

export function listTokens({ library }: Module): readonly TokenSlot[] {
  return attempt("list the tokens", () =>
    library.C_GetSlotList(true).map((slot) => {
      const info = library.C_GetTokenInfo(slot);
      const initialised = (info.flags & CK.CKF_TOKEN_INITIALIZED) !== 0;
      const [label, serial] = [trimmed(info.label), trimmed(info.serialNumber)];
      return {
        slot,
        label,
        serial,
        manufacturer: trimmed(info.manufacturerID),
        model: trimmed(info.model),
        initialised,
      };
    }),
  );
}

/** Fixed-width fields are padded with blanks, and with NULs by some. */
function trimmed(text: string): string {
  return text.replace(/[\0 ]+$/, "");
}

/**
 * How many sessions may still be opened, less one that stays for looking after the token; at least one.
 * CK_TOKEN_INFO: 0 is no limit, all ones that it does not say.
 * @param held by this process, as far as we know
 */
export function freeSessions({ library }: Module, slot: Handle, held: number): number {
  const { maxSessionCount: max, sessionCount } = attempt("look at the token", () => library.C_GetTokenInfo(slot));
  const says = (count: number) => count > 0 && count < UNAVAILABLE;
  if (!says(max)) return Number.POSITIVE_INFINITY;
  return Math.max(1, max - Math.max(held, says(sessionCount) ? sessionCount : 0) - 1);
}

/** A CK_ULONG may have 32 bits or 64. */
const UNAVAILABLE = 0xffffffff;

/** Names one token. At least its label or its serial; all that is given must match. */
export interface TokenName {
  readonly tokenLabel?: string;
  readonly tokenSerial?: string;
  readonly manufacturer?: string;
  readonly model?: string;
}

/** What the module and the token say about themselves. */
export async function describeDevice({ path: file, library }: Module, slot: Handle): Promise<DeviceInfo> {
  const bytes = await readFileBounded(file, MODULE_BYTES_MAX);
  const version = ({ major, minor }: Version) => `${major}.${minor}`;
  return attempt("describe the token", () => {
    const [module, token] = [library.C_GetInfo(), library.C_GetTokenInfo(slot)];
    const texts = {
      module: path.basename(file),
      moduleSha256: formatHex(sha256(bytes)),
      cryptoki: version(module.cryptokiVersion),
      moduleManufacturer: module.manufacturerID,
      moduleDescription: module.libraryDescription,
      moduleVersion: version(module.libraryVersion),
      tokenLabel: token.label,
      tokenSerial: token.serialNumber,
      tokenManufacturer: token.manufacturerID,
      tokenModel: token.model,
      hardwareVersion: version(token.hardwareVersion),
      firmwareVersion: version(token.firmwareVersion),
    };
    // They go into a document that people read: what is no plain text is shown as such.
    const plain = Object.entries(texts).map(([name, text]) => [name, trimmed(text).replace(/[^\x20-\x7e]/g, "?")]);
    return Object.fromEntries(plain) as DeviceInfo;
  });
}

/** @throws OperationError ERR_HSM_TOKEN unless exactly one initialised token matches */
export function findToken(module: Module, name: TokenName): TokenSlot {
  const { tokenLabel, tokenSerial, manufacturer, model } = name;
  if (tokenLabel === undefined && tokenSerial === undefined)
    throw new OperationError("ERR_HSM_TOKEN", "name the token by its label or its serial");
  const matches = listTokens(module).filter(
    (token) =>
      token.initialised &&
      (tokenLabel === undefined || token.label === tokenLabel) &&
      (tokenSerial === undefined || token.serial === tokenSerial) &&
      (manufacturer === undefined || token.manufacturer === manufacturer) &&
      (model === undefined || token.model === model),
  );
  const wanted = [
    tokenLabel && `label ${JSON.stringify(tokenLabel)}`,
    tokenSerial && `serial ${tokenSerial}`,
    manufacturer && `manufacturer ${JSON.stringify(manufacturer)}`,
    model && `model ${JSON.stringify(model)}`,
  ];
  const [token, ...others] = matches;
  if (!token || others.length > 0) {
    const what = wanted.filter(Boolean).join(" and ");
    throw new OperationError("ERR_HSM_TOKEN", `${matches.length} tokens with ${what} in ${module.path}`);
  }
  return token;
}

/** One of the two. */
export interface PinSource {
  readonly pinFile?: string;
  readonly pin?: string;
}

/**
 * A thread that can log the process in once. It reads the PIN file when it is asked to, and ends: the binding takes the
 * PIN as a JavaScript string, which cannot be wiped, and a thread that has ended leaves no copy of it behind.
 *
 * A thread takes time to start, so one may be started before it is needed.
 */
export class LoginThread {
  readonly #worker: Worker;
  readonly #answer: Promise<LoginAnswer>;

  constructor(module: Module) {
    const worker = new Worker(new URL("./login-worker.js", import.meta.url), { workerData: module.path });
    this.#worker = worker;
    this.#answer = new Promise<LoginAnswer>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", () => reject(new OperationError("ERR_HSM_DEVICE", "the login ended without an answer")));
    });
    // Whoever asks hears of it; a thread that nobody asks may end as it likes, and keeps no process alive.
    this.#answer.catch(() => {});
    worker.unref();
  }

  /** @throws OperationError ERR_HSM_PIN */
  async login(slot: Handle, { pinFile, pin }: PinSource): Promise<void> {
    this.#worker.ref();
    const request: LoginData = { slot: new Uint8Array(slot), pinFile, pin };
    this.#worker.postMessage(request);
    const answer = await this.#answer.finally(() => this.#worker.terminate());
    if (answer.ok) return;
    const ckr = ckrOf(Object.assign(new Error(answer.reason), { code: answer.code }));
    if (ckr === CKR_USER_ALREADY_LOGGED_IN) return;
    if (ckr === undefined) throw new OperationError("ERR_HSM_PIN", answer.reason);
    throw ckrError("log in to the token", ckr, answer.reason);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

export interface LoginData extends Readonly<Record<keyof PinSource, string | undefined>> {
  readonly slot: Uint8Array;
}

export type LoginAnswer =
  | { readonly ok: true }
  /** What the binding threw; or, without a code, why there is no PIN. */
  | { readonly ok: false; readonly code: unknown; readonly reason: string };

/** Runs calls into the module; what it throws becomes an OperationError. */
export function attempt<T>(doing: string, calls: () => T): T {
  try {
    return calls();
  } catch (error) {
    throw hsmError(doing, error);
  }
}
