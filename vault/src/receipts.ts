/**
 * Write receipts, the pure part: whether what a station brings back continues the chain of its kit.
 *
 * A receipt that is held already may come again, byte for byte; another one in its place is a fork of the chain, and a
 * gap is a receipt that somebody kept back. Nothing here decides whether a token is released.
 */
import {
  coseSigningInput,
  decodeReceipt,
  equalBytes,
  formatHex,
  isValidSignature,
  OperationError,
  type PublicKey,
  RECEIPT_TYP,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import type { KitRecord, ReceiptRecord } from "./records.ts";

export interface KitChain {
  readonly authority: Uint8Array;
  readonly kit: KitRecord;
  /** Receipts held already, in order. */
  readonly held: readonly ReceiptRecord[];
  /** H(payload) of a token of the kit. */
  readonly payloadHash: (index: number) => Uint8Array;
}

/**
 * The receipts that are new, in order.
 * @throws FormatError ERR_RECEIPT; VerificationError ERR_SIGNATURE, ERR_RECEIPT_CHAIN; OperationError ERR_CLOSED
 */
export function verifyReceipts(
  chain: KitChain,
  station: PublicKey,
  files: readonly Uint8Array[],
  now: number,
): readonly ReceiptRecord[] {
  const { authority, kit, held } = chain;
  const known = held.map(({ bytes }) => bytes);
  const added: ReceiptRecord[] = [];
  for (const bytes of files) {
    const { receipt, kid, algorithm, payload, signature } = decodeReceipt(bytes);
    if (!equalBytes(receipt.authority, authority) || !equalBytes(receipt.kit, kit.id) || !equalBytes(kid, station.kid))
      throw broken("a receipt of another kit, station or authority");
    if (
      algorithm !== station.algorithm ||
      !isValidSignature(station, coseSigningInput(RECEIPT_TYP, algorithm, payload), signature)
    )
      throw new VerificationError("ERR_SIGNATURE", `receipt ${receipt.seq} is not signed by the station`);
    const { seq, index } = receipt;
    const before = known[seq];
    if (before) {
      if (equalBytes(before, bytes)) continue;
      throw new OperationError("ERR_CLOSED", `another receipt ${seq} of kit ${formatHex(kit.id)} came first`);
    }
    if (seq !== known.length) throw broken(`receipt ${seq} comes where ${known.length} is expected`);
    const previous = seq === 0 ? new Uint8Array(32) : sha256(known[seq - 1]!);
    if (!equalBytes(receipt.previous, previous)) throw broken(`receipt ${seq} does not follow the one before it`);
    if (index < kit.first || index >= kit.first + kit.count) throw broken(`index ${index} is not in the kit`);
    if (!equalBytes(receipt.payloadHash, chain.payloadHash(index))) throw broken(`receipt ${seq} is of another token`);
    known.push(bytes);
    added.push({ kitId: kit.id, seq, index, result: receipt.result, bytes, received: now });
  }
  return added;
}

function broken(reason: string): VerificationError {
  return new VerificationError("ERR_RECEIPT_CHAIN", reason);
}
