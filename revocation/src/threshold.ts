/**
 * Whose signatures a status event needs (DESIGN §6): a pure table of rules, asked by vault, signer, trustee and auditor.
 *
 * - suspend: few trustees for at most one batch, or a station for its own kit; beyond one batch as a revocation.
 * - revoke: fewer trustees for at most one kit (a range of manifest field 22), else the quorum.
 * - reinstate: the quorum.
 * - release: one release key of the manifest that covers the range. Never the writing station's.
 */
import {
  type EventBody,
  equalBytes,
  type IndexRange,
  type Manifest,
  type Rules,
  VerificationError,
} from "@viafabric/schemas";

/** What a manifest says about who handles its tokens. */
export type Handling = Pick<Manifest, "first" | "count" | "stations" | "releaseKeys">;

export type Approval =
  | {
      readonly by: "trustees";
      readonly rule: keyof Rules["thresholds"];
      /** Distinct trustee keys, of the root last logged before the event. */
      readonly threshold: number;
      /** Kids of stations any one of which may sign instead: suspensions within their own kit. */
      readonly stations: readonly Uint8Array[];
    }
  | {
      readonly by: "release";
      /** Any one of these release keys. */
      readonly keys: readonly Uint8Array[];
    };

/**
 * @param manifests at least those whose index range meets the event's ranges, of logged batches
 * @throws VerificationError ERR_AUTHORITY; ERR_EVENT_RANGE for a release that leaves the batches it may name
 */
export function requiredThreshold(body: EventBody, manifests: readonly Handling[], rules: Rules): Approval {
  if (!equalBytes(body.authority, rules.authority)) {
    throw new VerificationError("ERR_AUTHORITY", "the status event is of another authority");
  }
  const trustees = (rule: keyof Rules["thresholds"], stations: readonly Uint8Array[] = []): Approval => {
    return { by: "trustees", rule, threshold: rules.thresholds[rule], stations };
  };
  const kit = manifests.flatMap((manifest) => manifest.stations).find((station) => allWithin(body.ranges, station));
  switch (body.action) {
    case "suspend": {
      const oneBatch = manifests.some((manifest) => allWithin(body.ranges, manifest));
      return oneBatch ? trustees("suspend", kit ? [kit.kid] : []) : trustees("revoke");
    }
    case "revoke":
      return trustees(kit ? "revokeKit" : "revoke");
    case "reinstate":
      return trustees("reinstate");
    case "release":
      return { by: "release", keys: releaseKeys(body.ranges, manifests) };
  }
}

/** The keys that every manifest concerned names; ranges that meet no manifest have nobody to release them. */
function releaseKeys(ranges: readonly IndexRange[], manifests: readonly Handling[]): readonly Uint8Array[] {
  const concerned = ranges.map((range) => {
    const manifest = manifests.find((candidate) => within(range, candidate));
    if (manifest) return manifest;
    const reason = `no batch holds all of ${range.count} from ${range.first} on`;
    throw new VerificationError("ERR_EVENT_RANGE", reason);
  });
  const [first, ...others] = concerned;
  const keys = (first?.releaseKeys ?? []).filter((kid) => {
    return others.every((manifest) => manifest.releaseKeys.some((other) => equalBytes(other, kid)));
  });
  if (keys.length > 0) return keys;
  throw new VerificationError("ERR_EVENT_RANGE", "no release key may release all these ranges");
}

function allWithin(ranges: readonly IndexRange[], outer: IndexRange): boolean {
  // An empty list of ranges must not count as a small event.
  return ranges.length > 0 && ranges.every((range) => within(range, outer));
}

function within(range: IndexRange, outer: IndexRange): boolean {
  return outer.first <= range.first && range.first + range.count <= outer.first + outer.count;
}
