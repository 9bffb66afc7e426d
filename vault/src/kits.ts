/**
 * Kits: what a writing station carries into the field. Built from the published bundle, checked as a node would check
 * it, and only then sealed to the station.
 *
 * Nothing leaves before it is logged: a kit is made of the bundle's own files, and its proofs lead to the checkpoint
 * and the head that everybody sees. A kit that the verifier refuses is never handed out, whatever the reason: a station
 * in the field could do nothing with it but lose a day.
 */
import {
  decodeKit,
  encodeCompact,
  encodeKit,
  equalBytes,
  type Kit,
  type KitToken,
  parseDidKey,
  VerificationError,
} from "@viafabric/schemas";
import { checkToken, type HeldBatch, type NodeState, type RefusalCode, verifyBundle } from "@viafabric/verifier";
import { type SignedBatch, signatureOf } from "./bundle-files.ts";
import type { Settings } from "./genesis.ts";
import { sealTo } from "./seal.ts";

/** A batch as it is published, with what only the vault knows. */
export interface KitMaterial {
  readonly batch: SignedBatch;
  /** leaves.bin and tokens.bin as published; tokens.bin is empty where there is none. */
  readonly leaves: Uint8Array;
  readonly tokensBin: Uint8Array;
  readonly logProof: Uint8Array;
  /** Inclusion of H(manifest) under the head of `headSize` manifests. */
  readonly manifestProof: readonly Uint8Array[];
  readonly headSize: number;
  readonly uidKey: Uint8Array;
  readonly settings: Pick<Settings, "host" | "recordType">;
}

/**
 * @param id 16 random bytes. @param now unix seconds
 * @throws VerificationError ERR_KIT_STATION when the manifest gives the station nothing to write
 */
export function buildKit(material: KitMaterial, station: Uint8Array, id: Uint8Array, now: number): Kit {
  const { batch, settings } = material;
  const { manifest } = batch;
  const range = manifest.stations.find(({ kid }) => equalBytes(kid, station));
  if (!range) {
    throw new VerificationError("ERR_KIT_STATION", `batch ${manifest.seq} gives this station nothing to write`);
  }
  const from = range.first - manifest.first;
  return {
    authority: manifest.authority,
    id,
    seq: manifest.seq,
    station,
    first: range.first,
    count: range.count,
    manifest: batch.manifestBytes,
    leaves: material.leaves,
    tokensBin: material.tokensBin,
    logProof: material.logProof,
    manifestProof: material.manifestProof,
    headSize: material.headSize,
    uidKey: material.uidKey,
    recordType: settings.recordType,
    host: settings.host,
    tokens: Array.from({ length: range.count }, (_, i) => kitToken(batch, from + i)),
    created: now,
  };
}

/** Both layouts of today carry the compact spelling; the tag's room decides the rest. */
function kitToken(batch: SignedBatch, place: number): KitToken {
  const { index, rctId, subject } = batch.tokens[place]!;
  const selector = batch.manifest.authority.slice(0, 4);
  const signature = signatureOf(batch, place);
  return { index, token: encodeCompact({ selector, rctId, subjectKey: parseDidKey(subject), index, signature }) };
}

/**
 * Where a token that has just been logged must stand: everything proven, and not switched on. `not-yet-valid` comes
 * before the status in the order of checks, and is as good. `accept` is not: a token that works before its tag is
 * written and released is a leak.
 */
const EXPECTED: readonly RefusalCode[] = ["not-released", "not-yet-valid"];

/**
 * Runs the verifier that nodes run over every token of the kit.
 * @param node the vault's own view, from its published files alone; its `batches` are not looked at
 * @throws VerificationError ERR_KIT_REFUSED
 */
export function verifyKit(kit: Kit, node: NodeState, now: number): HeldBatch {
  if (!node.trust) throw refused("the vault has no trusted state");
  const files = {
    manifest: kit.manifest,
    leaves: kit.leaves,
    ...(kit.tokensBin.length > 0 ? { tokens: kit.tokensBin } : {}),
    logProof: kit.logProof,
  };
  if (kit.headSize !== node.trust.head.size) throw refused(`its proof is for a head of ${kit.headSize} batches`);
  let held: HeldBatch;
  try {
    held = verifyBundle(node.trust, files, kit.manifestProof);
  } catch (cause) {
    throw refused("its bundle does not verify", cause);
  }
  for (const { index, token } of kit.tokens) {
    const verdict = checkToken(token, { ...node, batches: [held] }, now);
    if (verdict.code === "accept") throw refused(`token ${index} works before it was written`);
    if (!EXPECTED.includes(verdict.code)) throw refused(`token ${index}: ${verdict.code}, ${verdict.detail}`);
    if (verdict.index !== index) throw refused(`token ${index} says it is ${verdict.index}`);
  }
  return held;
}

/** @param publicKey the station's X25519 key, as its signed request gave it. @returns JWE, compact serialisation */
export async function sealKit(kit: Kit, publicKey: Uint8Array): Promise<string> {
  const bytes = encodeKit(kit);
  // Read back as the station will: a kit that its own reader refuses must not travel.
  decodeKit(bytes);
  return sealTo(publicKey, bytes);
}

function refused(reason: string, cause?: unknown): VerificationError {
  return new VerificationError("ERR_KIT_REFUSED", `the verifier refuses this kit: ${reason}`, { cause });
}
