/**
 * The published tree of an authority with any number of batches, as a map of files: every signature is real, and all
 * keys come from seeds. A few batches exist with their bundles; the others are hashes in the manifest tree, which is
 * all that a node which does not hold them ever reads.
 */
import {
  EPOCH_ZERO,
  type EpochPlanes,
  encodeSnapshot,
  epochFiles,
  formatStatement,
  PLANES,
  planeRoots,
  snapshotPath,
  statementName,
  verifyStatement,
} from "@viafabric/revocation";
import {
  decodeTrustKeys,
  EMPTY_ROOT,
  encodeHead,
  encodeRules,
  encodeTrustKeys,
  formatNote,
  type Hash,
  hashLeaves,
  type KeyEntry,
  manifestHash,
  noteVerifier,
  type Role,
  type Signer,
  sha256,
  signNote,
  utf8,
} from "@viafabric/schemas";
import { EMPTY_EDGE, formatPolicy, growEdge, policyOfLog, rootOfEdge, tilePath } from "@viafabric/transparency-log";
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
import { DAY, ISSUER, LOG, LOG_ORIGIN, makeBatch, RELEASE, STATION, STATUS, seededSigner } from "./authority.ts";

export const THRESHOLD = 3;
export const TRUSTEES = [1, 2, 3, 4, 5].map((i) => seededSigner(`published trustee ${i}`));
export const ONLINE = {
  snapshot: seededSigner("published snapshot"),
  timestamp: seededSigner("published timestamp"),
  revocations: seededSigner("published revocations"),
};

export interface PublishedOptions {
  /** Unix seconds: when the first version was signed. */
  readonly now: number;
  /** Under the head. */
  readonly batches: number;
  /** Those that exist with their bundles: the first so many. */
  readonly bundles?: number;
  /** In each batch. */
  readonly tokens?: number;
  /** Of batches, snapshot, timestamp and the statement: one more for each publication. */
  readonly version?: number;
  /** Where they began; 1, or a multiple of 32 to begin in the middle of an authority's life. */
  readonly firstVersion?: number;
  /** Seconds between two of them; the first was at `now`. */
  readonly every?: number;
  /** More files of the role targets, by path. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
  readonly targetsVersion?: number;
}

/** By path below the published folder. */
export type Files = Map<string, Uint8Array>;

const BATCH_LIST_LINES = 256;

export interface PublishedAuthority {
  /** To pin. */
  readonly root: Uint8Array;
  readonly files: Files;
  /** Of the bundles, as they are on tags, in index order. */
  readonly tokens: readonly Uint8Array[];
}

export async function publishedAuthority(options: PublishedOptions): Promise<PublishedAuthority> {
  const { now, batches: count, bundles = 0, tokens = 4, firstVersion = 1, version = firstVersion } = options;
  const issued = now + (version - firstVersion) * (options.every ?? 1);
  const files: Files = new Map();
  const quorum: Role = { keys: TRUSTEES.map(({ publicKey }) => publicKey), threshold: THRESHOLD };
  const role = ({ publicKey }: Signer): Role => ({ keys: [publicKey], threshold: 1 });
  const signed = async (bytes: Uint8Array, signers: readonly Signer[]) => {
    return assemble(bytes, await Promise.all(signers.map((signer) => signMetadata(signer, bytes))));
  };
  const put = (name: string, at: number, file: Uint8Array) => {
    files.set(`tuf/metadata/${metadataFileName(name, at)}`, file);
    return { version: at, file };
  };
  const people = TRUSTEES.slice(0, THRESHOLD);

  const rootBytes = buildRoot({
    version: 1,
    // The authority is the hash of this: it must not depend on the day.
    expires: Date.UTC(2099, 0, 1) / 1000,
    roles: { root: quorum, targets: quorum, snapshot: role(ONLINE.snapshot), timestamp: role(ONLINE.timestamp) },
  });
  const authority = authorityOf(rootBytes);
  const root = await signed(rootBytes, people);
  put("root", 1, root);
  files.set("root/1.root.json", root);

  const [hashes, compact]: [Uint8Array[], Uint8Array[]] = [[], []];
  for (let seq = 0; seq < count; seq++) {
    if (seq >= bundles) {
      hashes.push(sha256(utf8(`manifest ${seq}`)));
      continue;
    }
    const changes = {
      authority,
      seq,
      first: seq * tokens,
      nbf: now - DAY,
      claimBy: now + 90 * DAY,
      exp: now + 365 * DAY,
    };
    const batch = await makeBatch({ count: tokens, manifest: changes });
    const { manifest, leaves, tokens: sealed, logProof } = batch.files;
    hashes.push(manifestHash(manifest));
    compact.push(...batch.compact);
    for (const [name, bytes] of Object.entries({
      "manifest.cbor": manifest,
      "leaves.bin": leaves,
      "tokens.bin": sealed,
      "log.proof": logProof,
    }))
      if (bytes) files.set(`batch/${seq}/${name}`, bytes);
  }
  const tree = growEdge(EMPTY_EDGE, hashLeaves(hashes));
  for (const { tile, bytes } of tree.tiles) files.set(`batches/${tilePath(tile)}`, bytes);
  for (let page = 0; page * BATCH_LIST_LINES < count; page++) {
    const size = Math.min(BATCH_LIST_LINES, count - page * BATCH_LIST_LINES);
    const lines = Array.from({ length: size }, (_, i) => page * BATCH_LIST_LINES + i);
    files.set(
      `batches/list/${page}`,
      utf8(lines.map((seq) => `${seq} ${seq * tokens} ${tokens} edge-basic\n`).join("")),
    );
  }

  const statement = await statementFiles(authority, options, files);
  const head = encodeHead({
    authority,
    size: count,
    root: rootOfEdge(tree.edge),
    next: count * tokens,
    log: { size: 0, root: EMPTY_ROOT },
    floor: { epoch: 0, n: 0, logSize: 0, revokedRoot: EMPTY_ROOT, suspendedRoot: EMPTY_ROOT },
    issued,
  });
  const listed = new Map([...trustFiles(authority, now), ...(options.files ?? [])]);
  for (const [path, bytes] of [...listed, [HEAD_PATH, head] as const, [STATEMENT_PATH, statement] as const])
    files.set(`tuf/targets/${targetFileName(path, sha256(bytes))}`, bytes);
  const targetsVersion = options.targetsVersion ?? 1;
  const targetsBytes = buildTargets({
    version: targetsVersion,
    expires: now + 365 * DAY,
    targets: listed,
    batches: quorum,
    revocations: role(ONLINE.revocations),
  });
  const batchesBytes = buildBatches({ version, expires: issued + 120 * DAY, head });
  const revocationsBytes = buildRevocations({ version, expires: issued + 30 * DAY, statement });
  const roles = new Map([
    ["targets", put("targets", targetsVersion, await signed(targetsBytes, people))],
    ["batches", put("batches", version, await signed(batchesBytes, people))],
    ["revocations", put("revocations", version, await signed(revocationsBytes, [ONLINE.revocations]))],
  ]);
  const snapshotBytes = buildSnapshot({ version, expires: issued + 30 * DAY, roles });
  const snapshot = put("snapshot", version, await signed(snapshotBytes, [ONLINE.snapshot]));
  const timestampBytes = buildTimestamp({ version, expires: issued + 30 * DAY, snapshot });
  put("timestamp", version, await signed(timestampBytes, [ONLINE.timestamp]));
  return { root, files, tokens: compact };
}

/** One epoch for each version, each with one batch more. All tokens are released, none revoked. */
async function statementFiles(authority: Uint8Array, options: PublishedOptions, files: Files): Promise<Uint8Array> {
  const { now, batches, tokens = 4, firstVersion = 1, version = firstVersion } = options;
  const keys = decodeTrustKeys(trustFiles(authority, now).get(KEYS_PATH)!);
  let previous: Hash = firstVersion === 1 ? new Uint8Array(32) : sha256(utf8("the epochs before"));
  let before: EpochPlanes = { ...EPOCH_ZERO, epoch: firstVersion - 1 };
  let note: Uint8Array = new Uint8Array(0);
  for (let epoch = firstVersion; epoch <= version; epoch++) {
    const next = { ...EPOCH_ZERO, epoch, n: Math.max(0, batches - (version - epoch)) * tokens };
    if (epoch === firstVersion && epoch > 1)
      for (const plane of PLANES)
        files.set(snapshotPath(plane, epoch), encodeSnapshot({ plane, epoch, n: next.n, set: next.planes[plane] }));
    else
      for (const { path, bytes } of await epochFiles(before, next, async (name) => files.get(name)))
        files.set(path, bytes);
    const issued = now + (epoch - firstVersion) * (options.every ?? 1);
    const text = formatStatement({
      authority,
      epoch,
      previous,
      n: next.n,
      log: { size: 12 * epoch, root: sha256(utf8(`a log at epoch ${epoch}`)) },
      batches: epoch,
      issued,
      next: issued + 3600,
      ages: { soft: 2 * DAY, hard: 30 * DAY },
      planes: planeRoots(next),
    });
    note = formatNote({ text, signatures: [await signNote(text, statementName(authority), STATUS)] });
    files.set(`revocation/e/${epoch}.txt`, note).set(`revocation/undo/${epoch}.txt`, new Uint8Array(0));
    [previous, before] = [verifyStatement(note, { authority, keys }).hash, next];
  }
  files.set("revocation/latest", note);
  return note;
}

function trustFiles(authority: Uint8Array, now: number): ReadonlyMap<string, Uint8Array> {
  const entry = ({ publicKey }: Signer, purpose: KeyEntry["purpose"]): KeyEntry => {
    return { key: publicKey, purpose, class: "hardware", from: now - 365 * DAY, until: now + 730 * DAY };
  };
  const keys = [entry(ISSUER, "issuer"), entry(STATUS, "status"), entry(RELEASE, "release"), entry(STATION, "station")];
  const rules = {
    authority,
    thresholds: { suspend: 1, revokeKit: 2, revoke: THRESHOLD, reinstate: THRESHOLD },
    ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
    classes: new Map([["issuer", "hardware"] as const]),
  };
  return new Map([
    [KEYS_PATH, encodeTrustKeys(keys)],
    [RULES_PATH, encodeRules(rules)],
    [POLICY_PATH, utf8(formatPolicy(policyOfLog(noteVerifier(LOG_ORIGIN, LOG.publicKey))))],
  ]);
}
