/**
 * Signing events: a frozen proposal, the approvals and rejections it has gathered, and how it ends.
 *
 * The id of a proposal is SHA-256 of the exact bytes to be signed, shown whole as 24 words. Approvals and rejections
 * are only ever added, one per public key and never both, each verified on arrival. The k-th approval freezes the file;
 * n−k+1 rejections make k approvals impossible. A dead event burns its version.
 *
 *     open ──▶ ready ──▶ published
 *       └──▶ expired, superseded, rejected        (ready ──▶ superseded when its base is gone before it was used)
 */
import {
  CodedError,
  concat,
  FormatError,
  formatHex,
  isValidSignature,
  kidText,
  type PublicKey,
  quote,
  type Role,
  type Signer,
  sha256,
  signingInput,
  utf8,
  VerificationError,
} from "@viafabric/schemas";

import { isMetadataSignature, keyId, type TufSignature } from "./keys.ts";
import { assemble, parseSigned } from "./metadata.ts";

export type ProposalRole = "root" | "targets" | "batches";

export interface Proposal {
  /** SHA-256 of `signed`. */
  readonly id: Uint8Array;
  readonly role: ProposalRole;
  readonly version: number;
  /** The exact bytes to be signed. */
  readonly signed: Uint8Array;
  /** Unix seconds. */
  readonly created: number;
  readonly expires: number;
  /** Frozen with the proposal. A rotation of root needs two: the old keys and the new ones. */
  readonly quorums: readonly Role[];
}

export interface Rejection {
  readonly keyid: string;
  readonly reason: string;
  readonly signature: Uint8Array;
}

/** What trustees have said, one of the two for each public key. */
export interface Voices {
  readonly approvals: readonly TufSignature[];
  readonly rejections: readonly Rejection[];
}

export interface SigningEvent extends Voices {
  readonly proposal: Proposal;
  /** What arrived after the k-th approval had frozen the file: evidence, counted by nobody and in no file. */
  readonly late: Voices;
  /** What happened to it afterwards; facts that the pure rules here cannot know. */
  readonly outcome?: "published" | "superseded" | "expired";
}

export const EVENT_STATES = ["open", "ready", "published", "expired", "superseded", "rejected"] as const;
export type EventState = (typeof EVENT_STATES)[number];

export const REJECTION_CONTEXT = "rejection";
export const REJECTION_REASON_LENGTH_MAX = 200;
/** A proposal that nobody looks at dies by itself. */
export const PROPOSAL_SECONDS_MAX = 90 * 86_400;

/** @throws FormatError ERR_PROPOSAL for a missing, fractional or unreachable threshold, or a life that never ends */
export function createProposal(
  proposal: Pick<Proposal, "role" | "signed" | "created" | "expires" | "quorums">,
): Proposal {
  const { role, signed, created, expires, quorums } = proposal;
  const { version } = parseSigned(role === "root" ? "root" : "targets", signed);
  if (quorums.length === 0 || quorums.length > 2) throw wrong(`${quorums.length} quorums`);
  for (const { keys, threshold } of quorums) {
    const distinct = new Set(keys.map(kidText)).size;
    if (!Number.isSafeInteger(threshold) || threshold < 1 || threshold > distinct)
      throw wrong(`a threshold of ${threshold} among ${distinct} keys`);
  }
  if (!(expires > created && expires - created <= PROPOSAL_SECONDS_MAX)) throw wrong("a life of no or too many days");
  return { id: sha256(signed), role, version, signed, created, expires, quorums };
}

/** A proposal that nobody has answered yet. */
export function openEvent(proposal: Proposal): SigningEvent {
  return { proposal, approvals: [], rejections: [], late: { approvals: [], rejections: [] } };
}

/**
 * Adds one approval. One trustee's key on two devices is one approval, also where the two signatures differ.
 * @throws VerificationError ERR_SIGNATURE, ERR_PROPOSAL_CLOSED
 */
export function approve(event: SigningEvent, approval: TufSignature, now: number): SigningEvent {
  const key = holderOf(event.proposal, approval.keyid);
  if (!isMetadataSignature(key, event.proposal.signed, approval.sig))
    throw new VerificationError("ERR_SIGNATURE", `the approval by ${approval.keyid} is not over this proposal`);
  const { keyid } = approval;
  const add = (voices: Voices): Voices => ({ ...voices, approvals: [...voices.approvals, approval] });
  return spoken(event, "approvals", keyid) ? event : speak(event, keyid, now, add);
}

/** @throws VerificationError ERR_SIGNATURE, ERR_PROPOSAL_CLOSED; FormatError ERR_PROPOSAL for an unusable reason */
export function reject(event: SigningEvent, authority: Uint8Array, rejection: Rejection, now: number): SigningEvent {
  verifyRejection(event.proposal, authority, rejection);
  const { keyid } = rejection;
  const add = (voices: Voices): Voices => ({ ...voices, rejections: [...voices.rejections, rejection] });
  if (spoken(event, "rejections", keyid)) return event;
  // A dead root is still rejected: only rejections prove that it cannot be published any more (former-rotation.ts).
  const isDeadRoot = event.proposal.role === "root" && DEAD.includes(stateOf(event, now));
  if (isDeadRoot && !spoken(event, "approvals", keyid)) return { ...event, late: add(event.late) };
  return speak(event, keyid, now, add);
}

/**
 * The rejections that prove themselves, each key once: what may be shown as a trustee's word.
 * @param rejections from anywhere
 */
export function provenRejections(
  proposal: Pick<Proposal, "id" | "quorums">,
  authority: Uint8Array,
  rejections: readonly Rejection[],
): readonly Rejection[] {
  const proven = new Map<string, Rejection>();
  for (const rejection of rejections) {
    try {
      verifyRejection(proposal, authority, rejection);
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      continue;
    }
    if (!proven.has(rejection.keyid)) proven.set(rejection.keyid, rejection);
  }
  return [...proven.values()];
}

/** @param now unix seconds */
export function stateOf(event: SigningEvent, now: number): EventState {
  const { proposal } = event;
  if (event.outcome) return event.outcome;
  // Ready before expired: the k-th approval froze the file, and time passing does not undo it.
  if (proposal.quorums.every((role) => countIn(role, event.approvals) >= role.threshold)) return "ready";
  const dead = (role: Role): boolean => countIn(role, event.rejections) > role.keys.length - role.threshold;
  if (proposal.quorums.some(dead)) return "rejected";
  return now >= proposal.expires ? "expired" : "open";
}

/** The metadata file, frozen once the event is ready. @throws VerificationError ERR_THRESHOLD before */
export function fileOf(event: SigningEvent): Uint8Array {
  for (const role of event.proposal.quorums) {
    const count = countIn(role, event.approvals);
    if (count < role.threshold)
      throw new VerificationError("ERR_THRESHOLD", `${count} of ${role.threshold} approvals so far`);
  }
  return assemble(event.proposal.signed, event.approvals);
}

/** `rejection` ‖ authority ‖ id ‖ reason: a rejection of one proposal is not one of another. */
export function rejectionInput(authority: Uint8Array, id: Uint8Array, reason: string): Uint8Array {
  if (reason.trim() !== reason || reason.length === 0 || reason.length > REJECTION_REASON_LENGTH_MAX)
    throw wrong(`a reason of 1 to ${REJECTION_REASON_LENGTH_MAX} characters, not ${quote(reason)}`);
  return signingInput(REJECTION_CONTEXT, authority, concat(id, utf8(reason)));
}

export async function signRejection(
  signer: Signer,
  authority: Uint8Array,
  id: Uint8Array,
  reason: string,
): Promise<Rejection> {
  const signature = await signer.sign(rejectionInput(authority, id, reason));
  return { keyid: keyId(signer.publicKey), reason, signature };
}

const DEAD: readonly EventState[] = ["expired", "superseded", "rejected"];

/** A frozen file stays as it is, so what comes later is kept beside it; a dead proposal takes nothing any more. */
function speak(event: SigningEvent, keyid: string, now: number, add: (voices: Voices) => Voices): SigningEvent {
  const state = stateOf(event, now);
  if (DEAD.includes(state))
    throw new VerificationError("ERR_PROPOSAL_CLOSED", `proposal ${formatHex(event.proposal.id)} is ${state}`);
  if (spoken(event, "approvals", keyid) || spoken(event, "rejections", keyid))
    throw new VerificationError("ERR_PROPOSAL_CLOSED", `${keyid} has already spoken on this proposal`);
  return state === "open" ? { ...event, ...add(event) } : { ...event, late: add(event.late) };
}

function spoken(event: SigningEvent, how: keyof Voices, keyid: string): boolean {
  return [...event[how], ...event.late[how]].some((known) => known.keyid === keyid);
}

function verifyRejection(
  proposal: Pick<Proposal, "id" | "quorums">,
  authority: Uint8Array,
  { keyid, reason, signature }: Rejection,
): void {
  const key = holderOf(proposal, keyid);
  if (!isValidSignature(key, rejectionInput(authority, proposal.id, reason), signature))
    throw new VerificationError("ERR_SIGNATURE", `the rejection by ${keyid} is not of this proposal`);
}

/** Whose key it is that speaks. @throws VerificationError ERR_SIGNATURE for one that has no say */
export function holderOf(proposal: Pick<Proposal, "quorums">, keyid: string): PublicKey {
  const key = proposal.quorums.flatMap((role) => role.keys).find((candidate) => keyId(candidate) === keyid);
  if (!key) throw new VerificationError("ERR_SIGNATURE", `${quote(keyid)} has no say in this proposal`);
  return key;
}

function countIn(role: Role, signatures: readonly { readonly keyid: string }[]): number {
  const ids = new Set(signatures.map((signature) => signature.keyid));
  return role.keys.filter((key) => ids.has(keyId(key))).length;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_PROPOSAL", `not a proposal: ${reason}`);
}
