/**
 * How a state-changing HTTP request proves who sent it: four headers and a signature over method, path, time, nonce
 * and the hash of the body, as type `request`. There are no bearer tokens: what a wire tap or a log file holds cannot
 * be used again, because the server accepts each nonce once and only within `REQUEST_WINDOW_SECONDS`.
 */
import {
  formatBase64,
  formatBase64Url,
  formatHex,
  parseBase64,
  parseBase64Url,
  parseDecimal,
  parseHex,
  utf8,
} from "./bytes.ts";
import { isValidSignature, type PublicKey, SIGNATURE_BYTES, sha256, signingInput } from "./crypto.ts";
import { FormatError, VerificationError } from "./errors.ts";
import type { Signer } from "./keys.ts";

export const REQUEST_CONTEXT = "request";
/** A request is fresh this long before and after its time: laptops in the field keep time badly. */
export const REQUEST_WINDOW_SECONDS = 600;
export const REQUEST_NONCE_BYTES = 16;

export interface RequestToSign {
  /** Upper case. */
  readonly method: string;
  /** Path with its query, as sent. */
  readonly path: string;
  readonly body: Uint8Array;
  /** Unix seconds. */
  readonly time: number;
  /** 16 random bytes. */
  readonly nonce: Uint8Array;
}

export interface RequestProof {
  readonly kid: Uint8Array;
  readonly time: number;
  readonly nonce: Uint8Array;
  readonly signature: Uint8Array;
}

export type RequestHeaders = Readonly<Record<"via-key" | "via-time" | "via-nonce" | "via-signature", string>>;

export async function signRequest(
  signer: Signer,
  authority: Uint8Array,
  request: RequestToSign,
): Promise<RequestHeaders> {
  const signature = await signer.sign(requestInput(authority, request));
  return {
    "via-key": formatHex(signer.publicKey.kid),
    "via-time": String(request.time),
    "via-nonce": formatBase64Url(request.nonce),
    "via-signature": formatBase64(signature),
  };
}

/** @throws FormatError ERR_REQUEST when a header is missing or misspelled */
export function parseRequestHeaders(header: (name: string) => string | undefined): RequestProof {
  try {
    return {
      kid: parseHex(header("via-key") ?? "", 32),
      time: parseDecimal(header("via-time") ?? ""),
      nonce: parseBase64Url(header("via-nonce") ?? "", REQUEST_NONCE_BYTES),
      signature: parseBase64(header("via-signature") ?? "", SIGNATURE_BYTES),
    };
  } catch (cause) {
    throw new FormatError("ERR_REQUEST", "the headers Via-Key, Via-Time, Via-Nonce and Via-Signature sign a request", {
      cause,
    });
  }
}

/**
 * Checks time and signature. That the key may do this, and that the nonce is new, is the server's to decide.
 * @throws VerificationError ERR_REQUEST_STALE, ERR_SIGNATURE
 */
export function verifyRequest(
  key: PublicKey,
  authority: Uint8Array,
  proof: RequestProof,
  request: { readonly method: string; readonly path: string; readonly body: Uint8Array },
  now: number,
): void {
  if (Math.abs(now - proof.time) > REQUEST_WINDOW_SECONDS) {
    throw new VerificationError("ERR_REQUEST_STALE", `signed at ${proof.time}, now it is ${now}: set the clock`);
  }
  const input = requestInput(authority, { ...request, time: proof.time, nonce: proof.nonce });
  if (!isValidSignature(key, input, proof.signature))
    throw new VerificationError("ERR_SIGNATURE", "the request's signature is wrong");
}

function requestInput(authority: Uint8Array, request: RequestToSign): Uint8Array {
  const { method, path, time, nonce, body } = request;
  const text = `${method} ${path}\n${time}\n${formatBase64Url(nonce)}\n${formatHex(sha256(body))}\n`;
  return signingInput(REQUEST_CONTEXT, authority, utf8(text));
}
