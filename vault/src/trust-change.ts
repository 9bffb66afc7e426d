/**
 * The next `targets`, the pure part, with changes to the key list: stations and release officers come with a card that proves possession, and go
 * by their kid; keys of the HSM are followed by new ones. What comes out is the next `targets` for trustees to sign;
 * nothing changes until they have.
 *
 * A key of the HSM that is followed stays listed: what it signed would otherwise be refused. It gets an end instead,
 * late enough that it goes on signing until trustees have put its successor into force.
 */
import {
  decodeTrustKeys,
  encodeTrustKeys,
  FormatError,
  formatHex,
  KEY_CLASSES,
  type KeyClass,
  type KeyEntry,
  kidText,
  type PublicKey,
  type Purpose,
  parseBase64,
  parseHex,
  parsePublicKey,
  type Role,
  VerificationError,
} from "@viafabric/schemas";
import {
  attachTargets,
  buildTargets,
  CARD_BYTES_MAX,
  createProposal,
  type EnrolmentCard,
  HEAD_PATH,
  KEYS_PATH,
  STATEMENT_PATH,
  type TrustedState,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { type ContentChange, NO_CONTENT, nextFiles, parseContentChange } from "./content-change.ts";
import { LIFETIMES } from "./genesis.ts";
import { PROPOSAL_SECONDS } from "./proposals.ts";
import type { PlannedEvent } from "./records.ts";

/** Keys of the HSM that `targets` names: in its key list, and, for revocations, in a delegation. */
export const ROTATED_BY_TARGETS = ["issuer", "status", "revocations"] as const;

/** A new key of the HSM that takes over. */
export interface Successor {
  readonly purpose: (typeof ROTATED_BY_TARGETS)[number];
  readonly key: PublicKey;
  readonly class: KeyClass;
}

export interface TrustChange extends ContentChange {
  readonly add: readonly EnrolmentCard[];
  /** Kids of stations, release officers and operators. */
  readonly remove: readonly Uint8Array[];
  readonly rotate: readonly Successor[];
}

/** The same files, newly signed. */
export const NO_CHANGE: TrustChange = { ...NO_CONTENT, add: [], remove: [], rotate: [] };
/** Keys in one proposal: more than a person reads. */
const KEYS_MAX = 64;
/** Issuer and status keys are the HSM's: they change with it, not by a card. */
const REMOVABLE: readonly Purpose[] = ["station", "release", "operator"];

/**
 * @param value parsed JSON, {add: [card in base64], remove: [kid in hex], rotate: [{purpose, spki, class}],
 * profiles: [{file in base64, soft, hard}], policy: {path: base64}, witnesses}; only add and remove are required
 * @throws FormatError ERR_TRUST_REQUEST, ERR_CARD, ERR_PROFILE
 */
export function parseTrustChange(value: unknown): TrustChange {
  const fields = new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
  const texts = (name: string): readonly string[] => {
    const list: unknown = fields.get(name);
    if (!Array.isArray(list) || list.length > KEYS_MAX || !list.every((item) => typeof item === "string"))
      throw wrong(`${name} must be a list of at most ${KEYS_MAX} texts`);
    return list;
  };
  const unknown = [...fields.keys()].filter((name) => !MEMBERS.includes(name));
  if (unknown.length > 0) throw wrong(`it has the members ${MEMBERS.join(", ")}`);
  const add = texts("add").map((text) => verifyEnrolmentCard(boundedCard(parseBase64(text))));
  const remove = texts("remove").map((text) => parseHex(text, 32));
  const rotate = parseSuccessors(fields.get("rotate") ?? []);
  const content = parseContentChange(fields.get("profiles"), fields.get("policy"), fields.get("witnesses"));
  const changes = add.length + remove.length + rotate.length + content.profiles.length;
  if (changes === 0 && !content.policy && !content.witnesses) throw wrong("nothing would change");
  if (add.some(({ role }) => role === "trustee")) throw wrong("a trustee joins by a new root, not by the key list");
  return { ...content, add, remove, rotate };
}

const MEMBERS: readonly string[] = ["add", "remove", "rotate", "profiles", "policy", "witnesses"];

function parseSuccessors(value: unknown): readonly Successor[] {
  if (!Array.isArray(value) || value.length > ROTATED_BY_TARGETS.length)
    throw wrong("rotate is a list of a key a role");
  const successors = value.map((item: unknown): Successor => {
    const fields = new Map(typeof item === "object" && item !== null ? Object.entries(item) : []);
    const purpose = ROTATED_BY_TARGETS.find((known) => known === fields.get("purpose"));
    const keyClass = KEY_CLASSES.find((known) => known === fields.get("class"));
    const spki: unknown = fields.get("spki");
    if (!purpose || !keyClass || typeof spki !== "string" || fields.size !== 3)
      throw wrong("an entry of rotate is {purpose, spki, class}");
    return { purpose, key: parsePublicKey(parseBase64(spki)), class: keyClass };
  });
  if (new Set(successors.map(({ purpose }) => purpose)).size < successors.length)
    throw wrong("two successors of one key");
  return successors;
}

/** @throws VerificationError ERR_TRUST_CHANGE for a key that is listed already, or is not there to be removed */
export function nextKeys(change: TrustChange, trusted: TrustedState, now: number): readonly KeyEntry[] {
  const leaving = new Set(change.remove.map(formatHex));
  const followed = new Set<Purpose | "revocations">(change.rotate.map(({ purpose }) => purpose));
  const staying = trusted.keys
    .filter(({ key }) => !leaving.has(kidText(key)))
    .map((entry) => (followed.has(entry.purpose) ? endingSoon(entry, now) : entry));
  for (const kid of leaving) {
    const entry = trusted.keys.find(({ key }) => kidText(key) === kid);
    if (!entry || !REMOVABLE.includes(entry.purpose)) throw refused(`${kid} is no station, officer or operator`);
  }
  const { root, trustees, approvers } = trusted;
  const taken = new Set(
    [
      ...staying.map(({ key }) => key),
      ...[trustees, approvers, ...Object.values(root.roles), ...statementRoles(trusted)].flatMap(({ keys }) => keys),
    ].map(kidText),
  );
  const take = (key: PublicKey, what: string): void => {
    if (taken.has(kidText(key))) throw refused(`${what} has a purpose already`);
    taken.add(kidText(key));
  };
  const added = change.add.map(({ key, role, name }): KeyEntry => {
    take(key, `the key of ${name}`);
    const purpose = role as Extract<Purpose, "station" | "release">;
    return { key, purpose, class: "software", from: now, until: now + LIFETIMES.keys };
  });
  const successors = change.rotate.flatMap(({ purpose, key, class: keyClass }): readonly KeyEntry[] => {
    take(key, `the new ${purpose} key`);
    // Its delegation names it; the key list does not.
    if (purpose === "revocations") return [];
    if (purpose === "status" && key.algorithm !== "ed25519") throw refused("a status key signs notes and is Ed25519");
    if (trusted.rules.classes.get(purpose) === "hardware" && keyClass !== "hardware")
      throw refused(`the trustees' rules ask for a hardware ${purpose} key`);
    return [{ key, purpose, class: keyClass, from: now, until: now + LIFETIMES.keys }];
  });
  return [...staying, ...added, ...successors];
}

/** Until then trustees have signed the change, or it is dead. */
function endingSoon(entry: KeyEntry, now: number): KeyEntry {
  return { ...entry, until: Math.min(entry.until, now + PROPOSAL_SECONDS) };
}

function statementRoles({ targets }: TrustedState): readonly Role[] {
  return targets.delegations.filter(({ name }) => name === "revocations").map(({ role }) => role);
}

/** @param lastVersion the highest version of `targets` ever proposed */
export function proposeTargets(
  change: TrustChange,
  trusted: TrustedState,
  lastVersion: number,
  now: number,
): PlannedEvent {
  const keys = encodeTrustKeys(nextKeys(change, trusted, now));
  // Our own reader must accept what trustees are asked to sign.
  decodeTrustKeys(keys);
  const listed = [...nextFiles(change, trusted)].filter(([path]) => !DELEGATED.includes(path));
  const files = new Map(listed).set(KEYS_PATH, keys);
  const successor = change.rotate.find(({ purpose }) => purpose === "revocations");
  const revocations = successor ? { keys: [successor.key], threshold: 1 } : statementRoles(trusted)[0];
  const signed = buildTargets({
    version: Math.max(lastVersion, trusted.targetsVersion) + 1,
    expires: now + LIFETIMES.targets,
    targets: files,
    batches: trusted.approvers,
    ...(revocations && { revocations }),
  });
  const proposal = createProposal({
    role: "targets",
    signed,
    created: now,
    expires: now + PROPOSAL_SECONDS,
    quorums: [trusted.trustees],
  });
  const attachments = [...attachTargets(files)].map(([name, bytes]) => ({ name, bytes }));
  return { proposal, attachments, batches: [] };
}

/** Listed by delegated roles, never by targets itself. */
const DELEGATED: readonly string[] = [HEAD_PATH, STATEMENT_PATH];

function boundedCard(bytes: Uint8Array): Uint8Array {
  if (bytes.length > CARD_BYTES_MAX) throw wrong(`a card of ${bytes.length} bytes`);
  return bytes;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TRUST_REQUEST", `not a change of the key list: ${reason}`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_CHANGE", reason);
}
