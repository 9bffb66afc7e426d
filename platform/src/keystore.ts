/**
 * A private key in a file under a passphrase: what trustees, stations and release officers hold without a token.
 *
 * Ed25519; the seed is sealed with AES-256-GCM under a key that scrypt (RFC 7914, N = 2^17, r = 8, p = 1: 128 MiB a
 * guess) makes from the passphrase. The public key is in clear and bound to the seal, so one can see whose file it is,
 * and a swapped name is noticed.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, scrypt, sign } from "node:crypto";
import {
  concat,
  ed25519PublicKey,
  equalBytes,
  formatBase64,
  formatHex,
  OperationError,
  openAesGcm,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
  type Signer,
  sealAesGcm,
  utf8,
} from "@viafabric/schemas";
import { PRIVATE_FILE, putImmutable, readFileBounded } from "./files.ts";

const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 160 * 1024 * 1024 } as const;
export const KEYSTORE_BYTES_MAX = 4096;
const SALT_BYTES = 16;
const NONCE_BYTES = 12;
const SEED_BYTES = 32;
const TAG_BYTES = 16;
const PKCS8_PREFIX = parseHex("302e020100300506032b657004220420");

interface Sealed {
  readonly key: PublicKey;
  readonly salt: Uint8Array;
  readonly nonce: Uint8Array;
  readonly sealed: Uint8Array;
}

/**
 * Draws a new key and writes it to `file`, durably, before it is returned.
 * @throws OperationError ERR_HOME when the file exists: a key is never overwritten; ERR_PASSPHRASE when it is empty
 */
export async function createKeystore(file: string, passphrase: string): Promise<Signer> {
  if (passphrase.length === 0) throw new OperationError("ERR_PASSPHRASE", "an empty passphrase protects nothing");
  const { privateKey } = generateKeyPairSync("ed25519");
  const seed = new Uint8Array(privateKey.export({ format: "der", type: "pkcs8" })).slice(PKCS8_PREFIX.length);
  const key = publicKeyOf(privateKey);
  const salt = new Uint8Array(randomBytes(SALT_BYTES));
  const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
  const sealed = sealAesGcm(await derive(passphrase, salt), nonce, key.spki, seed);
  seed.fill(0);
  try {
    await putImmutable(file, format({ key, salt, nonce, sealed }), PRIVATE_FILE);
  } catch (cause) {
    if (!(cause instanceof OperationError) || cause.code !== "ERR_FILE_IMMUTABLE") throw cause;
    throw new OperationError("ERR_HOME", `${file} already holds a key; choose another home folder`, { cause });
  }
  return signerOf(privateKey, key);
}

/** @throws OperationError ERR_PASSPHRASE when it is wrong, ERR_HOME when `file` is missing or no keystore */
export async function openKeystore(file: string, passphrase: string): Promise<Signer> {
  const { key, salt, nonce, sealed } = await read(file);
  const seed = openAesGcm(await derive(passphrase, salt), nonce, key.spki, sealed);
  if (!seed) throw new OperationError("ERR_PASSPHRASE", `wrong passphrase for ${file}`);
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: "der", type: "pkcs8" });
  seed.fill(0);
  if (!equalBytes(publicKeyOf(privateKey).spki, key.spki))
    throw new OperationError("ERR_HOME", `the private key in ${file} is not the one it names`);
  return signerOf(privateKey, key);
}

/** Whose key it is, without the passphrase. */
export async function readKeystorePublicKey(file: string): Promise<PublicKey> {
  return (await read(file)).key;
}

function publicKeyOf(privateKey: KeyObject): PublicKey {
  const { x } = privateKey.export({ format: "jwk" });
  return ed25519PublicKey(new Uint8Array(Buffer.from(x!, "base64url")));
}

function signerOf(privateKey: KeyObject, publicKey: PublicKey): Signer {
  return { publicKey, sign: async (message) => new Uint8Array(sign(null, message, privateKey)) };
}

function derive(passphrase: string, salt: Uint8Array): Promise<Uint8Array> {
  // NFKC: the same words typed on another keyboard are the same passphrase.
  const secret = utf8(passphrase.normalize("NFKC"));
  return new Promise((resolve, reject) => {
    scrypt(secret, salt, 32, SCRYPT, (error, derived) => (error ? reject(error) : resolve(new Uint8Array(derived))));
  });
}

function format({ key, salt, nonce, sealed }: Sealed): Uint8Array {
  const document = {
    keystore: 1,
    kid: formatHex(key.kid),
    publicKey: formatBase64(key.spki),
    kdf: "scrypt-131072-8-1",
    salt: formatBase64(salt),
    cipher: "aes-256-gcm",
    sealed: formatBase64(concat(nonce, sealed)),
  };
  return utf8(`${JSON.stringify(document, undefined, 2)}\n`);
}

async function read(file: string): Promise<Sealed> {
  const bytes = await readFileBounded(file, KEYSTORE_BYTES_MAX).catch((cause: unknown) => {
    throw new OperationError("ERR_HOME", `there is no usable key in ${file}`, { cause });
  });
  try {
    const document = JSON.parse(Buffer.from(bytes).toString("utf8")) as {
      [field in "sealed" | "publicKey" | "salt"]: unknown;
    };
    const sealed = parseBase64(String(document.sealed), NONCE_BYTES + SEED_BYTES + TAG_BYTES);
    const result = {
      key: parsePublicKey(parseBase64(String(document.publicKey))),
      salt: parseBase64(String(document.salt), SALT_BYTES),
      nonce: sealed.slice(0, NONCE_BYTES),
      sealed: sealed.slice(NONCE_BYTES),
    };
    // Written again and compared: a file of another version, kdf or cipher is not this one.
    if (equalBytes(format(result), bytes)) return result;
  } catch (cause) {
    throw new OperationError("ERR_HOME", `${file} is not a keystore`, { cause });
  }
  throw new OperationError("ERR_HOME", `${file} is a keystore of another version, or was edited`);
}
