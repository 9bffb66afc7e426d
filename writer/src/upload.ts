/** Bringing receipts back: in the order of their chain, and as often as it takes. */
import { OperationError } from "@viafabric/schemas";
import type { KitSummary } from "./kits.ts";
import type { Ledger } from "./ledger.ts";
import type { VaultClient } from "./vault-client.ts";

/** The vault takes 1000 receipts in a request. */
const RECEIPTS_IN_REQUEST = 500;

/** Sends what the vault has not acknowledged yet; a receipt it holds already does no harm. @returns how many were sent */
export async function sendReceipts(vault: VaultClient, kit: KitSummary, ledger: Ledger): Promise<number> {
  let sent = 0;
  while (ledger.counts.uploaded < ledger.receipts.length) {
    const from = ledger.counts.uploaded;
    const part = ledger.receipts.slice(from, from + RECEIPTS_IN_REQUEST);
    const held = await vault.sendReceipts(kit.id, part);
    // The vault takes receipts in order, so less than this would be its mistake, and the loop would not end.
    if (held < from + part.length) throw new OperationError("ERR_VAULT", `the vault holds ${held} receipts only`);
    await ledger.markUploaded(from + part.length);
    sent += part.length;
  }
  return sent;
}
