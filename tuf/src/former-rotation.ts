/**
 * A rotation that came to nothing, and the proof that its root can never be published.
 *
 * Root versions are contiguous, so another root of the same version must be possible; but two roots of one version,
 * both signed by a quorum, would split the authority. A proposal that expired proves nothing: its signatures live on.
 * Rejections do: a tool never signs what it rejected, so when n − k + 1 of the trustees in force have rejected rotations
 * with one root, at most k − 1 are left who could sign it. Then, and only then, a tool that signed that root signs
 * another one of its version.
 *
 *     attachment former/<i>.cbor: [H(root), H(targets), H(batches), [[keyid, reason, signature], …]]
 */
import {
  type CborValue,
  decodeCbor,
  encodeCbor,
  FormatError,
  formatHex,
  HASH_BYTES,
  type Role,
} from "@viafabric/schemas";
import type { Attachments } from "./attachments.ts";
import { type Rotated, rotationIdOf } from "./rotation.ts";
import { provenRejections, type Rejection } from "./signing-event.ts";

export interface FormerRotation {
  /** SHA-256 of what would have been signed. */
  readonly hashes: Rotated<Uint8Array>;
  readonly rejections: readonly Rejection[];
}

/** More attempts at one root than an authority survives. */
export const FORMER_MAX = 64;
const FORMER = "former/";
const VOICES_MAX = 64;

export function attachFormer(former: readonly FormerRotation[]): Attachments {
  return new Map(
    former.slice(0, FORMER_MAX).map(({ hashes, rejections }, i) => {
      const voices = rejections.map(({ keyid, reason, signature }) => [keyid, reason, signature]);
      return [`${FORMER}${i}.cbor`, encodeCbor([hashes.root, hashes.targets, hashes.batches, voices])];
    }),
  );
}

/** @throws FormatError ERR_PROPOSAL, ERR_CBOR */
export function detachFormer(attachments: Attachments): readonly FormerRotation[] {
  const files = [...attachments].filter(([name]) => name.startsWith(FORMER));
  if (files.length > FORMER_MAX) throw wrong(`${files.length} of them`);
  return files.map(([, bytes]) => {
    const [root, targets, batches, voices] = listOf(decodeCbor(bytes, "ERR_PROPOSAL"), 4);
    const rejections = listOf(voices, VOICES_MAX).map((voice): Rejection => {
      const [keyid, reason, signature] = listOf(voice, 3);
      if (typeof keyid !== "string" || typeof reason !== "string" || !(signature instanceof Uint8Array))
        throw wrong("a rejection of another shape");
      return { keyid, reason, signature };
    });
    return { hashes: { root: hashOf(root), targets: hashOf(targets), batches: hashOf(batches) }, rejections };
  });
}

/**
 * Roots of which it is proven that they cannot be published, as SHA-256 of their signed part in hex.
 * @param trustees of the root in force, who would all have to be asked
 */
export function deadRoots(
  former: readonly FormerRotation[],
  authority: Uint8Array,
  trustees: Role,
): ReadonlySet<string> {
  const rejectedBy = new Map<string, Set<string>>();
  for (const { hashes, rejections } of former) {
    const root = formatHex(hashes.root);
    const proposal = { id: rotationIdOf(hashes), quorums: [trustees] };
    const voices = rejectedBy.get(root) ?? new Set();
    for (const { keyid } of provenRejections(proposal, authority, rejections)) voices.add(keyid);
    rejectedBy.set(root, voices);
  }
  const enough = trustees.keys.length - trustees.threshold + 1;
  return new Set([...rejectedBy].filter(([, voices]) => voices.size >= enough).map(([root]) => root));
}

function listOf(value: CborValue | undefined, lengthMax: number): readonly CborValue[] {
  if (!Array.isArray(value) || value.length > lengthMax) throw wrong("no list where a list belongs");
  return value as readonly CborValue[];
}

function hashOf(value: CborValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== HASH_BYTES) throw wrong("no hash where a hash belongs");
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_PROPOSAL", `not a rotation that came to nothing: ${reason}`);
}
