/** For tests: the vault over HTTP on a real database, with one batch in the log and one proposal before the trustees. */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { type Signer, sha256, signRequest, utf8 } from "@viafabric/schemas";
import { attachBatches, buildBatches, createProposal, type Proposal } from "@viafabric/tuf";
import type { FastifyInstance } from "fastify";
import { buildApp } from "./app.ts";
import type { Who } from "./auth.ts";
import { KEYS, NOW, namedSigner, publishedWorld, signedBy } from "./fixtures.test.ts";
import { assembleGenesis } from "./genesis-folder.ts";
import { buildKit, sealKit, verifyKit } from "./kits.ts";
import type { DatabaseTarget } from "./postgres.ts";
import type { KitRecord } from "./records.ts";
import type { Store } from "./store.ts";
import { emptyStore } from "./testing-database.test.ts";

export const COUNT = 4;
export const world = await publishedWorld(COUNT);
export const { trusted } = assembleGenesis(
  world.genesis,
  await signedBy(world.genesis, world.trustees.slice(0, 3)),
  NOW,
);
export const authority = world.genesis.authority;
export const ACTORS: Readonly<Record<Who, Signer>> = {
  trustee: world.trustees[0]!,
  joining: namedSigner("joining"),
  operator: namedSigner("operator"),
  station: KEYS.station,
  release: KEYS.release,
};
export const kitId = new Uint8Array(16).fill(7);

export interface TestVault {
  readonly app: FastifyInstance;
  readonly store: Store;
  readonly target: DatabaseTarget;
  readonly proposal: Proposal;
  readonly clock: { now: number };
  readonly disk: { free: number };
  /** What the sequencer says about itself. */
  readonly trouble: { problem?: string };
  /** Sends a request as `signer`, or unsigned; `headers` replace those of the signature. */
  send(
    signer: Signer | undefined,
    method: string,
    url: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; json: Record<string, unknown>; headers: Record<string, string> }>;
  signed(signer: Signer, method: string, url: string, body?: unknown, time?: number): Promise<Record<string, string>>;
}

/** A vault with one batch in the log, its kit ready, and one proposal before the trustees. */
export async function testVault({ ownApprovals = false } = {}): Promise<TestVault> {
  const { store, target } = await emptyStore();
  const folder = await mkdtemp(path.join(tmpdir(), "vault-app-"));
  after(() => rm(folder, { recursive: true }));
  const publicFolder = path.join(folder, "public");
  const { material } = world;
  const clock = { now: NOW };
  const disk = { free: Number.POSITIVE_INFINITY };
  const trouble: { problem?: string } = {};
  await mkdir(path.join(publicFolder, "batch/0"), { recursive: true });
  await mkdir(path.join(publicFolder, "log"));
  await writeFile(path.join(publicFolder, "batch/0/leaves.bin"), material.leaves);
  await writeFile(path.join(publicFolder, "log/checkpoint"), "note\n");
  await writeFile(path.join(folder, "secret"), "not public");

  const first = await propose(store, 2, { withBatch: true });
  await store.moveEvent(first.id, { state: "ready", at: NOW, metadata: utf8("2.batches.json") });
  const manifestHash = sha256(material.batch.manifestBytes);
  await store.saveLeafIndex(manifestHash, 5);
  const kit = { id: kitId, manifestHash, station: KEYS.station.publicKey.kid, first: 0, count: COUNT, created: NOW };
  const nothing = { immutable: [], hints: [], roots: [], pointers: {} };
  await store.addPublication(nothing, NOW, { events: [first.id], statusEvents: [], kits: [kit] });
  await store.finishPublication((await store.openPublication())!.id, NOW);
  const proposal = await propose(store, 3);
  const app = await buildApp({
    store,
    trust: () => trusted,
    ownApprovals,
    joining: () => [ACTORS.joining.publicKey],
    publicFolder,
    async sealKit(record: KitRecord, publicKey: Uint8Array) {
      const built = buildKit(material, record.station, record.id, record.created);
      verifyKit(built, world.node, NOW);
      return sealKit(built, publicKey);
    },
    now: () => clock.now,
    wake: () => {},
    freeBytes: async () => disk.free,
    health: () => ({ logSize: 7, ...trouble }),
    rateMax: 100_000,
  });
  after(() => app.close());
  const encode = (body: unknown): Uint8Array => (body === undefined ? new Uint8Array(0) : utf8(JSON.stringify(body)));
  const signed: TestVault["signed"] = async (signer, method, url, body, time = clock.now) =>
    signRequest(signer, authority, {
      method,
      path: url,
      body: encode(body),
      time,
      nonce: new Uint8Array(randomBytes(16)),
    });
  return {
    app,
    store,
    target,
    clock,
    disk,
    trouble,
    proposal,
    signed,
    async send(signer, method, url, body, headers) {
      const proof = headers ?? (signer ? await signed(signer, method, url, body) : {});
      const response = await app.inject({
        method: method as "GET",
        url,
        headers: { ...proof, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { payload: Buffer.from(encode(body)) }),
      });
      const json = /json/.test(String(response.headers["content-type"])) ? response.json() : {};
      return { status: response.statusCode, json, headers: response.headers as Record<string, string> };
    },
  };
}

/** @param by requests that it answers. @param withBatch the one of `world`, once */
export async function propose(
  store: Store,
  version: number,
  { withBatch = false, by = [] }: { readonly withBatch?: boolean; readonly by?: readonly Uint8Array[] } = {},
): Promise<Proposal> {
  const { material } = world;
  const head = world.node.trust!.head;
  const headBytes = utf8(`head ${head.size}`);
  const signed = buildBatches({ version, expires: NOW + 86_400, head: headBytes });
  const quorums = [trusted.approvers];
  const proposal = createProposal({ role: "batches", signed, created: NOW, expires: NOW + 3600, quorums });
  const { batch } = material;
  const attached = withBatch ? [{ manifest: batch.manifestBytes, payloads: batch.payloads }] : [];
  const attachments = [...attachBatches({ head: headBytes, batches: attached })];
  const row = {
    manifestHash: sha256(batch.manifestBytes),
    eventId: proposal.id,
    seq: 0,
    first: 0,
    count: COUNT,
    manifest: batch.manifestBytes,
    uidKey: new Uint8Array(60),
  };
  const plan = {
    proposal,
    attachments: attachments.map(([name, bytes]) => ({ name, bytes })),
    batches: withBatch ? [{ batch: row, tokens: batch.tokens }] : [],
  };
  await store.addEvent(plan, by);
  return proposal;
}
