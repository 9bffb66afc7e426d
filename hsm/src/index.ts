/**
 * Keys that sign and never leave: one token of a PKCS#11 module, opened.
 *
 *     const hsm = await openHsm({ module, tokenLabel, pinFile });
 *     const signer = await hsm.signer(id, expectedPublicKey);
 *
 * One anchor session keeps the process logged in; each signer has its own, and rebuilds it when the module loses it.
 */
import type { Algorithm, PublicKey, Signer } from "@viafabric/schemas";
import { hsmError, isSessionLost } from "./ckr.ts";
import { checkKey, findKey, generateKeyPair, type Session, signWith, type TokenKey } from "./keys.ts";
import { attempt, CK, findToken, login, openModule, type TokenName } from "./pkcs11.ts";
import { openPool, type SigningPool } from "./pool.ts";

export { KEY_ID_BYTES_MAX, KEY_LABEL_LENGTH_MAX } from "./keys.ts";
export type { TokenName } from "./pkcs11.ts";
export { POOL_WORKERS_MAX, type SigningPool } from "./pool.ts";
export { generateKeys, initSoftHsmToken, type KeyRequest } from "./setup.ts";
export { findSoftHsm, type SoftHsmRequest, type SoftHsmToken } from "./softhsm.ts";

export interface HsmOptions extends TokenName {
  /** Path of the PKCS#11 module. */
  readonly module: string;
  /** Readable by its owner only. */
  readonly pinFile: string;
}

/** A token as configurations name it. */
export interface TokenReference extends HsmOptions {
  /** SoftHSM's configuration: SOFTHSM2_CONF of the process that opens the token. Other modules need none. */
  readonly confFile?: string;
}

export interface Hsm {
  readonly tokenLabel: string;
  readonly tokenSerial: string;
  /** Makes a non-extractable pair in the token. @throws OperationError ERR_HSM_KEY when the id is taken */
  generateKey(id: Uint8Array, label: string, algorithm: Algorithm): Promise<PublicKey>;
  /** @param expected refuses with ERR_HSM_KEY when another key is behind the id */
  signer(id: Uint8Array, expected?: PublicKey): Promise<Signer>;
  /** Threads with a session each, for many signatures by one key. @param workers how many */
  pool(id: Uint8Array, expected: PublicKey, workers: number): Promise<SigningPool>;
  /** Signers and pools given out before are dead afterwards. */
  close(): Promise<void>;
}

/**
 * Opens a token in this process. For SoftHSM the environment must name its configuration in SOFTHSM2_CONF; a program's
 * main file sees to that.
 * @throws OperationError ERR_HSM_MODULE, ERR_HSM_TOKEN, ERR_HSM_PIN, ERR_HSM_DEVICE
 */
export async function openHsm(options: HsmOptions): Promise<Hsm> {
  const module = await openModule(options.module);
  const { library } = module;
  const sessions = new Set<Session>();
  const pools = new Set<SigningPool>();
  const pool: SessionPool = {
    open(flags = 0) {
      const handle = attempt("open a session", () => library.C_OpenSession(token.slot, CK.CKF_SERIAL_SESSION | flags));
      const session = { library, handle };
      sessions.add(session);
      return session;
    },
    close(session) {
      if (sessions.delete(session)) closeSession(session);
    },
  };
  const release = () => {
    for (const session of sessions) pool.close(session);
    module.release();
  };
  let token: ReturnType<typeof findToken>;
  try {
    token = findToken(module, options);
    // When a process's last session closes, its login is gone: this one stays open.
    pool.open();
    await login(module, token.slot, options.pinFile);
  } catch (error) {
    release();
    throw error;
  }
  return {
    tokenLabel: token.label,
    tokenSerial: token.serial,
    async generateKey(id, label, algorithm) {
      const session = pool.open(CK.CKF_RW_SESSION);
      try {
        return generateKeyPair(session, id, label, algorithm);
      } finally {
        pool.close(session);
      }
    },
    async signer(id, expected) {
      return tokenSigner(pool, id, expected);
    },
    async pool(id, expected, workers) {
      // Asked here first, so that a wrong key is found out before any thread starts.
      pool.close(openKey(pool, id, expected).session);
      const threads = openPool({ path: module.path, slot: token.slot }, id, expected, workers);
      pools.add(threads);
      return threads;
    },
    async close() {
      // To finalise a module under a running call ends in a crash.
      for (const threads of pools) await threads.close();
      release();
    },
  };
}

interface SessionPool {
  open(flags?: number): Session;
  close(session: Session): void;
}

function openKey(pool: SessionPool, id: Uint8Array, expected: PublicKey | undefined): OpenKey {
  const session = pool.open();
  try {
    const key = attempt("find a key", () => findKey(session, id));
    if (expected) checkKey(key, id, expected);
    return { session, key };
  } catch (error) {
    pool.close(session);
    throw error;
  }
}

interface OpenKey {
  readonly session: Session;
  readonly key: TokenKey;
}

function tokenSigner(pool: SessionPool, id: Uint8Array, expected: PublicKey | undefined): Signer {
  let state: OpenKey | undefined = openKey(pool, id, expected);
  const { publicKey } = state.key;
  const signOnce = (message: Uint8Array): Uint8Array => {
    state ??= openKey(pool, id, publicKey);
    const { session, key } = state;
    try {
      return signWith(session, key, message);
    } catch (error) {
      // After a failed call the state of the operation is unknown: this session signs nothing more.
      state = undefined;
      pool.close(session);
      throw error;
    }
  };
  return {
    publicKey,
    async sign(message) {
      try {
        return signOnce(message);
      } catch (error) {
        if (!isSessionLost(error)) throw hsmError("sign", error);
      }
      return attempt("sign", () => signOnce(message));
    },
  };
}

function closeSession({ library, handle }: Session): void {
  try {
    library.C_CloseSession(handle);
  } catch (error) {
    // A session that the module has lost already is closed.
    if (!isSessionLost(error)) throw hsmError("close a session", error);
  }
}
