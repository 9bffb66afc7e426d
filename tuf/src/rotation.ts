/**
 * A rotation: the next root, with targets and batches signed again in the same meeting.
 *
 * The trustees of a root also sign targets, and targets names who signs batches. A root that replaces trustees would
 * leave both unsigned under the new keys, so the three are one proposal: the quorum of the old root and the quorum of
 * the new one sign all of them, and they are published together or not at all. Under either root a TUF client then
 * finds targets that enough of its trustees signed. A root that only gets a new date, or other online keys, is a
 * rotation as well: there is one way for a root to change.
 *
 * The id of a rotation binds all three: SHA-256 of `viafabric/rotation/v1` NUL ‖ H(root) ‖ H(targets) ‖ H(batches), each
 * H over the bytes to be signed. So 24 words are compared by voice, not 72.
 */
import { concat, type Role, sha256, utf8, VerificationError } from "@viafabric/schemas";
import type { TufSignature } from "./keys.ts";
import { approve, createProposal, fileOf, type Proposal, type SigningEvent } from "./signing-event.ts";

export const ROTATION_ROLES = ["root", "targets", "batches"] as const;
export type RotationRole = (typeof ROTATION_ROLES)[number];

/** One of each. */
export type Rotated<Each> = Readonly<Record<RotationRole, Each>>;

const DOMAIN = utf8("viafabric/rotation/v1\0");

/** @param signed the exact bytes to be signed */
export function rotationId(signed: Rotated<Uint8Array>): Uint8Array {
  return rotationIdOf({ root: sha256(signed.root), targets: sha256(signed.targets), batches: sha256(signed.batches) });
}

/** @param hashes SHA-256 of the bytes to be signed */
export function rotationIdOf(hashes: Rotated<Uint8Array>): Uint8Array {
  return sha256(concat(DOMAIN, ...ROTATION_ROLES.map((role) => hashes[role])));
}

/**
 * Three proposals with one life. The id of the root's is that of the rotation: whoever rejects it rejects the whole.
 * @param rotation.quorums of the old root and of the new one. @throws FormatError ERR_PROPOSAL
 */
export function createRotation(rotation: {
  readonly signed: Rotated<Uint8Array>;
  readonly created: number;
  readonly expires: number;
  readonly quorums: readonly [Role, Role];
}): Rotated<Proposal> {
  const { signed, created, expires, quorums } = rotation;
  const of = (role: RotationRole): Proposal =>
    createProposal({ role, signed: signed[role], created, expires, quorums });
  return { root: { ...of("root"), id: rotationId(signed) }, targets: of("targets"), batches: of("batches") };
}

/** Adds one trustee's three signatures, or none. @throws VerificationError ERR_SIGNATURE, ERR_PROPOSAL_CLOSED */
export function approveRotation<Event extends SigningEvent>(
  events: Rotated<Event>,
  approvals: Rotated<TufSignature>,
  now: number,
): Rotated<Event> {
  const keyids = new Set(ROTATION_ROLES.map((role) => approvals[role].keyid));
  if (keyids.size > 1) throw new VerificationError("ERR_SIGNATURE", "the parts of a rotation are signed by one key");
  const next = (role: RotationRole): Event => ({ ...events[role], ...approve(events[role], approvals[role], now) });
  return { root: next("root"), targets: next("targets"), batches: next("batches") };
}

/** The files, frozen together. @throws VerificationError ERR_THRESHOLD before */
export function rotationFiles(events: Rotated<SigningEvent>): Rotated<Uint8Array> {
  return { root: fileOf(events.root), targets: fileOf(events.targets), batches: fileOf(events.batches) };
}
