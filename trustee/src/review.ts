/**
 * A review: everything a proposal says, computed again from its bytes and held against what was accepted here before.
 * What comes out is what a trustee sees, and the only thing that can be signed.
 */
import { EMPTY_ROOT, equalBytes, formatHex, formatWords, sha256, VerificationError } from "@viafabric/schemas";
import { createProposal, metadataSigners, type Proposal, verifyHeadExtends } from "@viafabric/tuf";
import type { Accepted } from "./accepted.ts";
import { type BatchesReview, reviewBatches } from "./review-batches.ts";
import { reviewRoot, reviewTargets, type TrustReview } from "./review-trust.ts";
import type { ProposalDetail } from "./vault-client.ts";

declare const reviewed: unique symbol;

/** A proposal that earned a look. `reviewProposal` is its only source, and `sign` takes nothing else. */
export interface Review {
  readonly proposal: Proposal;
  readonly words: string;
  /** Valid approvals so far, of the first quorum. */
  readonly approvals: number;
  /** Unix seconds: of the metadata, once it is signed. */
  readonly expires: number;
  readonly changes: readonly string[];
  /** For the role batches. */
  readonly batches: BatchesReview | undefined;
  readonly [reviewed]: true;
}

/**
 * @param id as the trustee gave it, so that a vault cannot show one proposal and have another signed
 * @throws VerificationError ERR_PROPOSAL_MISMATCH, ERR_PROPOSAL_BASE, ERR_PROPOSAL_POLICY, ERR_LOG_UNSOUND; FormatError
 */
export async function reviewProposal(
  id: Uint8Array,
  detail: ProposalDetail,
  accepted: Accepted,
  now: number,
): Promise<Review> {
  const { signed, role } = detail;
  if (!equalBytes(sha256(signed), id))
    throw mismatch(`the bytes sent for ${formatHex(id)} are those of ${formatHex(sha256(signed))}`);
  const { trust } = accepted;
  const batches =
    role === "batches" ? reviewBatches(signed, detail.attachments, trust, accepted.manifests, now) : undefined;
  if (batches) await verifyHead(batches, accepted);
  const content: TrustReview = batches
    ? { expires: batches.expires, changes: [], quorums: [trust.approvers] }
    : role === "root"
      ? reviewRoot(signed, trust, now)
      : reviewTargets(signed, detail.attachments, trust, now);
  const { created, expires } = detail;
  // Who has to sign comes from what was accepted here, never from what the vault says about it.
  const proposal = createProposal({ role, signed, created, expires, quorums: content.quorums });
  if (proposal.version !== detail.version || detail.threshold !== content.quorums[0]!.threshold)
    throw mismatch("the vault tells another version or threshold than the bytes");
  if (expires <= now) throw new VerificationError("ERR_PROPOSAL_CLOSED", "the proposal has expired");
  const approvals = metadataSigners(content.quorums[0]!, { signedBytes: signed, signatures: detail.approvals }).length;
  const { changes, expires: lives } = content;
  return { proposal, words: formatWords(id), approvals, expires: lives, changes, batches } as Review;
}

/** Log and floor of a proposed head: real, and not behind the accepted ones. */
async function verifyHead({ head }: BatchesReview, { trust, log }: Accepted): Promise<void> {
  try {
    // The tree itself was built again from the accepted frontier, so there is no proof to ask for.
    await verifyHeadExtends({ ...trust.head, size: 0, root: EMPTY_ROOT }, head, async () => []);
  } catch (cause) {
    throw new VerificationError("ERR_PROPOSAL_BASE", "the proposed head falls behind the accepted one", { cause });
  }
  await log.verifyAt(head.log);
  await log.verifyFloor(head);
}

function mismatch(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_MISMATCH", reason);
}
