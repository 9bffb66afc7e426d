/**
 * The authority behind the golden TUF repositories: real keys and real metadata, from seeds that everybody knows.
 *
 * One `Publication` is one state of a repository as a static server has it, made with the builders that the vault and
 * the trustees use. What the builders refuse to make is made by editing the JSON before it is signed: a golden
 * repository with one flaw differs from a good one in that flaw alone, and its signatures are right.
 */
import { p256 } from "@noble/curves/nist.js";
import { formatStatement, IndexSet, nextStatement, planeStates, setRoot, statementName } from "@viafabric/revocation";
import {
  encodeHead,
  encodeRules,
  encodeTrustKeys,
  formatNote,
  genesisHead,
  type Head,
  noteVerifier,
  p256PublicKey,
  parseUtf8,
  type Role,
  type Signer,
  sha256,
  signNote,
  utf8,
} from "@viafabric/schemas";
import { formatPolicy, policyOfLog } from "@viafabric/transparency-log";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRevocations,
  buildRoot,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
  canonicalJson,
  HEAD_PATH,
  type JsonObject,
  KEYS_PATH,
  metadataFileName,
  POLICY_PATH,
  parseCanonicalJson,
  RULES_PATH,
  STATEMENT_PATH,
  signMetadata,
  targetFileName,
} from "@viafabric/tuf";
import { seededSigner } from "../authority.ts";

/** 2027-01-15T08:00:00Z: what our client is told the time is. Other clients ask the machine. */
export const GOLDEN_NOW = 1_800_000_000;
/** 2099-01-01T00:00:00Z, because most clients judge by the clock of the machine they run on. */
export const FAR = Date.UTC(2099, 0, 1) / 1000;
/** 2020-01-01T00:00:00Z */
export const LONG_AGO = Date.UTC(2020, 0, 1) / 1000;
export const THRESHOLD = 2;

export function ed25519(name: string): Signer {
  return seededSigner(`golden ${name}`);
}

/** A P-256 key whose scalar is SHA-256 of its name; signatures by RFC 6979, so that they come out the same. */
export function ecdsa(name: string): Signer {
  const scalar = sha256(utf8(`golden ${name}`));
  return {
    publicKey: p256PublicKey(p256.getPublicKey(scalar, false)),
    sign: async (message) => p256.sign(message, scalar, { lowS: true }),
  };
}

/** Who signs what. A rotation makes another one of these. */
export interface Holders {
  readonly trustees: readonly Signer[];
  readonly snapshot: Signer;
  readonly timestamp: Signer;
}

export const HOLDERS: Holders = {
  trustees: ["trustee 1", "trustee 2", "trustee 3"].map(ed25519),
  snapshot: ed25519("snapshot"),
  timestamp: ed25519("timestamp"),
};
const REVOCATIONS = ed25519("revocations");

export function quorumOf({ trustees }: Holders): Role {
  return { keys: trustees.map((signer) => signer.publicKey), threshold: THRESHOLD };
}

/** A signer, perhaps under another key id than the hash of its key. */
export type Hand = Signer & { readonly keyid?: string };

export async function signed(bytes: Uint8Array, hands: readonly Hand[]): Promise<Uint8Array> {
  const signatures = hands.map(async (hand) => {
    const signature = await signMetadata(hand, bytes);
    return { ...signature, keyid: hand.keyid ?? signature.keyid };
  });
  return assemble(bytes, await Promise.all(signatures));
}

/** @param signers those of the root before and of this one, where they differ */
export async function rootFile(
  version: number,
  holders: Holders,
  signers: readonly Signer[] = holders.trustees.slice(0, THRESHOLD),
  expires: number = FAR,
): Promise<Uint8Array> {
  return signed(rootSigned(version, holders, expires), signers);
}

function rootSigned(version: number, holders: Holders, expires: number = FAR): Uint8Array {
  const quorum = quorumOf(holders);
  const online = ({ publicKey }: Signer): Role => ({ keys: [publicKey], threshold: 1 });
  const roles = { snapshot: online(holders.snapshot), timestamp: online(holders.timestamp) };
  return buildRoot({ version, expires, roles: { root: quorum, targets: quorum, ...roles } });
}

export type Edit = (signed: JsonObject) => JsonObject;
type RoleName = "targets" | "batches" | "revocations" | "snapshot" | "timestamp";

export interface Changes {
  /** Published roots, the first one included. */
  readonly roots?: readonly Uint8Array[];
  readonly holders?: Holders;
  /** Who made root 1; the authority is the hash of that. */
  readonly founders?: Holders;
  readonly versions?: Partial<Record<Exclude<RoleName, "revocations">, number>>;
  readonly expires?: Partial<Record<RoleName, number>>;
  /** Changes made before signing, which no builder of ours would make. */
  readonly edit?: Partial<Record<"targets" | "timestamp", Edit>>;
  /** For what not even canonical JSON of ours can write. */
  readonly respell?: (canonicalTargets: string) => string;
  readonly signers?: Partial<Record<"targets" | "batches", readonly Hand[]>>;
  readonly head?: Partial<Head>;
  /** With the delegation that every vault publishes, and a first statement under it. */
  readonly statement?: boolean;
}

export interface Publication {
  /** By path: `metadata/…` and `targets/…`. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** What a client that accepts this must be able to download, by target path. */
  readonly targets: ReadonlyMap<string, Uint8Array>;
}

export async function publish(changes: Changes = {}): Promise<Publication> {
  const holders = changes.holders ?? HOLDERS;
  const founders = changes.founders ?? HOLDERS;
  const authority = authorityOf(rootSigned(1, founders));
  const versions = { targets: 1, batches: 1, snapshot: 1, timestamp: 1, ...changes.versions };
  const expires = (role: RoleName) => changes.expires?.[role] ?? FAR;
  const quorum = holders.trustees.slice(0, THRESHOLD);
  const files = new Map<string, Uint8Array>();
  const put = (role: string, version: number, file: Uint8Array) => {
    files.set(`metadata/${metadataFileName(role, version)}`, file);
    return { version, file };
  };

  const roots = changes.roots ?? [await rootFile(1, founders)];
  for (const [i, file] of roots.entries()) put("root", i + 1, file);

  const listed = trustFiles(authority);
  const head = encodeHead({ ...genesisHead(authority, GOLDEN_NOW), ...changes.head });
  const statement = changes.statement ? await firstStatement(authority) : undefined;
  const targetsBytes = edited(
    buildTargets({
      version: versions.targets,
      expires: expires("targets"),
      targets: listed,
      batches: quorumOf(holders),
      ...(statement && { revocations: { keys: [REVOCATIONS.publicKey], threshold: 1 } }),
    }),
    changes.edit?.targets,
    changes.respell,
  );
  const batchesBytes = buildBatches({ version: versions.batches, expires: expires("batches"), head });
  const roles = new Map([
    ["targets", put("targets", versions.targets, await signed(targetsBytes, changes.signers?.targets ?? quorum))],
    ["batches", put("batches", versions.batches, await signed(batchesBytes, changes.signers?.batches ?? quorum))],
  ]);
  if (statement) {
    const bytes = buildRevocations({ version: 1, expires: expires("revocations"), statement });
    roles.set("revocations", put("revocations", 1, await signed(bytes, [REVOCATIONS])));
  }
  const snapshotBytes = buildSnapshot({ version: versions.snapshot, expires: expires("snapshot"), roles });
  const snapshot = put("snapshot", versions.snapshot, await signed(snapshotBytes, [holders.snapshot]));
  const timestampBytes = edited(
    buildTimestamp({ version: versions.timestamp, expires: expires("timestamp"), snapshot }),
    changes.edit?.timestamp,
  );
  put("timestamp", versions.timestamp, await signed(timestampBytes, [holders.timestamp]));

  const targets = new Map([...listed, [HEAD_PATH, head], ...(statement ? [[STATEMENT_PATH, statement] as const] : [])]);
  for (const [path, bytes] of targets) files.set(`targets/${targetFileName(path, sha256(bytes))}`, bytes);
  return { files, targets };
}

function edited(bytes: Uint8Array, edit: Edit = (json) => json, respell = (text: string) => text): Uint8Array {
  const json = edit(parseCanonicalJson(bytes) as JsonObject);
  return utf8(respell(parseUtf8(canonicalJson(json))));
}

function trustFiles(authority: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const status = {
    key: ed25519("status").publicKey,
    purpose: "status",
    class: "software",
    from: LONG_AGO,
    until: FAR,
  } as const;
  const rules = {
    authority,
    thresholds: { suspend: 1, revokeKit: 2, revoke: 2, reinstate: 2 },
    ages: new Map(),
    classes: new Map(),
  };
  const log = policyOfLog(noteVerifier("golden.example/log", ed25519("log").publicKey));
  return new Map([
    [KEYS_PATH, encodeTrustKeys([status])],
    [RULES_PATH, encodeRules(rules)],
    [POLICY_PATH, utf8(formatPolicy(log))],
  ]);
}

async function firstStatement(authority: Uint8Array): Promise<Uint8Array> {
  const text = formatStatement(
    nextStatement(undefined, {
      authority,
      n: 0,
      log: { size: 3, root: sha256(utf8("golden log")) },
      batches: 1,
      issued: GOLDEN_NOW,
      next: GOLDEN_NOW + 3600,
      ages: { soft: 86_400, hard: 7 * 86_400 },
      planes: planeStates(() => ({ count: 0, root: setRoot(IndexSet.EMPTY, 0) })),
    }),
  );
  return formatNote({ text, signatures: [await signNote(text, statementName(authority), ed25519("status"))] });
}
