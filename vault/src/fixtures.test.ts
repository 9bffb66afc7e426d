/** What the tests of this room share: keys from seeds, a small authority, a request. Holds no tests of its own. */
import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import {
  type EpochPlanes,
  formatStatement,
  nextStatement,
  type Plane,
  planeRoots,
  StatusLedger,
  statementName,
  type VerifiedStatement,
} from "@viafabric/revocation";
import {
  buildInclusionProof,
  concat,
  EMPTY_ROOT,
  ed25519PublicKey,
  formatDidKey,
  formatHex,
  formatNote,
  genesisHead,
  hashLeaf,
  type KeyEntry,
  MerkleFrontier,
  type Purpose,
  parseHex,
  type Rules,
  rootOf,
  type Signer,
  sha256,
  signatureInput,
  signNote,
  subtreeOf,
  utf8,
} from "@viafabric/schemas";
import { formatCheckpoint, parsePolicy } from "@viafabric/transparency-log";
import { type CardRole, createEnrolmentCard, POLICY_PATH, signGenesis } from "@viafabric/tuf";
import { advanceStatus, type NodeState, type StatusEvidence, type Trust } from "@viafabric/verifier";
import { batchEntries, batchEntry, bundleProof, type SignedBatch, tokensFile } from "./bundle-files.ts";
import { type Genesis, type GenesisOptions, type OnlineKeys, planGenesis } from "./genesis.ts";
import { assembleGenesis } from "./genesis-folder.ts";
import { type BatchPlan, type IssuanceState, planBatch, tokenEntries, validateRequest } from "./issuance.ts";
import type { KitMaterial } from "./kits.ts";

const PKCS8 = parseHex("302e020100300506032b657004220420");

/** An Ed25519 signer whose seed is the hash of a name: every run of a test has the same keys. */
export function namedSigner(name: string): Signer {
  const privateKey: KeyObject = createPrivateKey({
    key: Buffer.from(concat(PKCS8, sha256(utf8(name)))),
    format: "der",
    type: "pkcs8",
  });
  const raw = privateKey.export({ format: "jwk" }).x;
  return {
    publicKey: ed25519PublicKey(new Uint8Array(Buffer.from(raw!, "base64url"))),
    async sign(message) {
      return new Uint8Array(sign(null, message, privateKey));
    },
  };
}

/** Bytes that follow from a seed: SHA-256 in counter mode. */
export function seededRandom(seed: string): (length: number) => Uint8Array {
  let counter = 0;
  return (length) => {
    const blocks = Array.from({ length: Math.ceil(length / 32) }, () => sha256(utf8(`${seed}/${counter++}`)));
    return concat(...blocks).slice(0, length);
  };
}

export const NOW = 1_800_000_000;
export const AUTHORITY = sha256(utf8("an authority"));
export const DAY = 86_400;

export const KEYS = {
  issuer: namedSigner("issuer"),
  status: namedSigner("status"),
  station: namedSigner("station"),
  otherStation: namedSigner("other station"),
  release: namedSigner("release"),
};

export function keyEntry(signer: Signer, purpose: Purpose, from = NOW - DAY, until = NOW + 365 * DAY): KeyEntry {
  return { key: signer.publicKey, purpose, class: "software", from, until };
}

export const RULES: Rules = {
  authority: AUTHORITY,
  thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
  ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
  classes: new Map([["issuer", "software"]]),
};

export const TRUST = {
  profiles: new Map([["edge-basic", { id: "edge-basic", version: 1, title: "Basic", quotas: new Map() }]]),
  rules: RULES,
  keys: [
    keyEntry(KEYS.issuer, "issuer"),
    keyEntry(KEYS.status, "status"),
    keyEntry(KEYS.station, "station"),
    keyEntry(KEYS.otherStation, "station"),
    keyEntry(KEYS.release, "release"),
  ],
};

export function subjects(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => formatDidKey(namedSigner(`subject ${i}`).publicKey.raw));
}

/** A request as an operator sends it. */
export function requestJson(count: number): Record<string, unknown> {
  return {
    profile: "edge-basic",
    subjects: subjects(count),
    creditClass: "compute_hours",
    quota: 100,
    unit: "hours",
    nbf: NOW,
    claimBy: NOW + 30 * DAY,
    exp: NOW + 90 * DAY,
    claim: "known",
    layout: "compact",
    tagClass: "ntag213",
    offline: "none",
    station: formatHex(KEYS.station.publicKey.kid),
    release: formatHex(KEYS.release.publicKey.kid),
  };
}

export function issuanceState(): IssuanceState {
  const head = genesisHead(AUTHORITY, NOW - DAY);
  return {
    authority: AUTHORITY,
    keys: TRUST.keys,
    iss: "https://vault.example",
    statusUri: "https://vault.example/revocation/list/",
    policyRoot: sha256(utf8("policy")),
    head,
    manifests: new MerkleFrontier(),
    planned: [],
    log: { size: 4, root: sha256(utf8("log of four")) },
    floor: { epoch: 1, n: 0, logSize: 3, revokedRoot: EMPTY_ROOT, suspendedRoot: EMPTY_ROOT },
  };
}

export interface GenesisWorld {
  readonly genesis: Genesis;
  readonly options: GenesisOptions;
  readonly trustees: readonly Signer[];
  readonly online: { readonly [Name in keyof OnlineKeys]: Signer };
}

/** Five trustees, one station, one release officer, software keys. */
export async function genesisWorld(change: Partial<GenesisOptions> = {}): Promise<GenesisWorld> {
  const trustees = [1, 2, 3, 4, 5].map((n) => namedSigner(`trustee ${n}`));
  const card = async (signer: Signer, role: CardRole): Promise<Uint8Array> =>
    (await createEnrolmentCard(signer, { name: `A ${role}`, role })).bytes;
  const online = {
    issuer: KEYS.issuer,
    status: KEYS.status,
    log: namedSigner("log"),
    snapshot: namedSigner("snapshot"),
    timestamp: namedSigner("timestamp"),
    revocations: namedSigner("revocations"),
  };
  const publicKeys = Object.entries(online).map(([name, signer]) => [name, signer.publicKey]);
  const options: GenesisOptions = {
    trustees: await Promise.all(trustees.map((signer) => card(signer, "trustee"))),
    stations: [await card(KEYS.station, "station"), await card(KEYS.otherStation, "station")],
    releases: [await card(KEYS.release, "release")],
    online: Object.fromEntries(publicKeys),
    onlineClass: "software",
    operator: namedSigner("operator").publicKey,
    host: "vault.example",
    now: NOW,
    ...change,
  };
  return { genesis: planGenesis(options), options, trustees, online };
}

export async function signedBy(genesis: Genesis, signers: readonly Signer[]): Promise<readonly Uint8Array[]> {
  return Promise.all(signers.map((signer) => signGenesis(signer, genesis)));
}

export async function signAll(plan: BatchPlan, issuer: Signer = KEYS.issuer): Promise<SignedBatch> {
  const { algorithm } = issuer.publicKey;
  const signatures = await Promise.all(plan.payloads.map((payload) => issuer.sign(signatureInput(algorithm, payload))));
  return { ...plan, entries: tokenEntries(plan.tokens, plan.payloads), signatures: concat(...signatures) };
}

/** A log in memory, whole, for tests that need its checkpoints and proofs. */
export class MemoryLog {
  readonly entries: Uint8Array[] = [];

  append(entries: readonly Uint8Array[]): { readonly firstIndex: number } {
    const firstIndex = this.entries.length;
    this.entries.push(...entries);
    return { firstIndex };
  }

  head(): { readonly size: number; readonly root: Uint8Array } {
    return { size: this.entries.length, root: rootOf(this.entries.map(hashLeaf)) };
  }

  async note(origin: string, signer: Signer): Promise<Uint8Array> {
    const text = formatCheckpoint({ origin, ...this.head() });
    return formatNote({ text, signatures: [await signNote(text, origin, signer)] });
  }

  async inclusion(index: number): Promise<{ readonly index: number; readonly hashes: readonly Uint8Array[] }> {
    const leafHashes = this.entries.map(hashLeaf);
    return { index, hashes: await buildInclusionProof(index, leafHashes.length, subtreeOf(leafHashes)) };
  }
}

export interface PublishedWorld extends GenesisWorld {
  readonly material: KitMaterial;
  /** What a node makes of the published files: trust, and status with everything unreleased. */
  readonly node: NodeState;
}

/** One batch, approved, signed, logged and under a first statement. */
export async function publishedWorld(
  count: number,
  stations?: readonly { readonly kid: string; readonly count: number }[],
): Promise<PublishedWorld> {
  const world = await genesisWorld();
  const { genesis, online } = world;
  const { trusted } = assembleGenesis(genesis, await signedBy(genesis, world.trustees.slice(0, 3)), NOW);
  const { station, ...rest } = requestJson(count);
  const request = validateRequest(
    stations ? { ...rest, stations } : { ...rest, station },
    { ...TRUST, ...trusted },
    NOW,
  );
  const state = { ...issuanceState(), ...genesis.settings, authority: genesis.authority, head: trusted.head };
  const log = { size: 0, root: EMPTY_ROOT };
  const floor = trusted.head.floor;
  const plan = planBatch(request, { ...state, log, floor }, seededRandom("published"), NOW);
  const batch = await signAll(plan, online.issuer);
  const tokensBin = tokensFile(batch);
  const memory = new MemoryLog();
  const metadata = utf8("2.batches.json");
  const { firstIndex } = memory.append(batchEntries(2, metadata, [{ batch, tokensBin }]));
  const note = await memory.note(genesis.settings.logOrigin, online.log);
  const leaf = batchEntry(batch.manifestBytes, metadata, tokensBin);
  const logProof = bundleProof(leaf, await memory.inclusion(firstIndex + 1), note);
  const trust: Trust = {
    ...trusted,
    policy: parsePolicy(genesis.targetFiles.get(POLICY_PATH)!),
    head: plan.head,
    batchesVersion: 2,
  };
  const ledger = new StatusLedger();
  ledger.applyBatch(plan.manifest.first, plan.manifest.count);
  const status = advanceStatus(trust, undefined, await firstStatus(trust, ledger, memory.head(), online.status));
  const { settings } = genesis;
  const shared = {
    leaves: plan.leaves,
    tokensBin,
    logProof,
    manifestProof: [],
    headSize: 1,
    uidKey: plan.uidKey,
    settings,
  };
  const node = { authority: genesis.authority, trust, batches: [], status, clockFloor: NOW - DAY };
  return { ...world, material: { ...shared, batch }, node };
}

async function firstStatus(
  trust: Trust,
  ledger: StatusLedger,
  log: { readonly size: number; readonly root: Uint8Array },
  signer: Signer,
): Promise<StatusEvidence> {
  const next = { epoch: 1, n: ledger.n, planes: ledger.planes() };
  const note = await statementNote(trust.authority, undefined, next, signer, NOW, log);
  const set = (plane: Plane) => ({ plane, epoch: 1, n: next.n, set: next.planes[plane] });
  return { note, between: [], sets: [set(0), set(1), set(2)], floor: undefined, reinstatements: [] };
}

/** What the signer would sign about these planes. */
export async function statementNote(
  authority: Uint8Array,
  held: VerifiedStatement | undefined,
  { n, ...planes }: EpochPlanes,
  signer: Signer,
  issued: number,
  log: { readonly size: number; readonly root: Uint8Array } = { size: 4, root: sha256(utf8("log of four")) },
): Promise<Uint8Array> {
  const ages = { soft: DAY, hard: 7 * DAY };
  const times = { issued, next: issued + 3600, ages };
  const statement = nextStatement(held, {
    authority,
    n,
    log,
    batches: 2,
    ...times,
    planes: planeRoots({ n, ...planes }),
  });
  const text = formatStatement(statement);
  return formatNote({ text, signatures: [await signNote(text, statementName(authority), signer)] });
}
