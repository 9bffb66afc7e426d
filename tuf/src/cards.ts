/**
 * Cards from which an authority begins: one enrolment card for each person or station, and one authority card.
 *
 * An enrolment card carries a public key and proves possession of the private one. Every trustee's tool builds root v1
 * itself from the same cards, so that nobody has to be believed about it: the words of the authority are compared by
 * voice.
 */
import {
  concat,
  FormatError,
  formatBase64,
  isValidSignature,
  kidText,
  NO_AUTHORITY,
  type PublicKey,
  parseBase64,
  parsePublicKey,
  quote,
  type Role,
  type Signer,
  signingInput,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import { buildRoot } from "./builders.ts";
import { canonicalJson, type JsonObject, parseJson } from "./canonical.ts";
import { JsonFields } from "./fields.ts";
import { formatExpires, parseExpires } from "./metadata.ts";

export const CARD_ROLES = ["trustee", "station", "release"] as const;
export type CardRole = (typeof CARD_ROLES)[number];

export interface EnrolmentCard {
  /** For people; it plays no part in any decision. */
  readonly name: string;
  readonly role: CardRole;
  readonly key: PublicKey;
  /** The file itself, in its one spelling. */
  readonly bytes: Uint8Array;
}

/** What the authority adds to the trustees' cards. */
export interface AuthorityCard {
  readonly threshold: number;
  /** Of root v1, unix seconds. */
  readonly expires: number;
  readonly snapshot: PublicKey;
  readonly timestamp: PublicKey;
}

export const CARD_BYTES_MAX = 4096;
export const CARD_NAME_LENGTH_MAX = 64;
/** Beyond this many, a ceremony is a convention. */
export const TRUSTEES_MAX = 15;
export const TRUSTEES_MIN = 3;
export const THRESHOLD_MIN = 2;

export async function createEnrolmentCard(
  signer: Signer,
  { name, role }: { readonly name: string; readonly role: CardRole },
): Promise<EnrolmentCard> {
  if (!isCardName(name)) throw wrong(`not a name of 1 to ${CARD_NAME_LENGTH_MAX} printable characters: ${quote(name)}`);
  const card = cardJson(name, role, signer.publicKey);
  const proof = formatBase64(await signer.sign(proofInput(card)));
  return verifyEnrolmentCard(lineOf({ ...card, proof }));
}

/** @throws FormatError ERR_CARD; VerificationError ERR_SIGNATURE without proof of possession */
export function verifyEnrolmentCard(bytes: Uint8Array): EnrolmentCard {
  const fields = cardFields(bytes, "enrolment card", ["card", "key", "name", "proof", "role"]);
  const name = fields.text("name", CARD_NAME_LENGTH_MAX);
  const role = CARD_ROLES.find((known) => known === fields.value("role"));
  if (!role || !isCardName(name)) throw wrong("an unknown role or an unprintable name");
  const key = keyOf(fields, "key");
  const card = cardJson(name, role, key);
  const proof = fields.text("proof", 88);
  assertSpelling(bytes, { ...card, proof });
  if (!isValidSignature(key, proofInput(card), parseBase64(proof)))
    throw new VerificationError("ERR_SIGNATURE", `the card of ${quote(name)} does not prove possession of its key`);
  return { name, role, key, bytes };
}

export function encodeAuthorityCard(card: AuthorityCard): Uint8Array {
  return lineOf(authorityCardJson(card));
}

/** @throws FormatError ERR_CARD */
export function parseAuthorityCard(bytes: Uint8Array): AuthorityCard {
  const fields = cardFields(bytes, "authority card", ["card", "expires", "snapshot", "threshold", "timestamp"]);
  const card = {
    threshold: fields.integer("threshold", THRESHOLD_MIN, TRUSTEES_MAX),
    expires: parseExpires(fields.text("expires", 20)),
    snapshot: keyOf(fields, "snapshot"),
    timestamp: keyOf(fields, "timestamp"),
  };
  assertSpelling(bytes, authorityCardJson(card));
  return card;
}

/**
 * The canonical signed part of root v1. The order of the cards does not matter.
 * @throws FormatError ERR_CARD unless k ≥ 2 of n ≥ 3 trustees with 2k > n, all keys distinct
 */
export function rootFromCards(trustees: readonly EnrolmentCard[], authority: AuthorityCard): Uint8Array {
  const { threshold, expires } = authority;
  const keys = trustees.map((card) => card.key);
  if (trustees.some((card) => card.role !== "trustee")) throw wrong("a card of somebody who is not a trustee");
  assertQuorum({ keys, threshold });
  const all = [...keys, authority.snapshot, authority.timestamp].map(kidText);
  if (new Set(all).size < all.length) throw wrong("one key on two cards: each key has one purpose and one holder");
  const quorum = { keys, threshold };
  const online = (key: PublicKey): Role => ({ keys: [key], threshold: 1 });
  const roles = {
    root: quorum,
    targets: quorum,
    snapshot: online(authority.snapshot),
    timestamp: online(authority.timestamp),
  };
  return buildRoot({ version: 1, expires, roles });
}

/** What every quorum of ours must be: any two majorities share a trustee, and no single person decides. */
export function assertQuorum({ keys, threshold }: Role): void {
  const n = new Set(keys.map(kidText)).size;
  if (n !== keys.length || n < TRUSTEES_MIN || n > TRUSTEES_MAX)
    throw wrong(`${n} distinct trustee keys, not ${TRUSTEES_MIN} to ${TRUSTEES_MAX}`);
  if (!Number.isSafeInteger(threshold) || threshold < THRESHOLD_MIN || threshold > n || 2 * threshold <= n)
    throw wrong(`${threshold} of ${n} is not a majority of at least ${THRESHOLD_MIN}`);
}

function cardJson(name: string, role: CardRole, key: PublicKey): JsonObject {
  return { card: 1, name, role, key: formatBase64(key.spki) };
}

function authorityCardJson(card: AuthorityCard): JsonObject {
  return {
    card: 1,
    threshold: card.threshold,
    expires: formatExpires(card.expires),
    snapshot: formatBase64(card.snapshot.spki),
    timestamp: formatBase64(card.timestamp.spki),
  };
}

function proofInput(card: JsonObject): Uint8Array {
  return signingInput("card", NO_AUTHORITY, canonicalJson(card));
}

/** A card is one line of canonical JSON, so that it survives mail and paper alike. */
function lineOf(card: JsonObject): Uint8Array {
  return concat(canonicalJson(card), utf8("\n"));
}

function cardFields(bytes: Uint8Array, what: string, members: readonly string[]): JsonFields {
  if (bytes.length > CARD_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new JsonFields(parseJson(bytes), what, members, [], "ERR_CARD");
  if (fields.value("card") !== 1) throw wrong("an unknown version of card");
  return fields;
}

function keyOf(fields: JsonFields, member: string): PublicKey {
  return parsePublicKey(parseBase64(fields.text(member, 124)));
}

function assertSpelling(bytes: Uint8Array, card: JsonObject): void {
  if (Buffer.compare(bytes, lineOf(card)) !== 0) throw wrong("another spelling than one line of canonical JSON");
}

/** Letters, digits, punctuation and single spaces: nothing that a terminal obeys or that hides. */
function isCardName(name: string): boolean {
  return (
    name.length <= CARD_NAME_LENGTH_MAX && /^[\p{L}\p{M}\p{N}\p{P}\p{S}]+( [\p{L}\p{M}\p{N}\p{P}\p{S}]+)*$/u.test(name)
  );
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_CARD", `not a card, or not a set of cards for an authority: ${reason}`);
}
