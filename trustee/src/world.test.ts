import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { ensureFolder } from "@viafabric/platform";
import {
  formatStatement,
  nextStatement,
  planeRoots,
  StatusLedger,
  statementHash,
  statementName,
  type VerifiedStatement,
} from "@viafabric/revocation";
import {
  bodyFrom,
  CodedError,
  decodeEventBody,
  decodeHead,
  decodeManifest,
  decodePayload,
  type EventBody,
  encodeEventBody,
  encodeHead,
  encodeLeaf,
  encodeManifest,
  encodePayload,
  formatBase64,
  formatDidKey,
  formatHex,
  formatNote,
  formatWords,
  genesisHead,
  type Head,
  hashLeaf,
  type Leaf,
  type Manifest,
  manifestHash,
  noteVerifier,
  parseBase64,
  parseHex,
  parseRequestHeaders,
  rootOf,
  sha256,
  signingInput,
  signNote,
  tokenLeaf,
  utf8,
  verifyRequest,
} from "@viafabric/schemas";
import { formatCheckpoint } from "@viafabric/transparency-log";
import { openMirrors } from "@viafabric/transparency-log/client";
import { type LockedHead, type Log, openLog, writeTree } from "@viafabric/transparency-log/log";
import {
  type Attachments,
  approve,
  approveRotation,
  assemble,
  attachBatches,
  attachRotation,
  buildBatches,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
  createProposal,
  createRotation,
  detachBatches,
  fileInfo,
  fileOf,
  type GenesisSignatures,
  HEAD_PATH,
  metadataFileName,
  openEvent,
  type Proposal,
  parseGenesisSignatures,
  parseSigned,
  reject,
  type SigningEvent,
  signMetadata,
  stateOf,
  targetFileName,
  verifyEnrolmentCard,
} from "@viafabric/tuf";
import { enroll, reviewEnrolment, type Session, sign, status } from "./commands.ts";
import {
  DAY,
  fingerprint,
  KEYS,
  LINEAGE,
  NOW,
  namedSigner,
  ORIGIN,
  PASSPHRASE,
  read,
  SECRET,
  THRESHOLD,
  withGenesis,
  write,
} from "./fixtures.test.ts";
import { type Home, openSigner } from "./home.ts";

export interface OpenEvent {
  event: SigningEvent;
  /** Of a rotation. */
  parts?: { readonly targets: SigningEvent; readonly batches: SigningEvent };
  attachments: Map<string, Uint8Array>;
}

export interface World {
  readonly folder: string;
  readonly homes: readonly Home[];
  readonly genesis: string;
  readonly authority: Uint8Array;
  readonly url: string;
  readonly events: Map<string, OpenEvent>;
  readonly statusEvents: Map<string, { body: Uint8Array; signatures: Map<string, Uint8Array> }>;
  head: Head;
  batchesVersion: number;
  /** Of the vault and of every session. */
  now: number;
  /** Applied to every answer before it is sent. */
  falsify: (path: string, answer: unknown) => unknown;
  session(i: number): Session;
  /** Draws a batch up as a vault does. */
  propose(change?: Partial<Draft>): Promise<OpenEvent>;
  /** A proposal for targets, whatever it says. */
  proposeTargets(signed: Uint8Array, attachments: Attachments): Promise<OpenEvent>;
  /** A rotation to this root, with targets and batches as they must be unless given. */
  proposeRotation(root: Uint8Array, given?: Partial<GivenParts>): Promise<OpenEvent>;
  /** Publishes what enough trustees have approved. */
  publish(open: OpenEvent): Promise<void>;
  log(leaves: readonly Leaf[]): Promise<void>;
  state(): Promise<void>;
  close(): Promise<void>;
}

export interface GivenParts {
  readonly targets: Uint8Array;
  readonly batches: Uint8Array;
  /** Cards of those who join. */
  readonly cards: readonly Uint8Array[];
  /** Of targets and batches, where they are made here. */
  readonly version: number;
}

export interface Draft {
  readonly count: number;
  readonly version: number;
  readonly first: number;
  readonly manifest: (manifest: Manifest) => Manifest;
  readonly payloads: (payloads: Uint8Array[], manifest: Manifest) => Uint8Array[];
  readonly head: (head: Head) => Head;
  readonly expires: number;
  /** Into the event list under its own id; false keeps it private. */
  readonly open: boolean;
}

/** An authority in operation: genesis signed, logged, published; epoch 1 stated. */
export async function withWorld(work: (world: World) => Promise<void>): Promise<void> {
  await withGenesis(async (folder, homes, genesis) => {
    const world = await openWorld(folder, homes, genesis);
    try {
      await work(world);
    } finally {
      await world.close();
    }
  });
}

async function openWorld(folder: string, homes: readonly Home[], genesis: string): Promise<World> {
  const signatures: GenesisSignatures[] = [];
  for (const home of homes.slice(0, THRESHOLD)) {
    const review = await reviewEnrolment(home, genesis, NOW);
    signatures.push(parseGenesisSignatures(await read(await enroll(home, genesis, review, SECRET, NOW))));
  }
  for (const home of homes.slice(THRESHOLD))
    await enroll(home, genesis, await reviewEnrolment(home, genesis, NOW), SECRET, NOW);
  const part = async (role: "root" | "targets" | "batches") =>
    assemble(
      await read(path.join(genesis, `${role}.json`)),
      signatures.map((each) => each[role]),
    );
  const [root, targets, batches] = [await part("root"), await part("targets"), await part("batches")];
  const authority = sha256(await read(path.join(genesis, "root.json")));
  const places = { public: path.join(folder, "public"), staging: path.join(folder, "staging"), genesis };
  const vault = new TestVault(folder, homes, places, authority, { root, targets, batches });
  await vault.start();
  return vault;
}

class TestVault implements World {
  readonly events = new Map<string, OpenEvent>();
  readonly statusEvents = new Map<string, { body: Uint8Array; signatures: Map<string, Uint8Array> }>();
  readonly folder: string;
  readonly homes: readonly Home[];
  readonly genesis: string;
  readonly authority: Uint8Array;
  head: Head;
  batchesVersion = 1;
  now = NOW;
  url = "";
  falsify = (_path: string, answer: unknown): unknown => answer;
  readonly #places: { readonly public: string; readonly staging: string };
  readonly #files: { root: Uint8Array; targets: Uint8Array; batches: Uint8Array };
  readonly #ledger = new StatusLedger();
  #online = 0;
  #log!: Log;
  #locked: LockedHead | undefined;
  #server!: Server;
  #statement: Pick<VerifiedStatement, "statement" | "hash"> | undefined;

  constructor(
    folder: string,
    homes: readonly Home[],
    places: { readonly public: string; readonly staging: string; readonly genesis: string },
    authority: Uint8Array,
    files: { root: Uint8Array; targets: Uint8Array; batches: Uint8Array },
  ) {
    this.folder = folder;
    this.homes = homes;
    this.genesis = places.genesis;
    this.#places = places;
    this.authority = authority;
    this.#files = files;
    this.head = genesisHead(authority, NOW);
  }

  session(i: number): Session {
    return {
      home: this.homes[i]!,
      vaultUrl: this.url,
      mirrors: openMirrors([this.#places.public]),
      now: () => this.now,
    };
  }

  async start(): Promise<void> {
    const verifier = noteVerifier(ORIGIN, KEYS.log.publicKey);
    this.#log = await openLog({
      verifier,
      folder: path.join(this.#places.public, "log"),
      stagingFolder: this.#places.staging,
      lock: {
        read: async () => this.#locked,
        replace: async (_oldSize, next) => {
          this.#locked = next;
        },
      },
      sign: async (entries, from) => {
        const head = this.#grow(entries, from);
        const text = formatCheckpoint({ origin: ORIGIN, ...head });
        return formatNote({ text, signatures: [await signNote(text, ORIGIN, KEYS.log)] });
      },
    });
    for (const role of ["root", "targets", "batches"] as const)
      await this.#publicFile(`tuf/metadata/${metadataFileName(role, 1)}`, this.#files[role]);
    const targets = path.join(this.genesis, "targets");
    for (const name of parseSigned("targets", await read(path.join(this.genesis, "targets.json"))).targets.keys())
      await this.#target(name, await read(path.join(targets, name)));
    await this.#target(HEAD_PATH, encodeHead(this.head));
    const trustLeaf = (kind: "root" | "targets" | "batches"): Leaf => {
      return { type: "trust", kind, number: 1, fileHash: sha256(this.#files[kind]) };
    };
    await this.log([trustLeaf("root"), trustLeaf("targets"), trustLeaf("batches")]);
    await this.state();
    await this.#publishOnline();
    this.#server = createServer((request, response) => {
      this.#answer(request)
        .then((answer) => response.end(JSON.stringify(this.falsify(request.url!, answer))))
        .catch((error: unknown) => {
          response.statusCode = error instanceof CodedError ? 409 : 500;
          response.end(
            JSON.stringify({ code: error instanceof CodedError ? error.code : "ERR_INTERNAL", detail: String(error) }),
          );
        });
    });
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    await this.#log.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  readonly #entries: Uint8Array[] = [];

  #grow(entries: readonly Uint8Array[], from: number) {
    this.#entries.splice(from, this.#entries.length, ...entries.map((entry) => hashLeaf(entry)));
    return { size: this.#entries.length, root: rootOf(this.#entries) };
  }

  async log(leaves: readonly Leaf[]): Promise<void> {
    const { firstIndex } = await this.#log.append(leaves.map(encodeLeaf));
    leaves.forEach((leaf, i) => {
      if (leaf.type === "event") this.#ledger.applyEvent(firstIndex + i, decodeEventBody(leaf.event.body));
    });
  }

  /** The next hourly statement. */
  async state(): Promise<void> {
    const { n } = this.#ledger;
    const epoch = (this.#statement?.statement.epoch ?? 0) + 1;
    const statement = nextStatement(this.#statement, {
      authority: this.authority,
      n,
      log: this.#log.head,
      batches: this.batchesVersion,
      issued: NOW,
      next: NOW + 3600,
      ages: { soft: DAY, hard: 7 * DAY },
      planes: planeRoots({ epoch, n, planes: this.#ledger.planes() }),
    });
    const text = formatStatement(statement);
    const name = statementName(this.authority);
    const note = formatNote({ text, signatures: [await signNote(text, name, KEYS.status)] });
    await this.log([{ type: "trust", kind: "statement", number: epoch, fileHash: sha256(note) }]);
    await this.#publicFile(`revocation/e/${epoch}.txt`, note);
    this.#statement = { statement, hash: statementHash(text) };
  }

  async propose(change: Partial<Draft> = {}): Promise<OpenEvent> {
    const count = change.count ?? 3;
    const draft: Manifest = {
      authority: this.authority,
      seq: this.head.size,
      first: change.first ?? this.head.next,
      count,
      root: new Uint8Array(32),
      issuer: KEYS.issuer.publicKey.kid,
      iss: "https://vault.example",
      profile: "edge-basic",
      creditClass: "compute",
      quota: 10,
      unit: "cpu_hours",
      policyRoot: sha256(LINEAGE),
      nbf: this.now,
      claimBy: this.now + 90 * DAY,
      exp: this.now + 365 * DAY,
      claim: "card",
      layout: "compact",
      tagClass: "ntag213",
      offline: "none",
      releaseKeys: [KEYS.release.publicKey.kid],
      stations: [{ kid: KEYS.station.publicKey.kid, first: change.first ?? this.head.next, count }],
      statusUri: "https://vault.example/status/",
    };
    const bodies = change.manifest?.(draft) ?? draft;
    const drawn = Array.from({ length: count }, (_, i) => {
      const subject = formatDidKey(namedSigner(`holder ${draft.seq}/${i}`).publicKey.raw);
      const rctId = sha256(utf8(`rct ${draft.seq}/${i}`)).slice(0, 16);
      return encodePayload(bodyFrom(bodies, { rctId, subject, index: bodies.first + i }));
    });
    const payloads = change.payloads?.(drawn, bodies) ?? drawn;
    const leaves = payloads.map((payload, i) => {
      return hashLeaf(tokenLeaf(bodies.first + i, sha256(utf8(`rct ${draft.seq}/${i}`)).slice(0, 16), payload));
    });
    const manifest = encodeManifest({ ...bodies, root: rootOf(leaves) });
    const tree = [...this.#manifestLeaves, manifestHash(manifest)];
    const planned = this.#headNow({
      ...this.head,
      size: tree.length,
      root: rootOf(tree.map((leaf) => hashLeaf(leaf))),
      next: bodies.first + count,
      issued: this.now,
    });
    const head = encodeHead(change.head?.(planned) ?? planned);
    const version = change.version ?? this.batchesVersion + 1;
    const signed = buildBatches({ version, expires: change.expires ?? this.now + 120 * DAY, head });
    const quorum = parseSigned("root", await read(path.join(this.genesis, "root.json"))).roles.targets;
    const proposal: Proposal = createProposal({
      role: "batches",
      signed,
      created: this.now,
      expires: this.now + 14 * DAY,
      quorums: [quorum],
    });
    const open: OpenEvent = {
      event: openEvent(proposal),
      attachments: new Map(attachBatches({ head, batches: [{ manifest, payloads }] })),
    };
    if (change.open !== false) this.events.set(formatHex(proposal.id), open);
    return open;
  }

  async proposeRotation(root: Uint8Array, given: Partial<GivenParts> = {}): Promise<OpenEvent> {
    const old = parseSigned("root", await read(path.join(this.genesis, "root.json"))).roles.root;
    const next = parseSigned("root", root).roles.root;
    const before = parseSigned("targets", await read(path.join(this.genesis, "targets.json")));
    const targets =
      given.targets ??
      buildTargets({
        version: given.version ?? 2,
        expires: this.now + 300 * DAY,
        targets: before.targets,
        batches: next,
        revocations: before.delegations.find(({ name }) => name === "revocations")!.role,
      });
    const head = encodeHead(this.#headNow({ ...this.head, issued: this.now }));
    const version = given.version ?? this.batchesVersion + 1;
    const batches = given.batches ?? buildBatches({ version, expires: this.now + 120 * DAY, head });
    const events = createRotation({
      signed: { root, targets, batches },
      created: this.now,
      expires: this.now + 14 * DAY,
      quorums: [old, next],
    });
    const open: OpenEvent = {
      event: openEvent(events.root),
      parts: { targets: openEvent(events.targets), batches: openEvent(events.batches) },
      attachments: new Map(attachRotation(head, (given.cards ?? []).map(verifyEnrolmentCard))),
    };
    this.events.set(formatHex(events.root.id), open);
    return open;
  }

  /** A head over these batches, with the log and the floor of this moment. */
  #headNow(head: Head): Head {
    const { statement } = this.#statement!;
    return {
      ...head,
      log: this.#log.head,
      floor: {
        epoch: statement.epoch,
        n: statement.n,
        logSize: statement.log.size,
        revokedRoot: statement.planes[0].root,
        suspendedRoot: statement.planes[1].root,
      },
    };
  }

  async proposeTargets(signed: Uint8Array, attachments: Attachments): Promise<OpenEvent> {
    const { roles } = parseSigned("root", await read(path.join(this.genesis, "root.json")));
    const proposal = createProposal({
      role: "targets",
      signed,
      created: NOW,
      expires: NOW + 14 * DAY,
      quorums: [roles.targets],
    });
    const open: OpenEvent = {
      event: openEvent(proposal),
      attachments: new Map(attachments),
    };
    this.events.set(formatHex(proposal.id), open);
    return open;
  }

  readonly #manifestLeaves: Uint8Array[] = [];

  async publish(open: OpenEvent): Promise<void> {
    const { proposal } = open.event;
    const file = fileOf(open.event);
    const manifest = open.attachments.get("manifest/0.cbor")!;
    const headBytes = open.attachments.get("head.cbor")!;
    const { seq, first, count } = decodeManifest(manifest);
    const leaves = detachBatches(open.attachments).batches[0]!.payloads.map((payload): Leaf => {
      const { index, rctId } = decodePayload(payload);
      return { type: "token", index, rctIdHash: sha256(rctId), payloadHash: sha256(payload) };
    });
    await this.#publicFile(`batch/${seq}/manifest.cbor`, manifest);
    const manifestsFolder = path.join(this.#places.public, "batches");
    await ensureFolder(manifestsFolder);
    await writeTree(manifestsFolder, this.head, [manifestHash(manifest)]);
    this.#manifestLeaves.push(manifestHash(manifest));
    const metadataHash = sha256(file);
    await this.log([
      { type: "trust", kind: "batches", number: proposal.version, fileHash: metadataHash },
      { type: "batch", seq, manifestHash: manifestHash(manifest), metadataHash, tokensHash: sha256(new Uint8Array(0)) },
      ...leaves,
    ]);
    this.#ledger.applyBatch(first, count);
    this.head = decodeHead(headBytes);
    this.batchesVersion = proposal.version;
    this.#files.batches = file;
    await this.#publicFile(`tuf/metadata/${metadataFileName("batches", proposal.version)}`, file);
    await this.#target(HEAD_PATH, headBytes);
    await this.#publishOnline();
    await this.state();
    this.events.delete(formatHex(proposal.id));
  }

  async #publishOnline(): Promise<void> {
    const version = ++this.#online;
    const expires = NOW + 30 * DAY;
    const snapshotSigned = buildSnapshot({
      version,
      expires,
      roles: new Map([
        ["targets", { version: 1, file: this.#files.targets }],
        ["batches", { version: this.batchesVersion, file: this.#files.batches }],
      ]),
    });
    const snapshot = assemble(snapshotSigned, [await signMetadata(KEYS.snapshot, snapshotSigned)]);
    const timestampSigned = buildTimestamp({ version, expires, snapshot: { version, file: snapshot } });
    const timestamp = assemble(timestampSigned, [await signMetadata(KEYS.timestamp, timestampSigned)]);
    await this.#publicFile(`tuf/metadata/${metadataFileName("snapshot", version)}`, snapshot);
    await this.#publicFile("tuf/metadata/timestamp.json", timestamp);
  }

  async #answer(request: IncomingMessage): Promise<unknown> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = new Uint8Array(Buffer.concat(parts));
    const url = new URL(request.url!, "http://vault");
    const [, kind, id, what] = url.pathname.split("/");
    if (request.method === "GET") {
      if (kind === "events") return id ? this.#detail(id) : { events: this.#eventsIn(url.searchParams.get("state")) };
      return id
        ? this.#statusDetail(id)
        : { events: [...this.statusEvents.keys()].map((each) => this.#statusDetail(each)) };
    }
    const kid = await this.#authenticate(request, url, body);
    const value = JSON.parse(Buffer.from(body).toString()) as Record<string, string> & {
      parts?: Record<string, string>;
    };
    if (kind === "events") {
      const open = this.events.get(id!)!;
      if (open.parts && what === "approvals") {
        const of = (hex: string | undefined) => ({ keyid: value.keyid!, sig: parseHex(hex!) });
        const { targets, batches } = value.parts!;
        const approvals = { root: of(value.signature), targets: of(targets), batches: of(batches) };
        const { root, ...parts } = approveRotation({ root: open.event, ...open.parts }, approvals, this.now);
        [open.event, open.parts] = [root, parts];
        return { state: stateOf(root, this.now) };
      }
      open.event =
        what === "approvals"
          ? approve(open.event, { keyid: value.keyid!, sig: parseHex(value.signature!) }, this.now)
          : reject(
              open.event,
              this.authority,
              { keyid: value.keyid!, reason: value.reason!, signature: parseHex(value.signature!) },
              this.now,
            );
      return { state: stateOf(open.event, this.now) };
    }
    const bytes = id ? this.statusEvents.get(id)!.body : parseBase64(value.body!);
    const name = formatHex(sha256(bytes));
    const event = this.statusEvents.get(name) ?? { body: bytes, signatures: new Map() };
    event.signatures.set(kid, parseBase64(value.signature!));
    this.statusEvents.set(name, event);
    return {};
  }

  async #authenticate(request: IncomingMessage, url: URL, body: Uint8Array): Promise<string> {
    const proof = parseRequestHeaders((name) => request.headers[name] as string | undefined);
    const card = verifyEnrolmentCard(await read(path.join(this.genesis, "cards", `${formatHex(proof.kid)}.json`)));
    verifyRequest(
      card.key,
      this.authority,
      proof,
      { method: request.method!, path: url.pathname + url.search, body },
      this.now,
    );
    return formatHex(proof.kid);
  }

  #eventsIn(state: string | null) {
    return [...this.events.keys()].map((id) => this.#detail(id)).filter((each) => !state || each.state === state);
  }

  #detail(id: string) {
    const open = this.events.get(id);
    if (!open) throw new Error(`no event ${id}`);
    const { proposal, approvals, rejections } = open.event;
    const { parts } = open;
    const signedPart = (event: SigningEvent) => formatBase64(event.proposal.signed);
    return {
      ...(parts && { parts: { targets: signedPart(parts.targets), batches: signedPart(parts.batches) } }),
      id,
      words: formatWords(proposal.id),
      role: proposal.role,
      version: proposal.version,
      state: stateOf(open.event, this.now),
      created: proposal.created,
      expires: proposal.expires,
      threshold: proposal.quorums[0]!.threshold,
      signed: formatBase64(proposal.signed),
      approvals: approvals.map(({ keyid, sig }) => ({ keyid, signature: formatHex(sig) })),
      rejections: rejections.map((each) => ({ ...each, signature: formatHex(each.signature) })),
      requestedBy: [],
      ownApprovals: false,
      attachments: Object.fromEntries([...open.attachments].map(([name, bytes]) => [name, formatBase64(bytes)])),
    };
  }

  #statusDetail(id: string) {
    const { body, signatures } = this.statusEvents.get(id)!;
    return {
      id,
      state: "open",
      threshold: THRESHOLD,
      body: formatBase64(body),
      signatures: [...signatures].map(([kid, signature]) => ({ kid, signature: formatBase64(signature) })),
    };
  }

  #target(name: string, bytes: Uint8Array): Promise<void> {
    return this.#publicFile(`tuf/targets/${targetFileName(name, fileInfo(bytes).sha256)}`, bytes);
  }

  #publicFile(name: string, bytes: Uint8Array): Promise<void> {
    return write(path.join(this.#places.public, name), bytes);
  }
}

/** A status event with signatures of the trustees named, as the log holds it. */
export async function signedEvent(world: World, body: Partial<EventBody>, trustees: readonly number[]): Promise<Leaf> {
  const bytes = encodeEventBody({
    authority: world.authority,
    action: "suspend",
    ranges: [{ first: 0, count: 1 }],
    reason: "lost",
    notAfter: NOW + DAY,
    undoes: [],
    nonce: new Uint8Array(16),
    ...body,
  });
  const signatures = [];
  for (const i of trustees) {
    const signer = await openSigner(world.homes[i]!, PASSPHRASE);
    const signature = await signer.sign(signingInput("event", world.authority, bytes));
    signatures.push({ kid: signer.publicKey.kid, signature });
  }
  return { type: "event", event: { body: bytes, signatures } };
}

export function coded(error: unknown, code: string, what = ""): true {
  assert.ok(error instanceof CodedError, `${what}: ${error instanceof Error ? error.stack : error}`);
  assert.equal(error.code, code, `${what}: ${error.message}`);
  return true;
}

/** Nothing signed, nothing sent, nothing remembered. */
export async function refuses(world: World, i: number, id: Uint8Array, code: string, what = ""): Promise<void> {
  // What is published may be taken over by any command; the refusal must change nothing beyond that.
  await status(world.session(i)).catch(() => {});
  const home = world.homes[i]!;
  const before = await fingerprint(home.folder);
  const approvals = [...world.events.values()].map((open) => open.event.approvals.length);
  let asked = false;
  const consent = async () => {
    asked = true;
    return true;
  };
  await assert.rejects(sign(world.session(i), id, SECRET, consent), (error) => coded(error, code, what));
  assert.equal(asked, false, "a person is not asked about what cannot be signed");
  assert.deepEqual(
    [...world.events.values()].map((open) => open.event.approvals.length),
    approvals,
  );
  const changed = [...(await fingerprint(home.folder))].filter(([file, hash]) => before.get(file) !== hash);
  assert.deepEqual(
    changed.map(([file]) => file).filter((file) => file !== home.replay),
    [],
    what,
  );
}
