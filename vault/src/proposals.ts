/**
 * Proposals, the pure part: what is put before the trustees for a request, or to renew a head whose life runs out.
 */
import type { VerifiedStatement } from "@viafabric/revocation";
import { encodeHead, type Floor, type Head, manifestHash } from "@viafabric/schemas";
import { attachBatches, createProposal, type TrustedState } from "@viafabric/tuf";
import type { BatchRequest } from "./batch-request.ts";
import { LIFETIMES, type Settings } from "./genesis.ts";
import { type BatchPlan, type IssuanceState, planBatch, reissuedHead } from "./issuance.ts";
import type { PlannedEvent } from "./records.ts";
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
export function isRenewalDue(role: "targets" | "batches", expires: number, now: number): boolean {
  return expires - now <= LIFETIMES[role] * (1 - RENEWAL_SHARE);
}

/** @throws VerificationError ERR_INDEX_EXHAUSTED */
export function proposeBatch(request: BatchRequest, base: ProposalBase): PlannedEvent {
  const plan = planBatch(request, issuanceState(base), base.random, base.now);
  const batches = [{ manifest: plan.manifestBytes, payloads: plan.payloads }];
  const { proposal, attachments } = propose(base, plan.headBytes, batches);
  return { proposal, attachments, batches: [batchRows(plan, proposal.id, base)] };
}

/** The same batches under a newly issued head. */
export function proposeRenewal(base: ProposalBase): PlannedEvent {
  return { ...propose(base, encodeHead(reissuedHead(issuanceState(base), base.now)), []), batches: [] };
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
