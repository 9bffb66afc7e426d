/**
 * Who signed a metadata file or a genesis folder, who is missing, and how long it lives. Looking at files decides
 * nothing: what a tool believes comes from `accepted.ts` alone.
 */
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import {
  CodedError,
  equalBytes,
  FormatError,
  type PublicKey,
  type Role,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import {
  authorityOf,
  CARD_BYTES_MAX,
  delegatedRole,
  type EnrolmentCard,
  GENESIS_ROLES,
  GENESIS_SIGNATURES_BYTES_MAX,
  HEAD_PATH,
  keyId,
  METADATA_BYTES_MAX,
  type Metadata,
  type MetadataType,
  metadataSigners,
  parseAuthorityCard,
  parseGenesisSignatures,
  parseJson,
  parseMetadata,
  parseSigned,
  type Root,
  rootFromCards,
  STATEMENT_PATH,
  type Targets,
  type TufSignature,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { readGenesisFolder } from "./genesis.ts";

export interface SigningState {
  /** e.g. `targets 3`, or `root 2 for its predecessor`. */
  readonly what: string;
  readonly threshold: number;
  readonly signed: readonly PublicKey[];
  readonly missing: readonly PublicKey[];
}

export interface Inspected {
  readonly file: string;
  readonly role: string;
  readonly version: number;
  /** Unix seconds. */
  readonly expires: number;
  /** For the first root. */
  readonly authority: Uint8Array | undefined;
  /** Empty where nobody here knows whose signatures are due. */
  readonly quorums: readonly SigningState[];
  /** Signatures that count for nothing: by unknown keys, or wrong. */
  readonly useless: number;
}

/** Whose signatures are due: what a trustee accepted, or what files looked at before have said. */
export interface Known {
  readonly root?: Root;
  readonly targets?: Targets;
}

const CARDS_MAX = 256;

export function isComplete({ quorums, expires }: Inspected, now: number): boolean {
  return now < expires && quorums.length > 0 && quorums.every(({ signed, threshold }) => signed.length >= threshold);
}

/**
 * Roots first, then targets, then the rest, so that files given together explain each other.
 * @throws FormatError ERR_METADATA, ERR_GENESIS, ERR_CARD; VerificationError ERR_PROPOSAL_MISMATCH
 */
export async function inspect(files: readonly string[], known: Known): Promise<readonly Inspected[]> {
  const inspected: Inspected[] = [];
  const plain: { readonly file: string; readonly metadata: Metadata }[] = [];
  for (const file of files) {
    const isFolder = await stat(file).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (isFolder) inspected.push(...(await inspectGenesis(file)));
    else plain.push({ file, metadata: await readMetadata(file) });
  }
  let { root, targets } = known;
  for (const { file, metadata } of plain.sort((a, b) => order(a.metadata) - order(b.metadata))) {
    inspected.push(inspectFile(file, metadata, { ...(root && { root }), ...(targets && { targets }) }));
    const { signed } = metadata;
    if (signed.type === "root") root = signed;
    if (signed.type === "targets" && roleOf(signed) === "targets") targets = signed;
  }
  return inspected;
}

/** @throws FormatError ERR_METADATA */
async function readMetadata(file: string): Promise<Metadata> {
  const bytes = await readFileBounded(file, METADATA_BYTES_MAX.targets);
  const type = Reflect.get(Object(Reflect.get(Object(parseJson(bytes)), "signed")), "_type");
  const types: readonly MetadataType[] = ["root", "targets", "snapshot", "timestamp"];
  const found = types.find((known) => known === type);
  if (!found) throw new FormatError("ERR_METADATA", `${file} is no TUF metadata`);
  return parseMetadata(found, bytes);
}

function order({ signed }: Metadata): number {
  if (signed.type === "root") return signed.version;
  return roleOf(signed) === "targets" ? Number.MAX_SAFE_INTEGER - 1 : Number.MAX_SAFE_INTEGER;
}

/** Delegated roles have no name inside; what they list tells them apart. */
function roleOf(signed: Metadata["signed"]): string {
  if (signed.type !== "targets") return signed.type;
  if (signed.targets.has(HEAD_PATH)) return "batches";
  return signed.targets.has(STATEMENT_PATH) ? "revocations" : "targets";
}

function inspectFile(file: string, metadata: Metadata, known: Known): Inspected {
  const { signed, signedBytes, signatures } = metadata;
  const role = roleOf(signed);
  const name = `${role} ${signed.version}`;
  const due = duties(name, role, metadata, known);
  const quorums = due.map(([what, quorum]) => stateOf(what, quorum, { signedBytes, signatures }));
  const counted = new Set(quorums.flatMap((quorum) => quorum.signed.map(keyId)));
  return {
    file,
    role,
    version: signed.version,
    expires: signed.expires,
    authority: signed.type === "root" && signed.version === 1 ? authorityOf(signedBytes) : undefined,
    quorums,
    useless: signatures.filter(({ keyid }) => !counted.has(keyid)).length,
  };
}

function duties(
  name: string,
  role: string,
  { signed }: Metadata,
  { root, targets }: Known,
): readonly (readonly [string, Role])[] {
  if (signed.type === "root") {
    const own = [name, signed.roles.root] as const;
    // A rotation is signed by those who leave as well as by those who come.
    return root?.version === signed.version - 1 ? [[`${name} for its predecessor`, root.roles.root], own] : [own];
  }
  if (role === "batches") return targets ? [[name, delegatedRole(targets, "batches", HEAD_PATH)]] : [];
  if (role === "revocations") return targets ? [[name, delegatedRole(targets, "revocations", STATEMENT_PATH)]] : [];
  return root ? [[name, root.roles[signed.type]]] : [];
}

function stateOf(what: string, role: Role, metadata: Pick<Metadata, "signedBytes" | "signatures">): SigningState {
  const signed = metadataSigners(role, metadata);
  const missing = role.keys.filter((key) => !signed.some((each) => equalBytes(each.kid, key.kid)));
  return { what, threshold: role.threshold, signed, missing };
}

/** The three parts of a first meeting, and whose signature files lie beside them. */
async function inspectGenesis(folder: string): Promise<readonly Inspected[]> {
  const { cards, authorityCard, parts } = await readGenesisFolder(folder);
  const trustees = cards.map(verifyEnrolmentCard).filter((card) => card.role === "trustee");
  const root = rootFromCards(trustees, parseAuthorityCard(authorityCard));
  if (!equalBytes(root, parts.root))
    throw new VerificationError("ERR_PROPOSAL_MISMATCH", `${folder}/root.json is not the root that the cards make`);
  const quorum: Role = { keys: trustees.map(({ key }) => key), threshold: parseAuthorityCard(authorityCard).threshold };
  const files = await readSignatures(path.join(folder, "signatures"));
  return GENESIS_ROLES.map((role) => {
    const signatures = files.map((each): TufSignature => each[role]);
    const { version, expires } = role === "root" ? parseSigned(role, root) : parseSigned("targets", parts[role]);
    const state = stateOf(`${role} ${version}`, quorum, { signedBytes: parts[role], signatures });
    const authority = role === "root" ? sha256(root) : undefined;
    const useless = signatures.length - state.signed.length;
    return { file: path.join(folder, `${role}.json`), role, version, expires, authority, quorums: [state], useless };
  });
}

async function readSignatures(folder: string) {
  const names = await jsonNames(folder);
  return Promise.all(
    names.map(async (name) =>
      parseGenesisSignatures(await readFileBounded(path.join(folder, name), GENESIS_SIGNATURES_BYTES_MAX)),
    ),
  );
}

/** Who the keys belong to, as their cards say. A file that is no card is passed over: names decide nothing. */
export async function readCards(folder: string): Promise<readonly EnrolmentCard[]> {
  const cards: EnrolmentCard[] = [];
  for (const name of await jsonNames(folder)) {
    try {
      cards.push(verifyEnrolmentCard(await readFileBounded(path.join(folder, name), CARD_BYTES_MAX)));
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
    }
  }
  return cards;
}

async function jsonNames(folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(".json")).sort();
  if (names.length > CARDS_MAX) throw new FormatError("ERR_GENESIS", `${names.length} files in ${folder}`);
  return names;
}
