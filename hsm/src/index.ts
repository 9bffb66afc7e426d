/**
 * Keys that sign and never leave: one token of a PKCS#11 module, opened.
 *
 *     const hsm = await openHsm({ module, tokenLabel, pinFile });
 *     const signer = await hsm.signer(id, expectedPublicKey);
 *
 * One anchor session keeps the process logged in; each signer has its own. What is lost is made again: a session, the
 * login, the whole module (recovery.ts).
 */
import type { Algorithm, DeviceInfo, PublicKey, Signer } from "@viafabric/schemas";
import { Device, type DeviceOptions } from "./device.ts";
import { abandon, closeSession, type KeySession, openKeySession, openSession, stillOpen } from "./key-session.ts";
import { generateKeyPair, readAttributes, signWith } from "./keys.ts";
import { CK, describeDevice, freeSessions } from "./pkcs11.ts";
import { openPool, type SigningPool } from "./pool.ts";
import { Persistence, type Recovery } from "./recovery.ts";
import { openSoftwareKeys, type SoftwareReference } from "./software.ts";

export type { CeremonyKey, CeremonyRequest } from "./ceremony.ts";
export { KEY_ID_BYTES_MAX, KEY_LABEL_LENGTH_MAX } from "./keys.ts";
export type { TokenName } from "./pkcs11.ts";
export { POOL_WORKERS_MAX, type SigningPool } from "./pool.ts";
export type { Recovery } from "./recovery.ts";
export { generateKeys, initSoftHsmToken, type KeyRequest, performCeremony } from "./setup.ts";
export { findSoftHsm, type SoftHsmRequest, type SoftHsmToken } from "./softhsm.ts";
export { openSoftwareKeys, type SoftwareReference } from "./software.ts";
export { formatHsmUri, HSM_URI_LENGTH_MAX, type HsmUri, parseHsmUri } from "./uri.ts";

export type HsmOptions = DeviceOptions;

/** A token as configurations name it. */
export interface TokenReference extends HsmOptions {
  /** SoftHSM's configuration: SOFTHSM2_CONF of the process that opens the token. Other modules need none. */
  readonly confFile?: string;
}

/** Where the keys of a configuration are: in a token, or in files on a laptop that has none. */
export type KeysReference = TokenReference | SoftwareReference;

export interface Hsm {
  readonly tokenLabel: string;
  readonly tokenSerial: string;
  /** Makes a non-extractable pair in the token. @throws OperationError ERR_HSM_KEY when the id is taken */
  generateKey(id: Uint8Array, label: string, algorithm: Algorithm): Promise<PublicKey>;
  /** What the module and the token say about themselves. */
  describe(): Promise<DeviceInfo>;
  /** What the token says about a private key; nothing where there is no token. @throws OperationError ERR_HSM_KEY */
  attributes(id: Uint8Array): Promise<ReadonlyMap<string, boolean>>;
  /** @param expected refuses with ERR_HSM_KEY when another key is behind the id */
  signer(id: Uint8Array, expected?: PublicKey): Promise<Signer>;
  /**
   * Threads with a session each, for many signatures by one key.
   * @param workers how many; left out, as many as this token and this machine make use of (tuning.ts)
   */
  pool(id: Uint8Array, expected: PublicKey, workers?: number): Promise<SigningPool>;
  /** Signers and pools given out before are dead afterwards. */
  close(): Promise<void>;
}

/** Whichever it is. @throws as openHsm and openSoftwareKeys do */
export function openKeys(keys: KeysReference, observe?: (recovery: Recovery) => void): Promise<Hsm> {
  return "software" in keys ? openSoftwareKeys(keys) : openHsm(keys, observe);
}

/**
 * Opens a token in this process. For SoftHSM the environment must name its configuration in SOFTHSM2_CONF; a program's
 * main file sees to that.
 * @param observe told of every fault that was got over
 * @throws OperationError ERR_HSM_MODULE, ERR_HSM_TOKEN, ERR_HSM_PIN, ERR_HSM_DEVICE
 */
export async function openHsm(options: HsmOptions, observe: (recovery: Recovery) => void = () => {}): Promise<Hsm> {
  const device = await Device.open(options);
  const persistence = new Persistence(device, observe);
  const { library } = device.module;
  const pools = new Set<SigningPool>();
  let signers = 0;
  return {
    tokenLabel: device.label,
    tokenSerial: device.serial,
    generateKey(id, label, algorithm) {
      return device.use((era) => {
        const session = openSession(library, era, CK.CKF_RW_SESSION);
        try {
          return generateKeyPair(session, id, label, algorithm);
        } finally {
          closeSession(session);
        }
      });
    },
    describe() {
      return device.use(({ slot }) => describeDevice(device.module, slot));
    },
    attributes(id) {
      return device.use((era) => {
        const session = openSession(library, era);
        try {
          return readAttributes(session, id);
        } finally {
          closeSession(session);
        }
      });
    },
    async signer(id, expected) {
      const signer = await tokenSigner(device, persistence, id, expected);
      signers++;
      return signer;
    },
    async pool(id, expected, workers) {
      // Asked here first, so that a wrong key is found out before any thread starts.
      const sessions = await device.use((era) => {
        closeSession(openKeySession(library, era, id, expected).session);
        return freeSessions(device.module, era.slot, 1 + signers);
      });
      device.keepReady();
      const pool = openPool({ device, persistence, id, publicKey: expected, workers, sessions });
      pools.add(pool);
      return pool;
    },
    async close() {
      for (const pool of pools) await pool.close();
      await device.close();
    },
  };
}

async function tokenSigner(
  device: Device,
  persistence: Persistence,
  id: Uint8Array,
  expected: PublicKey | undefined,
): Promise<Signer> {
  const { library } = device.module;
  let open: KeySession | undefined = await device.use((era) => openKeySession(library, era, id, expected));
  const { publicKey } = open.key;
  return {
    publicKey,
    sign(message) {
      return persistence.run((era) => {
        open = stillOpen(open, era);
        open ??= openKeySession(library, era, id, publicKey);
        try {
          return signWith(open.session, open.key, message);
        } catch (error) {
          abandon(open.session);
          open = undefined;
          throw error;
        }
      });
    },
  };
}
