/** A session with its key: what every signature is made with, on whichever thread. */
import { OperationError, type PublicKey } from "@viafabric/schemas";
import type { PKCS11 } from "pkcs11js";
import { CKR_USER_NOT_LOGGED_IN, ckrError, hsmError, isSessionLost } from "./ckr.ts";
import type { Era } from "./device.ts";
import { checkKey, findKey, type Session, type TokenKey } from "./keys.ts";
import { attempt, CK } from "./pkcs11.ts";

export interface KeySession {
  readonly era: Era;
  readonly session: Session;
  readonly key: TokenKey;
}

const STATES_LOGGED_IN: readonly number[] = [CK.CKS_RO_USER_FUNCTIONS, CK.CKS_RW_USER_FUNCTIONS];

/** Opens a session, checks the key's attributes and its public half, and signs a canary. @throws HsmError */
export function openKeySession(library: PKCS11, era: Era, id: Uint8Array, expected: PublicKey | undefined): KeySession {
  const session = openSession(library, era);
  try {
    assertLoggedIn(session);
    return { era, session, key: checkedKey(session, id, expected) };
  } catch (error) {
    abandon(session);
    throw error;
  }
}

/** `open` when it belongs to this era. When the module has started again its handle is not even closed: see Era. */
export function stillOpen(open: KeySession | undefined, era: Era): KeySession | undefined {
  if (!open || open.era.start !== era.start) return undefined;
  if (open.era.login === era.login) return open;
  abandon(open.session);
  return undefined;
}

function checkedKey(session: Session, id: Uint8Array, expected: PublicKey | undefined): TokenKey {
  try {
    const key = attempt("find a key", () => findKey(session, id));
    if (expected) checkKey(key, id, expected);
    return key;
  } catch (error) {
    // Without the login, private keys are not refused but invisible. It may have been lost a moment ago.
    if (error instanceof OperationError && error.code === "ERR_HSM_KEY") assertLoggedIn(session);
    throw error;
  }
}

export function openSession(library: PKCS11, { slot }: Era, flags = 0): Session {
  const handle = attempt("open a session", () => library.C_OpenSession(slot, CK.CKF_SERIAL_SESSION | flags));
  return { library, handle };
}

export function closeSession({ library, handle }: Session): void {
  try {
    library.C_CloseSession(handle);
  } catch (error) {
    // A session that the module has lost already is closed.
    if (!isSessionLost(error)) throw hsmError("close a session", error);
  }
}

/** After a failed call the state of a session is unknown: it signs nothing more. */
export function abandon(session: Session): void {
  try {
    session.library.C_CloseSession(session.handle);
  } catch {
    // The failure that led here is the one to tell; this one adds nothing.
  }
}

function assertLoggedIn({ library, handle }: Session): void {
  const { state } = attempt("look at a session", () => library.C_GetSessionInfo(handle));
  if (!STATES_LOGGED_IN.includes(state)) throw ckrError("sign", CKR_USER_NOT_LOGGED_IN, "the login is lost");
}
