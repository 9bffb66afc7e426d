/**
 * SoftHSM2: the PKCS#11 module of laptops and tests. It keeps keys in files, so it protects nothing from whoever can
 * read them; its keys are class `software`.
 *
 * A token lives in a private folder with its own configuration, so that no other user's tokens are ever seen:
 *
 *     softhsm2.conf   pin   so-pin   tokens/
 */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ensureFolder, PRIVATE_FILE, PRIVATE_FOLDER, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import { formatBase64Url, OperationError, utf8 } from "@viafabric/schemas";
import { attempt, CK, findToken, listTokens, type Module, openModule } from "./pkcs11.ts";

const LIBRARY_PATHS = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
  "/usr/lib64/softhsm/libsofthsm.so",
  "/usr/local/lib/softhsm/libsofthsm2.so",
  "/opt/homebrew/lib/softhsm/libsofthsm2.so",
  // Where ./setup unpacks it when it may not install it.
  fileURLToPath(new URL("../../.system/usr/lib/softhsm/libsofthsm2.so", import.meta.url)),
];

/** CK_TOKEN_INFO.label is exactly this wide. */
const LABEL_BYTES = 32;
const CONF_BYTES_MAX = 4096;

export interface SoftHsmToken {
  readonly module: string;
  readonly confFile: string;
  readonly pinFile: string;
  readonly tokenLabel: string;
  readonly tokenSerial: string;
}

/** Where SoftHSM2 is installed. @throws OperationError ERR_HSM_MODULE */
export async function findSoftHsm(): Promise<string> {
  for (const candidate of LIBRARY_PATHS) {
    const found = await stat(candidate).catch(() => undefined);
    if (found?.isFile()) return candidate;
  }
  throw new OperationError("ERR_HSM_MODULE", "SoftHSM2 is not installed: run ./setup, or apt-get install softhsm2");
}

export interface SoftHsmRequest {
  /** Nobody else may enter it. */
  readonly folder: string;
  readonly label: string;
  /** Path of the library, when it is not in one of the usual places. */
  readonly module?: string;
}

/** Where `folder` has its configuration: what SOFTHSM2_CONF must name. */
export function confFileIn(folder: string): string {
  return path.join(path.resolve(folder), "softhsm2.conf");
}

/** In a process whose SOFTHSM2_CONF is `confFileIn(folder)`: see `initSoftHsmToken` in setup.ts. */
export async function makeSoftHsmToken(request: SoftHsmRequest): Promise<SoftHsmToken> {
  const { label } = request;
  const folder = path.resolve(request.folder);
  if (!/^[\x21-\x7e](?:[\x20-\x7e]{0,30}[\x21-\x7e])?$/.test(label))
    throw new RangeError(`a token label is 1 to ${LABEL_BYTES} printable ASCII characters: ${JSON.stringify(label)}`);
  const library = request.module ?? (await findSoftHsm());
  const confFile = confFileIn(folder);
  const pinFile = path.join(folder, "pin");
  if (await readFileIfPresent(confFile, CONF_BYTES_MAX))
    throw new OperationError("ERR_HSM_TOKEN", `${folder} has a token already`);

  const tokens = path.join(folder, "tokens");
  await ensureFolder(tokens, PRIVATE_FOLDER);
  const pin = randomPin();
  const securityOfficerPin = randomPin();
  await writeFileDurable(pinFile, utf8(`${pin}\n`), PRIVATE_FILE);
  await writeFileDurable(path.join(folder, "so-pin"), utf8(`${securityOfficerPin}\n`), PRIVATE_FILE);
  const conf = `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`;
  await writeFileDurable(confFile, utf8(conf), PRIVATE_FILE);

  const module = await openModule(library);
  try {
    initialise(module, label, pin, securityOfficerPin);
  } finally {
    module.release();
  }
  // Slot ids change when the module starts again after C_InitToken: read the serial from a fresh start.
  const again = await openModule(library);
  try {
    const { serial } = findToken(again, { tokenLabel: label });
    return { module: library, confFile, pinFile, tokenLabel: label, tokenSerial: serial };
  } finally {
    again.release();
  }
}

function initialise(module: Module, label: string, pin: string, securityOfficerPin: string): void {
  const { library } = module;
  const free = listTokens(module).find((token) => !token.initialised);
  if (!free) throw new OperationError("ERR_HSM_TOKEN", `${module.path} has no free slot`);
  attempt("initialise a token", () => {
    // The binding hands the label over as it is, and the module reads 32 bytes whatever its length.
    library.C_InitToken(free.slot, securityOfficerPin, label.padEnd(LABEL_BYTES));
    const session = library.C_OpenSession(free.slot, CK.CKF_SERIAL_SESSION | CK.CKF_RW_SESSION);
    library.C_Login(session, CK.CKU_SO, securityOfficerPin);
    library.C_InitPIN(session, pin);
    library.C_Logout(session);
    library.C_CloseSession(session);
  });
}

/** 192 random bits: SoftHSM has no lock-out, so its PIN must resist guessing against the files. */
function randomPin(): string {
  return formatBase64Url(randomBytes(24));
}
