/** A small authority in memory, and the kit its vault would seal: what this room's tests share. Holds no tests. */
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import {
  bodyFrom,
  buildInclusionProof,
  compactOf,
  concat,
  EMPTY_ROOT,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  formatDidKey,
  formatNote,
  type Hash,
  hashLeaf,
  type KeyEntry,
  type Kit,
  type Manifest,
  manifestHash,
  noteVerifier,
  parseHex,
  parsePublicKey,
  rootOf,
  type Signer,
  sealTokens,
  sha256,
  signatureInput,
  signNote,
  subtreeOf,
  tokenLeaf,
  utf8,
} from "@viafabric/schemas";
import { formatCheckpoint, formatProof, policyOfLog } from "@viafabric/transparency-log";
import type { Trust } from "@viafabric/verifier";

export const NOW = 1_800_000_000;
export const DAY = 86_400;
export const AUTHORITY = sha256(utf8("an authority for station tests"));
export const STATION = namedSigner("station");
export const RELEASE = namedSigner("release");
const ISSUER = namedSigner("issuer");
const LOG = namedSigner("log");
const LOG_ORIGIN = "vault.example/log";

/** An Ed25519 key whose seed is SHA-256 of its name: every run has the same keys. */
export function namedSigner(name: string): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), sha256(utf8(name)));
  const secret = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = createPublicKey(secret).export({ format: "der", type: "spki" });
  return {
    publicKey: parsePublicKey(new Uint8Array(spki)),
    sign: async (message) => new Uint8Array(sign(null, message, secret)),
  };
}

export interface KitWorld {
  readonly kit: Kit;
  readonly manifest: Manifest;
  readonly trust: Trust;
  readonly manifestProof: readonly Hash[];
}

/** One batch, approved, signed and logged, and the whole of it for one station. */
export async function kitWorld(count: number, changes: Partial<Manifest> = {}): Promise<KitWorld> {
  const first = 100;
  const draft: Manifest = {
    ...{ authority: AUTHORITY, seq: 1, first, count, root: EMPTY_ROOT, issuer: ISSUER.publicKey.kid },
    ...{ iss: "https://vault.example", profile: "edge-basic", creditClass: "compute_hours", quota: 100, unit: "hour" },
    ...{ policyRoot: sha256(utf8("policy")), nbf: NOW - DAY, claimBy: NOW + 30 * DAY, exp: NOW + 90 * DAY },
    ...{ claim: "known", layout: "compact", tagClass: "ntag213", offline: "none" },
    releaseKeys: [RELEASE.publicKey.kid],
    stations: [{ kid: STATION.publicKey.kid, first, count }],
    statusUri: "https://vault.example/revocation/list/",
    ...changes,
  };
  const own = Array.from({ length: count }, (_, i) => ({
    rctId: sha256(utf8(`rct ${i}`)).slice(0, 16),
    subjectKey: namedSigner(`holder ${i}`).publicKey.raw,
    index: first + i,
  }));
  const bodies = own.map((t) => bodyFrom(draft, { ...t, subject: formatDidKey(t.subjectKey) }));
  const payloads = bodies.map(encodePayload);
  const entries = own.map((t, i) => tokenLeaf(t.index, t.rctId, payloads[i]!));
  const manifest = { ...draft, root: rootOf(entries.map(hashLeaf)) };
  const signatures = await Promise.all(payloads.map((payload) => ISSUER.sign(signatureInput("ed25519", payload))));
  const manifestBytes = encodeManifest(manifest);
  const tokensBin = sealTokens(
    AUTHORITY,
    own.map((t, i) => ({ ...t, signature: signatures[i]! })),
  );
  const headLeaves = [hashLeaf(sha256(utf8("an earlier manifest"))), hashLeaf(manifestHash(manifestBytes))];
  const manifestProof = await buildInclusionProof(1, 2, subtreeOf(headLeaves));
  const kit: Kit = {
    ...{ authority: AUTHORITY, id: sha256(utf8("kit")).slice(0, 16), seq: 1, station: STATION.publicKey.kid },
    ...{ first, count, manifest: manifestBytes, leaves: concat(...entries), tokensBin },
    logProof: await proveBatch(manifestBytes, tokensBin, entries),
    ...{ manifestProof, headSize: 2, uidKey: sha256(utf8("uid key")), recordType: "vf.test:r", host: "tap.example" },
    tokens: own.map((t, i) => ({
      index: t.index,
      token: compactOf(AUTHORITY, bodies[i]!, t.subjectKey, signatures[i]!),
    })),
    created: NOW,
  };
  return { kit, manifest, manifestProof, trust: trustOver(rootOf(headLeaves), first + count) };
}

/** A log that holds the batch leaf at index 1, then its tokens. */
async function proveBatch(manifest: Uint8Array, tokensBin: Uint8Array, entries: readonly Uint8Array[]) {
  const hashes = { manifestHash: manifestHash(manifest), metadataHash: sha256(utf8("2.batches.json")) };
  const batchLeaf = encodeLeaf({ type: "batch", seq: 1, ...hashes, tokensHash: sha256(tokensBin) });
  const leaves = [new Uint8Array([5]), batchLeaf, ...entries].map(hashLeaf);
  const text = formatCheckpoint({ origin: LOG_ORIGIN, size: leaves.length, root: rootOf(leaves) });
  const checkpoint = formatNote({ text, signatures: [await signNote(text, LOG_ORIGIN, LOG)] });
  const proof = await buildInclusionProof(1, leaves.length, subtreeOf(leaves));
  return formatProof({ extra: batchLeaf, index: 1, hashes: proof, checkpoint });
}

function trustOver(root: Hash, next: number): Trust {
  const entry = (signer: Signer, purpose: KeyEntry["purpose"]): KeyEntry => {
    return { key: signer.publicKey, purpose, class: "software", from: NOW - 365 * DAY, until: NOW + 365 * DAY };
  };
  const floor = { epoch: 0, n: 0, logSize: 0, revokedRoot: EMPTY_ROOT, suspendedRoot: EMPTY_ROOT };
  return {
    authority: AUTHORITY,
    trustees: { keys: [1, 2, 3].map((n) => namedSigner(`trustee ${n}`).publicKey), threshold: 2 },
    keys: [entry(ISSUER, "issuer"), entry(STATION, "station"), entry(RELEASE, "release")],
    rules: {
      authority: AUTHORITY,
      thresholds: { suspend: 1, revokeKit: 2, revoke: 2, reinstate: 2 },
      ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
      classes: new Map(),
    },
    policy: policyOfLog(noteVerifier(LOG_ORIGIN, LOG.publicKey)),
    head: { authority: AUTHORITY, size: 2, root, next, log: { size: 0, root: EMPTY_ROOT }, floor, issued: NOW - DAY },
    batchesVersion: 2,
    expires: { root: NOW + 700 * DAY, targets: NOW + 300 * DAY, batches: NOW + 100 * DAY },
  };
}
