/**
 * The beginning of an authority: everything that trustees sign once, in one meeting, made from cards and public keys.
 *
 * The folder that comes out holds no secret and nobody has to be believed about it. Each trustee's tool builds root v1
 * again from the same cards; its hash is the authority, compared by voice in words. targets v1 and batches v1 are
 * signed in the same meeting, so that from its first day an authority has a complete set of quorum-signed files.
 */
import {
  encodeHead,
  encodeProfile,
  encodeRules,
  encodeTrustKeys,
  FormatError,
  formatHex,
  formatVerifierKey,
  genesisHead,
  type KeyClass,
  type KeyEntry,
  kidText,
  noteVerifier,
  type PublicKey,
  type Purpose,
  quote,
  type Role,
  type Rules,
  sha256,
  URI_LENGTH_MAX,
  utf8,
} from "@viafabric/schemas";
import { formatPolicy, witnessPolicy } from "@viafabric/transparency-log";
import {
  authorityOf,
  buildBatches,
  buildTargets,
  canonicalJson,
  type EnrolmentCard,
  encodeAuthorityCard,
  KEYS_PATH,
  LINEAGE_PATH,
  POLICY_PATH,
  profilePath,
  RULES_PATH,
  rootFromCards,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { type ListedWitness, namedWitness } from "./witness-change.ts";

/** The public halves of the keys in the HSM. */
export interface OnlineKeys {
  readonly issuer: PublicKey;
  readonly log: PublicKey;
  readonly status: PublicKey;
  readonly snapshot: PublicKey;
  readonly timestamp: PublicKey;
  readonly revocations: PublicKey;
}

export interface GenesisOptions {
  /** Card files, as their owners made them. */
  readonly trustees: readonly Uint8Array[];
  readonly stations: readonly Uint8Array[];
  readonly releases: readonly Uint8Array[];
  readonly online: OnlineKeys;
  readonly onlineClass: KeyClass;
  readonly operator: PublicKey;
  /** k of n; the smallest majority when left out: 2 of 3, 3 of 5. */
  readonly threshold?: number;
  /** Host name of the public files and of links on tags, such as `vault.example.org`. */
  readonly host: string;
  /** Issuer name in every token; `https://HOST` when left out. */
  readonly iss?: string;
  /** Name of the log and of its key: a schema-less URL. `HOST/log` when left out. */
  readonly logOrigin?: string;
  /** NDEF external type of tokens on tags. */
  readonly recordType?: string;
  /** Who must see the log, and how many of them. None is a setting for development. */
  readonly witnesses?: { readonly listed: readonly ListedWitness[]; readonly quorum: number };
  /** Seconds from `now`. */
  readonly lifetimes?: Partial<Lifetimes>;
  /** Unix seconds. */
  readonly now: number;
}

export interface Lifetimes {
  readonly root: number;
  readonly targets: number;
  readonly batches: number;
  /** Of the keys in trust/keys.cbor. */
  readonly keys: number;
}

const DAY = 86_400;
export const LIFETIMES: Lifetimes = { root: 730 * DAY, targets: 365 * DAY, batches: 120 * DAY, keys: 730 * DAY };
export const RECORD_TYPE = "vf.test:r";
export const FIRST_PROFILE = "edge-basic";
/** A station of that name sits in the same key list as everybody else's. */
const CARDS_MAX = 256;
/** A day without a statement makes a node cautious, a week makes it refuse. */
const FIRST_AGES = { soft: DAY, hard: 7 * DAY };

/** What the shell keeps, because it goes into manifests, kits and public addresses. */
export interface Settings {
  readonly iss: string;
  readonly host: string;
  readonly logOrigin: string;
  readonly recordType: string;
  readonly statusUri: string;
  /** H(policy lineage root file): in every token. */
  readonly policyRoot: Uint8Array;
  /** Whether a trustee may approve what they asked for themselves. */
  readonly ownApprovals: boolean;
}

export interface Genesis {
  readonly authority: Uint8Array;
  readonly cards: readonly EnrolmentCard[];
  readonly authorityCard: Uint8Array;
  /** Canonical signed parts, without signatures. */
  readonly root: Uint8Array;
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  /** By target path. */
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
  readonly headBytes: Uint8Array;
  readonly settings: Settings;
}

/**
 * @throws FormatError ERR_CARD for cards or a threshold that make no quorum, ERR_GENESIS for anything else that does
 * not fit together; VerificationError ERR_SIGNATURE for a card without proof of possession
 */
export function planGenesis(options: GenesisOptions): Genesis {
  const { now, online } = options;
  const lifetimes = { ...LIFETIMES, ...options.lifetimes };
  const cards = {
    trustee: readCards("trustee", options.trustees),
    station: readCards("station", options.stations),
    release: readCards("release", options.releases),
  };
  const trustees = cards.trustee.map(({ key }) => key);
  const threshold = options.threshold ?? Math.floor(trustees.length / 2) + 1;
  checkDistinct([...trustees, ...[...cards.station, ...cards.release].map(({ key }) => key), options.operator], online);

  const authorityCard = { threshold, expires: now + lifetimes.root, ...pick(online) };
  const root = rootFromCards(cards.trustee, authorityCard);
  const authority = authorityOf(root);
  const quorum: Role = { keys: trustees, threshold };
  const names = namesOf(options);
  const lineage = lineageFile(authority, names, quorum);
  const targetFiles = new Map([
    [KEYS_PATH, encodeTrustKeys(keyEntries(options, cards, now, now + lifetimes.keys))],
    [POLICY_PATH, policyFile(names.logOrigin, online.log, options.witnesses)],
    [RULES_PATH, encodeRules(firstRules(authority, threshold, options.onlineClass))],
    [profilePath(FIRST_PROFILE), profileFile()],
    [LINEAGE_PATH, lineage],
  ]);
  const headBytes = encodeHead(genesisHead(authority, now));
  return {
    authority,
    cards: [...cards.trustee, ...cards.station, ...cards.release],
    authorityCard: encodeAuthorityCard(authorityCard),
    root,
    targets: buildTargets({
      version: 1,
      expires: now + lifetimes.targets,
      targets: targetFiles,
      batches: quorum,
      revocations: { keys: [online.revocations], threshold: 1 },
    }),
    batches: buildBatches({ version: 1, expires: now + lifetimes.batches, head: headBytes }),
    targetFiles,
    headBytes,
    settings: { ...names, policyRoot: sha256(lineage), ownApprovals: false },
  };
}

/** `log.vkey`, for tools that read logs and know nothing of tokens. */
export function logVerifierKey(origin: string, key: PublicKey): string {
  return formatVerifierKey(noteVerifier(origin, key));
}

function pick({ snapshot, timestamp }: OnlineKeys): Pick<OnlineKeys, "snapshot" | "timestamp"> {
  return { snapshot, timestamp };
}

function readCards(role: EnrolmentCard["role"], files: readonly Uint8Array[]): readonly EnrolmentCard[] {
  if (files.length === 0 || files.length > CARDS_MAX)
    throw wrong(`${files.length} ${role} cards; it takes 1 to ${CARDS_MAX}`);
  return files.map((file) => {
    const card = verifyEnrolmentCard(file);
    if (card.role !== role) throw wrong(`the card of ${quote(card.name)} is for a ${card.role}, not a ${role}`);
    return card;
  });
}

/** Each key has one purpose and one holder: whoever holds two could do alone what takes two. */
function checkDistinct(people: readonly PublicKey[], online: OnlineKeys): void {
  const all = [...people, ...Object.values(online as unknown as Record<string, PublicKey>)].map(kidText);
  if (new Set(all).size < all.length) throw wrong("one key in two places: each key has one purpose and one holder");
  for (const name of ["log", "status"] as const) {
    if (online[name].algorithm !== "ed25519") throw wrong(`the ${name} key signs notes, which takes Ed25519`);
  }
}

type Names = Omit<Settings, "policyRoot" | "ownApprovals">;

function namesOf(options: GenesisOptions): Names {
  const { host, iss = `https://${host}`, logOrigin = `${host}/log`, recordType = RECORD_TYPE } = options;
  if (!/^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?$/.test(host) || host.length > URI_LENGTH_MAX / 2) {
    throw wrong(`not a host name: ${quote(host)}`);
  }
  if (!/^[\x21-\x7e]+$/.test(iss) || iss.length > URI_LENGTH_MAX) throw wrong(`not an issuer name: ${quote(iss)}`);
  if (!/^[a-z0-9][a-z0-9.:/_-]*$/.test(logOrigin) || logOrigin.length > URI_LENGTH_MAX) {
    throw wrong(`not a log origin (a URL without a scheme): ${quote(logOrigin)}`);
  }
  checkRecordType(recordType);
  return { iss, host, logOrigin, recordType, statusUri: `https://${host}/revocation/list/` };
}

function keyEntries(
  options: GenesisOptions,
  cards: { readonly station: readonly EnrolmentCard[]; readonly release: readonly EnrolmentCard[] },
  from: number,
  until: number,
): readonly KeyEntry[] {
  const entry = (key: PublicKey, purpose: Purpose, keyClass: KeyClass): KeyEntry => {
    return { key, purpose, class: keyClass, from, until };
  };
  const { online, onlineClass, operator } = options;
  return [
    entry(online.issuer, "issuer", onlineClass),
    entry(online.status, "status", onlineClass),
    entry(operator, "operator", "software"),
    ...cards.station.map(({ key }) => entry(key, "station", "software")),
    ...cards.release.map(({ key }) => entry(key, "release", "software")),
  ];
}

/** One trustee stops, two stop a kit, a quorum takes away or gives back. */
function firstRules(authority: Uint8Array, threshold: number, onlineClass: KeyClass): Rules {
  return {
    authority,
    thresholds: { suspend: 1, revokeKit: 2, revoke: threshold, reinstate: threshold },
    ages: new Map([[FIRST_PROFILE, FIRST_AGES]]),
    // Hardware once is hardware for ever: a thief who can only make software keys must not make an issuer.
    classes: new Map([
      ["issuer", onlineClass],
      ["status", onlineClass],
    ]),
  };
}

/** tlog-policy. Without witnesses a split view of the log is found only by comparing notes. */
function policyFile(origin: string, logKey: PublicKey, witnesses: GenesisOptions["witnesses"]): Uint8Array {
  const log = { verifier: noteVerifier(origin, logKey) };
  if (witnesses && witnesses.listed.length === 0) throw wrong("a quorum of no witnesses");
  const listed = (witnesses?.listed ?? []).map((witness, i) => namedWitness(`w${i + 1}`, witness));
  return utf8(formatPolicy(witnessPolicy(log, { witnesses: listed, quorum: witnesses?.quorum ?? 0 })));
}

/** What a node grants at the first activation, until trustees sign another catalogue. */
function profileFile(): Uint8Array {
  return encodeProfile({
    id: FIRST_PROFILE,
    version: 1,
    title: "Basic use of an edge node",
    quotas: new Map([
      ["cpu_hours", 10],
      ["gpu_minutes", 0],
      ["storage_gb", 5],
    ]),
  });
}

/**
 * The root of the policy lineage. Tokens carry its hash for ever; policies change under it, because every later policy
 * names the one before it.
 */
function lineageFile(authority: Uint8Array, names: Names, quorum: Role): Uint8Array {
  return canonicalJson({
    policy_lineage: 1,
    authority: formatHex(authority),
    iss: names.iss,
    log_origin: names.logOrigin,
    quorum: { threshold: quorum.threshold, trustees: quorum.keys.length },
  });
}

/** At most 14 characters, so that a compact token fits an NTAG213 beside it; `domain:type` as NFC Forum RTD says. */
function checkRecordType(recordType: string): void {
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+:[a-z0-9.-]+$/.test(recordType) || recordType.length > 14) {
    throw wrong(`not an NDEF external type of at most 14 characters: ${quote(recordType)}`);
  }
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_GENESIS", reason);
}
