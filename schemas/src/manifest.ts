/**
 * The batch manifest: what k trustees approve, once for all tokens of a batch (FORMATS "Manifest").
 *
 * `root` is the RFC 6962 root over exactly the batch's token leaves, so approving a manifest approves every token in
 * it and nothing else. A manifest also carries what all its tokens have in common, which is why 121 bytes on a tag
 * are enough.
 */
import { compareBytes } from "./bytes.ts";
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { sha256 } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import type { Hash } from "./merkle.ts";

/** A contiguous part of a batch given to one writing station. */
export interface StationRange {
  readonly kid: Uint8Array;
  readonly first: number;
  readonly count: number;
}

/** Times are unix seconds, hashes and kids 32 bytes, `quota` counts `unit`s. */
export interface Manifest {
  readonly authority: Uint8Array;
  /** 0-based place in the head's tree; never burned. */
  readonly seq: number;
  readonly first: number;
  readonly count: number;
  readonly root: Hash;
  readonly issuer: Uint8Array;
  readonly iss: string;
  readonly profile: string;
  readonly creditClass: string;
  readonly quota: number;
  readonly unit: string;
  readonly policyRoot: Hash;
  readonly nbf: number;
  readonly claimBy: number;
  readonly exp: number;
  /** Claim profile: how a holder proves the first tap. */
  readonly claim: string;
  /** Tag layout: compact, link, pointer or bootstrap. */
  readonly layout: string;
  readonly tagClass: string;
  /** none, provisional, or the DID of the one hub that may bind offline. */
  readonly offline: string;
  readonly releaseKeys: readonly Uint8Array[];
  readonly stations: readonly StationRange[];
  readonly statusUri: string;
}

export const MANIFEST_BYTES_MAX = 16 * 1024;
/** The revocation index is a u32, and RVX1 sets reach to 2^32 - 2. */
export const INDEX_MAX = 2 ** 32 - 3;
/** One batch; larger issues are several batches of one signing event. */
export const BATCH_TOKENS_MAX = 100_000;
export const STATIONS_MAX = 64;
export const RELEASE_KEYS_MAX = 16;
/** Names of profiles, classes and units. */
export const NAME_LENGTH_MAX = 64;
/** Identifiers that are URIs or DIDs. */
export const URI_LENGTH_MAX = 256;

const KEYS = Array.from({ length: 23 }, (_, i) => i + 1);

export function encodeManifest(m: Manifest): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, m.authority],
      [3, m.seq],
      [4, m.first],
      [5, m.count],
      [6, m.root],
      [7, m.issuer],
      [8, m.iss],
      [9, m.profile],
      [10, m.creditClass],
      [11, m.quota],
      [12, m.unit],
      [13, m.policyRoot],
      [14, m.nbf],
      [15, m.claimBy],
      [16, m.exp],
      [17, m.claim],
      [18, m.layout],
      [19, m.tagClass],
      [20, m.offline],
      [21, [...m.releaseKeys]],
      [22, m.stations.map((s) => [s.kid, s.first, s.count])],
      [23, m.statusUri],
    ]),
  );
}

/** @throws FormatError ERR_MANIFEST, also for ranges that leave the batch or times out of order */
export function decodeManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MANIFEST_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_MANIFEST"), KEYS, "ERR_MANIFEST");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const manifest: Manifest = {
    authority: fields.bytes(2, 32),
    seq: fields.integer(3, 2 ** 32 - 1),
    first: fields.integer(4, INDEX_MAX),
    count: fields.integer(5, BATCH_TOKENS_MAX, 1),
    root: fields.bytes(6, 32),
    issuer: fields.bytes(7, 32),
    iss: fields.text(8, URI_LENGTH_MAX),
    profile: fields.text(9, NAME_LENGTH_MAX),
    creditClass: fields.text(10, NAME_LENGTH_MAX),
    quota: fields.integer(11),
    unit: fields.text(12, NAME_LENGTH_MAX),
    policyRoot: fields.bytes(13, 32),
    nbf: fields.integer(14),
    claimBy: fields.integer(15),
    exp: fields.integer(16),
    claim: fields.text(17, NAME_LENGTH_MAX),
    layout: fields.text(18, NAME_LENGTH_MAX),
    tagClass: fields.text(19, NAME_LENGTH_MAX),
    offline: fields.text(20, URI_LENGTH_MAX),
    releaseKeys: fields.array(21, RELEASE_KEYS_MAX).map(asKid),
    stations: fields.array(22, STATIONS_MAX).map(asStation),
    statusUri: fields.text(23, URI_LENGTH_MAX),
  };
  checkManifest(manifest);
  return manifest;
}

/** Leaf data of the head's tree. */
export function manifestHash(manifestBytes: Uint8Array): Hash {
  return sha256(manifestBytes);
}

function checkManifest(m: Manifest): void {
  const end = m.first + m.count;
  if (end > INDEX_MAX + 1) throw wrong("indices beyond the 32-bit range");
  if (!(m.nbf <= m.claimBy && m.claimBy <= m.exp)) throw wrong("times out of order: nbf, claim_by, exp");
  if (m.releaseKeys.length === 0) throw wrong("no release key");
  for (let i = 1; i < m.releaseKeys.length; i++) {
    if (compareBytes(m.releaseKeys[i - 1]!, m.releaseKeys[i]!) >= 0) throw wrong("release keys must ascend");
  }
  let next = m.first;
  for (const station of m.stations) {
    if (station.first < next || station.first + station.count > end)
      throw wrong("station ranges overlap or leave the batch");
    next = station.first + station.count;
  }
}

function asKid(value: CborValue): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== 32) throw wrong("a key id that is not 32 bytes");
  return value;
}

function asStation(value: CborValue): StationRange {
  if (!Array.isArray(value) || value.length !== 3) throw wrong("a station is [kid, first, count]");
  const [kid, first, count] = value;
  if (typeof first !== "number" || typeof count !== "number" || first < 0 || count < 1) throw wrong("a station range");
  return { kid: asKid(kid), first, count };
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_MANIFEST", `not a manifest: ${reason}`);
}
