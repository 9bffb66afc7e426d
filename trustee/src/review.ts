/**
 * A review: everything a proposal says, computed again from its bytes and held against what was accepted here before.
 * What comes out is what a trustee sees, and the only thing that can be signed.
 */
import {
  EMPTY_ROOT,
  equalBytes,
  FormatError,
  formatHex,
  formatWords,
  type Role,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import {
  createProposal,
  createRotation,
  deadRoots,
  detachFormer,
  metadataSigners,
  type Proposal,
  provenRejections,
  type Rejection,
  type Rotated,
  rotationId,
  verifyHeadExtends,
} from "@viafabric/tuf";
import type { Accepted } from "./accepted.ts";
import { type BatchesReview, reviewBatches } from "./review-batches.ts";
import { reviewRotation } from "./review-rotation.ts";
import { reviewTargets, type TrustReview } from "./review-trust.ts";
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
  /** For the role batches, and for a rotation. */
  readonly batches: BatchesReview | undefined;
  /** Of a rotation: what is signed together with the root. */
  readonly parts: Pick<Rotated<Proposal>, "targets" | "batches"> | undefined;
  /** Other trustees' reasons against it, in their own signed words. */
  readonly rejections: readonly Rejection[];
  /** As the vault tells: nothing that is signed says who asked, or what became of the proposal. */
  readonly told: Pick<ProposalDetail, "state" | "requestedBy" | "ownApprovals">;
  /** Roots of which this proposal brings the proof that they can never be published. */
  readonly dead: ReadonlySet<string>;
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
  const { signed } = detail;
  const shown = idOf(detail);
  if (!equalBytes(shown, id)) throw mismatch(`the bytes sent for ${formatHex(id)} are those of ${formatHex(shown)}`);
  const content = reviewContent(detail, accepted, now);
  const { batches, quorums } = content;
  if (accepted.expired && detail.role !== "root" && isMoreThanRenewal(content))
    throw new VerificationError(
      "ERR_METADATA_EXPIRED",
      "what is published has expired, or news is being held back: only its renewal is signed",
    );
  if (batches) await verifyHead(batches, accepted);
  // Who has to sign comes from what was accepted here, never from what the vault says about it.
  const { proposal, parts } = proposed(detail, quorums);
  const { expires } = proposal;
  if (proposal.version !== detail.version || detail.threshold !== content.quorums[0]!.threshold)
    throw mismatch("the vault tells another version or threshold than the bytes");
  if (expires <= now) throw new VerificationError("ERR_PROPOSAL_CLOSED", "the proposal has expired");
  const approvals = metadataSigners(content.quorums[0]!, { signedBytes: signed, signatures: detail.approvals }).length;
  const { changes, expires: lives } = content;
  const { root, authority } = accepted.trust;
  const dead = deadRoots(detachFormer(detail.attachments), authority, root.roles.root);
  const rejections = provenRejections(proposal, authority, detail.rejections);
  const { state, requestedBy, ownApprovals } = detail;
  const told = { state, requestedBy, ownApprovals };
  const rest = { changes, batches, rejections, told, dead };
  return { proposal, parts, words: formatWords(id), approvals, expires: lives, ...rest } as Review;
}

/** What the id must be: of a rotation it binds all that is signed in it. @throws FormatError ERR_PROPOSAL */
export function idOf({ role, signed, parts }: Pick<ProposalDetail, "role" | "signed" | "parts">): Uint8Array {
  if ((role === "root") !== (parts !== undefined))
    throw new FormatError("ERR_PROPOSAL", "a root is proposed together with targets and batches, and nothing else is");
  return parts ? rotationId({ root: signed, ...parts }) : sha256(signed);
}

/** On a state that may be an old one nothing is built; it is only signed for another while. */
function isMoreThanRenewal({ changes, batches }: Content): boolean {
  return batches ? batches.batches.length > 0 : changes.length > 0;
}

type Content = TrustReview & { readonly batches?: BatchesReview };

function reviewContent(detail: ProposalDetail, { trust, manifests }: Accepted, now: number): Content {
  const { role, signed, parts, attachments } = detail;
  if (parts) return reviewRotation({ root: signed, ...parts }, attachments, trust, manifests, now);
  if (role === "targets") return reviewTargets(signed, attachments, trust, now);
  const batches = reviewBatches(signed, attachments, trust, manifests, now);
  return { batches, expires: batches.expires, changes: [], quorums: [trust.approvers] };
}

function proposed(
  { role, signed, parts, created, expires }: ProposalDetail,
  quorums: readonly Role[],
): Pick<Review, "proposal" | "parts"> {
  if (!parts) return { proposal: createProposal({ role, signed, created, expires, quorums }), parts: undefined };
  const [old, next] = quorums as [Role, Role];
  const { root, ...rest } = createRotation({
    signed: { root: signed, ...parts },
    created,
    expires,
    quorums: [old, next],
  });
  return { proposal: root, parts: rest };
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
