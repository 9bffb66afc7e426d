/**
 * A whole authority in memory, with keys from seeds: genesis, batches, status events, statements, a change of root.
 * Everything in it is built by the code that vaults build with; it can also do what no vault may.
 */
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import {
  EPOCH_ZERO,
  type EpochPlanes,
  encodeSnapshot,
  epochFiles,
  eventPath,
  formatStatement,
  formatUndoList,
  nextStatement,
  type Planes,
  planeRoots,
  StatusLedger,
  snapshotPath,
  statementHash,
  statementName,
  statementPath,
  undoPath,
  type VerifiedStatement,
} from "@viafabric/revocation";
import {
  type Action,
  bodyFrom,
  concat,
  concatAll,
  DEVICE_FIELDS,
  type DeviceInfo,
  decodeEventBody,
  decodeLeaf,
  EVENT_CONTEXT,
  ed25519PublicKey,
  encodeEventBody,
  encodeHead,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  encodeRules,
  encodeTranscript,
  encodeTrustKeys,
  formatDidKey,
  formatNote,
  formatVerifierKey,
  genesisHead,
  type Head,
  hashLeaf,
  hashLeaves,
  type KeyEntry,
  type Leaf,
  type Manifest,
  MerkleFrontier,
  manifestHash,
  noteVerifier,
  parseHex,
  type Role,
  rootOf,
  rootOfHashes,
  type Signer,
  sealTokens,
  sha256,
  signatureInput,
  signingInput,
  signNote,
  type TranscriptBody,
  tokenLeaf,
  transcriptInput,
  utf8,
} from "@viafabric/schemas";
import {
  EMPTY_EDGE,
  formatCheckpoint,
  formatPolicy,
  formatProof,
  growEdge,
  policyOfLog,
  tilePath,
} from "@viafabric/transparency-log";
import { type FetchFile, proveInclusion, subFolder } from "@viafabric/transparency-log/client";
import { openLogOn } from "@viafabric/transparency-log/log";
import {
  assemble,
  authorityOf,
  buildBatches,
  buildRevocations,
  buildRoot,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
  HEAD_PATH,
  KEYS_PATH,
  metadataFileName,
  POLICY_PATH,
  RULES_PATH,
  STATEMENT_PATH,
  signMetadata,
  targetFileName,
} from "@viafabric/tuf";

export type Files = Map<string, Uint8Array>;

/** An Ed25519 key whose seed is the hash of its name. */
export function seededSigner(name: string): Signer {
  const der = concat(parseHex("302e020100300506032b657004220420"), sha256(utf8(name)));
  const key = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return {
    publicKey: ed25519PublicKey(spki.slice(12)),
    sign: async (message) => new Uint8Array(sign(null, message, key)),
  };
}

export const fetchFrom =
  (files: ReadonlyMap<string, Uint8Array>): FetchFile =>
  async (path) =>
    files.get(path);

/** Logs the entries in one append and returns the published files, `log/` and what `beside` adds. */
export async function publish(
  origin: string,
  signer: Signer,
  entries: readonly Uint8Array[],
  beside: Files = new Map(),
): Promise<Files> {
  const files: Files = new Map(beside);
  const staging: Files = new Map();
  let held: Awaited<ReturnType<Parameters<typeof openLogOn>[0]["lock"]["read"]>>;
  const log = await openLogOn({
    verifier: noteVerifier(origin, signer.publicKey),
    files: {
      read: async (path) => files.get(`log/${path}`),
      async putImmutable(all) {
        for (const { path, bytes } of all) files.set(`log/${path}`, bytes);
      },
      async replace(path, bytes) {
        files.set(`log/${path}`, bytes);
      },
      freeBytes: async () => Number.POSITIVE_INFINITY,
    },
    staging: {
      list: async () => [...staging.keys()],
      read: async (name) => staging.get(name)!,
      async write(name, bytes) {
        staging.set(name, bytes);
      },
      async remove(name) {
        staging.delete(name);
      },
      async grow(_name, frontier) {
        const grown = frontier.clone();
        for (const entry of entries) grown.append(hashLeaf(entry));
        return grown;
      },
      freeBytes: async () => Number.POSITIVE_INFINITY,
      async close() {},
    },
    lock: {
      read: async () => held,
      async replace(_oldSize, next) {
        held = next;
      },
    },
    async sign(all) {
      const frontier = new MerkleFrontier();
      for (const entry of all) frontier.append(hashLeaf(entry));
      const text = formatCheckpoint({ origin, size: frontier.size, root: frontier.root() });
      return formatNote({ text, signatures: [await signNote(text, origin, signer)] });
    },
  });
  await log.append(entries);
  return files;
}

export const ORIGIN = "log.example/whole";
const NOW = 1_800_000_000;
const DAY = 86_400;
export const TRUSTEES: readonly Signer[] = [1, 2, 3, 4, 5].map((n) => seededSigner(`trustee ${n}`));
export const KEYS = {
  log: seededSigner("log"),
  issuer: seededSigner("issuer"),
  status: seededSigner("status"),
  release: seededSigner("release"),
  station: seededSigner("station"),
  snapshot: seededSigner("snapshot"),
  timestamp: seededSigner("timestamp"),
  revocations: seededSigner("revocations"),
};
const HOLDERS = [0, 1, 2, 3].map((i) => seededSigner(`holder ${i}`).publicKey.raw);
const QUORUM = 3;

export class TestAuthority {
  readonly entries: Uint8Array[] = [];
  readonly files: Files = new Map();
  readonly ledger = new StatusLedger();
  authority: Uint8Array = new Uint8Array(0);
  head: Head = genesisHead(new Uint8Array(32), NOW);
  batchesVersion = 0;
  #trustees = TRUSTEES;
  #root: Uint8Array = new Uint8Array(0);
  #rootVersion = 0;
  #targets: Uint8Array = new Uint8Array(0);
  #batches: Uint8Array = new Uint8Array(0);
  readonly #manifests: Uint8Array[] = [];
  readonly #list: string[] = [];
  readonly #proofs: { path: string; index: number }[] = [];
  readonly #undone: number[] = [];
  #held: (Pick<VerifiedStatement, "statement" | "hash"> & { note: Uint8Array }) | undefined;
  #planes: EpochPlanes = EPOCH_ZERO;

  /** Root, targets and batches 1, and a first statement. */
  static async found(): Promise<TestAuthority> {
    const made = new TestAuthority();
    await made.rotateRoot(TRUSTEES);
    made.head = genesisHead(made.authority, NOW);
    await made.signTargets();
    await made.signHead();
    await made.state();
    return made;
  }

  get root(): Uint8Array {
    return this.files.get("root/1.root.json")!;
  }

  /** What an active authority looks like after some days: batches, a change of trustees, every kind of event. */
  static async active(): Promise<TestAuthority> {
    const made = await TestAuthority.found();
    await made.batch(5);
    await made.state();
    await made.event("release", [[0, 3]], [KEYS.release]);
    const suspended = await made.event("suspend", [[1, 1]], [TRUSTEES[0]!]);
    await made.state();
    await made.rotateRoot([...TRUSTEES.slice(1), seededSigner("trustee 6")]);
    await made.signTargets();
    await made.batch(300, { first: 10 });
    await made.event("revoke", [[11, 2]], TRUSTEES.slice(1, 3));
    await made.event("reinstate", [[1, 1]], TRUSTEES.slice(2, 5), [suspended]);
    await made.event("suspend", [[12, 1]], [KEYS.station]);
    await made.state();
    return made;
  }

  /** A transcript of a key ceremony as `holder` signs it, published and logged. */
  async transcript(number: number, change: Partial<TranscriptBody> = {}, holder: Signer = KEYS.issuer): Promise<void> {
    const device = Object.fromEntries(DEVICE_FIELDS.map((name) => [name, "a token"])) as DeviceInfo;
    const keys = [{ role: "issuer", id: utf8("1"), key: KEYS.issuer.publicKey, attributes: new Map() }];
    const about = { authority: this.authority, number, made: NOW, action: "check", tool: "test" } as const;
    const body: TranscriptBody = { ...about, class: "software", device, keys, ...change };
    const bytes = encodeTranscript({ ...body, signatures: [await holder.sign(transcriptInput(body))] });
    this.files.set(`transcripts/${number}.json`, bytes);
    this.logTrust("transcript", number, bytes);
  }

  append(entries: readonly Uint8Array[]): void {
    for (const entry of entries) this.entries.push(entry);
  }

  logTrust(kind: Extract<Leaf, { type: "trust" }>["kind"], number: number, file: Uint8Array): void {
    this.append([encodeLeaf({ type: "trust", kind, number, fileHash: sha256(file) })]);
  }

  logHead() {
    return { size: this.entries.length, root: rootOfHashes(hashLeaves(this.entries)) };
  }

  async rotateRoot(trustees: readonly Signer[]): Promise<void> {
    const quorum = roleOf(trustees, QUORUM);
    const roles = { root: quorum, targets: quorum, snapshot: one(KEYS.snapshot), timestamp: one(KEYS.timestamp) };
    const version = ++this.#rootVersion;
    const signed = buildRoot({ version, expires: NOW + 700 * DAY, roles });
    const signers = new Set([...this.#trustees.slice(0, QUORUM + 1), ...trustees.slice(0, QUORUM + 1)]);
    this.#root = await signedBy([...signers], signed);
    this.#trustees = trustees;
    if (version === 1) this.authority = authorityOf(signed);
    this.files.set(`tuf/metadata/${version}.root.json`, this.#root);
    this.files.set(`root/${version}.root.json`, this.#root);
    this.logTrust("root", version, this.#root);
  }

  #targetsVersion = 0;

  async signTargets(): Promise<void> {
    const entry = (signer: Signer, purpose: KeyEntry["purpose"]): KeyEntry => {
      return { key: signer.publicKey, purpose, class: "software", from: NOW - DAY, until: NOW + 300 * DAY };
    };
    const purposes = ["issuer", "status", "release", "station"] as const;
    const thresholds = { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 };
    const ages = new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]);
    const targets = new Map([
      [KEYS_PATH, encodeTrustKeys(purposes.map((purpose) => entry(KEYS[purpose], purpose)))],
      [RULES_PATH, encodeRules({ authority: this.authority, thresholds, ages, classes: new Map() })],
      [POLICY_PATH, utf8(formatPolicy(policyOfLog(noteVerifier(ORIGIN, KEYS.log.publicKey))))],
    ]);
    const version = ++this.#targetsVersion;
    const signed = buildTargets({
      version,
      expires: NOW + 300 * DAY,
      targets,
      batches: roleOf(this.#trustees, QUORUM),
      revocations: one(KEYS.revocations),
    });
    this.#targets = await signedBy(this.#trustees.slice(0, QUORUM), signed);
    this.files.set(`tuf/metadata/${version}.targets.json`, this.#targets);
    for (const [path, bytes] of targets) this.#target(path, bytes);
    this.logTrust("targets", version, this.#targets);
  }

  async signHead(signers: readonly Signer[] = this.#trustees.slice(0, QUORUM)): Promise<void> {
    const version = ++this.batchesVersion;
    const head = encodeHead(this.head);
    this.#batches = await signedBy(signers, buildBatches({ version, expires: NOW + 100 * DAY, head }));
    this.files.set(`tuf/metadata/${version}.batches.json`, this.#batches);
    this.#target(HEAD_PATH, head);
    this.logTrust("batches", version, this.#batches);
  }

  /** @param signers of the head, trustees unless given */
  async batch(count: number, change: { first?: number; signers?: readonly Signer[] } = {}): Promise<void> {
    const seq = this.#manifests.length;
    const first = change.first ?? this.head.next;
    const draft: Manifest = {
      authority: this.authority,
      seq,
      first,
      count,
      root: new Uint8Array(32),
      issuer: KEYS.issuer.publicKey.kid,
      iss: "https://vault.example",
      profile: "edge-basic",
      creditClass: "compute",
      quota: 10,
      unit: "h",
      policyRoot: new Uint8Array(32),
      nbf: NOW,
      claimBy: NOW + 50 * DAY,
      exp: NOW + 90 * DAY,
      claim: "known",
      layout: "compact",
      tagClass: "ntag213",
      offline: "none",
      releaseKeys: [KEYS.release.publicKey.kid],
      stations: [{ kid: KEYS.station.publicKey.kid, first, count }],
      statusUri: "https://vault.example/status/",
    };
    const own = Array.from({ length: count }, (_, i) => {
      const rctId = sha256(utf8(`rct ${first + i}`)).slice(0, 16);
      return { index: first + i, rctId, subjectKey: HOLDERS[i % HOLDERS.length]! };
    });
    const payloads = own.map((t) => encodePayload(bodyFrom(draft, { ...t, subject: formatDidKey(t.subjectKey) })));
    const tokens = own.map(({ index, rctId }, i) => tokenLeaf(index, rctId, payloads[i]!));
    const manifest = encodeManifest({ ...draft, root: rootOf(tokens.map(hashLeaf)) });
    const signatures = await Promise.all(payloads.map((body) => KEYS.issuer.sign(signatureInput("ed25519", body))));
    const sealed = sealTokens(
      this.authority,
      own.map((t, i) => ({ ...t, signature: signatures[i]! })),
    );
    this.#manifests.push(manifestHash(manifest));
    const floor = this.#planes.epoch === 0 ? this.head.floor : this.#floor();
    const root = rootOf(this.#manifests.map(hashLeaf));
    this.head = { ...this.head, size: seq + 1, root, next: first + count, log: this.logHead(), floor, issued: NOW };
    await this.signHead(change.signers);
    const hashes = { metadataHash: sha256(this.#batches), tokensHash: sha256(sealed) };
    this.#proofs.push({ path: `batch/${seq}/log.proof`, index: this.entries.length });
    this.append([encodeLeaf({ type: "batch", seq, manifestHash: manifestHash(manifest), ...hashes }), ...tokens]);
    this.ledger.applyBatch(first, count);
    this.files.set(`batch/${seq}/manifest.cbor`, manifest);
    this.files.set(`batch/${seq}/leaves.bin`, concatAll(tokens));
    this.files.set(`batch/${seq}/tokens.bin`, sealed);
    this.#list.push(`${seq} ${first} ${count} edge-basic\n`);
  }

  #floor(): Head["floor"] {
    const { statement } = this.#held!;
    const [revoked, suspended] = statement.planes;
    for (const plane of [0, 1] as const) {
      const set = { plane, epoch: statement.epoch, n: this.#planes.n, set: this.#planes.planes[plane] };
      this.files.set(snapshotPath(plane, statement.epoch), encodeSnapshot(set));
    }
    const at = { epoch: statement.epoch, n: statement.n, logSize: statement.log.size };
    return { ...at, revokedRoot: revoked.root, suspendedRoot: suspended.root };
  }

  /** @returns the log index. @param counts whether the ledger takes it, as a signer would */
  async event(
    action: Action,
    ranges: readonly (readonly [number, number])[],
    signers: readonly Signer[],
    undoes: readonly number[] = [],
    counts = true,
  ): Promise<number> {
    const body = encodeEventBody({
      authority: this.authority,
      action,
      ranges: ranges.map(([first, count]) => ({ first, count })),
      reason: "test",
      notAfter: NOW + DAY,
      undoes,
      nonce: sha256(utf8(`event ${this.entries.length}`)).slice(0, 16),
    });
    const message = signingInput(EVENT_CONTEXT, this.authority, body);
    const signatures = await Promise.all(
      signers.map(async (signer) => ({ kid: signer.publicKey.kid, signature: await signer.sign(message) })),
    );
    const index = this.entries.length;
    this.append([encodeLeaf({ type: "event", event: { body, signatures } })]);
    this.#proofs.push({ path: eventPath(index), index });
    if (!counts) return index;
    this.ledger.applyEvent(index, decodeEventBody(body));
    if (action === "reinstate") this.#undone.push(index);
    return index;
  }

  /** The next statement. @param lie what it says instead of the truth */
  async state(lie: (planes: Planes) => Planes = (planes) => planes): Promise<void> {
    const epoch = this.#planes.epoch + 1;
    const next: EpochPlanes = { epoch, n: this.ledger.n, planes: lie(this.ledger.planes()) };
    const statement = nextStatement(this.#held, {
      authority: this.authority,
      n: next.n,
      log: this.logHead(),
      batches: this.batchesVersion,
      issued: NOW + epoch * 3600,
      next: NOW + (epoch + 1) * 3600,
      ages: { soft: DAY, hard: 7 * DAY },
      planes: planeRoots(next),
    });
    const text = formatStatement(statement);
    const note = formatNote({ text, signatures: [await signNote(text, statementName(this.authority), KEYS.status)] });
    for (const { path, bytes } of await epochFiles(this.#planes, next, fetchFrom(this.files)))
      this.files.set(path, bytes);
    this.files.set(undoPath(epoch), utf8(formatUndoList(this.#undone)));
    this.files.set(statementPath(epoch), note);
    this.logTrust("statement", epoch, note);
    [this.#held, this.#planes] = [{ statement, hash: statementHash(text), note }, next];
  }

  /** The published tree. */
  async publish(): Promise<Files> {
    const { note } = this.#held!;
    this.files.set("revocation/latest", note);
    this.files.set("log.vkey", utf8(`${formatVerifierKey(noteVerifier(ORIGIN, KEYS.log.publicKey))}\n`));
    if (this.#list.length > 0) this.files.set("batches/list/0", utf8(this.#list.join("")));
    const { tiles } = growEdge(EMPTY_EDGE, concat(...this.#manifests.map(hashLeaf)));
    for (const { tile, bytes } of tiles) this.files.set(`batches/${tilePath(tile)}`, bytes);
    await this.#publishOnline(note);
    const files = await publish(ORIGIN, KEYS.log, this.entries, this.files);
    const checkpoint = files.get("log/checkpoint")!;
    for (const { path, index } of this.#proofs) {
      const hashes = await proveInclusion(subFolder(fetchFrom(files), "log"), this.logHead(), index);
      files.set(path, formatProof({ extra: this.entries[index]!, index, hashes, checkpoint }));
    }
    return files;
  }

  async #publishOnline(note: Uint8Array): Promise<void> {
    const expires = NOW + 30 * DAY;
    const put = (name: string, version: number, file: Uint8Array): Uint8Array => {
      this.files.set(`tuf/metadata/${metadataFileName(name, version)}`, file);
      return file;
    };
    this.#target(STATEMENT_PATH, note);
    for (const version of [1, 2]) {
      const signed = buildRevocations({ version, expires, statement: note });
      const revocations = put("revocations", version, await signedBy([KEYS.revocations], signed));
      const snapshotSigned = buildSnapshot({
        version,
        expires,
        roles: new Map([
          ["targets", { version: this.#targetsVersion, file: this.#targets }],
          ["batches", { version: this.batchesVersion, file: this.#batches }],
          ["revocations", { version, file: revocations }],
        ]),
      });
      const snapshot = put("snapshot", version, await signedBy([KEYS.snapshot], snapshotSigned));
      const timestamp = buildTimestamp({ version, expires, snapshot: { version, file: snapshot } });
      put("timestamp", version, await signedBy([KEYS.timestamp], timestamp));
    }
  }

  #target(path: string, bytes: Uint8Array): void {
    this.files.set(`tuf/targets/${targetFileName(path, sha256(bytes))}`, bytes);
  }
}

async function signedBy(signers: readonly Signer[], signed: Uint8Array): Promise<Uint8Array> {
  return assemble(signed, await Promise.all(signers.map((signer) => signMetadata(signer, signed))));
}

function roleOf(signers: readonly Signer[], threshold: number): Role {
  return { keys: signers.map(({ publicKey }) => publicKey), threshold };
}

function one(signer: Signer): Role {
  return roleOf([signer], 1);
}

/** The first entry of a type. */
export function entryOf(entries: readonly Uint8Array[], type: Leaf["type"]): number {
  return entries.findIndex((entry) => decodeLeaf(entry).type === type);
}
