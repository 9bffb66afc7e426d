/**
 * A whole authority in memory, from seeds: what verifier tests, benchmarks and vectors start from. Every signature in
 * it is real; only the keys are public knowledge, so nothing made here can ever be trusted.
 */
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { formatStatement, IndexSet, nextStatement, planeStates, setRoot, statementName } from "@viafabric/revocation";
import {
  bodyFrom,
  buildInclusionProof,
  compactOf,
  concat,
  EMPTY_ROOT,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  encodeToken,
  formatDidKey,
  formatNote,
  type Hash,
  hashLeaf,
  type KeyEntry,
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
import { advanceStatus, type BundleFiles, type SignedSets, type StatusState, type Trust } from "@viafabric/verifier";

/** An Ed25519 key whose seed is SHA-256 of its name. */
export function seededSigner(name: string): Signer {
  return signerOfSeed(sha256(utf8(name)));
}

/** @param seed 32 bytes */
export function signerOfSeed(seed: Uint8Array): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), seed);
  const secret = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = createPublicKey(secret).export({ format: "der", type: "spki" });
  return {
    publicKey: parsePublicKey(new Uint8Array(spki)),
    sign: async (message) => new Uint8Array(sign(null, message, secret)),
  };
}

export const NOW = 1_800_000_000;
export const DAY = 86_400;
export const LOG_ORIGIN = "vault.example/log";
export const AUTHORITY = sha256(utf8("an authority for tests"));
export const ISSUER = seededSigner("issuer");
export const LOG = seededSigner("log");
export const STATUS = seededSigner("status");
export const RELEASE = seededSigner("release");
export const STATION = seededSigner("station");

/** One batch as a vault would publish it, and the tokens as they would be on tags. */
export interface TestBatch {
  readonly manifest: Manifest;
  readonly files: BundleFiles;
  readonly manifestProof: readonly Hash[];
  readonly compact: readonly Uint8Array[];
  readonly cose: readonly Uint8Array[];
  readonly trust: Trust;
}

export interface BatchOptions {
  readonly count?: number;
  readonly manifest?: Partial<Manifest>;
}

export function keyEntries(): KeyEntry[] {
  const entry = (signer: Signer, purpose: KeyEntry["purpose"]): KeyEntry => {
    return { key: signer.publicKey, purpose, class: "hardware", from: NOW - 365 * DAY, until: NOW + 365 * DAY };
  };
  return [entry(ISSUER, "issuer"), entry(STATUS, "status"), entry(RELEASE, "release"), entry(STATION, "station")];
}

/** @param subjects seeds of the holders' keys; token i belongs to `holder i` */
export async function makeBatch({ count = 8, manifest: changes = {} }: BatchOptions = {}): Promise<TestBatch> {
  const draft: Manifest = {
    authority: AUTHORITY,
    seq: 0,
    first: 0,
    count,
    root: EMPTY_ROOT,
    issuer: ISSUER.publicKey.kid,
    iss: "https://vault.example",
    profile: "edge-basic",
    creditClass: "compute_hours",
    quota: 100,
    unit: "hour",
    policyRoot: sha256(utf8("policy lineage")),
    nbf: NOW - DAY,
    claimBy: NOW + 90 * DAY,
    exp: NOW + 365 * DAY,
    claim: "known",
    layout: "compact",
    tagClass: "ntag213",
    offline: "none",
    releaseKeys: [RELEASE.publicKey.kid],
    stations: [{ kid: STATION.publicKey.kid, first: changes.first ?? 0, count }],
    statusUri: "https://vault.example/revocation/list/",
    ...changes,
  };
  const { authority } = draft;
  const own = Array.from({ length: count }, (_, i) => ({
    rctId: sha256(utf8(`rct ${draft.first + i}`)).slice(0, 16),
    subjectKey: seededSigner(`holder ${i % 16}`).publicKey.raw,
    index: draft.first + i,
  }));
  const payloads = own.map((t) => encodePayload(bodyFrom(draft, { ...t, subject: formatDidKey(t.subjectKey) })));
  const entries = own.map((t, i) => tokenLeaf(t.index, t.rctId, payloads[i]!));
  const manifest = { ...draft, root: rootOf(entries.map(hashLeaf)) };
  const signatures = await Promise.all(payloads.map((payload) => ISSUER.sign(signatureInput("ed25519", payload))));
  const tokens = own.map((t, i) => ({ ...t, signature: signatures[i]! }));
  const manifestBytes = encodeManifest(manifest);
  const tokensBin = sealTokens(authority, tokens);
  const headLeaves = Array.from({ length: manifest.seq }, (_, i) => hashLeaf(sha256(utf8(`manifest ${i}`))));
  headLeaves.push(hashLeaf(manifestHash(manifestBytes)));
  const logProof = await proveBatch(manifest.seq, manifestBytes, tokensBin, entries);
  const kid = ISSUER.publicKey.kid;
  return {
    manifest,
    files: { manifest: manifestBytes, leaves: concat(...entries), tokens: tokensBin, logProof },
    manifestProof: await buildInclusionProof(manifest.seq, headLeaves.length, subtreeOf(headLeaves)),
    compact: tokens.map((t, i) => {
      const body = { ...bodyFrom(manifest, { ...t, subject: formatDidKey(t.subjectKey) }) };
      return compactOf(authority, body, t.subjectKey, signatures[i]!);
    }),
    cose: payloads.map((payload, i) => encodeToken({ algorithm: "ed25519", kid, payload, signature: signatures[i]! })),
    trust: makeTrust(rootOf(headLeaves), headLeaves.length, manifest.first + count),
  };
}

/** A log that holds the batch leaf at index 3, then its tokens. */
async function proveBatch(seq: number, manifest: Uint8Array, tokensBin: Uint8Array, entries: readonly Uint8Array[]) {
  const metadataHash = sha256(utf8("1.batches.json"));
  const batchLeaf = encodeLeaf({
    type: "batch",
    seq,
    manifestHash: manifestHash(manifest),
    metadataHash,
    tokensHash: sha256(tokensBin),
  });
  const earlier = [1, 2, 3].map((i) => new Uint8Array([i]));
  const leaves = [...earlier, batchLeaf, ...entries].map(hashLeaf);
  const text = formatCheckpoint({ origin: LOG_ORIGIN, size: leaves.length, root: rootOf(leaves) });
  const checkpoint = formatNote({ text, signatures: [await signNote(text, LOG_ORIGIN, LOG)] });
  const hashes = await buildInclusionProof(3, leaves.length, subtreeOf(leaves));
  return formatProof({ extra: batchLeaf, index: 3, hashes, checkpoint });
}

function makeTrust(headRoot: Hash, size: number, next: number): Trust {
  return {
    authority: AUTHORITY,
    trustees: { keys: [1, 2, 3, 4, 5].map((i) => seededSigner(`trustee ${i}`).publicKey), threshold: 3 },
    keys: keyEntries(),
    rules: {
      authority: AUTHORITY,
      thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
      ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
      classes: new Map([["issuer", "hardware"]]),
    },
    policy: policyOfLog(noteVerifier(LOG_ORIGIN, LOG.publicKey)),
    head: {
      authority: AUTHORITY,
      size,
      root: headRoot,
      next,
      log: { size: 0, root: EMPTY_ROOT },
      floor: { epoch: 0, n: 0, logSize: 0, revokedRoot: EMPTY_ROOT, suspendedRoot: EMPTY_ROOT },
      issued: NOW - DAY,
    },
    batchesVersion: 2,
    expires: { root: NOW + 700 * DAY, targets: NOW + 300 * DAY, batches: NOW + 100 * DAY },
  };
}

/** Members of the three planes. */
export interface Planes {
  readonly revoked?: readonly number[];
  readonly suspended?: readonly number[];
  readonly unreleased?: readonly number[];
}

export interface StatementOptions extends Planes {
  readonly previous?: StatusState | undefined;
  readonly n?: number;
  readonly issued?: number;
  readonly batches?: number;
  readonly logSize?: number;
  readonly signer?: Signer;
}

export function setsOf(planes: Planes, epoch: number, n: number): SignedSets {
  const make = (plane: 0 | 1 | 2, members: readonly number[] = []) => {
    return { plane, epoch, n, set: IndexSet.fromIndices(members) };
  };
  return [make(0, planes.revoked), make(1, planes.suspended), make(2, planes.unreleased)];
}

/** The statement after `previous`, signed, with its sets. */
export async function signStatement(options: StatementOptions): Promise<{ note: Uint8Array; sets: SignedSets }> {
  const n = options.n ?? 8;
  const epoch = (options.previous?.verified.statement.epoch ?? 0) + 1;
  const sets = setsOf(options, epoch, n);
  const issued = options.issued ?? NOW;
  const size = options.logSize ?? 12;
  const text = formatStatement(
    nextStatement(options.previous?.verified, {
      authority: AUTHORITY,
      n,
      log: { size, root: new Uint8Array(32).fill(size) },
      batches: options.batches ?? 2,
      issued,
      next: issued + 3600,
      ages: { soft: 2 * DAY, hard: 30 * DAY },
      planes: planeStates((plane) => ({ count: sets[plane].set.count, root: setRoot(sets[plane].set, n) })),
    }),
  );
  const line = await signNote(text, statementName(AUTHORITY), options.signer ?? STATUS);
  return { note: formatNote({ text, signatures: [line] }), sets };
}

/** A status of `n` indices in which every token is released and none is revoked. */
export async function settledStatus(trust: Trust, n: number): Promise<StatusState> {
  const { note, sets } = await signStatement({ n });
  return advanceStatus(trust, undefined, { note, sets, between: [], floor: undefined, reinstatements: [] });
}
