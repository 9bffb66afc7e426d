/**
 * Write receipts: what a station brings back, one for each tag it wrote or spoiled (FORMATS "Receipt").
 * They are chained within a kit, so a missing one shows.
 */
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { type CoseSign1, coseSigningInput, decodeCose, encodeCose } from "./cose.ts";
import type { Algorithm } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import { INDEX_MAX } from "./manifest.ts";

export const RECEIPT_RESULTS = ["written", "void"] as const;

export interface Receipt {
  readonly authority: Uint8Array;
  /** Kit id, 16 bytes. */
  readonly kit: Uint8Array;
  /** 0-based number of this receipt within its kit. */
  readonly seq: number;
  /** SHA-256 of the previous receipt's COSE bytes; 32 zeros for the first. */
  readonly previous: Uint8Array;
  readonly index: number;
  readonly payloadHash: Uint8Array;
  /** HMAC-SHA-256(uid_key, UID). */
  readonly uidMac: Uint8Array;
  readonly result: (typeof RECEIPT_RESULTS)[number];
  /** SHA-256 of the tag's user memory as read back. */
  readonly imageHash: Uint8Array;
  readonly locked: boolean;
  /** Unix seconds by the station's clock. */
  readonly time: number;
}

export interface SignedReceipt extends CoseSign1 {
  readonly receipt: Receipt;
}

export const RECEIPT_TYP = "application/rct-receipt+cbor";
export const RECEIPT_BYTES_MAX = 1024;

export function encodeReceiptPayload(receipt: Receipt): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, receipt.authority],
      [3, receipt.kit],
      [4, receipt.seq],
      [5, receipt.previous],
      [6, receipt.index],
      [7, receipt.payloadHash],
      [8, receipt.uidMac],
      [9, receipt.result],
      [10, receipt.imageHash],
      [11, receipt.locked],
      [12, receipt.time],
    ]),
  );
}

/** What the station key signs. */
export function receiptSignatureInput(algorithm: Algorithm, receipt: Receipt): Uint8Array {
  return coseSigningInput(RECEIPT_TYP, algorithm, encodeReceiptPayload(receipt));
}

export function encodeReceipt(receipt: Receipt, signed: Omit<CoseSign1, "payload">): Uint8Array {
  return encodeCose(RECEIPT_TYP, { ...signed, payload: encodeReceiptPayload(receipt) });
}

/** Shape only; the caller verifies the signature over `coseSigningInput`. @throws FormatError ERR_RECEIPT */
export function decodeReceipt(bytes: Uint8Array): SignedReceipt {
  if (bytes.length > RECEIPT_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const cose = decodeCose(RECEIPT_TYP, bytes, "ERR_RECEIPT");
  const keys = Array.from({ length: 12 }, (_, i) => i + 1);
  const fields = new Fields(decodeCbor(cose.payload, "ERR_RECEIPT"), keys, "ERR_RECEIPT");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const result = RECEIPT_RESULTS.find((known) => known === fields.text(9));
  const locked = fields.value(11);
  if (!result || typeof locked !== "boolean") throw wrong("result or locked");
  return {
    ...cose,
    receipt: {
      authority: fields.bytes(2, 32),
      kit: fields.bytes(3, 16),
      seq: fields.integer(4),
      previous: fields.bytes(5, 32),
      index: fields.integer(6, INDEX_MAX),
      payloadHash: fields.bytes(7, 32),
      uidMac: fields.bytes(8, 32),
      result,
      imageHash: fields.bytes(10, 32),
      locked,
      time: fields.integer(12),
    },
  };
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_RECEIPT", `not a receipt: ${reason}`);
}
