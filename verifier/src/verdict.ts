/**
 * The closed list of answers to "may this token be used?" (FORMATS "Verdict codes").
 *
 * The order is the order of the checks, and the first failure wins, so two verifiers with the same state always give
 * the same code. No code means yes by default: only `accept` does.
 */
import { CodedError } from "@viafabric/schemas";

export const REFUSALS = {
  malformed: "The bytes are not a token in any spelling.",
  "unsupported-version": "The token is of a version this program does not know. Update the program.",
  "unknown-authority": "The token belongs to an authority that this node has not pinned.",
  "trust-invalid":
    "The node's trust metadata is missing or does not verify. Refresh, or initialise from the pinned root.",
  "trust-expired": "Root, targets or batches metadata has expired. Refresh from a current mirror.",
  "batch-not-held":
    "The node does not hold the bundle of the token's batch. Fetch it (via node hold --index N) and check again.",
  "head-too-old": "The status statement names a newer list of batches than the node has seen. Refresh.",
  "bundle-invalid": "The batch bundle contradicts its own manifest or batch leaf.",
  "manifest-not-in-head": "The batch manifest is not under the head that the trustees signed.",
  "subject-unsupported": "The token's subject is not of a kind this node can verify.",
  "leaf-mismatch": "The token's id is not the one logged at its index.",
  "payload-mismatch": "The token says something else than what was approved and logged.",
  "issuer-unknown": "The manifest names an issuer key that the trustees do not list.",
  "issuer-not-valid": "The issuer key was not valid when the batch began.",
  "issuer-class": "The issuer key's protection is weaker than this node accepts.",
  "signature-invalid": "The issuer's signature is wrong.",
  "log-proof-invalid": "The batch is not proven to be in the transparency log.",
  "witness-quorum-missing": "The log checkpoint lacks the cosignatures that the policy demands.",
  "not-yet-valid": "The token is not valid yet.",
  expired: "The token has expired.",
  "claim-window-over": "The time for the first tap is over.",
  revoked: "The token has been revoked.",
  suspended: "The token is suspended.",
  "not-released": "The token has been written but not released to its holder yet.",
  "not-covered": "The status statement does not reach the token's index yet. Refresh.",
  "status-missing": "The node has no status statement. Refresh.",
  "status-invalid": "The status statement does not verify, or contradicts its sets.",
  "status-chain-broken": "The status statement does not follow the one the node holds.",
  "status-rollback": "The status statement is older than, or frees more than, what the node has seen.",
  "status-stale": "The status statement is older than the profile allows. Refresh.",
  "floor-missing": "The node's status is older than the floor that the trustees signed. Refresh.",
  "clock-untrusted": "The clock runs behind times that were proven to have passed. Set it.",
} as const;

export type RefusalCode = keyof typeof REFUSALS;

export type Verdict =
  | {
      readonly code: "accept";
      /** The statement is past its soft age: recheck when there is a network again. */
      readonly aging: boolean;
      readonly index: number;
      readonly batch: number;
      readonly subject: string;
      readonly profile: string;
    }
  | { readonly code: RefusalCode; readonly detail: string; readonly index?: number };

/** A refusal on its way to becoming a verdict, or the reason why a bundle or statement was not taken in. */
export class Refusal extends CodedError<RefusalCode> {
  constructor(code: RefusalCode, detail: string = REFUSALS[code], options?: ErrorOptions) {
    super(code, detail, options);
  }
}
