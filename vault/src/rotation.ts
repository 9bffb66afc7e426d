/**
 * Another root, the pure part: who joins and who leaves the trustees, at what threshold, and which keys sign snapshot
 * and timestamp. What comes out is a rotation for old and new trustees to sign; nothing changes until they have.
 *
 * Whatever a trustee's tool would refuse is refused here already, so that nobody is called to a meeting in vain.
 */
import {
  CodedError,
  equalBytes,
  FormatError,
  formatHex,
  kidText,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
  type Role,
  VerificationError,
} from "@viafabric/schemas";
import {
  assertQuorum,
  attachRotation,
  buildBatches,
  buildRoot,
  buildTargets,
  CARD_BYTES_MAX,
  createRotation,
  delegatedRole,
  type EnrolmentCard,
  parseSigned,
  type Root,
  STATEMENT_PATH,
  TRUSTEES_MAX,
  type TrustedState,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { LIFETIMES } from "./genesis.ts";
import { PROPOSAL_SECONDS } from "./proposals.ts";
import type { PlannedEvent } from "./records.ts";

export interface RotationChange {
  /** Of those who join. */
  readonly add: readonly EnrolmentCard[];
  /** Kids of those who leave. */
  readonly remove: readonly Uint8Array[];
  /** As it is when left out. */
  readonly threshold?: number;
  readonly snapshot?: PublicKey;
  readonly timestamp?: PublicKey;
}

/** The same people and keys, for another while. */
export const RENEWAL: RotationChange = { add: [], remove: [] };

const MEMBERS = ["add", "remove", "threshold", "snapshot", "timestamp"];

/**
 * @param value parsed JSON, {add: [card in base64], remove: [kid in hex], threshold?, snapshot?, timestamp?: SPKI in base64}
 * @throws FormatError ERR_TRUST_REQUEST, ERR_CARD, ERR_KEY; VerificationError ERR_SIGNATURE
 */
export function parseRotationChange(value: unknown): RotationChange {
  const fields = new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
  for (const name of fields.keys()) if (!MEMBERS.includes(name)) throw wrong(`unknown member ${name}`);
  const texts = (name: string): readonly string[] => {
    const list: unknown = fields.get(name);
    if (!Array.isArray(list) || list.length > TRUSTEES_MAX || !list.every((item) => typeof item === "string"))
      throw wrong(`${name} must be a list of at most ${TRUSTEES_MAX} texts`);
    return list;
  };
  const key = (name: "snapshot" | "timestamp"): Partial<RotationChange> => {
    const text: unknown = fields.get(name);
    if (text === undefined) return {};
    if (typeof text !== "string") throw wrong(`${name} must be a public key in base64`);
    return { [name]: parsePublicKey(parseBase64(text)) };
  };
  const threshold: unknown = fields.get("threshold");
  if (threshold !== undefined && (typeof threshold !== "number" || !Number.isSafeInteger(threshold)))
    throw wrong("threshold must be a whole number");
  const change: RotationChange = {
    add: texts("add").map(cardOf),
    remove: texts("remove").map((text) => parseHex(text, 32)),
    ...(threshold !== undefined && { threshold }),
    ...key("snapshot"),
    ...key("timestamp"),
  };
  if (change.add.some(({ role }) => role !== "trustee")) throw wrong("only a trustee joins by a new root");
  return change;
}

/** @throws VerificationError ERR_TRUST_CHANGE */
export function nextRoles(change: RotationChange, trusted: TrustedState): Root["roles"] {
  const old = trusted.root.roles;
  const people = nextTrustees(change, old.root);
  const online = (name: "snapshot" | "timestamp"): Role => {
    const key = change[name];
    return key ? { keys: [key], threshold: 1 } : old[name];
  };
  const roles = { root: people, targets: people, snapshot: online("snapshot"), timestamp: online("timestamp") };
  const revocations = trusted.targets.delegations.filter(({ name }) => name === "revocations");
  const all = [
    ...people.keys,
    ...roles.snapshot.keys,
    ...roles.timestamp.keys,
    ...revocations.flatMap(({ role }) => role.keys),
    ...trusted.keys.map(({ key }) => key),
  ].map(kidText);
  const twice = all.find((kid, i) => all.indexOf(kid) !== i);
  if (twice !== undefined) throw refused(`the key ${twice} would have two purposes`);
  return roles;
}

/** What a rotation is made from, as published. */
export interface RotationBase {
  readonly trusted: TrustedState;
  /** The accepted batches under a newly issued head. */
  readonly head: Uint8Array;
  /** The highest versions ever proposed or published. */
  readonly last: { readonly targets: number; readonly batches: number };
  /** Roots that were proposed for this version and came to nothing. */
  readonly former: readonly FormerRoot[];
  readonly now: number;
}

export interface FormerRoot {
  readonly signed: Uint8Array;
  /** Whoever rejected it never signs it. */
  readonly rejected: boolean;
}

/** @throws VerificationError ERR_TRUST_CHANGE */
export function proposeRotation(change: RotationChange, base: RotationBase): PlannedEvent {
  const { trusted, head, last, now } = base;
  const roles = nextRoles(change, trusted);
  const revocations = trusted.targets.delegations.some(({ name }) => name === "revocations")
    ? delegatedRole(trusted.targets, "revocations", STATEMENT_PATH)
    : undefined;
  const { root, targets, batches } = createRotation({
    signed: {
      root: nextRoot(roles, base),
      targets: buildTargets({
        version: Math.max(last.targets, trusted.targetsVersion) + 1,
        expires: now + LIFETIMES.targets,
        targets: trusted.targets.targets,
        batches: roles.root,
        ...(revocations && { revocations }),
      }),
      batches: buildBatches({
        version: Math.max(last.batches, trusted.batchesVersion) + 1,
        expires: now + LIFETIMES.batches,
        head,
      }),
    },
    created: now,
    expires: now + PROPOSAL_SECONDS,
    quorums: [trusted.root.roles.root, roles.root],
  });
  const attachments = [...attachRotation(head, change.add)].map(([name, bytes]) => ({ name, bytes }));
  return { proposal: root, parts: { targets, batches }, attachments, batches: [] };
}

/**
 * A root of one version is signed once by each trustee, for ever. So where an earlier proposal said the same, its very
 * bytes are proposed again: whoever signed them then can sign them now.
 */
function nextRoot(roles: Root["roles"], { trusted, former, now }: RotationBase): Uint8Array {
  const version = trusted.rootVersion + 1;
  for (const { signed, rejected } of former) {
    const { expires } = parseSigned("root", signed);
    if (rejected || expires - now <= LIFETIMES.root / 2) continue;
    if (equalBytes(buildRoot({ version, expires, roles }), signed)) return signed;
  }
  const isRejected = (root: Uint8Array) => former.some(({ signed, rejected }) => rejected && equalBytes(signed, root));
  for (let expires = now + LIFETIMES.root; ; expires--) {
    const root = buildRoot({ version, expires, roles });
    if (!isRejected(root)) return root;
  }
}

function nextTrustees({ add, remove, threshold }: RotationChange, old: Role): Role {
  const leaving = new Set(remove.map(formatHex));
  const known = new Set(old.keys.map(kidText));
  for (const kid of leaving) if (!known.has(kid)) throw refused(`${kid} is no trustee`);
  const joining = add.map(({ key }) => key).filter((key) => !known.has(kidText(key)));
  if (joining.length < add.length) throw refused("somebody who joins is a trustee already");
  const staying = old.keys.filter((key) => !leaving.has(kidText(key)));
  const next: Role = { keys: [...staying, ...joining], threshold: threshold ?? old.threshold };
  if (next.threshold < old.threshold)
    throw refused(`the threshold would fall from ${old.threshold} to ${next.threshold}`);
  if (joining.length >= old.threshold)
    throw refused(
      `${joining.length} trustees would join at once; with ${old.threshold} to sign at most ${old.threshold - 1} may, and the others by the root after this one`,
    );
  try {
    assertQuorum(next);
  } catch (cause) {
    if (!(cause instanceof CodedError)) throw cause;
    throw new VerificationError("ERR_TRUST_CHANGE", cause.message, { cause });
  }
  return next;
}

function cardOf(text: string): EnrolmentCard {
  const bytes = parseBase64(text);
  if (bytes.length > CARD_BYTES_MAX) throw wrong(`a card of ${bytes.length} bytes`);
  return verifyEnrolmentCard(bytes);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TRUST_REQUEST", `not a change of trustees: ${reason}`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_CHANGE", reason);
}
