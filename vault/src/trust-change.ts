/**
 * Changes to the key list, the pure part: stations and release officers come with a card that proves possession, and go
 * by their kid. What comes out is the next `targets` for trustees to sign; nothing changes until they have.
 */
import {
  decodeTrustKeys,
  encodeTrustKeys,
  FormatError,
  formatHex,
  type KeyEntry,
  kidText,
  type Purpose,
  parseBase64,
  parseHex,
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
import { LIFETIMES } from "./genesis.ts";
import { PROPOSAL_SECONDS } from "./proposals.ts";
import type { PlannedEvent } from "./records.ts";

export interface TrustChange {
  readonly add: readonly EnrolmentCard[];
  /** Kids of stations, release officers and operators. */
  readonly remove: readonly Uint8Array[];
}

/** The same files, newly signed. */
export const NO_CHANGE: TrustChange = { add: [], remove: [] };
/** Keys in one proposal: more than a person reads. */
const KEYS_MAX = 64;
/** Issuer and status keys are the HSM's: they change with it, not by a card. */
const REMOVABLE: readonly Purpose[] = ["station", "release", "operator"];

/** @param value parsed JSON, {add: [card in base64], remove: [kid in hex]}. @throws FormatError ERR_TRUST_REQUEST, ERR_CARD */
export function parseTrustChange(value: unknown): TrustChange {
  const fields = new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
  const texts = (name: string): readonly string[] => {
    const list: unknown = fields.get(name);
    if (!Array.isArray(list) || list.length > KEYS_MAX || !list.every((item) => typeof item === "string"))
      throw wrong(`${name} must be a list of at most ${KEYS_MAX} texts`);
    return list;
  };
  if (fields.size !== 2) throw wrong("it has the members add and remove");
  const add = texts("add").map((text) => verifyEnrolmentCard(boundedCard(parseBase64(text))));
  const remove = texts("remove").map((text) => parseHex(text, 32));
  if (add.length + remove.length === 0) throw wrong("nothing would change");
  if (add.some(({ role }) => role === "trustee")) throw wrong("a trustee joins by a new root, not by the key list");
  return { add, remove };
}

/** @throws VerificationError ERR_TRUST_CHANGE for a key that is listed already, or is not there to be removed */
export function nextKeys(change: TrustChange, trusted: TrustedState, now: number): readonly KeyEntry[] {
  const leaving = new Set(change.remove.map(formatHex));
  const staying = trusted.keys.filter(({ key }) => !leaving.has(kidText(key)));
  for (const kid of leaving) {
    const entry = trusted.keys.find(({ key }) => kidText(key) === kid);
    if (!entry || !REMOVABLE.includes(entry.purpose)) throw refused(`${kid} is no station, officer or operator`);
  }
  const { root, trustees, approvers } = trusted;
  const taken = new Set(
    [
      ...staying.map(({ key }) => key),
      ...[trustees, approvers, ...Object.values(root.roles)].flatMap(({ keys }) => keys),
    ].map(kidText),
  );
  const added = change.add.map(({ key, role, name }): KeyEntry => {
    if (taken.has(kidText(key))) throw refused(`the key of ${name} has a purpose already`);
    taken.add(kidText(key));
    const purpose = role as Extract<Purpose, "station" | "release">;
    return { key, purpose, class: "software", from: now, until: now + LIFETIMES.keys };
  });
  return [...staying, ...added];
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
  const files = new Map([...trusted.files].filter(([path]) => !DELEGATED.includes(path))).set(KEYS_PATH, keys);
  const revocations = trusted.targets.delegations.find(({ name }) => name === "revocations")?.role;
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
