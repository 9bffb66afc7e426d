/** What the tests of this room share: keys from seeds, a small authority, a request. Holds no tests of its own. */
import { createPrivateKey, type KeyObject, sign } from "node:crypto";
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
import { formatCheckpoint } from "@viafabric/transparency-log";
import { type CardRole, createEnrolmentCard, signGenesis } from "@viafabric/tuf";
import type { SignedBatch } from "./bundle-files.ts";
import { type Genesis, type GenesisOptions, type OnlineKeys, planGenesis } from "./genesis.ts";
import type { BatchPlan, IssuanceState } from "./issuance.ts";

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
  rules: RULES,
  issuer: KEYS.issuer.publicKey.kid,
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
    tagClass: "NTAG213",
    offline: "none",
    station: formatHex(KEYS.station.publicKey.kid),
    release: formatHex(KEYS.release.publicKey.kid),
  };
}

export function issuanceState(): IssuanceState {
  const head = genesisHead(AUTHORITY, NOW - DAY);
  return {
    authority: AUTHORITY,
    issuer: KEYS.issuer.publicKey.kid,
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
  return { ...plan, signatures: concat(...signatures) };
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
