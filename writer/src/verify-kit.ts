/**
 * Whether a kit may be written: every token in it must be one that a node would find genuine, approved and logged.
 * Pure; runs offline against the trust accepted at the last fetch. A kit that a stick or a server altered never
 * reaches a tag.
 */
import { formatLink, formatPointer, formatRecord, modelByName, type TagModel } from "@viafabric/nfc";
import {
  COMPACT_BYTES,
  decodeCompact,
  decodeManifest,
  equalBytes,
  type Hash,
  type Kit,
  type KitToken,
  type Manifest,
  TOKEN_LEAF_BYTES,
  VerificationError,
} from "@viafabric/schemas";
import { checkToken, type HeldBatch, Refusal, type RefusalCode, type Trust, verifyBundle } from "@viafabric/verifier";

declare const verified: unique symbol;

/** A kit all of whose tokens may be written. `verifyKit` is its only source. */
export interface VerifiedKit {
  readonly kit: Kit;
  readonly manifest: Manifest;
  /** The tag that the trustees approved for this batch. */
  readonly model: TagModel;
  readonly [verified]: true;
}

/**
 * Where a token's verdict ends when everything but the status holds: a station carries no status, because nothing
 * it writes is released yet. `not-yet-valid` comes before that, and is as good.
 */
const EXPECTED: readonly RefusalCode[] = ["status-missing", "not-yet-valid"];

/**
 * @param manifestProof inclusion of H(manifest) under `trust.head`. @param now unix seconds
 * @throws VerificationError ERR_KIT_REFUSED
 */
export function verifyKit(
  kit: Kit,
  own: { readonly trust: Trust; readonly station: Uint8Array; readonly manifestProof: readonly Hash[] },
  now: number,
): VerifiedKit {
  const { trust, station } = own;
  if (!equalBytes(kit.authority, trust.authority)) throw refused("it is of another authority");
  const held = verifyHeld(kit, trust, own.manifestProof);
  const manifest = decodeManifest(kit.manifest);
  const range = manifest.stations.find((each) => each.first === kit.first && each.count === kit.count);
  if (!equalBytes(kit.station, station) || !range || !equalBytes(range.kid, station)) {
    throw refused("the trustees gave its range to another station");
  }
  const model = modelByName(manifest.tagClass);
  if (!model) throw refused(`it is for tags of class ${manifest.tagClass}, which this program does not write`);
  const state = { authority: trust.authority, trust, batches: [held], status: undefined, clockFloor: 0 };
  for (const { index, token } of kit.tokens) {
    const verdict = checkToken(token, state, now);
    // Without a status nothing is ever accepted, so a yes here would be our own bug.
    const detail = verdict.code === "accept" ? "accepted without a status" : verdict.detail;
    if (verdict.code === "accept" || !EXPECTED.includes(verdict.code)) {
      throw refused(`token ${index}: ${verdict.code}, ${detail}`);
    }
    if (verdict.index !== index) throw refused(`token ${index} says it is ${verdict.index}`);
  }
  return { kit, manifest, model } as VerifiedKit;
}

/** The NDEF message of one token, in the layout that the trustees approved. */
export function messageOf({ kit, manifest }: VerifiedKit, index: number): Uint8Array {
  const { token, claimSecret } = tokenAt(kit, index);
  switch (manifest.layout) {
    case "compact":
      // A secret that the layout has no place for would be lost with the kit.
      if (claimSecret) throw refused(`token ${index} has a claim secret, and the layout has no place for it`);
      return formatRecord(token, kit.recordType);
    case "link":
      if (token.length !== COMPACT_BYTES) throw refused(`token ${index} is not in its compact spelling`);
      return formatLink(kit.host, token, claimSecret);
    case "pointer":
      if (!claimSecret) throw refused(`token ${index} has no claim secret to point with`);
      return formatPointer(kit.host, decodeCompact(token).rctId, index, claimSecret);
    default:
      throw refused(`layout ${manifest.layout} is not one that this program writes`);
  }
}

/** H(payload) of a token, from the leaves that the manifest commits to. */
export function payloadHashOf({ kit, manifest }: VerifiedKit, index: number): Uint8Array {
  const end = (index - manifest.first + 1) * TOKEN_LEAF_BYTES;
  return kit.leaves.slice(end - 32, end);
}

function tokenAt(kit: Kit, index: number): KitToken {
  const token = kit.tokens[index - kit.first];
  if (!token) throw new RangeError(`index ${index} is not in the kit`);
  return token;
}

function verifyHeld(kit: Kit, trust: Trust, manifestProof: readonly Hash[]): HeldBatch {
  const { manifest, leaves, tokensBin, logProof } = kit;
  const files = { manifest, leaves, logProof, ...(tokensBin.length > 0 ? { tokens: tokensBin } : {}) };
  let held: HeldBatch;
  try {
    held = verifyBundle(trust, files, manifestProof);
  } catch (cause) {
    if (!(cause instanceof Refusal)) throw cause;
    throw refused(`${cause.code}, ${cause.message}`, cause);
  }
  if (held.logRefusal) throw refused(`its batch is not proven to be logged: ${held.logRefusal}`);
  return held;
}

function refused(reason: string, cause?: unknown): VerificationError {
  return new VerificationError("ERR_KIT_REFUSED", `this kit is not written: ${reason}`, { cause });
}
