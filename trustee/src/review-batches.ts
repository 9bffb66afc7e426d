/**
 * A proposed head, computed again from the bodies: who gets how many tokens of which profile until when, and nothing
 * else. Pure; whether the log and the floor it names are real is asked of the log.
 */
import {
  bodyFrom,
  decodeHead,
  decodeManifest,
  decodePayload,
  encodeHead,
  encodePayload,
  equalBytes,
  findKey,
  formatHex,
  type Head,
  hashLeaf,
  type Manifest,
  type MerkleFrontier,
  manifestHash,
  quote,
  rootOf,
  tokenLeaf,
  VerificationError,
} from "@viafabric/schemas";
import {
  type AttachedBatch,
  type Attachments,
  detachBatches,
  HEAD_PATH,
  parseSigned,
  type TrustedState,
  verifyFile,
} from "@viafabric/tuf";
import { assertLifetime, broken } from "./policy.ts";

export interface ReviewedBatch {
  readonly manifest: Manifest;
  /** Distinct holders, by their DID. */
  readonly subjects: readonly string[];
}

export interface BatchesReview {
  readonly head: Head;
  readonly expires: number;
  readonly batches: readonly ReviewedBatch[];
}

/** Clocks differ, and a proposal waits for its signatures. */
const ISSUED_AHEAD_SECONDS_MAX = 86_400;

/**
 * @param accepted what this tool accepted last. @param manifests the manifest tree under its head
 * @throws VerificationError ERR_PROPOSAL_BASE, ERR_PROPOSAL_MISMATCH, ERR_PROPOSAL_POLICY; FormatError
 */
export function reviewBatches(
  signed: Uint8Array,
  attachments: Attachments,
  accepted: TrustedState,
  manifests: MerkleFrontier,
  now: number,
): BatchesReview {
  const role = parseSigned("targets", signed);
  if (role.version <= accepted.batchesVersion)
    throw base(`batches ${role.version} after batches ${accepted.batchesVersion}, which was accepted here`);
  assertLifetime("batches", role.expires, now);
  const attached = detachBatches(attachments);
  const listed = role.targets.get(HEAD_PATH);
  if (role.targets.size !== 1 || role.delegations.length > 0 || !listed)
    throw mismatch(`batches must list ${HEAD_PATH} and nothing else`);
  verifyFile(HEAD_PATH, attached.head, listed);
  const head = decodeHead(attached.head);

  const tree = manifests.clone();
  let next = accepted.head.next;
  const batches = attached.batches.map((batch, i) => {
    const reviewed = reviewBatch(batch, accepted, accepted.head.size + i, next, now);
    tree.append(hashLeaf(manifestHash(batch.manifest)));
    next = reviewed.manifest.first + reviewed.manifest.count;
    return reviewed;
  });
  // Built here and compared whole, so that no field of a head goes unlooked at. The log and the floor are the log's
  // to confirm; the time of issue is bounded below.
  const expected: Head = { ...head, authority: accepted.authority, size: tree.size, root: tree.root(), next };
  if (!equalBytes(encodeHead(expected), attached.head))
    throw mismatch("the proposed head is not the accepted one with these batches added");
  if (head.issued < accepted.head.issued || head.issued > now + ISSUED_AHEAD_SECONDS_MAX)
    throw mismatch(`the proposed head was issued at ${head.issued}`);
  return { head, expires: role.expires, batches };
}

function reviewBatch(
  batch: AttachedBatch,
  accepted: TrustedState,
  seq: number,
  next: number,
  now: number,
): ReviewedBatch {
  const manifest = decodeManifest(batch.manifest);
  const name = `batch ${seq}`;
  if (!equalBytes(manifest.authority, accepted.authority))
    throw new VerificationError("ERR_AUTHORITY", `${name} is of another authority`);
  if (manifest.seq !== seq) throw mismatch(`${name} calls itself ${manifest.seq}`);
  if (manifest.first < next) throw mismatch(`${name} begins at index ${manifest.first}, of which ${next - 1} is taken`);
  if (batch.payloads.length !== manifest.count)
    throw mismatch(`${name} counts ${manifest.count} tokens and comes with ${batch.payloads.length}`);
  assertKeys(name, manifest, accepted, now);
  const subjects = new Set<string>();
  const ids = new Set<string>();
  const leaves = batch.payloads.map((payload, i) => {
    const body = decodePayload(payload);
    const index = manifest.first + i;
    const { rctId, subject, confirmation } = body;
    // Everything but these comes from the manifest; a payload that says anything else is not of this batch.
    const own = { rctId, subject, index, ...(confirmation && { confirmation }) };
    if (!equalBytes(encodePayload(bodyFrom(manifest, own)), payload))
      throw mismatch(`the token of index ${index} says something else than its manifest`);
    subjects.add(subject);
    ids.add(formatHex(rctId));
    return hashLeaf(tokenLeaf(index, rctId, payload));
  });
  if (ids.size < leaves.length) throw mismatch(`${name} uses one token id twice`);
  if (!equalBytes(rootOf(leaves), manifest.root)) throw mismatch(`the root of ${name} is not that of its tokens`);
  return { manifest, subjects: [...subjects] };
}

function assertKeys(
  name: string,
  manifest: Manifest,
  { keys, rules, profiles, policy }: TrustedState,
  now: number,
): void {
  const issuer = findKey(keys, manifest.issuer, "issuer", manifest.nbf);
  if (!issuer) throw broken(`${name} names an issuer key that is not listed for ${manifest.nbf}`);
  if (rules.classes.get("issuer") === "hardware" && issuer.class !== "hardware")
    throw broken(`${name} names an issuer key that is not in hardware`);
  if (!profiles.has(manifest.profile) || !rules.ages.has(manifest.profile))
    throw broken(`${name} is of the unknown profile ${quote(manifest.profile)}`);
  for (const { kid } of manifest.stations)
    if (!findKey(keys, kid, "station", now)) throw broken(`${name} goes to a station that is not listed`);
  for (const kid of manifest.releaseKeys) {
    if (!findKey(keys, kid, "release", now)) throw broken(`${name} names a release key that is not listed`);
    if (manifest.stations.some((station) => equalBytes(station.kid, kid)))
      throw broken(`${name} would be released by the station that writes it`);
  }
  if (manifest.claimBy <= now) throw broken(`${name} could no longer be claimed`);
  if (!policy || !equalBytes(policy.lineage, manifest.policyRoot))
    throw broken(`${name} names another policy lineage than targets`);
}

function base(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_BASE", reason);
}

function mismatch(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_MISMATCH", reason);
}
