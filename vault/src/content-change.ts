/**
 * Changes to what trustees sign besides keys, the pure part: capability profiles, the policy bundle, and the witnesses of
 * the log. What comes out are the target files of the next `targets`; nothing changes until trustees have signed it.
 */
import {
  assertPolicyFiles,
  type CapabilityProfile,
  decodePolicyManifest,
  decodeRules,
  encodePolicyManifest,
  encodeProfile,
  encodeRules,
  equalBytes,
  FormatError,
  POLICY_FILES_MAX,
  parseBase64,
  policyManifestOf,
  policyRootOf,
  quote,
  type Rules,
  readProfile,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import {
  POLICY_FILES,
  POLICY_MANIFEST_PATH,
  POLICY_PATH,
  profilePath,
  RULES_PATH,
  type TrustedState,
} from "@viafabric/tuf";
import { nextPolicy, parseWitnessChange, type WitnessChange } from "./witness-change.ts";

export interface ProfileChange {
  readonly profile: CapabilityProfile;
  /** Of the status statement, in seconds: a node grows cautious, a node refuses. */
  readonly soft: number;
  readonly hard: number;
}

export interface ContentChange {
  readonly profiles: readonly ProfileChange[];
  /** The files of the next bundle, by path; all of them. Undefined: the bundle stays. */
  readonly policy: ReadonlyMap<string, Uint8Array> | undefined;
  readonly witnesses: WitnessChange | undefined;
}

export const NO_CONTENT: ContentChange = { profiles: [], policy: undefined, witnesses: undefined };
/** Profiles in one proposal: more than a person reads. */
const PROFILES_MAX = 64;

/**
 * @param profiles [{file in base64, soft, hard}]. @param policy {path: base64}. @param witnesses of `parseWitnessChange`
 * @throws FormatError
 */
export function parseContentChange(profiles: unknown = [], policy?: unknown, witnesses?: unknown): ContentChange {
  if (!Array.isArray(profiles) || profiles.length > PROFILES_MAX)
    throw wrong(`profiles is a list of at most ${PROFILES_MAX}`);
  const parsed = profiles.map((item: unknown): ProfileChange => {
    const fields = membersOf(item, "an entry of profiles is {file, soft, hard}");
    const [file, soft, hard] = [fields.get("file"), fields.get("soft"), fields.get("hard")];
    if (typeof file !== "string" || typeof soft !== "number" || typeof hard !== "number" || fields.size !== 3)
      throw wrong("an entry of profiles is {file, soft, hard}");
    return { profile: readProfile(parseBase64(file)), soft, hard };
  });
  if (new Set(parsed.map(({ profile }) => profile.id)).size < parsed.length) throw wrong("one profile twice");
  const change = witnesses === undefined ? undefined : parseWitnessChange(witnesses);
  if (policy === undefined) return { profiles: parsed, policy: undefined, witnesses: change };
  const files = [...membersOf(policy, "policy is {path: base64}")].map(([path, text]) => {
    if (typeof text !== "string") throw wrong(`${quote(path)} is no base64`);
    return [path, parseBase64(text)] as const;
  });
  if (files.length > POLICY_FILES_MAX) throw wrong(`${files.length} files; a bundle has at most ${POLICY_FILES_MAX}`);
  return { profiles: parsed, policy: new Map(files), witnesses: change };
}

/**
 * The files that the next targets list where the change says so, as they are otherwise.
 * @throws VerificationError ERR_TRUST_CHANGE where nothing new is asked for; FormatError ERR_POLICY_BUNDLE, ERR_TRUST_FILE
 */
export function nextFiles(
  { profiles, policy, witnesses }: ContentChange,
  trusted: TrustedState,
): ReadonlyMap<string, Uint8Array> {
  const files = new Map(trusted.files);
  for (const { profile } of profiles) {
    const before = trusted.profiles.get(profile.id);
    if (before && profile.version <= before.version)
      throw refused(`profile ${profile.id} is at version ${before.version}; the next one must be higher`);
    files.set(profilePath(profile.id), encodeProfile(profile));
  }
  if (profiles.length > 0) files.set(RULES_PATH, rulesFile(trusted.rules, profiles));
  if (witnesses) files.set(POLICY_PATH, nextPolicy(witnesses, parsePolicy(utf8(trusted.policyText))));
  return policy ? withBundle(files, policy, trusted) : files;
}

function rulesFile(rules: Rules, profiles: readonly ProfileChange[]): Uint8Array {
  const ages = profiles.map(({ profile, soft, hard }) => [profile.id, { soft, hard }] as const);
  const bytes = encodeRules({ ...rules, ages: new Map([...rules.ages, ...ages]) });
  // Our own reader must accept what trustees are asked to sign.
  decodeRules(bytes);
  return bytes;
}

function withBundle(
  files: ReadonlyMap<string, Uint8Array>,
  policy: ReadonlyMap<string, Uint8Array>,
  { authority, policy: state }: TrustedState,
): ReadonlyMap<string, Uint8Array> {
  if (!state) throw refused("this authority has no policy lineage");
  const held = state.bundle && files.get(POLICY_MANIFEST_PATH);
  const manifest = policyManifestOf(authority, state.lineage, held, policy);
  if (held && equalBytes(policyRootOf(decodePolicyManifest(held).entries), manifest.root))
    throw refused(`the files are those of bundle ${manifest.version - 1}, which is in force`);
  assertPolicyFiles(manifest, policy);
  return new Map([
    ...[...files].filter(([path]) => !path.startsWith(POLICY_FILES)),
    [POLICY_MANIFEST_PATH, encodePolicyManifest(manifest)],
    ...[...policy].map(([path, bytes]) => [POLICY_FILES + path, bytes] as const),
  ]);
}

function membersOf(value: unknown, what: string): ReadonlyMap<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(what);
  return new Map(Object.entries(value));
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TRUST_REQUEST", `not a change of profiles or policy: ${reason}`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_CHANGE", reason);
}
