/**
 * One token in the log: its entry, the proof that it is there, the batch it came with and who approved that.
 *
 * Token indices only grow, so an index is found by halves, reading a bundle each time. A token id is found by reading
 * everything: the log holds hashes of ids, in no order of theirs.
 */
import {
  type BatchLeaf,
  decodeLeaf,
  decodeManifest,
  equalBytes,
  HASH_BYTES,
  kidText,
  type Manifest,
  OperationError,
  parseRctId,
  sha256,
  type TokenLeaf,
  type TrustLeaf,
} from "@viafabric/schemas";
import { formatProof, TILE_WIDTH, verifyProof } from "@viafabric/transparency-log";
import {
  type FetchFile,
  openTree,
  proveInclusion,
  readCheckpoint,
  readRuns,
  subFolder,
  type TileTree,
} from "@viafabric/transparency-log/client";
import { delegatedRole, HEAD_PATH, metadataFileName, metadataSigners, parseMetadata, verifyRole } from "@viafabric/tuf";
import { evidence } from "./evidence.ts";
import type { TrustStart } from "./trust-start.ts";

export interface Serial {
  /** Log index, and what is there. */
  readonly entry: number;
  readonly leaf: TokenLeaf;
  readonly size: number;
  /** tlog-proof with the entry as `extra`; verified. */
  readonly proof: Uint8Array;
  readonly batch: { readonly entry: number; readonly seq: number; readonly manifest: Manifest };
  readonly approval: {
    readonly version: number;
    readonly threshold: number;
    /** Kids of the trustees who signed, in hex. */
    readonly signers: readonly string[];
  };
}

/** @param wanted a token index, or a token id as text. @throws OperationError ERR_NOT_FOUND */
export async function findSerial(
  published: FetchFile,
  start: TrustStart,
  wanted: number | string,
  advanced: (entries: number) => void = () => {},
): Promise<Serial> {
  const log = subFolder(published, "log");
  const { checkpoint, note } = await readCheckpoint(log, start.policy);
  const tree = await openTree(log, checkpoint);
  const reader = new Reader(log, tree);
  const entry = typeof wanted === "number" ? await findIndex(reader, wanted) : await findId(reader, wanted, advanced);
  if (entry === undefined) throw new OperationError("ERR_NOT_FOUND", `the log holds no token ${wanted}`);
  const bytes = await reader.entry(entry);
  const leaf = decodeLeaf(bytes) as TokenLeaf;
  const hashes = await proveInclusion(log, checkpoint, entry);
  const proof = formatProof({ extra: bytes, index: entry, hashes, checkpoint: note });
  verifyProof(start.policy, bytes, proof);
  const [batchEntry, batch] = await findBatch(reader, entry);
  const manifest = await readManifest(published, batch, leaf);
  const approval = await findApproval(published, start, reader, batchEntry, batch);
  return {
    entry,
    leaf,
    size: checkpoint.size,
    proof,
    batch: { entry: batchEntry, seq: batch.seq, manifest },
    approval,
  };
}

/** Entries at their place in the verified tree, a bundle at a time. */
class Reader {
  readonly size: number;
  readonly #log: FetchFile;
  readonly #tree: TileTree;
  #first = -1;
  #entries: readonly Uint8Array[] = [];

  constructor(log: FetchFile, tree: TileTree) {
    [this.#log, this.#tree, this.size] = [log, tree, tree.size];
  }

  async bundle(index: number): Promise<readonly Uint8Array[]> {
    const first = index * TILE_WIDTH;
    if (this.#first !== first) {
      for await (const run of readRuns(this.#tree, this.#log, first, Math.min(first + TILE_WIDTH, this.size))) {
        [this.#first, this.#entries] = [first, run.entries];
      }
    }
    return this.#entries;
  }

  async entry(index: number): Promise<Uint8Array> {
    return (await this.bundle(Math.floor(index / TILE_WIDTH)))[index % TILE_WIDTH]!;
  }
}

async function findIndex(reader: Reader, index: number): Promise<number | undefined> {
  let low = 0;
  let high = Math.ceil(reader.size / TILE_WIDTH);
  while (low < high) {
    const middle = (low + high) >>> 1;
    // The first token from here on: bundles of status events alone have none.
    let at = middle;
    let tokens: readonly (readonly [number, number])[] = [];
    for (; at < high && tokens.length === 0; at++) tokens = tokensOf(await reader.bundle(at), at * TILE_WIDTH);
    const found = tokens.find(([, token]) => token === index);
    if (found) return found[0];
    const [first] = tokens;
    if (!first || first[1] > index) high = middle;
    else low = at;
  }
  return undefined;
}

/** Log index and token index of the token leaves among the entries. */
function tokensOf(entries: readonly Uint8Array[], first: number): readonly (readonly [number, number])[] {
  return entries.flatMap((bytes, i) => {
    const leaf = bytes[0] === 1 ? (decodeLeaf(bytes) as TokenLeaf) : undefined;
    return leaf ? [[first + i, leaf.index] as const] : [];
  });
}

async function findId(reader: Reader, text: string, advanced: (n: number) => void): Promise<number | undefined> {
  const hash = sha256(parseRctId(text));
  for (let index = 0; index * TILE_WIDTH < reader.size; index++) {
    const entries = await reader.bundle(index);
    const place = entries.findIndex((bytes) => bytes[0] === 1 && equalBytes(bytes.subarray(9, 9 + HASH_BYTES), hash));
    if (place >= 0) return index * TILE_WIDTH + place;
    advanced(entries.length);
  }
  return undefined;
}

/** The last batch leaf before a token leaf. */
async function findBatch(reader: Reader, entry: number): Promise<readonly [number, BatchLeaf]> {
  for (let at = entry - 1; at >= 0; at--) {
    const bytes = await reader.entry(at);
    if (bytes[0] === 1) continue;
    const leaf = decodeLeaf(bytes);
    if (leaf.type === "batch") return [at, leaf];
    break;
  }
  throw evidence(`entry ${entry} is a token outside a batch`);
}

async function readManifest(published: FetchFile, batch: BatchLeaf, token: TokenLeaf): Promise<Manifest> {
  const path = `batch/${batch.seq}/manifest.cbor`;
  const bytes = await published(path);
  if (!bytes) throw evidence(`${path} is not published`);
  if (!equalBytes(sha256(bytes), batch.manifestHash)) throw evidence(`${path} is not the manifest logged`);
  const manifest = decodeManifest(bytes);
  if (token.index < manifest.first || token.index >= manifest.first + manifest.count) {
    throw evidence(`token ${token.index} is not one of batch ${batch.seq}`);
  }
  return manifest;
}

/** The metadata that the batch leaf names, signed by the approvers of a targets version that the roots vouch for. */
async function findApproval(
  published: FetchFile,
  start: TrustStart,
  reader: Reader,
  batchEntry: number,
  batch: BatchLeaf,
): Promise<Serial["approval"]> {
  const version = await findVersion(reader, batchEntry, batch);
  const path = `tuf/metadata/${metadataFileName("batches", version)}`;
  const file = await published(path);
  if (!file || !equalBytes(sha256(file), batch.metadataHash)) throw evidence(`${path} is not the file logged`);
  const metadata = parseMetadata("targets", file);
  for (let at = start.targets.signed.version; ; at--) {
    const targets = at === start.targets.signed.version ? start.targets : await readTargets(published, start, at);
    if (!targets) continue;
    const role = delegatedRole(targets.signed, "batches", HEAD_PATH);
    const signers = metadataSigners(role, metadata).map(kidText);
    if (signers.length >= role.threshold) return { version, threshold: role.threshold, signers };
    // The first targets version is the last hope: then the refusal says what is missing.
    if (at <= 1) verifyRole(role, `batches ${version}`, metadata);
  }
}

async function readTargets(published: FetchFile, { roots }: TrustStart, version: number) {
  const file = await published(`tuf/metadata/${metadataFileName("targets", version)}`);
  if (!file) {
    if (version <= 1) throw evidence("targets 1 is not published");
    return undefined;
  }
  const targets = parseMetadata("targets", file);
  const vouched = roots.some(({ roles }) => metadataSigners(roles.targets, targets).length >= roles.targets.threshold);
  if (!vouched) throw evidence(`no root from the pinned one on vouches for targets ${version}`);
  return targets;
}

async function findVersion(reader: Reader, batchEntry: number, { seq, metadataHash }: BatchLeaf): Promise<number> {
  for (let at = batchEntry - 1; at >= 0; at--) {
    const bytes = await reader.entry(at);
    if (bytes[0] !== 5) continue;
    const leaf = decodeLeaf(bytes) as TrustLeaf;
    if (leaf.kind === "batches" && equalBytes(leaf.fileHash, metadataHash)) return leaf.number;
  }
  throw evidence(`batch ${seq} names a metadata file that was not logged before it`);
}
