/**
 * The genesis folder: what `vault init` writes, trustees sign, and `vault genesis` reads back.
 *
 *     cards/<kid>.json  authority-card.json            who takes part
 *     root.json  targets.json  batches.json            canonical signed parts, unsigned
 *     targets/trust/… profiles/… policy/…  head.cbor   what they list
 *     settings.json                                    names that go into manifests and addresses
 *     signatures/<kid>.json                            one file from each trustee
 *
 * The folder travels on sticks, so reading it trusts nothing: root v1 is built again from the cards, and the signed
 * files are verified as any node will verify them.
 */
import {
  decodeTrustKeys,
  equalBytes,
  FormatError,
  formatHex,
  type KeyEntry,
  kidText,
  parseHex,
  quote,
  sha256,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import {
  assemble,
  authorityOf,
  type EnrolmentCard,
  GENESIS_ROLES,
  type GenesisParts,
  type GenesisRole,
  HEAD_PATH,
  isMetadataSignature,
  KEYS_PATH,
  keyId,
  LINEAGE_PATH,
  parseAuthorityCard,
  parseGenesisSignatures,
  parseSigned,
  rootFromCards,
  type TrustedState,
  type TufSignature,
  verifyEnrolmentCard,
  verifyTrust,
} from "@viafabric/tuf";
import type { Genesis, Settings } from "./genesis.ts";

/** Files by path below the folder. */
export type Folder = ReadonlyMap<string, Uint8Array>;

/** Root v1, targets v1 and batches v1 as they are published, and what they prove. */
export interface SignedGenesis {
  readonly files: Readonly<Record<GenesisRole, Uint8Array>>;
  readonly trusted: TrustedState;
}

/** A few kilobytes are expected; more is somebody's mistake. */
export const GENESIS_FILE_BYTES_MAX = 1024 * 1024;
const SIGNATURES = "signatures/";
const CARDS = "cards/";
const TARGETS = "targets/";

export function genesisFolder(genesis: Genesis): Folder {
  return new Map([
    ...genesis.cards.map((card) => [`${CARDS}${formatHex(card.key.kid)}.json`, card.bytes] as const),
    ["authority-card.json", genesis.authorityCard],
    ...GENESIS_ROLES.map((role) => [`${role}.json`, genesis[role]] as const),
    ...[...genesis.targetFiles].map(([path, bytes]) => [TARGETS + path, bytes] as const),
    ["head.cbor", genesis.headBytes],
    ["settings.json", formatSettings(genesis.settings)],
  ]);
}

/** @throws FormatError ERR_GENESIS for a missing file or a root that the cards do not make; those of each file */
export function readGenesisFolder(folder: Folder): Genesis {
  const cards = under(folder, CARDS).map(([, bytes]) => verifyEnrolmentCard(bytes));
  const authorityCard = need(folder, "authority-card.json");
  const root = need(folder, "root.json");
  const rebuilt = rootFromCards(
    cards.filter(({ role }) => role === "trustee"),
    parseAuthorityCard(authorityCard),
  );
  if (!equalBytes(rebuilt, root)) throw wrong("root.json is not the root that the cards make");
  checkStationCards(cards, decodeTrustKeys(need(folder, TARGETS + KEYS_PATH)));
  const settings = parseSettings(need(folder, "settings.json"));
  const lineage = need(folder, TARGETS + LINEAGE_PATH);
  // Every token will carry this hash; settings are not signed, the lineage file is.
  if (!equalBytes(sha256(lineage), settings.policyRoot))
    throw wrong("policyRoot is not the hash of the policy lineage");
  return {
    authority: authorityOf(root),
    cards,
    authorityCard,
    root,
    targets: need(folder, "targets.json"),
    batches: need(folder, "batches.json"),
    targetFiles: new Map(under(folder, TARGETS).map(([path, bytes]) => [path.slice(TARGETS.length), bytes])),
    headBytes: need(folder, "head.cbor"),
    settings,
  };
}

/** Nobody is on the key list who has not proven possession of the key, and nobody who enrolled was left out. */
function checkStationCards(cards: readonly EnrolmentCard[], keys: readonly KeyEntry[]): void {
  for (const purpose of ["station", "release"] as const) {
    const enrolled = cards.filter(({ role }) => role === purpose).map(({ key }) => kidText(key));
    const listed = keys.filter((entry) => entry.purpose === purpose).map(({ key }) => kidText(key));
    if (enrolled.sort().join() !== listed.sort().join()) {
      throw wrong(`${listed.length} ${purpose} keys are listed, and the cards are not theirs`);
    }
  }
}

/** Who has signed all of it, by key id: what a ceremony shows while it waits. Wrong signatures count for nothing. */
export function genesisSigners(genesis: Genesis, signatureFiles: readonly Uint8Array[]): readonly string[] {
  const collected = collect(genesis, signatureFiles);
  const [root, targets, batches] = GENESIS_ROLES.map((role) => collected[role].map(({ keyid }) => keyid));
  return root!.filter((keyid) => targets!.includes(keyid) && batches!.includes(keyid));
}

/**
 * @param now unix seconds
 * @throws VerificationError ERR_THRESHOLD until k trustees have signed each of the three; ERR_METADATA_MISMATCH for a
 * target file that is not the listed one
 */
export function assembleGenesis(genesis: Genesis, signatureFiles: readonly Uint8Array[], now: number): SignedGenesis {
  const collected = collect(genesis, signatureFiles);
  const file = (role: GenesisRole): Uint8Array => assemble(genesis[role], collected[role]);
  const files = { root: file("root"), targets: file("targets"), batches: file("batches") };
  const trusted = verifyTrust(
    {
      pinned: { file: files.root, authority: genesis.authority },
      roots: [],
      targets: files.targets,
      batches: files.batches,
      targetFiles: new Map([...genesis.targetFiles, [HEAD_PATH, genesis.headBytes]]),
    },
    now,
  );
  const { head } = trusted;
  // A head with batches in it cannot be the first: nothing has been logged that could hold them.
  if (head.size !== 0 || head.next !== 0 || head.log.size !== 0) throw wrong("the first head is not empty");
  for (const path of trusted.targets.targets.keys()) {
    if (!genesis.targetFiles.has(path)) {
      throw new VerificationError("ERR_METADATA_MISMATCH", `${path} is listed, but not in the folder`);
    }
  }
  return { files, trusted };
}

/**
 * The signatures worth keeping: by trustees, right, each key once. A wrong one is left out rather than refused, so that
 * one broken stick does not hold up the meeting; whether enough are left is the threshold's question.
 */
function collect(parts: GenesisParts, signatureFiles: readonly Uint8Array[]): Record<GenesisRole, TufSignature[]> {
  const keys = new Map(parseSigned("root", parts.root).roles.root.keys.map((key) => [keyId(key), key]));
  const collected: Record<GenesisRole, TufSignature[]> = { root: [], targets: [], batches: [] };
  for (const bytes of signatureFiles) {
    const signatures = parseGenesisSignatures(bytes);
    for (const role of GENESIS_ROLES) {
      const { keyid, sig } = signatures[role];
      const key = keys.get(keyid);
      const known = collected[role].some((other) => other.keyid === keyid);
      if (key && !known && isMetadataSignature(key, parts[role], sig)) collected[role].push({ keyid, sig });
    }
  }
  return collected;
}

export function signatureFilesIn(folder: Folder): readonly Uint8Array[] {
  return under(folder, SIGNATURES).map(([, bytes]) => bytes);
}

function under(folder: Folder, prefix: string): readonly (readonly [string, Uint8Array])[] {
  return [...folder].filter(([path]) => path.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
}

function need(folder: Folder, path: string): Uint8Array {
  const bytes = folder.get(path);
  if (!bytes) throw wrong(`there is no ${path}`);
  return bytes;
}

const SETTINGS = ["iss", "host", "logOrigin", "recordType", "statusUri"] as const;

export function formatSettings(settings: Settings): Uint8Array {
  const texts = Object.fromEntries(SETTINGS.map((name) => [name, settings[name]]));
  const ownApprovals = settings.ownApprovals ? "allowed" : "refused";
  const json = { ...texts, policyRoot: formatHex(settings.policyRoot), ownApprovals };
  return utf8(`${JSON.stringify(json, undefined, 2)}\n`);
}

/** @throws FormatError ERR_GENESIS */
export function parseSettings(bytes: Uint8Array): Settings {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new FormatError("ERR_GENESIS", "settings.json is not JSON", { cause });
  }
  const fields = new Map(Object.entries(typeof value === "object" && value !== null ? value : {}));
  const text = (name: string): string => {
    const found = fields.get(name);
    if (typeof found !== "string" || found.length === 0) throw wrong(`settings.json: ${quote(name)} must be text`);
    return found;
  };
  return {
    iss: text("iss"),
    host: text("host"),
    logOrigin: text("logOrigin"),
    recordType: text("recordType"),
    statusUri: text("statusUri"),
    policyRoot: parseHex(text("policyRoot"), 32),
    ownApprovals: ownApprovals(fields.get("ownApprovals")),
  };
}

/** Left out, the answer is no. */
function ownApprovals(value: unknown): boolean {
  if (value === undefined || value === "refused") return false;
  if (value === "allowed") return true;
  throw wrong('settings.json: "ownApprovals" is "refused" or "allowed"');
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_GENESIS", reason);
}
