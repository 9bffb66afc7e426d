/**
 * A ready batches event on its way into the log: the signer takes over what trustees signed, signs the tokens of each
 * new manifest, and the log gets the approval, the batches and their tokens in one append.
 *
 * Every step looks first whether it was taken before, so running it again after a crash is the recovery.
 */
import {
  decodeHead,
  decodeManifest,
  formatHex,
  type Hash,
  type Head,
  OperationError,
  payloadEncoder,
} from "@viafabric/schemas";
import { type FetchFile, proveConsistency, proveInclusion, readEdge } from "@viafabric/transparency-log/client";
import { HEAD_ATTACHMENT, HEAD_PATH } from "@viafabric/tuf";
import { batchEntries, batchLeafOffsets, growManifestTree, type SignedBatch, tokensFile } from "./bundle-files.ts";
import type { Desk } from "./desk.ts";
import { tokenEntries } from "./issuance.ts";
import type { QuorumFiles } from "./published.ts";
import type { PublishedFile } from "./publisher.ts";
import { notStored } from "./ready.ts";
import type { BatchRecord, EventRecord } from "./records.ts";

/** A batch with everything that is published of it, but the proof. */
export interface IssuedBatch {
  readonly record: BatchRecord;
  readonly signed: SignedBatch;
  readonly tokensBin: Uint8Array;
}

/** What a batches event brings. */
export interface Issue {
  readonly event: EventRecord;
  readonly metadata: Uint8Array;
  readonly head: Head;
  readonly headBytes: Uint8Array;
  readonly batches: readonly BatchRecord[];
  /** New tiles of the tree of manifests. */
  readonly tiles: readonly PublishedFile[];
}

/** The ready event to work on: one that the signer has taken over already, before any other; else the oldest. */
export async function readyEvent({ deps }: Desk): Promise<EventRecord | undefined> {
  const ready = (await deps.store.events("ready")).toReversed();
  if (ready.length < 2) return ready[0];
  const { accepted } = await deps.signer.state();
  return ready.find(({ proposal }) => accepted[proposal.role] >= proposal.version) ?? ready[0];
}

export async function readIssue(desk: Desk, event: EventRecord): Promise<Issue> {
  const { store } = desk.deps;
  const { id } = event.proposal;
  if (!event.metadata) throw notStored(`event ${formatHex(id)} is ready and has no file`);
  const headBytes = await store.attachment(id, HEAD_ATTACHMENT);
  if (!headBytes) throw notStored(`event ${formatHex(id)} has no head`);
  const batches = await store.batchesOf(id);
  const edge = await readEdge(desk.manifestFiles, desk.need().trusted.head);
  const hashes = batches.map(({ manifestHash }) => manifestHash);
  const tiles = hashes.length > 0 ? growManifestTree(edge, hashes).files : [];
  return { event, metadata: event.metadata, head: decodeHead(headBytes), headBytes, batches, tiles };
}

/** What is in force with it. */
export function filesWithHead(desk: Desk, { metadata, headBytes }: Issue): QuorumFiles {
  const { files } = desk.need();
  return { ...files, batches: metadata, targetFiles: new Map([...files.targetFiles, [HEAD_PATH, headBytes]]) };
}

/** Takes the event through trust, tokens and log. */
export async function logIssue(desk: Desk, issue: Issue): Promise<void> {
  const { event, batches } = issue;
  await entrust(desk, issue);
  const issued: IssuedBatch[] = [];
  for (const record of batches) issued.push(await issueBatch(desk, issue, record));
  desk.keepIssued(issued);
  const entries = batchEntries(
    event.proposal.version,
    issue.metadata,
    issued.map(({ signed, tokensBin }) => ({ batch: signed, tokensBin })),
  );
  const first = await desk.appendOnce(`event/${formatHex(event.proposal.id)}`, entries);
  const offsets = batchLeafOffsets(issued.map(({ signed }) => ({ batch: signed })));
  for (const [i, { record }] of issued.entries())
    await desk.deps.store.saveLeafIndex(record.manifestHash, first + offsets[i]!);
}

/** The batch with its signatures, which were saved before anything was logged. */
export async function readIssuedBatch(desk: Desk, record: BatchRecord): Promise<IssuedBatch> {
  const signatures = await desk.deps.store.signatures(record.manifestHash);
  if (!signatures) throw new OperationError("ERR_DATABASE", `batch ${record.seq} has no signatures`);
  return assembleBatch(record, await bodiesOf(desk, record), signatures);
}

async function entrust(desk: Desk, issue: Issue): Promise<void> {
  const { signer } = desk.deps;
  const { version } = issue.event.proposal;
  if ((await signer.state()).accepted.batches >= version) return;
  const { trusted } = desk.need();
  await signer.trust({ ...filesWithHead(desk, issue), headProof: await headProof(desk, trusted.head, issue) });
}

async function headProof(desk: Desk, old: Head, { head, tiles }: Issue): Promise<readonly Hash[]> {
  if (old.size === 0 || old.size === head.size) return [];
  return proveConsistency(overlay(desk.manifestFiles, tiles), old.size, head);
}

async function issueBatch(desk: Desk, issue: Issue, record: BatchRecord): Promise<IssuedBatch> {
  const { store, signer } = desk.deps;
  const bodies = await bodiesOf(desk, record);
  const saved = await store.signatures(record.manifestHash);
  if (saved) return assembleBatch(record, bodies, saved);
  const proof = await proveInclusion(overlay(desk.manifestFiles, issue.tiles), issue.head, record.seq);
  const signatures = await signer.tokens({ manifest: record.manifest, proof, bodies: [bodies.tokens] });
  await store.saveSignatures(record.manifestHash, signatures);
  return assembleBatch(record, bodies, signatures);
}

type Bodies = Pick<SignedBatch, "manifest" | "tokens" | "payloads" | "entries">;

function assembleBatch(record: BatchRecord, bodies: Bodies, signatures: Uint8Array): IssuedBatch {
  const signed: SignedBatch = { ...bodies, manifestBytes: record.manifest, signatures };
  return { record, signed, tokensBin: tokensFile(signed) };
}

/** Payloads are not stored: the manifest says what all have in common, the row what is a token's own. */
async function bodiesOf(desk: Desk, record: BatchRecord): Promise<Bodies> {
  const manifest = decodeManifest(record.manifest);
  const tokens = await desk.deps.store.tokens(record.manifestHash, record.first, record.count);
  const payloads = tokens.map(payloadEncoder(manifest));
  return { manifest, tokens, payloads, entries: tokenEntries(tokens, payloads) };
}

/** The tree of manifests as it will be: the new tiles before the published ones. */
function overlay(fetch: FetchFile, files: readonly PublishedFile[]): FetchFile {
  const fresh = new Map(files.map(({ path, bytes }) => [path.slice("batches/".length), bytes]));
  return async (path) => fresh.get(path) ?? fetch(path);
}
