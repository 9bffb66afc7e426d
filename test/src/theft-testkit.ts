/**
 * An authority whose online keys lie in files, all of them in the hands of a thief, who also has the signer's socket
 * and the keys of two of the five trustees: one short of the three that are needed.
 *
 * The signer is the real process, the clients are the real clients. The honest past is made first: one batch of eight
 * tokens, of which 0 to 5 were released and 1 was revoked.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { generateKeys, openSoftwareKeys } from "@viafabric/hsm";
import {
  connect,
  formatSignerConfig,
  SIGNER_KEYS,
  type SignerClient,
  type SignerConfig,
  type SignerKey,
  type SignerProcess,
  signerKeys,
  startSigner,
} from "@viafabric/hsm/signer";
import { formatStatement, nextStatement, planeStates, setRoot, statementName } from "@viafabric/revocation";
import {
  bodyFrom,
  buildConsistencyProof,
  buildInclusionProof,
  compactOf,
  concat,
  EVENT_CONTEXT,
  type EventBody,
  encodeEventBody,
  encodeHead,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  encodeRules,
  encodeTrustKeys,
  formatDidKey,
  formatNote,
  genesisHead,
  type Hash,
  type Head,
  hashLeaf,
  type KeyEntry,
  type Manifest,
  manifestHash,
  noteVerifier,
  type OwnClaims,
  type Role,
  rootOf,
  type Signer,
  sealTokens,
  sha256,
  signatureInput,
  signingInput,
  signNote,
  subtreeOf,
  tokenLeaf,
  utf8,
} from "@viafabric/schemas";
import { formatCheckpoint, formatPolicy, formatProof, parsePolicy, policyOfLog } from "@viafabric/transparency-log";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRoot,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
  HEAD_PATH,
  KEYS_PATH,
  metadataFileName,
  POLICY_PATH,
  RULES_PATH,
  signMetadata,
  type TrustedState,
  targetFileName,
} from "@viafabric/tuf";
import { refreshTrust } from "@viafabric/tuf/client";
import type { BundleFiles, SignedSets, StatusState, Trust } from "@viafabric/verifier";
import { type Planes, seededSigner, setsOf } from "./authority.ts";

export const NOW = Math.floor(Date.now() / 1000);
export const DAY = 86_400;
export const ORIGIN = "log.example/stolen";
export const COUNT = 8;

/** A batch in every form in which anybody meets it. */
export interface Bundle {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly tokens: readonly OwnClaims[];
  readonly leaves: readonly Uint8Array[];
  readonly compact: readonly Uint8Array[];
  readonly tokensBin: Uint8Array;
  readonly batchLeaf: Uint8Array;
}

/** What trustees sign. */
export interface Metadata {
  readonly roots: readonly Uint8Array[];
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  readonly targetFiles: ReadonlyMap<string, Uint8Array>;
}

export type OnlineKeys = Readonly<Record<"snapshot" | "timestamp", Signer>>;

/** How snapshot and timestamp are signed for one publication. */
export interface OnlineSigning {
  readonly version: number;
  readonly keys: OnlineKeys;
}

export interface StatementOptions {
  readonly previous?: StatusState;
  readonly issued?: number;
  readonly batches?: number;
  readonly n?: number;
}

export class StolenAuthority {
  readonly folder: string;
  /** In clear. */
  readonly keys: Readonly<Record<SignerKey, Signer>>;
  readonly release = seededSigner("stolen release");
  readonly trustees = [1, 2, 3, 4, 5].map((i) => seededSigner(`stolen trustee ${i}`));
  readonly config: SignerConfig;
  readonly rootSigned: Uint8Array;
  readonly authority: Uint8Array;
  readonly log: Uint8Array[] = [];
  honest!: Metadata;
  rootFile!: Uint8Array;
  head!: Head;
  bundle!: Bundle;
  checkpoint!: Uint8Array;
  process!: SignerProcess;
  signer!: SignerClient;
  #refreshes = 0;
  #publications = 0;

  private constructor(folder: string, config: SignerConfig, keys: Readonly<Record<SignerKey, Signer>>) {
    this.folder = folder;
    this.config = config;
    this.keys = keys;
    this.rootSigned = this.buildRoot(1, this.quorum);
    this.authority = authorityOf(this.rootSigned);
  }

  static async create(): Promise<StolenAuthority> {
    const folder = await mkdtemp(path.join(tmpdir(), "theft-"));
    const hsm = { software: path.join(folder, "keys"), passphraseFile: path.join(folder, "passphrase") };
    await writeFile(hsm.passphraseFile, "stolen with the rest\n", { mode: 0o600 });
    const wanted = SIGNER_KEYS.map((name) => ({ id: utf8(name), label: name, algorithm: "ed25519" as const }));
    const made = await generateKeys(hsm, wanted);
    const files = await openSoftwareKeys(hsm);
    const signers = await Promise.all(wanted.map(({ id }, i) => files.signer(id, made[i])));
    const home = path.join(folder, "signer");
    await mkdir(home, { mode: 0o700 });
    await mkdir(path.join(folder, "public"));
    const config: SignerConfig = {
      hsm,
      root: path.join(home, "1.root.json"),
      public: path.join(folder, "public"),
      socket: path.join(home, "signer.sock"),
      keys: signerKeys((_name, i) => [{ id: wanted[i]!.id, publicKey: made[i]! }]),
    };
    const world = new StolenAuthority(
      folder,
      config,
      Object.fromEntries(SIGNER_KEYS.map((name, i) => [name, signers[i]!])) as Record<SignerKey, Signer>,
    );
    await world.#live();
    return world;
  }

  async remove(): Promise<void> {
    await this.signer?.close();
    await this.process?.stop();
    await rm(this.folder, { recursive: true });
  }

  get quorum(): Role {
    return { keys: this.trustees.map(({ publicKey }) => publicKey), threshold: 3 };
  }

  /** Two of the five: k − 1. */
  get corrupt(): readonly Signer[] {
    return this.trustees.slice(0, 2);
  }

  async #live(): Promise<void> {
    const three = this.trustees.slice(0, 3);
    this.rootFile = await signBy(three, this.rootSigned);
    this.head = genesisHead(this.authority, NOW - DAY);
    const files = this.targetFiles(this.keyEntries());
    const targets = await signBy(three, this.buildTargets(1, files));
    const batchesAt = (version: number) =>
      signBy(three, buildBatches({ version, expires: NOW + 100 * DAY, head: encodeHead(this.head) }));
    const metadata = (batches: Uint8Array): Metadata => {
      return { roots: [], targets, batches, targetFiles: new Map([...files, [HEAD_PATH, encodeHead(this.head)]]) };
    };
    this.honest = metadata(await batchesAt(1));
    await writeFile(this.config.root, this.rootFile);
    const configFile = path.join(this.folder, "signer", "signer.json");
    await writeFile(configFile, formatSignerConfig(this.config), { mode: 0o600 });
    this.process = await startSigner(configFile);
    this.signer = await connect(this.process.socket);
    await this.signer.trust({ ...this.honest, headProof: [] });
    await this.append(
      trustLeaf("root", 1, this.rootFile),
      trustLeaf("targets", 1, targets),
      trustLeaf("batches", 1, this.honest.batches),
    );
    await this.append(trustLeaf("statement", 1, await this.signer.statement()));

    const draft = await this.makeBatch(this.manifest({}), this.keys.issuer, new Uint8Array(0));
    this.head = { ...this.head, size: 1, root: rootOf([leafOf(draft)]), next: COUNT, issued: NOW };
    this.honest = metadata(await batchesAt(2));
    await this.signer.trust({ ...this.honest, headProof: [] });
    await this.signer.tokens({ manifest: draft.manifestBytes, proof: [], bodies: [draft.tokens] });
    this.bundle = await this.makeBatch(draft.manifest, this.keys.issuer, this.honest.batches);
    await this.append(trustLeaf("batches", 2, this.honest.batches), this.bundle.batchLeaf, ...this.bundle.leaves);
    await this.append(
      await this.eventLeaf({ action: "release", ranges: [{ first: 0, count: 6 }] }, [this.release]),
      await this.eventLeaf({ action: "revoke", ranges: [{ first: 1, count: 1 }] }, three),
    );
  }

  buildRoot(version: number, quorum: Role, online: OnlineKeys = this.keys): Uint8Array {
    const one = (signer: Signer): Role => ({ keys: [signer.publicKey], threshold: 1 });
    const roles = { root: quorum, targets: quorum, snapshot: one(online.snapshot), timestamp: one(online.timestamp) };
    return buildRoot({ version, expires: NOW + 700 * DAY, roles });
  }

  buildTargets(version: number, targets: ReadonlyMap<string, Uint8Array>, batches = this.quorum): Uint8Array {
    return buildTargets({ version, expires: NOW + 300 * DAY, targets, batches });
  }

  keyEntries(...more: readonly KeyEntry[]): KeyEntry[] {
    return [
      entry(this.keys.issuer, "issuer"),
      entry(this.keys.status, "status"),
      entry(this.release, "release"),
      ...more,
    ];
  }

  targetFiles(keys: readonly KeyEntry[]): Map<string, Uint8Array> {
    const rules = encodeRules({
      authority: this.authority,
      thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
      ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
      classes: new Map([["issuer", "software"]]),
    });
    const policy = utf8(formatPolicy(policyOfLog(noteVerifier(ORIGIN, this.keys.log.publicKey))));
    return new Map([
      [KEYS_PATH, encodeTrustKeys(keys)],
      [RULES_PATH, rules],
      [POLICY_PATH, policy],
    ]);
  }

  manifest(change: Partial<Manifest>): Manifest {
    return {
      authority: this.authority,
      seq: 0,
      first: 0,
      count: COUNT,
      root: new Uint8Array(32),
      issuer: this.keys.issuer.publicKey.kid,
      iss: "https://example.org",
      profile: "edge-basic",
      creditClass: "compute_hours",
      quota: 10,
      unit: "h",
      policyRoot: new Uint8Array(32).fill(7),
      nbf: NOW - DAY,
      claimBy: NOW + 50 * DAY,
      exp: NOW + 90 * DAY,
      claim: "known",
      layout: "compact",
      tagClass: "ntag213",
      offline: "none",
      releaseKeys: [this.release.publicKey.kid],
      stations: [],
      statusUri: "https://example.org/status/",
      ...change,
    };
  }

  /** A batch with every signature that an issuer key can give. @param batches the metadata file its leaf names */
  async makeBatch(draft: Manifest, issuer: Signer, batches: Uint8Array, holder = "holder"): Promise<Bundle> {
    const own = Array.from({ length: draft.count }, (_, i) => {
      const index = draft.first + i;
      const subjectKey = seededSigner(`${holder} ${index}`).publicKey.raw;
      return { rctId: sha256(utf8(`${holder} rct ${index}`)).slice(0, 16), subjectKey, index };
    });
    const tokens = own.map(({ subjectKey, ...token }) => ({ ...token, subject: formatDidKey(subjectKey) }));
    const bodies = tokens.map((token) => bodyFrom(draft, token));
    const payloads = bodies.map(encodePayload);
    const leaves = own.map(({ index, rctId }, i) => tokenLeaf(index, rctId, payloads[i]!));
    const manifest = { ...draft, root: rootOf(leaves.map(hashLeaf)) };
    const manifestBytes = encodeManifest(manifest);
    const signatures = await Promise.all(payloads.map((payload) => issuer.sign(signatureInput("ed25519", payload))));
    const tokensBin = sealTokens(
      this.authority,
      own.map((token, i) => ({ ...token, signature: signatures[i]! })),
    );
    const batchLeaf = encodeLeaf({
      type: "batch",
      seq: manifest.seq,
      manifestHash: manifestHash(manifestBytes),
      metadataHash: sha256(batches),
      tokensHash: sha256(tokensBin),
    });
    const compact = own.map((t, i) => compactOf(this.authority, bodies[i]!, t.subjectKey, signatures[i]!));
    return { manifest, manifestBytes, tokens, leaves, compact, tokensBin, batchLeaf };
  }

  /** Through the signer. */
  async append(...entries: readonly Uint8Array[]): Promise<void> {
    this.checkpoint = await this.signer.append({ from: this.log.length, entries });
    this.log.push(...entries);
  }

  async eventLeaf(body: Pick<EventBody, "action" | "ranges">, signers: readonly Signer[]): Promise<Uint8Array> {
    const nonce = sha256(utf8(`${body.action} ${this.log.length}`)).slice(0, 16);
    const full = { authority: this.authority, reason: "test", notAfter: NOW + DAY, undoes: [], nonce, ...body };
    const bytes = encodeEventBody(full);
    const message = signingInput(EVENT_CONTEXT, this.authority, bytes);
    const signatures = await Promise.all(
      signers.map(async (signer) => ({ kid: signer.publicKey.kid, signature: await signer.sign(message) })),
    );
    return encodeLeaf({ type: "event", event: { body: bytes, signatures } });
  }

  /** A checkpoint over any entries, with the log's own key. */
  async forgeCheckpoint(entries: readonly Uint8Array[]): Promise<Uint8Array> {
    const text = formatCheckpoint({ origin: ORIGIN, size: entries.length, root: rootOf(entries.map(hashLeaf)) });
    return formatNote({ text, signatures: [await signNote(text, ORIGIN, this.keys.log)] });
  }

  /** A statement of these planes with the status key, by whoever holds it. */
  async forgeStatement(
    planes: Planes,
    options: StatementOptions = {},
  ): Promise<{ note: Uint8Array; sets: SignedSets }> {
    const { previous, issued = NOW, batches = 2, n = COUNT } = options;
    const epoch = (previous?.verified.statement.epoch ?? 0) + 1;
    const sets = setsOf(planes, epoch, n);
    const text = formatStatement(
      nextStatement(previous?.verified, {
        authority: this.authority,
        n,
        log: { size: this.log.length, root: rootOf(this.log.map(hashLeaf)) },
        batches,
        issued,
        next: issued + 3600,
        ages: { soft: DAY, hard: 7 * DAY },
        planes: planeStates((plane) => ({ count: sets[plane].set.count, root: setRoot(sets[plane].set, n) })),
      }),
    );
    return {
      note: formatNote({ text, signatures: [await signNote(text, statementName(this.authority), this.keys.status)] }),
      sets,
    };
  }

  /** The files of `batch/<seq>/`, proven in a log of these entries under this checkpoint. */
  async filesOf(bundle: Bundle, entries: readonly Uint8Array[], checkpoint: Uint8Array): Promise<BundleFiles> {
    const index = entries.indexOf(bundle.batchLeaf);
    const hashes = await buildInclusionProof(index, entries.length, subtreeOf(entries.map(hashLeaf)));
    const logProof = formatProof({ extra: bundle.batchLeaf, index, hashes, checkpoint });
    const { manifestBytes, leaves, tokensBin } = bundle;
    return { manifest: manifestBytes, leaves: concat(...leaves), tokens: tokensBin, logProof };
  }

  /** A node's refresh from a server that says this. The online roles are signed anew: the thief can. */
  async refresh(
    metadata: Metadata,
    bundles: readonly Bundle[],
    node = `node-${this.#refreshes++}`,
    online: Partial<OnlineSigning> = {},
  ): Promise<Trust> {
    const served = await this.#publish(metadata, { version: ++this.#publications, keys: this.keys, ...online });
    const state: TrustedState = await refreshTrust({
      folder: path.join(this.folder, node),
      pinned: { file: this.rootFile },
      fetch: async (name) => served.get(name),
      prove: (oldSize, next) => buildConsistencyProof(oldSize, next.size, subtreeOf(bundles.map(leafOf))),
      now: NOW,
    });
    return { ...state, policy: parsePolicy(utf8(state.policyText)) };
  }

  async #publish(
    { roots, targets, batches, targetFiles }: Metadata,
    { version, keys }: OnlineSigning,
  ): Promise<ReadonlyMap<string, Uint8Array>> {
    const files = new Map<string, Uint8Array>();
    const put = (role: string, version: number, file: Uint8Array) =>
      files.set(`tuf/metadata/${metadataFileName(role, version)}`, file);
    for (const [i, file] of [this.rootFile, ...roots].entries()) put("root", i + 1, file);
    const listed = new Map([
      ["targets", { version: versionOf(targets), file: targets }],
      ["batches", { version: versionOf(batches), file: batches }],
    ]);
    for (const [role, { version, file }] of listed) put(role, version, file);
    const expires = NOW + 20 * DAY;
    const snapshot = await signBy([keys.snapshot], buildSnapshot({ version, expires, roles: listed }));
    put("snapshot", version, snapshot);
    const timestamp = buildTimestamp({ version, expires, snapshot: { version, file: snapshot } });
    files.set("tuf/metadata/timestamp.json", await signBy([keys.timestamp], timestamp));
    for (const [name, bytes] of targetFiles) files.set(`tuf/targets/${targetFileName(name, sha256(bytes))}`, bytes);
    return files;
  }
}

export function trustLeaf(kind: "root" | "targets" | "batches" | "statement", number: number, file: Uint8Array) {
  return encodeLeaf({ type: "trust", kind, number, fileHash: sha256(file) });
}

export function entry(signer: Signer, purpose: KeyEntry["purpose"]): KeyEntry {
  return { key: signer.publicKey, purpose, class: "software", from: NOW - 30 * DAY, until: NOW + 300 * DAY };
}

export async function signBy(signers: readonly Signer[], signed: Uint8Array): Promise<Uint8Array> {
  return assemble(signed, await Promise.all(signers.map((signer) => signMetadata(signer, signed))));
}

/** The bundle's place in the tree of manifests. */
export function leafOf({ manifestBytes }: Bundle): Hash {
  return hashLeaf(manifestHash(manifestBytes));
}

function versionOf(file: Uint8Array): number {
  return Number(JSON.parse(Buffer.from(file).toString()).signed.version);
}
