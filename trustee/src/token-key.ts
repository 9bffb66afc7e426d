/**
 * A trustee's key in a PKCS#11 token. `token.json` says which token and which key; the PIN is asked for each time and
 * stands nowhere.
 *
 *     { "module": "/usr/lib/…", "key": "pkcs11:token=…;serial=…;id=%01", "spki": "<base64>" }
 *
 * Whatever else a module needs, such as SoftHSM its SOFTHSM2_CONF, is in the environment of the command. A PIN that the token refused is never tried again by itself: three wrong
 * ones lock many tokens for good.
 */
import { formatHsmUri, type HsmOptions, openHsm, parseHsmUri } from "@viafabric/hsm";
import { putImmutable, readFileIfPresent } from "@viafabric/platform";
import {
  type Algorithm,
  formatBase64,
  OperationError,
  type PublicKey,
  parseBase64,
  parsePublicKey,
  parseUtf8,
  type Signer,
  utf8,
} from "@viafabric/schemas";

/** Where a key is, before anybody has looked. */
export interface TokenPlace {
  readonly token: Omit<HsmOptions, "pin" | "pinFile">;
  readonly id: Uint8Array;
}

export interface TokenKey extends TokenPlace {
  readonly key: PublicKey;
}

const FILE_BYTES_MAX = 8192;

/** @throws FormatError ERR_HSM_URI; OperationError ERR_USAGE */
export function tokenPlace(uri: string): TokenPlace {
  const { token, id, object, module, pinFile } = parseHsmUri(uri);
  if (!id || !module) throw usage("--hsm names a key by its id, and its module with module-path");
  if (object !== undefined) throw usage("--hsm names a key by its id; a label may be on several");
  if (pinFile !== undefined) throw usage("name the PIN's file with --pin-file: the home does not keep where it is");
  return { token: { ...token, module }, id };
}

/**
 * Takes a key of a token as the home's own.
 * @param make a new key under that id; otherwise it must be there
 * @throws OperationError ERR_HSM_MODULE, ERR_HSM_TOKEN, ERR_HSM_PIN, ERR_HSM_KEY
 */
export async function adoptTokenKey(
  file: string,
  { token, id }: TokenPlace,
  pin: string,
  make: Algorithm | undefined,
): Promise<Signer> {
  if (await readFileIfPresent(file, FILE_BYTES_MAX))
    throw new OperationError("ERR_HOME", `${file} names a key already`);
  const hsm = await openHsm({ ...token, pin });
  if (make) await hsm.generateKey(id, "viafabric trustee", make);
  const signer = await hsm.signer(id);
  // With the serial, whatever the URI said: another token of the same label is another token.
  const named = { ...token, tokenLabel: hsm.tokenLabel, tokenSerial: hsm.tokenSerial };
  await putImmutable(file, format({ token: named, id, key: signer.publicKey }));
  return signer;
}

/** The token stays open: its process ends with the command. */
export async function openTokenKey({ token, id, key }: TokenKey, pin: string): Promise<Signer> {
  return (await openHsm({ ...token, pin })).signer(id, key);
}

/** Undefined where the home has a keystore instead. @throws OperationError ERR_HOME when it is damaged */
export async function readTokenFile(file: string): Promise<TokenKey | undefined> {
  const bytes = await readFileIfPresent(file, FILE_BYTES_MAX);
  if (!bytes) return undefined;
  try {
    const document = JSON.parse(parseUtf8(bytes)) as Readonly<Record<"module" | "key" | "spki", unknown>>;
    const { token, id } = parseHsmUri(String(document.key));
    const key = parsePublicKey(parseBase64(String(document.spki)));
    const found = { token: { ...token, module: String(document.module) }, id: id!, key };
    if (Buffer.compare(format(found), bytes) === 0) return found;
  } catch (cause) {
    throw new OperationError("ERR_HOME", `${file} does not name a key in a token`, { cause });
  }
  throw new OperationError("ERR_HOME", `${file} is of another version, or was edited`);
}

function format({ token, id, key }: TokenKey): Uint8Array {
  const document = { module: token.module, key: formatHsmUri({ token, id }), spki: formatBase64(key.spki) };
  return utf8(`${JSON.stringify(document, undefined, 2)}\n`);
}

function usage(reason: string): OperationError {
  return new OperationError("ERR_USAGE", reason);
}
