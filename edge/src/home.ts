/**
 * A node's home: the pinned root it was given, and what it has accepted since.
 *
 *     node.json        how it was initialised
 *     root.json        the pinned root; never replaced by a refresh
 *     trust/           accepted TUF metadata and target files, and the clock floor
 *     bundles/<seq>/   accepted batch bundles, with the proof of each manifest under the accepted head
 *     status.cbor      the newest statement, its sets and what is kept beyond them
 *
 * Everything is verified again from the pinned root when it is loaded: a home that was copied from somewhere, or
 * damaged, gives a refusal and never a yes.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { ensureFolder, PRIVATE_FILE, readFileBounded, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import {
  decodeBody,
  type EpochSet,
  encodeBody,
  encodeSnapshot,
  type Held,
  type HeldLayer,
  type Plane,
  signedSet,
  verifySnapshot,
  verifyStatement,
} from "@viafabric/revocation";
import {
  type CborValue,
  CodedError,
  decodeCbor,
  encodeCbor,
  FormatError,
  HASH_BYTES,
  type Hash,
  OperationError,
  parseUtf8,
  utf8,
} from "@viafabric/schemas";
import { LOG_PROOF_BYTES_MAX, parsePolicy } from "@viafabric/transparency-log";
import { FETCH_BYTES_MAX } from "@viafabric/transparency-log/client";
import { type PinnedRoot, type TrustedState, verifyRootChain } from "@viafabric/tuf";
import { loadClockFloor, loadTrust } from "@viafabric/tuf/client";
import {
  type BundleFiles,
  type HeldBatch,
  type NodeState,
  Refusal,
  type StatusState,
  statusState,
  type Trust,
  verifyBundle,
  withHardware,
} from "@viafabric/verifier";

export interface NodeSettings {
  /** Accepts `quorum none` in the witness policy and nothing else that a node in use would refuse. */
  readonly development: boolean;
  /** Asks for issuer and status keys in hardware, whatever the authority's own rules ask for. */
  readonly hardware?: boolean;
  /** H(policy/lineage.json) as a channel named it, in hex; otherwise the first one that the trustees signed counts. */
  readonly lineage?: string;
}

export interface NodeHome {
  readonly folder: string;
  readonly settings: NodeSettings;
  readonly pinned: PinnedRoot;
  readonly authority: Uint8Array;
}

const ROOT_BYTES_MAX = 512 * 1024;
const SETTINGS_BYTES_MAX = 4096;
const STATUS_BYTES_MAX = 256 * 1024 * 1024;
/** More bundles than a node can be asked to serve; a larger folder is not ours. */
export const HELD_BATCHES_MAX = 100_000;

/** @throws OperationError ERR_HOME when there is one already; FormatError or VerificationError for a bad root */
export async function initHome(folder: string, rootFile: Uint8Array, settings: NodeSettings): Promise<NodeHome> {
  const home = makeHome(folder, rootFile, settings);
  if (await readFileIfPresent(path.join(folder, "root.json"), ROOT_BYTES_MAX)) {
    throw new OperationError("ERR_HOME", `${folder} is a node already; choose another --home`);
  }
  await ensureFolder(folder);
  await writeFileDurable(path.join(folder, "node.json"), utf8(`${JSON.stringify(settings)}\n`));
  await writeFileDurable(path.join(folder, "root.json"), rootFile);
  return home;
}

export async function openHome(folder: string): Promise<NodeHome> {
  const rootFile = await readFileIfPresent(path.join(folder, "root.json"), ROOT_BYTES_MAX);
  if (!rootFile)
    throw new OperationError("ERR_HOME", `${folder} is not a node; run via node init --root FILE --home ${folder}`);
  const text = parseUtf8(await readFileBounded(path.join(folder, "node.json"), SETTINGS_BYTES_MAX));
  const { development, hardware, lineage } = JSON.parse(text) as { readonly [name in keyof NodeSettings]?: unknown };
  return makeHome(folder, rootFile, {
    development: development === true,
    hardware: hardware === true,
    // Of a file that was tampered with, nothing weaker is read: a lineage that is no digest is refused at its use.
    ...(lineage !== undefined && { lineage: String(lineage) }),
  });
}

function makeHome(folder: string, file: Uint8Array, settings: NodeSettings): NodeHome {
  const pinned = { file };
  return { folder, settings, pinned, authority: verifyRootChain(pinned, []).authority };
}

export function trustFolder(home: NodeHome): string {
  return path.join(home.folder, "trust");
}

/** What the verifier needs of the accepted metadata. */
export function trustOf(state: TrustedState, settings: NodeSettings): Trust {
  const { authority, keys, rules, head, batchesVersion, expires, trustees } = state;
  const policy = parsePolicy(utf8(state.policyText));
  const trust = { authority, keys, rules, head, batchesVersion, expires, trustees, policy };
  return settings.hardware ? withHardware(trust) : trust;
}

/** The whole state, verified again. What does not verify is left out, and meets its refusal in the verdict. */
export async function loadState(home: NodeHome): Promise<NodeState> {
  const trust = await loadOr(async () => trustOf(await loadTrust(trustFolder(home), home.pinned), home.settings));
  const batches = trust ? await loadBundles(home, trust) : [];
  const status = trust && (await loadOr(() => loadStatus(home, trust)))?.state;
  return { authority: home.authority, trust, batches, status, clockFloor: await loadClockFloor(trustFolder(home)) };
}

async function loadOr<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}

/** A bundle on disk: its files as published, and where its manifest stands under the accepted head. */
export interface StoredBundle {
  readonly files: BundleFiles;
  readonly manifestProof: readonly Hash[];
}

const bundleFolder = (home: NodeHome, seq: number) => path.join(home.folder, "bundles", String(seq));

export async function heldSequences(home: NodeHome): Promise<readonly number[]> {
  const names = await readdir(path.join(home.folder, "bundles")).catch(() => []);
  const sequences = names.filter((name) => /^(0|[1-9][0-9]{0,9})$/.test(name)).map(Number);
  return sequences.sort((a, b) => a - b).slice(0, HELD_BATCHES_MAX);
}

export async function storeBundle(home: NodeHome, seq: number, { files, manifestProof }: StoredBundle): Promise<void> {
  const folder = bundleFolder(home, seq);
  await ensureFolder(folder);
  await writeFileDurable(path.join(folder, "manifest.cbor"), files.manifest);
  await writeFileDurable(path.join(folder, "leaves.bin"), files.leaves);
  if (files.tokens) await writeFileDurable(path.join(folder, "tokens.bin"), files.tokens);
  await writeFileDurable(path.join(folder, "log.proof"), files.logProof);
  // Last: a bundle without it is not held.
  await writeFileDurable(path.join(folder, "head.proof"), encodeCbor([...manifestProof]));
}

export async function loadBundle(home: NodeHome, seq: number): Promise<StoredBundle | undefined> {
  const read = (name: string, bytesMax = FETCH_BYTES_MAX) =>
    readFileIfPresent(path.join(bundleFolder(home, seq), name), bytesMax);
  const [manifest, leaves, tokens] = [await read("manifest.cbor"), await read("leaves.bin"), await read("tokens.bin")];
  const [logProof, headProof] = [await read("log.proof", LOG_PROOF_BYTES_MAX), await read("head.proof", 4096)];
  if (!manifest || !leaves || !logProof || !headProof) return undefined;
  const hashes = decodeCbor(headProof);
  if (!Array.isArray(hashes) || !hashes.every((hash) => hash instanceof Uint8Array && hash.length === HASH_BYTES)) {
    throw new FormatError("ERR_CBOR", "head.proof is not a list of hashes");
  }
  return { files: { manifest, leaves, ...(tokens ? { tokens } : {}), logProof }, manifestProof: hashes as Hash[] };
}

async function loadBundles(home: NodeHome, trust: Trust): Promise<HeldBatch[]> {
  const batches: HeldBatch[] = [];
  for (const seq of await heldSequences(home)) {
    const stored = await loadOr(() => loadBundle(home, seq));
    if (!stored) continue;
    try {
      batches.push(verifyBundle(trust, stored.files, stored.manifestProof));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
  }
  return batches.sort((a, b) => a.manifest.first - b.manifest.first);
}

const statusFile = (home: NodeHome) => path.join(home.folder, "status.cbor");

/** One file, so that statement, sets and what is kept can never be of different moments. */
export async function storeStatus(home: NodeHome, note: Uint8Array, status: StatusState): Promise<void> {
  const { n } = status.verified.statement;
  // The newest layer is the signed set itself.
  const older = status.held.map((held) => {
    return held.slice(0, -1).map(({ set, logSize }) => [logSize, set.count, encodeBody(set, n)]);
  });
  const snapshots = status.sets.map((set) => encodeSnapshot(set));
  await writeFileDurable(statusFile(home), encodeCbor([note, snapshots, older]), PRIVATE_FILE);
}

/** The newest statement as a signed note, and what the node makes of it. */
export interface HeldStatus {
  readonly note: Uint8Array;
  readonly state: StatusState;
}

export async function loadStatus(home: NodeHome, trust: Trust): Promise<HeldStatus | undefined> {
  const bytes = await readFileIfPresent(statusFile(home), STATUS_BYTES_MAX);
  if (!bytes) return undefined;
  const [first, snapshots, older] = asArray(decodeCbor(bytes), 3);
  const note = asBytes(first);
  const verified = verifyStatement(note, trust);
  const { statement } = verified;
  const [p0, p1, p2] = asArray(snapshots, 3).map((file, plane) => {
    return verifySnapshot(asBytes(file), signedSet(statement, plane as Plane));
  });
  const layersOf = (value: CborValue | undefined, signed: EpochSet): Held => {
    const layers = asArray(value).map((layer) => asLayer(layer, statement.n));
    return [...layers, { logSize: statement.log.size, set: signed.set }];
  };
  const [older0, older1] = asArray(older, 2);
  const state = statusState(verified, [p0!, p1!, p2!], [layersOf(older0, p0!), layersOf(older1, p1!)]);
  return { note, state };
}

function asLayer(value: CborValue, universe: number): HeldLayer {
  const [logSize, count, body] = asArray(value, 3);
  if (typeof logSize !== "number" || typeof count !== "number") throw new FormatError("ERR_CBOR", "not a layer");
  return { logSize, set: decodeBody(asBytes(body), { universe, count }) };
}

function asArray(value: CborValue | undefined, length?: number): readonly CborValue[] {
  if (!Array.isArray(value) || (length !== undefined && value.length !== length)) {
    throw new FormatError("ERR_CBOR", `not a list of ${length ?? "anything"}`);
  }
  return value;
}

function asBytes(value: CborValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new FormatError("ERR_CBOR", "not a byte string");
  return value;
}
