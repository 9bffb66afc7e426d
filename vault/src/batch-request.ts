/**
 * A batch request: what an operator asks trustees to approve. Read here from JSON into one strict value, and held
 * against the trust files, before anything is drawn or planned.
 *
 * Reading says whether the words make sense (FormatError); verifying says whether this authority's trust files allow
 * them now (VerificationError). Trustees check the result again on their own machines; this only spares them noise.
 */
import {
  BATCH_TOKENS_MAX,
  type CapabilityProfile,
  equalBytes,
  FormatError,
  findKey,
  type KeyEntry,
  NAME_LENGTH_MAX,
  newestKey,
  parseDidKey,
  parseHex,
  quote,
  RELEASE_KEYS_MAX,
  type Rules,
  STATIONS_MAX,
  URI_LENGTH_MAX,
  VerificationError,
} from "@viafabric/schemas";
import { PROPOSED_BATCHES_MAX, PROPOSED_TOKENS_MAX } from "@viafabric/tuf";

export interface BatchRequest {
  readonly profile: string;
  /** did:key of an Ed25519 key each; one token for each entry, in this order. A person may get two. */
  readonly subjects: readonly string[];
  readonly creditClass: string;
  readonly quota: number;
  readonly unit: string;
  /** Unix seconds. */
  readonly nbf: number;
  readonly claimBy: number;
  readonly exp: number;
  readonly claim: ClaimProfile;
  readonly layout: Layout;
  readonly tagClass: TagClass;
  /** none, provisional, or the did:key of the one hub that may bind offline. */
  readonly offline: string;
  /** The stations that write, and how many tokens each, in order; together all of them. */
  readonly stations: readonly { readonly kid: Uint8Array; readonly count: number }[];
  /** Who may switch the tokens on: never a station of the same batch. */
  readonly release: readonly Uint8Array[];
}

/** `known`: the subject's key is known at issue, so the tag carries no claim secret. */
export const CLAIM_PROFILES = ["known"] as const;
export type ClaimProfile = (typeof CLAIM_PROFILES)[number];

export const TAG_CLASSES = ["ntag213", "ntag215", "ntag216"] as const;
export type TagClass = (typeof TAG_CLASSES)[number];

/** Which tags have room: a link of about 205 bytes leaves NTAG213 (144 bytes) out. */
export const LAYOUTS = {
  compact: ["ntag213", "ntag215", "ntag216"],
  link: ["ntag215", "ntag216"],
} as const satisfies Record<string, readonly TagClass[]>;
export type Layout = keyof typeof LAYOUTS;

/** A capability that outlives its hardware, its issuer key and most policies is a mistake in a form. */
export const TOKEN_LIFETIME_SECONDS_MAX = 10 * 366 * 24 * 3600;
/** Times a clerk can mean; anything later is milliseconds by mistake. */
const TIME_MAX = 2 ** 32 - 1;
/** Large enough for bytes and seconds, small enough for every JSON reader. */
const QUOTA_MAX = 2 ** 48;

const REQUIRED = [
  "profile",
  "subjects",
  "creditClass",
  "quota",
  "unit",
  "nbf",
  "claimBy",
  "exp",
  "claim",
  "layout",
  "tagClass",
  "offline",
  "release",
] as const;
/** `station` is the short form of `stations` with one entry. */
const STATION_FIELDS = ["station", "stations"] as const;

/**
 * One batch, or `{"batches": […]}`: several that are put before the trustees in one proposal.
 * @param value parsed JSON. @throws FormatError ERR_BATCH_REQUEST, ERR_DID, ERR_KEY, ERR_HEX
 */
export function parseBatchRequests(value: unknown): readonly BatchRequest[] {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, "batches"))
    return [parseBatchRequest(value)];
  const [[, list], ...others] = Object.entries(value) as [[string, unknown], ...unknown[]];
  if (others.length > 0) throw wrong("beside batches there is nothing");
  if (!Array.isArray(list) || list.length === 0 || list.length > PROPOSED_BATCHES_MAX)
    throw wrong(`batches must be a list of 1 to ${PROPOSED_BATCHES_MAX}`);
  const requests = list.map(parseBatchRequest);
  const tokens = tokensOf(requests);
  if (tokens > PROPOSED_TOKENS_MAX)
    throw wrong(`${tokens} tokens in one proposal, which takes ${PROPOSED_TOKENS_MAX}; ask in several requests`);
  return requests;
}

export function tokensOf(requests: readonly BatchRequest[]): number {
  return requests.reduce((sum, { subjects }) => sum + subjects.length, 0);
}

/** @param value parsed JSON. @throws FormatError ERR_BATCH_REQUEST, ERR_DID, ERR_KEY, ERR_HEX */
export function parseBatchRequest(value: unknown): BatchRequest {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("not an object");
  const fields = new Map(Object.entries(value));
  const known: readonly string[] = [...REQUIRED, ...STATION_FIELDS];
  for (const key of fields.keys()) if (!known.includes(key)) throw wrong(`unknown field ${quote(key)}`);
  for (const key of REQUIRED) if (!fields.has(key)) throw wrong(`${key} is missing`);

  const subjects = asTexts("subjects", fields.get("subjects"), BATCH_TOKENS_MAX, URI_LENGTH_MAX);
  for (const subject of subjects) parseDidKey(subject);
  const layout = asOneOf("layout", fields.get("layout"), Object.keys(LAYOUTS) as Layout[]);
  const tagClass = asOneOf("tagClass", fields.get("tagClass"), TAG_CLASSES);
  const fitting: readonly TagClass[] = LAYOUTS[layout];
  if (!fitting.includes(tagClass))
    throw wrong(`layout ${layout} does not fit ${tagClass}; use ${fitting.join(" or ")}`);
  const request: BatchRequest = {
    profile: asName("profile", fields.get("profile")),
    subjects,
    creditClass: asName("creditClass", fields.get("creditClass")),
    quota: asInteger("quota", fields.get("quota"), QUOTA_MAX),
    unit: asName("unit", fields.get("unit")),
    nbf: asInteger("nbf", fields.get("nbf"), TIME_MAX),
    claimBy: asInteger("claimBy", fields.get("claimBy"), TIME_MAX),
    exp: asInteger("exp", fields.get("exp"), TIME_MAX),
    claim: asOneOf("claim", fields.get("claim"), CLAIM_PROFILES),
    layout,
    tagClass,
    offline: asOffline(fields.get("offline")),
    stations: asStations(fields, subjects.length),
    release: asKids("release", fields.get("release"), RELEASE_KEYS_MAX),
  };
  if (!(request.nbf <= request.claimBy && request.claimBy <= request.exp)) {
    throw wrong("times out of order: nbf, claimBy, exp");
  }
  if (request.exp - request.nbf > TOKEN_LIFETIME_SECONDS_MAX) throw wrong("valid for longer than ten years");
  return request;
}

export interface RequestTrust {
  readonly profiles: ReadonlyMap<string, CapabilityProfile>;
  readonly keys: readonly KeyEntry[];
  readonly rules: Rules;
}

/** What trust files have a say in; `stations` and `release` by their kids. */
export type AllowedBatch = Pick<BatchRequest, "profile" | "nbf" | "claimBy" | "release"> & {
  readonly stations: readonly { readonly kid: Uint8Array }[];
};

/**
 * Whether the trust files allow this request at `now` (unix seconds).
 * @throws VerificationError ERR_BATCH_PROFILE, ERR_BATCH_KEY, ERR_BATCH_TIME
 */
export function verifyBatchRequest(request: AllowedBatch, trust: RequestTrust, now: number): void {
  const { profile } = request;
  if (!trust.profiles.has(profile))
    throw new VerificationError("ERR_BATCH_PROFILE", `profile ${quote(profile)} is not in the signed catalogue`);
  if (!trust.rules.ages.has(profile))
    throw new VerificationError("ERR_BATCH_PROFILE", `profile ${quote(profile)} is not in the trustees' rules`);
  if (request.claimBy <= now) throw new VerificationError("ERR_BATCH_TIME", "claimBy is over already");
  for (const { kid } of request.stations) {
    if (!findKey(trust.keys, kid, "station", now)) throw unlisted("station");
  }
  for (const kid of request.release) {
    if (!findKey(trust.keys, kid, "release", now)) throw unlisted("release");
    // One purpose for each key makes this impossible in a sound key list; it is the rule that keeps a writer from
    // switching on what the writer alone has seen, so it is asked here too.
    if (request.stations.some((station) => equalBytes(station.kid, kid))) throw unlisted("release");
  }
  // A token is accepted only if its issuer key was valid at nbf, so a batch that starts outside is void from birth.
  issuerAt(trust.keys, request.nbf);
}

/** The key that signs a batch which starts at `nbf`. @throws VerificationError ERR_BATCH_TIME */
export function issuerAt(keys: readonly KeyEntry[], nbf: number): KeyEntry {
  const issuer = newestKey(keys, "issuer", nbf);
  if (issuer) return issuer;
  throw new VerificationError("ERR_BATCH_TIME", "no issuer key is valid at nbf; choose another start");
}

function unlisted(purpose: string): VerificationError {
  return new VerificationError("ERR_BATCH_KEY", `a ${purpose} key is not listed for that purpose now`);
}

function asStations(fields: ReadonlyMap<string, unknown>, total: number): BatchRequest["stations"] {
  const [single, list] = STATION_FIELDS.map((key) => fields.get(key));
  if ((single === undefined) === (list === undefined)) throw wrong("name either station or stations");
  if (single !== undefined) return [{ kid: asKid("station", single), count: total }];
  if (!Array.isArray(list) || list.length === 0 || list.length > STATIONS_MAX) {
    throw wrong(`stations must be a list of 1 to ${STATIONS_MAX}`);
  }
  const stations = list.map((item: unknown) => {
    const entry = new Map(typeof item === "object" && item !== null ? Object.entries(item) : []);
    if (entry.size !== 2) throw wrong("an entry of stations is {kid, count}");
    return { kid: asKid("stations", entry.get("kid")), count: asInteger("count", entry.get("count"), total, 1) };
  });
  const sum = stations.reduce((so, { count }) => so + count, 0);
  if (sum !== total) throw wrong(`stations write ${sum} tokens, subjects are ${total}`);
  for (const [i, { kid }] of stations.entries()) {
    if (stations.slice(0, i).some((other) => equalBytes(other.kid, kid))) throw wrong("a station is named twice");
  }
  return stations;
}

function asOffline(value: unknown): string {
  if (value === "none" || value === "provisional") return value;
  const hub = asText("offline", value, URI_LENGTH_MAX);
  parseDidKey(hub);
  return hub;
}

function asKids(name: string, value: unknown, max: number): readonly Uint8Array[] {
  const texts = typeof value === "string" ? [value] : asTexts(name, value, max, 64);
  if (new Set(texts).size !== texts.length) throw wrong(`${name} names a key twice`);
  return texts.map((text) => asKid(name, text));
}

function asKid(name: string, value: unknown): Uint8Array {
  return parseHex(asText(name, value, 64), 32);
}

function asTexts(name: string, value: unknown, countMax: number, lengthMax: number): readonly string[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > countMax) {
    throw wrong(`${name} must be a list of 1 to ${countMax}`);
  }
  return value.map((item: unknown) => asText(name, item, lengthMax));
}

/** Names go into tokens and onto screens: plain words without spaces, so that none can be mistaken for another. */
function asName(name: string, value: unknown): string {
  const text = asText(name, value, NAME_LENGTH_MAX);
  if (!/^[a-z0-9][a-z0-9_.-]*$/.test(text)) throw wrong(`${name} must be of a-z, 0-9, _ . -, not ${quote(text)}`);
  return text;
}

function asText(name: string, value: unknown, lengthMax: number): string {
  if (typeof value !== "string" || value.length === 0 || value.length > lengthMax) {
    throw wrong(`${name} must be text of 1 to ${lengthMax} characters`);
  }
  return value;
}

function asInteger(name: string, value: unknown, max: number, min = 0): number {
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
    throw wrong(`${name} must be an integer ${min}..${max}`);
  }
  return value as number;
}

function asOneOf<Name extends string>(name: string, value: unknown, names: readonly Name[]): Name {
  const found = names.find((known) => known === value);
  if (found === undefined) throw wrong(`${name} must be ${names.join(", ")}`);
  return found;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_BATCH_REQUEST", reason);
}
