/**
 * What the vault and the bounded signer say to each other over a UNIX socket.
 *
 *     frame    = u32 length ‖ CBOR
 *     request  = [id, method, params]
 *     answer   = [id, true, result]  or  [id, false, code, message]
 *
 * Deterministic CBOR, one request at a time, answers in order. Nothing else is ever accepted on the socket.
 */
import {
  type CborMap,
  type CborValue,
  CodedError,
  concat,
  decodeCbor,
  encodeCbor,
  FORMAT_CODES,
  type FormatCode,
  FormatError,
  OPERATION_CODES,
  type OperationCode,
  OperationError,
  readU32,
  u32,
  VERIFICATION_CODES,
  type VerificationCode,
  VerificationError,
} from "@viafabric/schemas";

export const METHODS = [
  "state",
  "trust",
  "batch",
  "bodies",
  "tokens",
  "append",
  "statement",
  "metadata",
  "transcript",
] as const;
export type Method = (typeof METHODS)[number];

/** The log entries of the largest batch (100,000 of 73 bytes) fit, and what a sequencer puts beside them. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;
const HEADER_BYTES = 4;

export interface Request {
  readonly id: number;
  readonly method: Method;
  readonly params: CborMap;
}

export type Answer =
  | { readonly id: number; readonly ok: true; readonly result: CborValue }
  | { readonly id: number; readonly ok: false; readonly code: string; readonly message: string };

export function encodeFrame(body: Uint8Array): Uint8Array {
  if (body.length > FRAME_BYTES_MAX) throw new FormatError("ERR_FRAME", `a message of ${body.length} bytes`);
  return concat(u32(body.length), body);
}

/** Cuts a stream of bytes into frames. Memory stays below one frame and what arrived with its end. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #length = 0;

  /** @returns the bodies completed by `chunk`. @throws FormatError ERR_FRAME for a frame beyond the limit */
  push(chunk: Uint8Array): readonly Uint8Array[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const bodies: Uint8Array[] = [];
    for (let wanted = this.#wanted(); this.#length >= wanted; wanted = this.#wanted()) {
      const all = this.#joined();
      if (wanted === HEADER_BYTES) break;
      bodies.push(all.slice(HEADER_BYTES, wanted));
      this.#chunks = [all.subarray(wanted)];
      this.#length = all.length - wanted;
    }
    return bodies;
  }

  /** How many bytes the first frame needs; only its header while that is incomplete. */
  #wanted(): number {
    if (this.#length < HEADER_BYTES) return HEADER_BYTES;
    const length = readU32(this.#header(), 0);
    if (length > FRAME_BYTES_MAX || length === 0) throw new FormatError("ERR_FRAME", `a frame of ${length} bytes`);
    return HEADER_BYTES + length;
  }

  #header(): Uint8Array {
    if (this.#chunks[0]!.length < HEADER_BYTES) this.#joined();
    return this.#chunks[0]!;
  }

  #joined(): Uint8Array {
    if (this.#chunks.length > 1) this.#chunks = [concat(...this.#chunks)];
    return this.#chunks[0]!;
  }
}

export function encodeRequest({ id, method, params }: Request): Uint8Array {
  return encodeCbor([id, method, params]);
}

/** @throws FormatError ERR_FRAME */
export function decodeRequest(body: Uint8Array): Request {
  const [id, method, params, ...rest] = asArray(decodeCbor(body, "ERR_FRAME"));
  const known = METHODS.find((name) => name === method);
  if (!isId(id) || !known || !(params instanceof Map) || rest.length > 0)
    throw new FormatError("ERR_FRAME", "not a request: [id, method, params]");
  return { id, method: known, params };
}

export function encodeAnswer(answer: Answer): Uint8Array {
  return encodeCbor(
    answer.ok ? [answer.id, true, answer.result] : [answer.id, false, answer.code, answer.message.slice(0, 2000)],
  );
}

/** @throws FormatError ERR_FRAME */
export function decodeAnswer(body: Uint8Array): Answer {
  const [id, ok, first, second, ...rest] = asArray(decodeCbor(body, "ERR_FRAME"));
  if (isId(id) && rest.length === 0) {
    if (ok === true && first !== undefined && second === undefined) return { id, ok, result: first };
    if (ok === false && typeof first === "string" && typeof second === "string")
      return { id, ok, code: first, message: second };
  }
  throw new FormatError("ERR_FRAME", "not an answer: [id, true, result] or [id, false, code, message]");
}

/** The refusal as the error it was on the other side. */
export function errorOf({ code, message }: { readonly code: string; readonly message: string }): CodedError<string> {
  if (Object.hasOwn(VERIFICATION_CODES, code)) return new VerificationError(code as VerificationCode, message);
  if (Object.hasOwn(FORMAT_CODES, code)) return new FormatError(code as FormatCode, message);
  if (Object.hasOwn(OPERATION_CODES, code)) return new OperationError(code as OperationCode, message);
  return new OperationError("ERR_SIGNER", `the signer failed: ${message}`);
}

export function refusalOf(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof CodedError) return { code: error.code, message: error.message };
  return { code: "ERR_SIGNER", message: error instanceof Error ? error.message : String(error) };
}

function asArray(value: CborValue): readonly CborValue[] {
  if (!Array.isArray(value)) throw new FormatError("ERR_FRAME", "a message is an array");
  return value as readonly CborValue[];
}

function isId(value: CborValue | undefined): value is number {
  return typeof value === "number" && value >= 0;
}
