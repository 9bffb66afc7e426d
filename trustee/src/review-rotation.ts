/**
 * A proposed rotation, looked at whole: the root against the accepted one, and targets and batches under the new root.
 *
 * Only trustees and online keys may change in it. Targets lists the same files and batches the same manifests as
 * before, so that whoever agrees to a person joining agrees to nothing else. Every key that joins comes with the card
 * of its owner, which proves that somebody holds it. Pure.
 */
import {
  equalBytes,
  FormatError,
  formatHex,
  type MerkleFrontier,
  type PublicKey,
  quote,
  type Role,
  VerificationError,
} from "@viafabric/schemas";
import {
  type Attachments,
  attachBatches,
  CARD_ATTACHMENTS,
  type Delegation,
  delegatedRole,
  type EnrolmentCard,
  type FileInfo,
  HEAD_ATTACHMENT,
  HEAD_PATH,
  parseSigned,
  type Rotated,
  type Targets,
  TRUSTEES_MAX,
  type TrustedState,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { assertLifetime, broken, dayOf, sameRole } from "./policy.ts";
import { type BatchesReview, reviewBatches } from "./review-batches.ts";
import { missing, reviewRoot, type TrustReview } from "./review-trust.ts";

export interface RotationReview extends TrustReview {
  readonly batches: BatchesReview;
}

/** @throws VerificationError ERR_PROPOSAL_BASE, ERR_PROPOSAL_MISMATCH, ERR_PROPOSAL_POLICY, ERR_DELEGATION; FormatError */
export function reviewRotation(
  signed: Rotated<Uint8Array>,
  attachments: Attachments,
  accepted: TrustedState,
  manifests: MerkleFrontier,
  now: number,
): RotationReview {
  const { changes, expires, quorums } = reviewRoot(signed.root, accepted, now);
  const { roles } = parseSigned("root", signed.root);
  const targets = reviewSameTargets(signed.targets, roles.targets, accepted, now);
  const headBytes = attachments.get(HEAD_ATTACHMENT);
  if (!headBytes) throw new FormatError("ERR_PROPOSAL", "a rotation without its head");
  const noNewBatch = attachBatches({ head: headBytes, batches: [] });
  const batches = reviewBatches(signed.batches, noNewBatch, accepted, manifests, now);
  const joining = missing(roles.root.keys, accepted.root.roles.root.keys);
  const cards = cardsOf(attachments);
  return {
    expires,
    quorums,
    batches,
    changes: [
      ...changes,
      ...joining.map((key) => `${formatHex(key.kid)} is ${quote(cardOf(cards, key).name)}`),
      `signed again with it: targets ${targets.version} until ${dayOf(targets.expires)}, batches ${parseSigned("targets", signed.batches).version} until ${dayOf(batches.expires)}`,
    ],
  };
}

function reviewSameTargets(signed: Uint8Array, trustees: Role, accepted: TrustedState, now: number): Targets {
  const targets = parseSigned("targets", signed);
  if (targets.version <= accepted.targetsVersion)
    throw new VerificationError(
      "ERR_PROPOSAL_BASE",
      `targets ${targets.version} after targets ${accepted.targetsVersion}, which was accepted here`,
    );
  assertLifetime("targets", targets.expires, now);
  if (!sameFiles(targets.targets, accepted.targets.targets))
    throw broken("targets would list other files; a rotation changes none");
  if (!sameRole(delegatedRole(targets, "batches", HEAD_PATH), trustees))
    throw broken("batches would have other trustees than root");
  if (!sameDelegations(targets, accepted.targets)) throw broken("targets would delegate otherwise than before");
  return targets;
}

function sameFiles(a: ReadonlyMap<string, FileInfo>, b: ReadonlyMap<string, FileInfo>): boolean {
  return a.size === b.size && [...a].every(([path, info]) => equalBytes(info.sha256, b.get(path)?.sha256 ?? NONE));
}

/** All but `batches`, which follows the trustees. */
function sameDelegations(a: Targets, b: Targets): boolean {
  const others = ({ delegations }: Targets) => delegations.filter(({ name }) => name !== "batches");
  const same = (one: Delegation, two: Delegation | undefined): boolean =>
    two !== undefined && one.paths.join() === two.paths.join() && sameRole(one.role, two.role);
  const before = others(b);
  return (
    others(a).length === before.length &&
    others(a).every((each) =>
      same(
        each,
        before.find(({ name }) => name === each.name),
      ),
    )
  );
}

const NONE = new Uint8Array(0);

function cardsOf(attachments: Attachments): readonly EnrolmentCard[] {
  const files = [...attachments].filter(([name]) => name.startsWith(CARD_ATTACHMENTS));
  if (files.length > TRUSTEES_MAX) throw new FormatError("ERR_PROPOSAL", `${files.length} cards`);
  return files.map(([, bytes]) => verifyEnrolmentCard(bytes));
}

/** A key that nobody can use would count in the quorum and never sign. */
function cardOf(cards: readonly EnrolmentCard[], key: PublicKey): EnrolmentCard {
  const card = cards.find((each) => each.role === "trustee" && equalBytes(each.key.spki, key.spki));
  if (!card) throw broken(`nobody proved possession of the new key ${formatHex(key.kid)}`);
  return card;
}
