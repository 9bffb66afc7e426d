/**
 * What travels with a proposal so that a trustee's tool can compute everything again: named files, believed by nobody.
 *
 *     head.cbor                  a batches proposal: the head it lists
 *     manifest/<i>.cbor          each new manifest, i = 0, 1, …
 *     payloads/<i>.cbor          CBOR array of the payloads that the issuer key will sign under it, in index order
 *     targets/<path>             a targets proposal: every file it lists
 *     card/<kid>.json            a rotation, beside its head: the card of each trustee who joins
 */
import {
  BATCH_TOKENS_MAX,
  type CborValue,
  decodeCbor,
  encodeCbor,
  FormatError,
  kidText,
  quote,
} from "@viafabric/schemas";
import type { EnrolmentCard } from "./cards.ts";
import { isTargetPath } from "./metadata.ts";

/** By name. */
export type Attachments = ReadonlyMap<string, Uint8Array>;

export interface AttachedBatch {
  readonly manifest: Uint8Array;
  readonly payloads: readonly Uint8Array[];
}

export interface AttachedBatches {
  readonly head: Uint8Array;
  readonly batches: readonly AttachedBatch[];
}

/** Batches of one proposal. A larger issue is several proposals. */
export const PROPOSED_BATCHES_MAX = 64;
/** Tokens of all batches in one proposal: what is approved together goes into the log in one append. */
export const PROPOSED_TOKENS_MAX = BATCH_TOKENS_MAX;
/** Of all attachments together: in base64 it still fits what a trustee's tool reads from a vault. */
export const PROPOSED_BYTES_MAX = 40 * 1024 * 1024;
/** A proposal for `batches` always has it. */
export const HEAD_ATTACHMENT = "head.cbor";
/** Where the cards of a rotation are. */
export const CARD_ATTACHMENTS = "card/";
const TARGETS = "targets/";

export function attachBatches({ head, batches }: AttachedBatches): Attachments {
  return new Map([
    [HEAD_ATTACHMENT, head],
    ...batches.flatMap(({ manifest, payloads }, i) => [
      [manifestName(i), manifest] as const,
      [payloadsName(i), encodeCbor([...payloads])] as const,
    ]),
  ]);
}

/** @throws FormatError ERR_PROPOSAL for a missing or an unknown name */
export function detachBatches(attachments: Attachments): AttachedBatches {
  const count = (attachments.size - 1) / 2;
  if (!Number.isSafeInteger(count) || count > PROPOSED_BATCHES_MAX) throw wrong(`${attachments.size} attachments`);
  const batches = Array.from({ length: count }, (_, i) => ({
    manifest: need(attachments, manifestName(i)),
    payloads: decodePayloads(need(attachments, payloadsName(i))),
  }));
  return { head: need(attachments, HEAD_ATTACHMENT), batches };
}

/** @param files by target path */
export function attachTargets(files: ReadonlyMap<string, Uint8Array>): Attachments {
  return new Map([...files].map(([path, bytes]) => [TARGETS + path, bytes]));
}

/** @returns files by target path. @throws FormatError ERR_PROPOSAL */
export function detachTargets(attachments: Attachments): ReadonlyMap<string, Uint8Array> {
  return new Map(
    [...attachments].map(([name, bytes]) => {
      const path = name.slice(TARGETS.length);
      if (!name.startsWith(TARGETS) || !isTargetPath(path)) throw wrong(`an attachment ${quote(name)}`);
      return [path, bytes];
    }),
  );
}

/** @param cards of those who join, as their owners made them */
export function attachRotation(head: Uint8Array, cards: readonly EnrolmentCard[]): Attachments {
  const named = cards.map(({ key, bytes }) => [`${CARD_ATTACHMENTS}${kidText(key)}.json`, bytes] as const);
  return new Map([[HEAD_ATTACHMENT, head], ...named]);
}

function manifestName(i: number): string {
  return `manifest/${i}.cbor`;
}

function payloadsName(i: number): string {
  return `payloads/${i}.cbor`;
}

function decodePayloads(bytes: Uint8Array): readonly Uint8Array[] {
  const list = decodeCbor(bytes, "ERR_PROPOSAL");
  if (!Array.isArray(list) || list.length > BATCH_TOKENS_MAX)
    throw wrong("payloads that are no list of a batch's size");
  return list.map((payload: CborValue) => {
    if (!(payload instanceof Uint8Array)) throw wrong("a payload that is no byte string");
    return payload;
  });
}

function need(attachments: Attachments, name: string): Uint8Array {
  const bytes = attachments.get(name);
  if (!bytes) throw wrong(`there is no attachment ${name}`);
  return bytes;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_PROPOSAL", `not the attachments of a proposal: ${reason}`);
}
