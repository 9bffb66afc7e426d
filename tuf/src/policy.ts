/**
 * The policies of an authority as its targets list them, and what may follow them.
 *
 *     policy/lineage.json        what tokens name by its hash, for ever
 *     policy/manifest.cbor       the bundle in force: lineage, version, the manifest before it, a Merkle root
 *     policy/files/<path>        its files
 *     profiles/<id>.json         the catalogue of capability profiles
 *
 * Manifest and targets name each file twice, and must agree: TUF clients that know nothing of bundles fetch and check
 * the same files.
 */
import {
  assertPolicyFiles,
  type CapabilityProfile,
  decodePolicyManifest,
  decodeProfile,
  equalBytes,
  formatHex,
  type Hash,
  type PolicyManifest,
  quote,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import type { Targets } from "./metadata.ts";

export const LINEAGE_PATH = "policy/lineage.json";
export const POLICY_MANIFEST_PATH = "policy/manifest.cbor";
export const POLICY_FILES = "policy/files/";
const PROFILES = "profiles/";

export interface PolicyState {
  /** H(policy/lineage.json) */
  readonly lineage: Hash;
  /** Undefined until the first bundle. */
  readonly bundle: PolicyBundle | undefined;
}

export interface PolicyBundle {
  readonly manifest: PolicyManifest;
  /** H(manifest): what the next manifest names. */
  readonly hash: Hash;
}

export const profilePath = (id: string): string => `${PROFILES}${id}.json`;

/**
 * @param files as far as they are at hand; the files of a bundle may be left out
 * @returns undefined where targets list no lineage
 * @throws VerificationError ERR_POLICY_LINEAGE; FormatError ERR_POLICY_BUNDLE
 */
export function readPolicy(
  { targets }: Targets,
  files: ReadonlyMap<string, Uint8Array>,
  authority: Uint8Array,
): PolicyState | undefined {
  const lineage = targets.get(LINEAGE_PATH)?.sha256;
  const listed = [...targets.keys()].filter((path) => path.startsWith("policy/") && path !== LINEAGE_PATH);
  if (!lineage) {
    if (listed.length > 0) throw refused(`${listed[0]} without ${LINEAGE_PATH}`);
    return undefined;
  }
  const paths = listed.filter((path) => path !== POLICY_MANIFEST_PATH);
  for (const path of paths) if (!path.startsWith(POLICY_FILES)) throw refused(`${path} belongs to no bundle`);
  const info = targets.get(POLICY_MANIFEST_PATH);
  if (!info && paths.length > 0) throw refused(`${paths[0]} without ${POLICY_MANIFEST_PATH}`);
  const bytes = files.get(POLICY_MANIFEST_PATH);
  if (!info || !bytes) return { lineage, bundle: undefined };
  const manifest = decodePolicyManifest(bytes);
  if (!equalBytes(manifest.authority, authority))
    throw refused(`the bundle is of authority ${formatHex(manifest.authority)}`);
  if (!equalBytes(manifest.lineage, lineage))
    throw refused(`the bundle is of lineage ${formatHex(manifest.lineage)}, not ${formatHex(lineage)}`);
  if (paths.length !== manifest.entries.length)
    throw refused(`targets list ${paths.length} files, the manifest ${manifest.entries.length}`);
  for (const { path, hash, length } of manifest.entries) {
    const target = targets.get(POLICY_FILES + path);
    if (target?.length !== length || !equalBytes(target.sha256, hash))
      throw refused(`targets do not list ${quote(path)} as the manifest does`);
  }
  return { lineage, bundle: { manifest, hash: sha256(bytes) } };
}

/** The files of the bundle in force, by their path in it. @throws FormatError ERR_POLICY_BUNDLE when one is missing */
export function policyFiles(
  bundle: PolicyBundle,
  files: ReadonlyMap<string, Uint8Array>,
): ReadonlyMap<string, Uint8Array> {
  const own = [...files].filter(([path]) => path.startsWith(POLICY_FILES));
  const found = new Map(own.map(([path, bytes]) => [path.slice(POLICY_FILES.length), bytes]));
  assertPolicyFiles(bundle.manifest, found);
  return found;
}

/** The catalogue, as far as its files are at hand. @throws VerificationError ERR_METADATA_MISMATCH; FormatError ERR_PROFILE */
export function readProfiles(files: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, CapabilityProfile> {
  const profiles = [...files]
    .filter(([path]) => path.startsWith(PROFILES))
    .map(([path, bytes]) => {
      const profile = decodeProfile(bytes);
      if (profilePath(profile.id) !== path)
        throw new VerificationError("ERR_METADATA_MISMATCH", `${path} is profile ${quote(profile.id)}`);
      return profile;
    });
  return new Map(profiles.map((profile) => [profile.id, profile]));
}

/** @throws VerificationError ERR_POLICY_LINEAGE unless the state is of the lineage that was pinned */
export function assertLineage(state: PolicyState | undefined, pinned: Hash): void {
  if (state && equalBytes(state.lineage, pinned)) return;
  throw refused(`lineage ${state ? formatHex(state.lineage) : "none"}, where ${formatHex(pinned)} was pinned`);
}

/** The bytes of an earlier manifest by its hash, from `tuf/targets/policy/<hash>.manifest.cbor`. */
export type ReadManifest = (hash: Hash) => Promise<Uint8Array | undefined>;

/** A bundle a week for a century: who slept longer starts again from the pinned root. */
const STEPS_MAX = 5200;

/**
 * Whether the policies of `next` may follow those accepted: the lineage never changes, a bundle never goes or falls
 * back, and each version names the one before it, back to the accepted one.
 * @throws VerificationError ERR_POLICY_LINEAGE
 */
export async function verifyPolicySuccession(
  accepted: PolicyState | undefined,
  next: PolicyState | undefined,
  read: ReadManifest,
): Promise<void> {
  if (!accepted) return;
  if (!next || !equalBytes(next.lineage, accepted.lineage))
    throw refused(`lineage ${next ? formatHex(next.lineage) : "none"} after ${formatHex(accepted.lineage)}`);
  if (!accepted.bundle) return;
  if (!next.bundle) throw refused(`no bundle after bundle ${accepted.bundle.manifest.version}`);
  const target = accepted.bundle.manifest.version;
  let { manifest, hash } = next.bundle;
  if (manifest.version < target) throw refused(`bundle ${manifest.version} after bundle ${target}`);
  if (manifest.version - target > STEPS_MAX) throw refused(`bundle ${manifest.version} is too far from ${target}`);
  while (manifest.version > target) {
    const { previous, version } = manifest;
    if (version === target + 1) {
      if (!equalBytes(previous, accepted.bundle.hash))
        throw refused(`bundle ${version} does not follow the accepted one`);
      return;
    }
    const bytes = await read(previous);
    if (!bytes || !equalBytes(sha256(bytes), previous))
      throw refused(`bundle ${version - 1}, which leads back to the accepted one, is missing or altered`);
    manifest = decodePolicyManifest(bytes);
    hash = previous;
    if (manifest.version !== version - 1 || !equalBytes(manifest.lineage, accepted.lineage))
      throw refused(`bundle ${version} names bundle ${manifest.version} of another lineage before it`);
  }
  if (!equalBytes(hash, accepted.bundle.hash)) throw refused(`two different bundles of version ${target}`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_POLICY_LINEAGE", reason);
}
