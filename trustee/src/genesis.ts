/**
 * The first meeting, from one trustee's side: what the genesis folder asks to be signed, built or checked again here.
 *
 * Root v1 is not read but built from the cards, so its words, compared by voice, are all that has to be believed. The
 * rest must say exactly what a first targets and a first batches may say.
 */

import { readdir } from "node:fs/promises";
import path from "node:path";
import { readFileBounded, readFileIfPresent } from "@viafabric/platform";
import {
  encodeHead,
  equalBytes,
  FormatError,
  formatWords,
  genesisHead,
  type KeyEntry,
  type PublicKey,
  type Purpose,
  type Role,
  type Rules,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import {
  type AuthorityCard,
  authorityOf,
  CARD_BYTES_MAX,
  delegatedRole,
  type EnrolmentCard,
  GENESIS_ROLES,
  type GenesisParts,
  HEAD_PATH,
  METADATA_BYTES_MAX,
  parseAuthorityCard,
  parseSigned,
  readTargets,
  rootFromCards,
  STATEMENT_PATH,
  TARGET_BYTES_MAX,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { assertKeysApart, assertLifetime, sameKeys, sameRole } from "./policy.ts";

/** The folder as bytes; nothing in it is believed. */
export interface GenesisFiles {
  readonly cards: readonly Uint8Array[];
  readonly authorityCard: Uint8Array;
  readonly parts: GenesisParts;
  /** By target path; the head included. */
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export interface GenesisReview {
  readonly authority: Uint8Array;
  readonly words: string;
  readonly parts: GenesisParts;
  readonly authorityCard: AuthorityCard;
  readonly cards: readonly EnrolmentCard[];
  readonly keys: readonly KeyEntry[];
  readonly rules: Rules;
  readonly policyText: string;
  /** Unix seconds. */
  readonly expires: Readonly<Record<keyof GenesisParts, number>>;
}

const CARDS_MAX = 256;
/** A first head is issued on the day of the meeting, give or take a clock. */
const ISSUED_SECONDS_MAX = 7 * 86_400;

export async function readGenesisFolder(folder: string): Promise<GenesisFiles> {
  const file = (name: string, bytesMax: number) => readFileBounded(path.join(folder, name), bytesMax);
  const names = (await readdir(path.join(folder, "cards")).catch(() => []))
    .filter((name) => name.endsWith(".json"))
    .sort();
  if (names.length === 0 || names.length > CARDS_MAX) throw wrong(`${names.length} cards in ${folder}/cards`);
  const [root, targets, batches] = await Promise.all(
    GENESIS_ROLES.map((role) => file(`${role}.json`, METADATA_BYTES_MAX[role === "root" ? "root" : "targets"])),
  );
  const targetFiles = new Map<string, Uint8Array>();
  for (const target of parseSigned("targets", targets!).targets.keys()) {
    // The paths were checked by the parser: none leaves the folder.
    const bytes = await readFileIfPresent(path.join(folder, "targets", target), TARGET_BYTES_MAX);
    if (bytes) targetFiles.set(target, bytes);
  }
  targetFiles.set(HEAD_PATH, await file("head.cbor", METADATA_BYTES_MAX.targets));
  return {
    cards: await Promise.all(names.map((name) => file(path.join("cards", name), CARD_BYTES_MAX))),
    authorityCard: await file("authority-card.json", CARD_BYTES_MAX),
    parts: { root: root!, targets: targets!, batches: batches! },
    targetFiles,
  };
}

/**
 * @param own this trustee's key. @param now unix seconds
 * @throws FormatError ERR_GENESIS, ERR_CARD; VerificationError ERR_SIGNATURE, ERR_PROPOSAL_MISMATCH, ERR_PROPOSAL_POLICY
 */
export function reviewGenesis(files: GenesisFiles, own: PublicKey, now: number): GenesisReview {
  const cards = files.cards.map(verifyEnrolmentCard);
  const trustees = cards.filter((card) => card.role === "trustee");
  if (!trustees.some((card) => equalBytes(card.key.kid, own.kid)))
    throw wrong("your own card is not among the trustees' cards");
  const authorityCard = parseAuthorityCard(files.authorityCard);
  const root = rootFromCards(trustees, authorityCard);
  if (!equalBytes(root, files.parts.root)) throw mismatch("root.json is not the root that the cards make");
  const authority = authorityOf(root);
  const quorum: Role = { keys: trustees.map((card) => card.key), threshold: authorityCard.threshold };
  const targets = parseSigned("targets", files.parts.targets);
  const batches = parseSigned("targets", files.parts.batches);
  if (targets.version !== 1 || batches.version !== 1) throw mismatch("the first targets and batches have version 1");
  const expires = { root: authorityCard.expires, targets: targets.expires, batches: batches.expires };
  for (const role of GENESIS_ROLES) assertLifetime(role, expires[role], now);
  if (!sameRole(delegatedRole(targets, "batches", HEAD_PATH), quorum))
    throw mismatch("targets does not give batches to the trustees at the same threshold");
  if (targets.delegations.some(({ name }) => name !== "batches" && name !== "revocations"))
    throw mismatch("targets delegates to an unknown role");
  if (targets.delegations.some(({ name }) => name === "revocations"))
    delegatedRole(targets, "revocations", STATEMENT_PATH);
  for (const name of targets.targets.keys())
    if (!files.targetFiles.has(name)) throw wrong(`there is no targets/${name}`);
  const content = readTargets(targets, batches, files.targetFiles, authority);
  const { issued } = content.head;
  if (!equalBytes(content.headBytes, encodeHead(genesisHead(authority, issued))))
    throw mismatch("the first head is not empty");
  if (Math.abs(issued - now) > ISSUED_SECONDS_MAX) throw mismatch("the first head was issued on another day");
  parsePolicy(utf8(content.policyText));
  assertCardsListed("station", cards, content.keys);
  assertCardsListed("release", cards, content.keys);
  assertKeysApart(content.keys, [...quorum.keys, authorityCard.snapshot, authorityCard.timestamp]);
  const { keys, rules, policyText } = content;
  return {
    authority,
    words: formatWords(authority),
    parts: files.parts,
    authorityCard,
    cards,
    keys,
    rules,
    policyText,
    expires,
  };
}

/** Exactly the people with a card: a station that nobody enrolled could write tags that nobody handed out. */
function assertCardsListed(
  purpose: Purpose & EnrolmentCard["role"],
  cards: readonly EnrolmentCard[],
  keys: readonly KeyEntry[],
): void {
  const listed = keys.filter((entry) => entry.purpose === purpose).map((entry) => entry.key);
  const carried = cards.filter((card) => card.role === purpose).map((card) => card.key);
  if (!sameKeys(listed, carried)) throw mismatch(`the ${purpose} keys are not exactly those of the ${purpose} cards`);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_GENESIS", reason);
}

function mismatch(reason: string): VerificationError {
  return new VerificationError("ERR_PROPOSAL_MISMATCH", reason);
}
