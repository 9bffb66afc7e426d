/**
 * From signed tokens to what is logged and what is published of a batch (FORMATS "Log leaves", "Batch bundle").
 *
 * The log gets `05 batches N`, then for each batch of that version the batch leaf and at once its token leaves. The
 * bundle gets the same leaves as one file, and the tokens sealed under their own ids: whoever holds a tag can read its
 * token from public files, nobody else learns whom the batch was made for.
 */
import assert from "node:assert/strict";
import {
  concatAll,
  decodeManifest,
  encodeLeaf,
  hashLeaf,
  type Manifest,
  manifestHash,
  parseDidKey,
  SIGNATURE_BYTES,
  sealTokens,
  sha256,
  type TrustKind,
  utf8,
} from "@viafabric/schemas";
import { EMPTY_EDGE, formatProof, growEdge, type TileEdge, tilePath } from "@viafabric/transparency-log";
import type { PlannedToken } from "./issuance.ts";
import type { PublishedFile } from "./publisher.ts";

/** A batch whose tokens the issuer key has signed. */
export interface SignedBatch {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly tokens: readonly PlannedToken[];
  readonly payloads: readonly Uint8Array[];
  /** The log entries of its tokens, in index order. */
  readonly entries: readonly Uint8Array[];
  /** 64 bytes for each token, in index order. */
  readonly signatures: Uint8Array;
}

export function signatureOf(batch: SignedBatch, place: number): Uint8Array {
  return batch.signatures.subarray(place * SIGNATURE_BYTES, (place + 1) * SIGNATURE_BYTES);
}

/** tokens.bin; empty where a subject is not an Ed25519 did:key, and then nothing is published. */
export function tokensFile(batch: SignedBatch): Uint8Array {
  assert.equal(batch.signatures.length, batch.manifest.count * SIGNATURE_BYTES, "one signature for each token");
  if (!batch.tokens.every(({ subject }) => subject.startsWith("did:key:"))) return new Uint8Array(0);
  return sealTokens(
    batch.manifest.authority,
    batch.tokens.map(({ index, rctId, subject }, place) => {
      return { index, rctId, subjectKey: parseDidKey(subject), signature: signatureOf(batch, place) };
    }),
  );
}

/** The `05` entry that precedes the publication of a trust file. */
export function trustEntry(kind: TrustKind, number: number, file: Uint8Array): Uint8Array {
  return encodeLeaf({ type: "trust", kind, number, fileHash: sha256(file) });
}

/** The `02` entry. @param metadata N.batches.json as published, N the first version whose head holds the batch */
export function batchEntry(manifestBytes: Uint8Array, metadata: Uint8Array, tokensBin: Uint8Array): Uint8Array {
  return encodeLeaf({
    type: "batch",
    seq: decodeManifest(manifestBytes).seq,
    manifestHash: manifestHash(manifestBytes),
    metadataHash: sha256(metadata),
    tokensHash: sha256(tokensBin),
  });
}

/**
 * Everything one version of `batches` puts into the log, in order and in one append: a batch leaf without its tokens
 * would be an announcement that nobody can check.
 */
export function batchEntries(
  version: number,
  metadata: Uint8Array,
  batches: readonly { readonly batch: SignedBatch; readonly tokensBin: Uint8Array }[],
): readonly Uint8Array[] {
  return [
    trustEntry("batches", version, metadata),
    ...batches.flatMap(({ batch, tokensBin }) => [
      batchEntry(batch.manifestBytes, metadata, tokensBin),
      ...batch.entries,
    ]),
  ];
}

/** Where, in what `batchEntries` returned, the leaf of each batch stands. */
export function batchLeafOffsets(batches: readonly { readonly batch: SignedBatch }[]): readonly number[] {
  let offset = 1;
  return batches.map(({ batch }) => {
    const own = offset;
    offset += 1 + batch.manifest.count;
    return own;
  });
}

/**
 * log.proof: that the batch leaf is in the log, with the leaf itself as `extra`.
 * @param inclusion of the batch leaf in `checkpoint`, which must also cover the batch's tokens
 */
export function bundleProof(
  entry: Uint8Array,
  inclusion: { readonly index: number; readonly hashes: readonly Uint8Array[] },
  checkpoint: Uint8Array,
): Uint8Array {
  return formatProof({ extra: entry, ...inclusion, checkpoint });
}

/** `batch/<seq>/log.proof`: what makes a bundle one that a node accepts. */
export function proofFile(seq: number, logProof: Uint8Array): PublishedFile {
  return { path: `batch/${seq}/log.proof`, bytes: logProof };
}

/** The other files of `batch/<seq>/`. */
export function bundleFiles(batch: SignedBatch, tokensBin: Uint8Array): readonly PublishedFile[] {
  const folder = `batch/${batch.manifest.seq}`;
  return [
    { path: `${folder}/manifest.cbor`, bytes: batch.manifestBytes },
    { path: `${folder}/leaves.bin`, bytes: concatAll(batch.entries) },
    ...(tokensBin.length > 0 ? [{ path: `${folder}/tokens.bin`, bytes: tokensBin }] : []),
  ];
}

/** The right edge of the manifest tree, from the manifest hashes in order. */
export function manifestEdge(manifestHashes: readonly Uint8Array[]): TileEdge {
  return growManifestTree(EMPTY_EDGE, manifestHashes).edge;
}

/** The tiles that new manifests add under `batches/tile/`: with them anybody can prove a batch under any head. */
export function growManifestTree(
  edge: TileEdge,
  manifestHashes: readonly Uint8Array[],
): { readonly edge: TileEdge; readonly files: readonly PublishedFile[] } {
  const grown = growEdge(edge, concatAll(manifestHashes.map(hashLeaf)));
  const files = grown.tiles.map(({ tile, bytes }) => ({ path: `batches/${tilePath(tile)}`, bytes }));
  return { edge: grown.edge, files };
}

/** Batches in one file of the list. */
export const BATCH_LIST_LINES = 256;

/**
 * `batches/list/<n>`: which batches there are, for those who fetch bundles. Nothing signs it; whoever follows it to a
 * bundle checks the bundle.
 * @param page the manifests of one page in order, from seq n · 256 on
 */
export function batchListFile(page: readonly Manifest[]): PublishedFile {
  const first = page[0]!.seq;
  assert(first % BATCH_LIST_LINES === 0 && page.length <= BATCH_LIST_LINES, "a page starts at a multiple of 256");
  assert(
    page.every(({ seq }, i) => seq === first + i),
    "a page has no gaps",
  );
  const lines = page.map(({ seq, first, count, profile }) => `${seq} ${first} ${count} ${profile}\n`);
  return { path: `batches/list/${first / BATCH_LIST_LINES}`, bytes: utf8(lines.join("")) };
}
