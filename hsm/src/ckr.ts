/**
 * PKCS#11 return values (CKR_…, PKCS#11 v3.1 section 6) as our own errors.
 *
 * The binding reports some as `error.code` and some only inside the text of a message, so they are normalised here
 * and nowhere else. The class of a code also says what may help; recovery.ts does it. A PIN error is never retried:
 * three wrong tries lock many tokens for good. A code that says that we called wrongly is our bug, and final as well.
 */
import { type OperationCode, OperationError } from "@viafabric/schemas";

export const CKR_USER_ALREADY_LOGGED_IN = 0x100;
export const CKR_USER_NOT_LOGGED_IN = 0x101;
export const CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191;

/**
 * What may help: a new session, a new login, starting the module again, or nothing. Each includes what comes before
 * it: who logs in again also opens new sessions.
 */
export type Fault = "session" | "login" | "device" | "final";

const PIN_CODES = new Set([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102]);
const TOKEN_CODES = new Set([0x3, 0xe1, 0xe2]);
const KEY_CODES = new Set([0x10, 0x11, 0x12, 0x13, 0x60, 0x62, 0x63, 0x68, 0x6a, 0xd0, 0xd1]);
/** The session, its operation or its object handles are gone; a new session finds them again, or says what is wrong. */
const SESSION_CODES = new Set([0x60, 0x82, 0x90, 0x91, 0xb0, 0xb3]);
/** The device or its driver hiccuped; 0x190 is a module that was finalised behind our back. */
const DEVICE_CODES = new Set([0x2, 0x5, 0x6, 0x30, 0x31, 0x32, 0xe0, 0x190]);

export class HsmError extends OperationError {
  readonly fault: Fault;

  constructor(code: OperationCode, message: string, options: ErrorOptions & { readonly fault: Fault }) {
    super(code, message, { ...options, retryable: options.fault !== "final" && code === "ERR_HSM_DEVICE" });
    this.fault = options.fault;
  }
}

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

export function faultOf(error: unknown): Fault {
  if (error instanceof HsmError) return error.fault;
  return error instanceof OperationError ? "final" : faultOfCode(ckrOf(error));
}

function faultOfCode(ckr: number | undefined): Fault {
  if (ckr === undefined) return "final";
  if (SESSION_CODES.has(ckr)) return "session";
  if (ckr === CKR_USER_NOT_LOGGED_IN) return "login";
  return DEVICE_CODES.has(ckr) ? "device" : "final";
}

/** @param doing what we were doing, in words, without secrets */
export function hsmError(doing: string, error: unknown): OperationError {
  if (error instanceof OperationError) return error;
  const ckr = ckrOf(error);
  return ckrError(doing, ckr, error instanceof Error ? error.message : String(error), error);
}

export function ckrError(doing: string, ckr: number | undefined, reason: string, cause?: unknown): HsmError {
  const value = ckr === undefined ? reason : `${reason} (0x${ckr.toString(16)})`;
  return new HsmError(codeOf(ckr), `could not ${doing}: ${value}`, { cause, fault: faultOfCode(ckr) });
}

function codeOf(ckr: number | undefined): OperationCode {
  if (ckr === undefined) return "ERR_HSM_DEVICE";
  if (PIN_CODES.has(ckr)) return "ERR_HSM_PIN";
  if (TOKEN_CODES.has(ckr)) return "ERR_HSM_TOKEN";
  return KEY_CODES.has(ckr) ? "ERR_HSM_KEY" : "ERR_HSM_DEVICE";
}
