/**
 * Proposals, the pure part: what is put before the trustees for a request, or to renew a head whose life runs out.
 */
import type { VerifiedStatement } from "@viafabric/revocation";
import { encodeHead, type Floor, FormatError, type Head, manifestHash } from "@viafabric/schemas";
import {
  attachBatches,
  createProposal,
  PROPOSED_BYTES_MAX,
  type ProposalRole,
  type TrustedState,
} from "@viafabric/tuf";
import type { BatchRequest } from "./batch-request.ts";
import { LIFETIMES, type Settings } from "./genesis.ts";
import { type BatchPlan, type IssuanceState, planBatches, reissuedHead } from "./issuance.ts";
import type { EventRecord, PlannedEvent } from "./records.ts";
import { SECRET_NONCE_BYTES, sealSecret } from "./secrets.ts";
import { planBatchesMetadata } from "./trust-files.ts";

/** A proposal that trustees do not answer within two weeks makes room for the next. */
export const PROPOSAL_SECONDS = 14 * 86_400;
/**
 * The share of a life after which its renewal is proposed. Trustees on several continents need weeks to meet, and at half
 * of a life the first alarm sounds.
 */
const RENEWAL_SHARE = 0.4;

/** What a plan is made from, as published. */
export interface ProposalBase {
  readonly trusted: TrustedState;
  readonly statement: VerifiedStatement;
  readonly log: Head["log"];
  readonly manifests: IssuanceState["manifests"];
  readonly settings: Settings;
  /** The end of every index range ever planned. */
  readonly plannedEnd: number;
  /** The highest version of `batches` ever proposed or published. */
  readonly lastVersion: number;
  /** Under which secrets are stored. */
  readonly secretKey: Uint8Array;
  readonly random: (length: number) => Uint8Array;
  readonly now: number;
}

/** @param expires and `now` in unix seconds. Metadata does not say when it was signed: its life is the one the rules give */
export function isRenewalDue(role: ProposalRole, expires: number, now: number): boolean {
  return expires - now <= LIFETIMES[role] * (1 - RENEWAL_SHARE);
}

/** Trustees who rejected a renewal are asked again after a week: they may have told the operator to wait. */
const REJECTED_SECONDS = 7 * 86_400;

/** @param rejected the last event of the role that was rejected, if any was */
export function isRenewalUnwanted(rejected: EventRecord | undefined, now: number): boolean {
  return rejected !== undefined && rejected.requestedBy.length === 0 && now < rejected.since + REJECTED_SECONDS;
}

/**
 * @param requests at least one; what they ask for is approved together or not at all
 * @throws VerificationError ERR_INDEX_EXHAUSTED; FormatError ERR_LENGTH for more than a trustee's tool reads
 */
export function proposeBatches(requests: readonly BatchRequest[], base: ProposalBase): PlannedEvent {
  const plans = planBatches(requests, issuanceState(base), base.random, base.now);
  const { headBytes } = plans.at(-1)!;
  const batches = plans.map(({ manifestBytes, payloads }) => ({ manifest: manifestBytes, payloads }));
  const { proposal, attachments } = propose(base, headBytes, batches);
  const length = attachments.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (length > PROPOSED_BYTES_MAX) throw new FormatError("ERR_LENGTH", `a proposal of ${length} bytes; ask for less`);
  return { proposal, attachments, batches: plans.map((plan) => batchRows(plan, proposal.id, base)) };
}

/** The same batches under a newly issued head. */
export function proposeRenewal(base: ProposalBase): PlannedEvent {
  return { ...propose(base, renewedHead(base), []), batches: [] };
}

/** The head over the accepted batches, with the log and the floor of this moment. */
export function renewedHead(base: ProposalBase): Uint8Array {
  return encodeHead(reissuedHead(issuanceState(base), base.now));
}

export function floorOf({ statement }: VerifiedStatement): Floor {
  const { epoch, n, log, planes } = statement;
  return { epoch, n, logSize: log.size, revokedRoot: planes[0].root, suspendedRoot: planes[1].root };
}

function issuanceState(base: ProposalBase): IssuanceState {
  const { trusted, settings, log, manifests } = base;
  return {
    authority: trusted.authority,
    keys: trusted.keys,
    iss: settings.iss,
    statusUri: settings.statusUri,
    policyRoot: settings.policyRoot,
    head: trusted.head,
    manifests,
    planned: [{ first: 0, count: base.plannedEnd }],
    log,
    floor: floorOf(base.statement),
  };
}

function propose(
  base: ProposalBase,
  headBytes: Uint8Array,
  batches: readonly { readonly manifest: Uint8Array; readonly payloads: readonly Uint8Array[] }[],
): Pick<PlannedEvent, "proposal" | "attachments"> {
  const { now, trusted } = base;
  const proposal = createProposal({
    role: "batches",
    signed: planBatchesMetadata(Math.max(base.lastVersion, trusted.batchesVersion) + 1, headBytes, now),
    created: now,
    expires: now + PROPOSAL_SECONDS,
    quorums: [trusted.approvers],
  });
  const attached = attachBatches({ head: headBytes, batches });
  return { proposal, attachments: [...attached].map(([name, bytes]) => ({ name, bytes })) };
}

function batchRows(plan: BatchPlan, eventId: Uint8Array, base: ProposalBase): PlannedEvent["batches"][number] {
  const hash = manifestHash(plan.manifestBytes);
  const { seq, first, count } = plan.manifest;
  const uidKey = sealSecret(base.secretKey, base.random(SECRET_NONCE_BYTES), hash, plan.uidKey);
  const batch = { manifestHash: hash, eventId, seq, first, count, manifest: plan.manifestBytes, uidKey };
  return { batch, tokens: plan.tokens };
}
