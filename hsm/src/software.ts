/**
 * Keys in files under a passphrase, for a laptop without any PKCS#11 module: the same `Hsm` as a token, class
 * `software`.
 *
 * Each key is a keystore of `platform` (scrypt and AES-256-GCM). Whoever reads the memory of the process, or the folder
 * and the passphrase, has the keys: trust files that ask for hardware are not fooled, because the class stands in them
 * under the trustees' signatures.
 */
import path from "node:path";
import { createKeystore, ensureFolder, openKeystore, PRIVATE_FOLDER, readKeystorePublicKey } from "@viafabric/platform";
import {
  DEVICE_FIELDS,
  type DeviceInfo,
  equalBytes,
  formatHex,
  isValidSignature,
  OperationError,
  type PublicKey,
  type Signer,
} from "@viafabric/schemas";
import type { Hsm } from "./index.ts";
import { KEY_ID_BYTES_MAX } from "./keys.ts";
import { readSecretFile } from "./secret-file.ts";

export interface SoftwareReference {
  /** Folder of the keystores, `<id in hex>.json` each. */
  readonly software: string;
  readonly passphraseFile: string;
}

/** How many signatures are made before others may have the thread. */
const SIGNATURES_AT_ONCE = 64;

/** @throws OperationError ERR_HSM_PIN when the passphrase file is unusable */
export async function openSoftwareKeys({ software: folder, passphraseFile }: SoftwareReference): Promise<Hsm> {
  const passphrase = readSecretFile(passphraseFile);
  const fileOf = (id: Uint8Array): string => {
    if (id.length === 0 || id.length > KEY_ID_BYTES_MAX) throw new RangeError(`a key id of ${id.length} bytes`);
    return path.join(folder, `${formatHex(id)}.json`);
  };
  const open = async (id: Uint8Array, expected: PublicKey | undefined): Promise<Signer> => {
    const file = fileOf(id);
    const named = await readKeystorePublicKey(file).catch((cause: unknown) => {
      throw new OperationError("ERR_HSM_KEY", `no key with id ${formatHex(id)} in ${folder}`, { cause });
    });
    // Asked before the passphrase is tried: another key is another key whether it opens or not.
    if (expected && !equalBytes(named.spki, expected.spki))
      throw new OperationError("ERR_HSM_KEY", `another key than the expected one is behind id ${formatHex(id)}`);
    return openKeystore(file, passphrase);
  };
  return {
    tokenLabel: "software",
    tokenSerial: path.resolve(folder),
    async generateKey(id, _label, algorithm) {
      if (algorithm !== "ed25519")
        throw new OperationError("ERR_HSM_KEY", `a software keystore holds Ed25519 keys, not ${algorithm}`);
      await ensureFolder(folder, PRIVATE_FOLDER);
      const { publicKey } = await createKeystore(fileOf(id), passphrase).catch((cause: unknown) => {
        if (!(cause instanceof OperationError) || cause.code !== "ERR_HOME") throw cause;
        throw new OperationError("ERR_HSM_KEY", `there is a key with id ${formatHex(id)} already`, { cause });
      });
      return publicKey;
    },
    async describe() {
      const nothing = Object.fromEntries(DEVICE_FIELDS.map((name) => [name, ""])) as DeviceInfo;
      return { ...nothing, moduleManufacturer: "viafabric", moduleDescription: "keystore in files" };
    },
    async attributes() {
      return new Map();
    },
    signer: open,
    async pool(id, expected) {
      const signer = await open(id, expected);
      return {
        publicKey: expected,
        async signAll(messages) {
          const signatures: Uint8Array[] = [];
          for (const message of messages) {
            const signature = await signer.sign(message);
            if (!isValidSignature(expected, message, signature))
              throw new OperationError("ERR_HSM_DEVICE", "a signature of the software key does not verify");
            signatures.push(signature);
            if (signatures.length % SIGNATURES_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
          }
          return signatures;
        },
        async close() {},
      };
    },
    async close() {},
  };
}
