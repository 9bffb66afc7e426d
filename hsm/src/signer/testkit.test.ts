/**
 * A whole small authority for tests: five trustees with keys in memory, a SoftHSM2 token with the six online keys, and
 * the folder a bounded signer runs in. Nothing in it is a stand-in for code of ours.
 */
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, sign as nodeSign } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect as connectSocket, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  type Algorithm,
  bodyFrom,
  buildConsistencyProof,
  buildInclusionProof,
  type CborMap,
  type CborValue,
  CodedError,
  type DetachedSignature,
  EVENT_CONTEXT,
  type EventBody,
  ed25519PublicKey,
  encodeEventBody,
  encodeHead,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  encodeRules,
  encodeTrustKeys,
  formatDidKey,
  genesisHead,
  type Hash,
  type Head,
  hashLeaf,
  isValidSignature,
  type KeyEntry,
  type Manifest,
  manifestHash,
  noteVerifier,
  type OwnClaims,
  type PublicKey,
  parseHex,
  type Role,
  rootOf,
  SIGNATURE_BYTES,
  type Signer,
  sha256,
  signatureInput,
  signingInput,
  subtreeOf,
  type TrustKind,
  tokenLeaf,
  utf8,
} from "@viafabric/schemas";
import { formatPolicy, policyOfLog } from "@viafabric/transparency-log";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRoot,
  buildTargets,
  HEAD_PATH,
  KEYS_PATH,
  POLICY_PATH,
  RULES_PATH,
  signMetadata,
} from "@viafabric/tuf";
import { generateKeys, initSoftHsmToken } from "../index.ts";
import {
  formatSignerConfig,
  type PinnedKey,
  SIGNER_KEYS,
  type SignerClient,
  type SignerConfig,
  type SignerKey,
  type SignerKeys,
  signerKeys,
  type TokensRequest,
  type TrustRequest,
} from "../signer-client.ts";
import {
  type Answer,
  decodeAnswer,
  encodeFrame,
  encodeRequest,
  errorOf,
  FrameReader,
  type Method,
} from "./protocol.ts";

export const NOW = Math.floor(Date.now() / 1000);
export const DAY = 86_400;
export const ORIGIN = "log.example/via";

/** An Ed25519 key that is the same in every run. */
export function softSigner(name: string): Signer {
  const prefix = parseHex("302e020100300506032b657004220420");
  const key = createPrivateKey({ key: Buffer.concat([prefix, sha256(utf8(name))]), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ type: "spki", format: "der" }));
  return {
    publicKey: ed25519PublicKey(spki.slice(12)),
    sign: async (message) => new Uint8Array(nodeSign(null, message, key)),
  };
}

const TRUSTEES: readonly Signer[] = [1, 2, 3, 4, 5].map((n) => softSigner(`trustee ${n}`));
const RELEASE = softSigner("release");
const STATION = softSigner("station");
const QUORUM: Role = { keys: TRUSTEES.map((trustee) => trustee.publicKey), threshold: 3 };

/** A metadata file signed by k trustees. */
export async function signByTrustees(signed: Uint8Array, signers = TRUSTEES.slice(0, 3)): Promise<Uint8Array> {
  return assemble(signed, await Promise.all(signers.map((signer) => signMetadata(signer, signed))));
}

/** For assert.rejects and assert.throws. */
export function refusedWith(code: string, reason = /./): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof CodedError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, reason);
    return true;
  };
}

/** Each of its tokens has a signature of this key. */
export function assertSigned(batch: Batch, issuer: PublicKey, signatures: Uint8Array): void {
  assert.equal(signatures.length, batch.payloads.length * SIGNATURE_BYTES);
  batch.payloads.forEach((payload, i) => {
    const signature = signatures.slice(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES);
    assert.ok(isValidSignature(issuer, signatureInput(issuer.algorithm, payload), signature), `token ${i}`);
  });
}

export interface Batch {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
  readonly tokens: readonly OwnClaims[];
  readonly payloads: readonly Uint8Array[];
  readonly leaves: readonly Uint8Array[];
}

export class TestAuthority {
  readonly folder: string;
  config: SignerConfig;
  readonly trustees = TRUSTEES;
  readonly release = RELEASE;
  readonly station = STATION;
  readonly authority: Uint8Array;
  readonly #root: { signed: Uint8Array; file: Uint8Array };
  #files: Map<string, Uint8Array>;
  #targets: Uint8Array;
  targetsVersion = 1;
  readonly manifestHashes: Hash[] = [];
  head: Head;
  batchesVersion = 0;
  /** The batches file of the newest version. */
  batches: Uint8Array = new Uint8Array(0);
  #previousHeadSize = 0;

  private constructor(
    folder: string,
    config: SignerConfig,
    root: { signed: Uint8Array; file: Uint8Array },
    files: Map<string, Uint8Array>,
    targets: Uint8Array,
  ) {
    this.folder = folder;
    this.config = config;
    this.#root = root;
    this.#files = files;
    this.#targets = targets;
    this.authority = authorityOf(root.signed);
    this.head = genesisHead(this.authority, NOW - DAY);
  }

  /** @param wrap gives the module that the signer loads in place of SoftHSM's own */
  static async create(wrap?: (folder: string, module: string) => Promise<string>): Promise<TestAuthority> {
    const folder = await mkdtemp(path.join(tmpdir(), "signer-"));
    const token = await initSoftHsmToken({ folder: path.join(folder, "hsm"), label: "test" });
    const wanted = SIGNER_KEYS.map((name) => ({ id: utf8(name), label: name, algorithm: "ed25519" as const }));
    const publicKeys = await generateKeys(token, wanted);
    const keys = signerKeys((name, i) => [{ id: utf8(name), publicKey: publicKeys[i]! }]);
    const home = path.join(folder, "signer");
    await mkdir(home, { mode: 0o700 });
    await mkdir(path.join(folder, "public"));
    const config: SignerConfig = {
      hsm: wrap ? { ...token, module: await wrap(folder, token.module) } : token,
      root: path.join(home, "1.root.json"),
      public: path.join(folder, "public"),
      socket: path.join(home, "signer.sock"),
      keys,
    };
    const root = await makeRoot(config);
    const { files, targets } = await makeTargets(config.keys, authorityOf(root.signed));
    const made = new TestAuthority(folder, config, root, files, targets);
    await writeFile(config.root, root.file);
    await writeFile(made.configFile, formatSignerConfig(config), { mode: 0o600 });
    await made.signHead();
    return made;
  }

  get configFile(): string {
    return path.join(this.folder, "signer", "signer.json");
  }

  stateBytes(): Promise<Buffer> {
    return readFile(path.join(this.folder, "signer", "signer.state"));
  }

  /** What the vault and the signer do at genesis, up to the first head. @returns how long the log is then */
  async found(signer: SignerClient): Promise<number> {
    await signer.trust(await this.trustRequest());
    const files = [
      this.trustLeaf("root", 1, this.rootFile),
      this.trustLeaf("targets", 1, this.targetsFile),
      this.trustLeaf("batches", 1, this.batches),
    ];
    await signer.append({ from: 0, entries: files });
    return files.length;
  }

  /** Puts a batch under a head that the signer has accepted. */
  async approve(signer: SignerClient, batch: Batch): Promise<Batch> {
    this.include(batch);
    await this.signHead();
    await signer.trust(await this.trustRequest());
    this.accepted();
    return batch;
  }

  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }

  /** The next version of batches over the present head. */
  async signHead(signers = this.trustees.slice(0, 3)): Promise<void> {
    this.batchesVersion++;
    const signed = buildBatches({
      version: this.batchesVersion,
      expires: NOW + 100 * DAY,
      head: encodeHead(this.head),
    });
    this.batches = await signByTrustees(signed, signers);
  }

  /** Draws up a batch. It stands under no head yet. */
  draft(count: number, change: Partial<Manifest> = {}): Batch {
    const seq = this.manifestHashes.length;
    const first = this.head.next;
    const empty: Manifest = {
      authority: this.authority,
      seq,
      first,
      count,
      root: new Uint8Array(32),
      issuer: this.config.keys.issuer[0]!.publicKey.kid,
      iss: "https://example.org",
      profile: "edge-basic",
      creditClass: "compute_hours",
      quota: 10,
      unit: "h",
      policyRoot: new Uint8Array(32).fill(7),
      nbf: NOW - DAY,
      claimBy: NOW + 50 * DAY,
      exp: NOW + 90 * DAY,
      claim: "assisted",
      layout: "compact",
      tagClass: "ntag213",
      offline: "none",
      releaseKeys: [this.release.publicKey.kid],
      stations: [{ kid: this.station.publicKey.kid, first, count: Math.ceil(count / 2) }],
      statusUri: "https://example.org/status/",
      ...change,
    };
    const tokens = Array.from({ length: count }, (_, i) => {
      const rctId = sha256(utf8(`rct ${first + i}`)).slice(0, 16);
      return { rctId, subject: formatDidKey(softSigner(`subject ${first + i}`).publicKey.raw), index: first + i };
    });
    return batchOf(empty, tokens, change);
  }

  /** What the sequencer asks for. */
  async tokensRequest({ manifest, bytes, tokens }: Batch): Promise<TokensRequest> {
    return { manifest: bytes, proof: await this.proofOf(manifest.seq), bodies: [tokens] };
  }

  /** Puts a batch under a new head, which is not signed yet. */
  include(batch: Batch, change: Partial<Head> = {}): void {
    this.manifestHashes.push(manifestHash(batch.bytes));
    const next = batch.manifest.first + batch.manifest.count;
    this.head = {
      ...this.head,
      size: this.manifestHashes.length,
      root: this.#treeRoot(),
      next,
      issued: NOW,
      ...change,
    };
  }

  #treeRoot(): Hash {
    return rootOf(this.manifestHashes.map(hashLeaf));
  }

  proofOf(seq: number): Promise<Hash[]> {
    return buildInclusionProof(seq, this.head.size, subtreeOf(this.manifestHashes.map(hashLeaf)));
  }

  /** What the sequencer hands to the signer. */
  async trustRequest(change: Partial<TrustRequest> = {}): Promise<TrustRequest> {
    const leaves = this.manifestHashes.map(hashLeaf);
    const headProof = await buildConsistencyProof(this.#previousHeadSize, this.head.size, subtreeOf(leaves));
    const targetFiles = new Map([...this.#files, [HEAD_PATH, encodeHead(this.head)]]);
    return { roots: [], targets: this.#targets, batches: this.batches, targetFiles, headProof, ...change };
  }

  /** The signer took the present head over. */
  accepted(): void {
    this.#previousHeadSize = this.head.size;
  }

  /** Makes another key of a role in the token and writes it into the configuration; nobody trusts it yet. */
  async holdAnother(name: SignerKey, algorithm: Algorithm = "ed25519"): Promise<PinnedKey> {
    const { keys, hsm } = this.config;
    const id = utf8(`${name} ${keys[name].length + 1}`);
    const [publicKey] = await generateKeys(hsm, [{ id, label: name, algorithm }]);
    const key = { id, publicKey: publicKey! };
    this.config = { ...this.config, keys: { ...keys, [name]: [...keys[name], key] } };
    await writeFile(this.configFile, formatSignerConfig(this.config), { mode: 0o600 });
    return key;
  }

  /** The next version of targets, over the keys that the configuration now holds. */
  async signTargets(): Promise<void> {
    const { files, targets } = await makeTargets(this.config.keys, this.authority, ++this.targetsVersion);
    this.#files = files;
    this.#targets = targets;
  }

  /** Root 2, over the newest keys that the configuration holds. */
  async nextRoot(): Promise<Uint8Array> {
    const newest = (name: SignerKey): Role => ({ keys: [this.config.keys[name].at(-1)!.publicKey], threshold: 1 });
    const roles = { root: QUORUM, targets: QUORUM, snapshot: newest("snapshot"), timestamp: newest("timestamp") };
    return signByTrustees(buildRoot({ version: 2, expires: NOW + 700 * DAY, roles }));
  }

  get rootFile(): Uint8Array {
    return this.#root.file;
  }

  get targetsFile(): Uint8Array {
    return this.#targets;
  }

  trustLeaf(kind: TrustKind, number: number, file: Uint8Array): Uint8Array {
    return encodeLeaf({ type: "trust", kind, number, fileHash: sha256(file) });
  }

  batchLeaf(batch: Batch, batches = this.batches): Uint8Array {
    return encodeLeaf({
      type: "batch",
      seq: batch.manifest.seq,
      manifestHash: manifestHash(batch.bytes),
      metadataHash: sha256(batches),
      tokensHash: sha256(utf8("tokens.bin")),
    });
  }

  async eventLeaf(body: Partial<EventBody> & Pick<EventBody, "action" | "ranges">, signers: readonly Signer[]) {
    const nonce = sha256(utf8(`nonce ${Math.random()}`)).slice(0, 16);
    const full = { authority: this.authority, reason: "test", notAfter: NOW + DAY, undoes: [], nonce, ...body };
    const bytes = encodeEventBody(full);
    const message = signingInput(EVENT_CONTEXT, this.authority, bytes);
    const signatures: DetachedSignature[] = await Promise.all(
      signers.map(async (signer) => ({ kid: signer.publicKey.kid, signature: await signer.sign(message) })),
    );
    return encodeLeaf({ type: "event", event: { body: bytes, signatures } });
  }
}

/** @param change of the manifest alone: its tokens stay what they are */
export function batchOf(draft: Manifest, tokens: readonly OwnClaims[], change: Partial<Manifest> = {}): Batch {
  const payloads = tokens.map((own) => encodePayload(bodyFrom(draft, own)));
  const leaves = tokens.map(({ index, rctId }, i) => tokenLeaf(index, rctId, payloads[i]!));
  const manifest = { ...draft, root: rootOf(leaves.map(hashLeaf)), ...change };
  return { manifest, bytes: encodeManifest(manifest), tokens, payloads, leaves };
}

async function makeRoot({ keys }: SignerConfig): Promise<{ signed: Uint8Array; file: Uint8Array }> {
  const one = (name: SignerKey): Role => ({ keys: [keys[name][0]!.publicKey], threshold: 1 });
  const roles = { root: QUORUM, targets: QUORUM, snapshot: one("snapshot"), timestamp: one("timestamp") };
  const signed = buildRoot({ version: 1, expires: NOW + 700 * DAY, roles });
  return { signed, file: await signByTrustees(signed) };
}

async function makeTargets(
  keys: SignerKeys,
  authority: Uint8Array,
  version = 1,
): Promise<{ files: Map<string, Uint8Array>; targets: Uint8Array }> {
  const entry = (key: KeyEntry["key"], purpose: KeyEntry["purpose"], place = 0): KeyEntry => {
    return { key, purpose, class: "software", from: NOW - 30 * DAY + place, until: NOW + 300 * DAY };
  };
  const all = (purpose: "issuer" | "status") => keys[purpose].map((key, i) => entry(key.publicKey, purpose, i));
  const files = new Map([
    [
      KEYS_PATH,
      encodeTrustKeys([
        ...all("issuer"),
        ...all("status"),
        entry(RELEASE.publicKey, "release"),
        entry(STATION.publicKey, "station"),
      ]),
    ],
    [
      RULES_PATH,
      encodeRules({
        authority,
        thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
        ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
        classes: new Map([["issuer", "software"]]),
      }),
    ],
    [POLICY_PATH, utf8(formatPolicy(policyOfLog(noteVerifier(ORIGIN, keys.log[0]!.publicKey))))],
  ]);
  const signed = buildTargets({
    version,
    expires: NOW + 300 * DAY,
    targets: files,
    batches: QUORUM,
    revocations: { keys: [keys.revocations.at(-1)!.publicKey], threshold: 1 },
  });
  return { files, targets: await signByTrustees(signed) };
}

/** Says what it is told to: the client that the vault uses would not. */
export class RawSigner {
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<Answer>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#answers = answersOf(socket);
  }

  static async open(path: string): Promise<RawSigner> {
    const socket = connectSocket(path);
    await once(socket, "connect");
    return new RawSigner(socket);
  }

  async ask(method: Method, params: CborMap): Promise<CborValue> {
    this.#socket.write(encodeFrame(encodeRequest({ id: 7, method, params })));
    const { value } = await this.#answers.next();
    if (!value.ok) throw errorOf(value);
    return value.result;
  }

  close(): void {
    this.#socket.destroy();
  }
}

async function* answersOf(socket: Socket): AsyncGenerator<Answer> {
  const reader = new FrameReader();
  for await (const chunk of socket) for (const body of reader.push(chunk)) yield decodeAnswer(body);
}
