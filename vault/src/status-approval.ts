/**
 * Who has to sign a status event, and who of them has: the vault's view of `revocation`'s table of rules. The signer
 * decides again from the log alone, so a mistake here delays an event and never makes one.
 */

import { type Handling, requiredThreshold } from "@viafabric/revocation";
import { decodeManifest, type EventBody, equalBytes, type PublicKey, type Role } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import type { BatchRecord } from "./records.ts";

export type StatusTrust = Pick<TrustedState, "authority" | "trustees" | "keys" | "rules">;

/** Any one of these roles is enough. @throws VerificationError ERR_AUTHORITY, ERR_EVENT_RANGE */
export function rolesFor(
  body: EventBody,
  manifests: readonly Handling[],
  trust: StatusTrust,
  now: number,
): readonly Role[] {
  const approval = requiredThreshold(body, manifests, trust.rules);
  const single = (kids: readonly Uint8Array[], purpose: "station" | "release"): Role => ({
    keys: trust.keys
      .filter((entry) => entry.purpose === purpose && entry.from <= now && now < entry.until)
      .map((entry) => entry.key)
      .filter((key) => kids.some((kid) => equalBytes(kid, key.kid))),
    threshold: 1,
  });
  if (approval.by === "release") return [single(approval.keys, "release")];
  const trustees = { keys: trust.trustees.keys, threshold: approval.threshold };
  return approval.stations.length > 0 ? [trustees, single(approval.stations, "station")] : [trustees];
}

/** The key that may sign, if it may. */
export function eligibleKey(roles: readonly Role[], kid: Uint8Array): PublicKey | undefined {
  return roles.flatMap(({ keys }) => keys).find((key) => equalBytes(key.kid, kid));
}

/** The manifests of batches that an event touches. */
export function manifestsFor(body: EventBody, batches: readonly BatchRecord[]): readonly Handling[] {
  return batches
    .filter((batch) =>
      body.ranges.some((range) => range.first < batch.first + batch.count && batch.first < range.first + range.count),
    )
    .map((batch) => decodeManifest(batch.manifest));
}
