/**
 * The only door to `pkcs11js`: loading a PKCS#11 module, slots, sessions, login.
 *
 * The binding is an optional native package and is loaded when a module is opened, so everything else in the house
 * works on machines without it. Rules that keep native code from crashing the process: only the main thread
 * initialises and finalises a module (two first C_Initialize at once crash SoftHSM), and `close()`, which unloads the
 * library, is never called.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { readFileBounded } from "@viafabric/platform";
import { type DeviceInfo, formatHex, OperationError, sha256 } from "@viafabric/schemas";
import type { Attribute, Handle, PKCS11, Version } from "pkcs11js";
import { CKR_USER_ALREADY_LOGGED_IN, ckrError, hsmError } from "./ckr.ts";

export type { Attribute, Handle };

/** PKCS#11 v3.1 names that the binding does not have, or that we want without loading it. */
export const CK = {
  CKA_CLASS: 0x0,
  CKA_TOKEN: 0x1,
  CKA_PRIVATE: 0x2,
  CKA_LABEL: 0x3,
  CKA_VALUE: 0x11,
  CKA_KEY_TYPE: 0x100,
  CKA_ID: 0x102,
  CKA_SENSITIVE: 0x103,
  CKA_ENCRYPT: 0x104,
  CKA_DECRYPT: 0x105,
  CKA_WRAP: 0x106,
  CKA_UNWRAP: 0x107,
  CKA_SIGN: 0x108,
  CKA_SIGN_RECOVER: 0x109,
  CKA_VERIFY: 0x10a,
  CKA_DERIVE: 0x10c,
  CKA_EXTRACTABLE: 0x162,
  CKA_LOCAL: 0x163,
  CKA_NEVER_EXTRACTABLE: 0x164,
  CKA_ALWAYS_SENSITIVE: 0x165,
  CKA_EC_PARAMS: 0x180,
  CKA_EC_POINT: 0x181,
  CKO_PUBLIC_KEY: 2,
  CKO_PRIVATE_KEY: 3,
  CKK_EC: 3,
  CKK_EC_EDWARDS: 0x40,
  CKM_EC_KEY_PAIR_GEN: 0x1040,
  CKM_ECDSA: 0x1041,
  CKM_EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
  CKM_EDDSA: 0x1057,
  CKF_OS_LOCKING_OK: 2,
  CKF_RW_SESSION: 2,
  CKF_SERIAL_SESSION: 4,
  CKF_TOKEN_INITIALIZED: 0x400,
  CKS_RO_USER_FUNCTIONS: 1,
  CKS_RW_USER_FUNCTIONS: 3,
  CKU_SO: 0,
  CKU_USER: 1,
} as const;

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

/** For a worker thread: the module that the main thread has initialised already. */
export async function loadLibrary(file: string): Promise<PKCS11> {
  const binding = await import("pkcs11js").catch((cause: unknown) => {
    throw new OperationError(
      "ERR_HSM_MODULE",
      "the PKCS#11 binding is missing: install a C++ compiler and make, then run `npm rebuild pkcs11js`",
      { cause },
    );
  });
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) {
    throw new OperationError(
      "ERR_HSM_MODULE",
      `there is no PKCS#11 module at ${file}: install the device's software (for tests: apt-get install softhsm2)`,
    );
  }
  const library = new binding.PKCS11();
  try {
    library.load(file);
  } catch (cause) {
    throw new OperationError("ERR_HSM_MODULE", `${file} is not a PKCS#11 module that loads here`, { cause });
  }
  return library;
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
    if (answer.ok || answer.ckr === CKR_USER_ALREADY_LOGGED_IN) return;
    if (answer.ckr === undefined) throw new OperationError("ERR_HSM_PIN", answer.reason);
    throw ckrError("log in to the token", answer.ckr, answer.reason);
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
  | { readonly ok: false; readonly ckr: number | undefined; readonly reason: string };

/** Runs calls into the module; what it throws becomes an OperationError. */
export function attempt<T>(doing: string, calls: () => T): T {
  try {
    return calls();
  } catch (error) {
    throw hsmError(doing, error);
  }
}
