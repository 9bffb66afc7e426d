/**
 * Issuance, the pure part: from a batch request to everything trustees are asked to sign.
 *
 * A plan is drawn once and frozen. Its randomness (token ids) is an argument, so the same draw gives the same plan; the
 * shell stores the plan before anybody sees it, and a plan that dies burns its index range and its metadata version:
 * both only grow, and gaps are harmless. `seq` is a place in the head's tree, never burned, because a head that died
 * was never signed.
 */
import assert from "node:assert/strict";
import {
  compareBytes,
  concatAll,
  encodeHead,
  encodeManifest,
  type Floor,
  formatHex,
  type Head,
  hashLeaf,
  INDEX_MAX,
  type KeyEntry,
  type Manifest,
  type MerkleFrontier,
  manifestHash,
  payloadEncoder,
  RCT_ID_BYTES,
  rootOf,
  type StationRange,
  tokenLeaf,
  VerificationError,
} from "@viafabric/schemas";
import {
  type BatchRequest,
  issuerAt,
  parseBatchRequest,
  parseBatchRequests,
  type RequestTrust,
  verifyBatchRequest,
} from "./batch-request.ts";

/** What a plan builds on. The shell reads it from the published state, in one transaction. */
export interface IssuanceState {
  readonly authority: Uint8Array;
  /** The key list in force: it says who signs tokens. */
  readonly keys: readonly KeyEntry[];
  readonly iss: string;
  readonly statusUri: string;
  /** H(policy lineage root file). */
  readonly policyRoot: Uint8Array;
  /** The last head that k trustees signed, and the tree of its manifests. */
  readonly head: Head;
  readonly manifests: MerkleFrontier;
  /** Every range ever planned, dead plans included. */
  readonly planned: readonly { readonly first: number; readonly count: number }[];
  /** The published checkpoint and the published statement: what trustees compare with what they saw. */
  readonly log: Head["log"];
  readonly floor: Floor;
}

/** What differs from one token of a batch to the next. */
export interface PlannedToken {
  readonly index: number;
  readonly rctId: Uint8Array;
  readonly subject: string;
}

export interface BatchPlan {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly tokens: readonly PlannedToken[];
  /** One for each token, in index order: the claims that the issuer key will sign. */
  readonly payloads: readonly Uint8Array[];
  /** leaves.bin: the token entries in order. */
  readonly leaves: Uint8Array;
  /** 32 random bytes: under it, receipts name tags without telling anybody their UIDs. A secret; stored sealed only. */
  readonly uidKey: Uint8Array;
  readonly head: Head;
  readonly headBytes: Uint8Array;
}

export function validateRequest(value: unknown, trust: RequestTrust, now: number): BatchRequest {
  const request = parseBatchRequest(value);
  verifyBatchRequest(request, trust, now);
  return request;
}

/** What is asked for in one request: one batch, or several that are approved together or not at all. */
export function validateRequests(value: unknown, trust: RequestTrust, now: number): readonly BatchRequest[] {
  const requests = parseBatchRequests(value);
  for (const request of requests) verifyBatchRequest(request, trust, now);
  return requests;
}

/**
 * The first index that no plan has ever used. A range that was shown to trustees may have been signed by one of them,
 * so it is never given to other tokens, even when the plan died.
 */
export function nextIndex(state: Pick<IssuanceState, "head" | "planned">): number {
  return state.planned.reduce((next, { first, count }) => Math.max(next, first + count), state.head.next);
}

/**
 * @param random gives that many random bytes, from a cryptographic source
 * @param now unix seconds: when the head is said to be issued
 * @throws VerificationError ERR_INDEX_EXHAUSTED
 */
export function planBatch(
  request: BatchRequest,
  state: IssuanceState,
  random: (length: number) => Uint8Array,
  now: number,
): BatchPlan {
  const first = nextIndex(state);
  const count = request.subjects.length;
  if (first + count > INDEX_MAX + 1) {
    throw new VerificationError("ERR_INDEX_EXHAUSTED", `${count} tokens do not fit after index ${first}`);
  }
  const rctIds = drawIds(count, random);
  const uidKey = random(32);
  const tokens = request.subjects.map((subject, i) => ({ index: first + i, rctId: rctIds[i]!, subject }));
  // The root is over the leaves, the leaves over payloads, and payloads take all else from the manifest: so the
  // payloads are built from a manifest whose root is still empty. No payload depends on the root.
  const draft: Manifest = {
    authority: state.authority,
    seq: state.head.size,
    first,
    count,
    root: new Uint8Array(32),
    issuer: issuerAt(state.keys, request.nbf).key.kid,
    iss: state.iss,
    profile: request.profile,
    creditClass: request.creditClass,
    quota: request.quota,
    unit: request.unit,
    policyRoot: state.policyRoot,
    nbf: request.nbf,
    claimBy: request.claimBy,
    exp: request.exp,
    claim: request.claim,
    layout: request.layout,
    tagClass: request.tagClass,
    offline: request.offline,
    releaseKeys: [...request.release].sort(compareBytes),
    stations: stationRanges(request, first),
    statusUri: state.statusUri,
  };
  const payloads = tokens.map(payloadEncoder(draft));
  const entries = tokenEntries(tokens, payloads);
  const manifest = { ...draft, root: rootOf(entries.map(hashLeaf)) };
  const manifestBytes = encodeManifest(manifest);
  const head = nextHead(state, manifestBytes, first + count, now);
  const frozen = { manifest, manifestBytes, tokens, payloads, leaves: concatAll(entries) };
  return { ...frozen, uidKey, head, headBytes: encodeHead(head) };
}

/**
 * Several batches under one head: one after the other in the head's tree, and with adjoining index ranges. The head of
 * the last plan is the one to be signed; those of the others are nobody's.
 */
export function planBatches(
  requests: readonly BatchRequest[],
  state: IssuanceState,
  random: (length: number) => Uint8Array,
  now: number,
): readonly BatchPlan[] {
  const plans: BatchPlan[] = [];
  let next = state;
  for (const request of requests) {
    const plan = planBatch(request, next, random, now);
    const manifests = next.manifests.clone();
    manifests.append(hashLeaf(manifestHash(plan.manifestBytes)));
    next = { ...next, head: plan.head, manifests };
    plans.push(plan);
  }
  return plans;
}

/** Each station's part of the batch, one after the other. */
export function stationRanges(request: Pick<BatchRequest, "stations">, first: number): readonly StationRange[] {
  let next = first;
  return request.stations.map(({ kid, count }) => {
    const range = { kid, first: next, count };
    next += count;
    return range;
  });
}

/** The head of the same batches, newly issued: what trustees re-sign when a lifetime runs out, and nothing is new. */
export function reissuedHead(state: IssuanceState, now: number): Head {
  return { ...state.head, log: state.log, floor: state.floor, issued: now };
}

/** The log entries of a batch's tokens, in order: together they are leaves.bin. */
export function tokenEntries(tokens: readonly PlannedToken[], payloads: readonly Uint8Array[]): readonly Uint8Array[] {
  assert.equal(tokens.length, payloads.length);
  return tokens.map(({ index, rctId }, i) => tokenLeaf(index, rctId, payloads[i]!));
}

function nextHead(state: IssuanceState, manifestBytes: Uint8Array, next: number, now: number): Head {
  const tree = state.manifests.clone();
  assert.equal(tree.size, state.head.size, "the manifest tree belongs to the head");
  assert(compareBytes(tree.root(), state.head.root) === 0, "the manifest tree has the head's root");
  assert(state.floor.logSize <= state.log.size, "a statement covers a part of the log that is published");
  tree.append(hashLeaf(manifestHash(manifestBytes)));
  const { authority, log, floor } = state;
  return { authority, size: tree.size, root: tree.root(), next, log, floor, issued: now };
}

/** All ids in one draw. 128 random bits do not meet twice; a broken source would, and must not get through. */
function drawIds(count: number, random: (length: number) => Uint8Array): readonly Uint8Array[] {
  const drawn = random(count * RCT_ID_BYTES);
  const ids = Array.from({ length: count }, (_, i) => drawn.slice(i * RCT_ID_BYTES, (i + 1) * RCT_ID_BYTES));
  assert.equal(drawn.length, count * RCT_ID_BYTES);
  assert.equal(new Set(ids.map(formatHex)).size, count, "the source of randomness repeats itself");
  return ids;
}
