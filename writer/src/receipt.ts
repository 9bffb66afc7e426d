/** Receipts: what a station signs about each serial, chained within the kit. */
import { encodeReceipt, hmacSha256, type Receipt, receiptSignatureInput, type Signer } from "@viafabric/schemas";
import type { ChainPlace } from "./ledger.ts";
import { payloadHashOf, type VerifiedKit } from "./verify-kit.ts";

export interface Outcome {
  readonly index: number;
  readonly result: Receipt["result"];
  /** Empty for a serial that never met a tag. */
  readonly uid: Uint8Array;
  /** Of the pages read back; zeros for a serial that never met a tag. */
  readonly imageHash: Uint8Array;
  readonly locked: boolean;
  /** Unix seconds. */
  readonly time: number;
}

export async function signReceipt(
  signer: Signer,
  verified: VerifiedKit,
  outcome: Outcome,
  place: ChainPlace,
): Promise<Uint8Array> {
  const { kit } = verified;
  const { uid, ...rest } = outcome;
  const receipt: Receipt = {
    authority: kit.authority,
    kit: kit.id,
    ...place,
    ...rest,
    payloadHash: payloadHashOf(verified, outcome.index),
    // The vault can match a tag it holds in its hand; nobody who reads receipts can follow a tag by its UID.
    uidMac: hmacSha256(kit.uidKey, uid),
  };
  const { algorithm, kid } = signer.publicKey;
  const signature = await signer.sign(receiptSignatureInput(algorithm, receipt));
  return encodeReceipt(receipt, { algorithm, kid, signature });
}
