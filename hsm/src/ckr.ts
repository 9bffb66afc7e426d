/**
 * PKCS#11 return values (CKR_…, PKCS#11 v3.1 section 6) as our own errors.
 *
 * The binding reports some as `error.code` and some only inside the text of a message, so they are normalised here
 * and nowhere else. The class of a code also says what may help: rebuilding the session, or nothing. A PIN error is
 * never retried: three wrong tries lock many tokens for good.
 */
import { OperationError } from "@viafabric/schemas";

export const CKR_USER_ALREADY_LOGGED_IN = 0x100;

const PIN_CODES = new Set([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102]);
const TOKEN_CODES = new Set([0x3, 0xe1, 0xe2]);
const KEY_CODES = new Set([0x10, 0x11, 0x12, 0x13, 0x60, 0x62, 0x63, 0x68, 0x6a, 0xd0, 0xd1]);
/** The session, its login or its object handles are gone; a new session finds them again. */
const SESSION_CODES = new Set([0x82, 0x90, 0x91, 0xb0, 0xb3]);
/** The device hiccuped. The same call may work later. */
const DEVICE_CODES = new Set([0x5, 0x6, 0x30, 0x31, 0x32, 0xe0, ...SESSION_CODES, 0x101]);

/** The CKR value of whatever the binding threw; undefined when it was not the module that said no. */
export function ckrOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = (error as { readonly code?: unknown }).code;
  if (typeof code === "number" && code !== 0) return code;
  const inText = /CKR_\w+:(\d+)/.exec(error.message);
  return inText ? Number(inText[1]) : undefined;
}

export function isSessionLost(error: unknown): boolean {
  return SESSION_CODES.has(ckrOf(error) ?? 0);
}

/** @param doing what we were doing, in words, without secrets */
export function hsmError(doing: string, error: unknown): OperationError {
  if (error instanceof OperationError) return error;
  const ckr = ckrOf(error);
  return ckrError(doing, ckr, error instanceof Error ? error.message : String(error), error);
}

export function ckrError(doing: string, ckr: number | undefined, reason: string, cause?: unknown): OperationError {
  const value = ckr === undefined ? reason : `${reason} (0x${ckr.toString(16)})`;
  const message = `could not ${doing}: ${value}`;
  if (ckr === undefined) return new OperationError("ERR_HSM_DEVICE", message, { cause });
  if (PIN_CODES.has(ckr)) return new OperationError("ERR_HSM_PIN", message, { cause });
  if (TOKEN_CODES.has(ckr)) return new OperationError("ERR_HSM_TOKEN", message, { cause });
  if (KEY_CODES.has(ckr)) return new OperationError("ERR_HSM_KEY", message, { cause });
  return new OperationError("ERR_HSM_DEVICE", message, { cause, retryable: DEVICE_CODES.has(ckr) });
}
