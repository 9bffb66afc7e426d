/**
 * Taking over what the trustees signed: the chain of roots from the pinned one, targets, batches and the head.
 *
 * Versions never go down and one version never has two contents. A new head extends the last one and knows no more of
 * the log and the statements than the signer itself: trustees cannot have seen what was never signed, so a head that
 * knows more means that this signer's memory is too old.
 */

import { parseStatement } from "@viafabric/revocation";
import {
  equalBytes,
  type Hash,
  type Head,
  OperationError,
  type PublicKey,
  parseNote,
  sha256,
  utf8,
  VerificationError,
  verifyConsistency,
} from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import {
  HEAD_PATH,
  KEYS_PATH,
  POLICY_PATH,
  parseMetadata,
  type Root,
  RULES_PATH,
  type TrustedState,
  verifyTrust,
} from "@viafabric/tuf";
import { frontierOf, type OpenHead, type SignerState, type StoredTrust, type UnloggedFile } from "./state.ts";

export interface TrustRequest extends StoredTrust {
  /** RFC 9162 consistency of the manifest tree, from the last accepted head to the new one. */
  readonly headProof: readonly Hash[];
}

/** What the signer itself holds on to. */
export interface Anchors {
  /** Root v1, with its signatures. */
  readonly pinnedRoot: Uint8Array;
  readonly logKey: PublicKey;
}

export interface Accepted {
  readonly state: SignerState;
  readonly trusted: TrustedState;
}

const NEEDED_FILES = [KEYS_PATH, RULES_PATH, POLICY_PATH, HEAD_PATH];
const NO_CONTENT = new Uint8Array(0);
/** More would mean that nothing is being logged any more. */
export const UNLOGGED_MAX = 256;

/** @throws VerificationError, FormatError; OperationError ERR_SIGNER_BEHIND when the trustees have seen more than we signed */
export function acceptTrust(
  state: SignerState,
  current: TrustedState | undefined,
  anchors: Anchors,
  request: TrustRequest,
  now: number,
): Accepted {
  const trust = { ...request, targetFiles: neededFiles(request.targetFiles) };
  const trusted = verifyStored(anchors, trust, now);
  if (!equalBytes(trusted.authority, state.authority))
    throw new VerificationError("ERR_AUTHORITY", "these trust files are of another authority");
  originOf(trusted, anchors.logKey);
  if (current) assertSuccessor(state, current, trusted, trust, request.headProof);
  assertKnownToUs(state, trusted.head);
  const unlogged = [...state.unlogged, ...newFiles(anchors, trusted, current, trust)];
  if (unlogged.length > UNLOGGED_MAX)
    throw new VerificationError("ERR_SIGNER_ORDER", `${unlogged.length} accepted files wait for their log leaf`);
  const head: OpenHead = {
    version: trusted.batchesVersion,
    size: trusted.head.size,
    fileHash: sha256(trust.batches),
  };
  const isNew = trusted.batchesVersion > (current?.batchesVersion ?? 0);
  const openHeads = isNew ? [...state.openHeads, head] : state.openHeads;
  const { roots, targets, batches, targetFiles } = trust;
  return { trusted, state: { ...state, trust: { roots, targets, batches, targetFiles }, unlogged, openHeads } };
}

/** @param now undefined when the files were accepted before: they may have expired since */
export function verifyStored(anchors: Anchors, trust: StoredTrust, now?: number): TrustedState {
  return verifyTrust({ pinned: { file: anchors.pinnedRoot }, ...trust }, now);
}

/** The root before the one in force; undefined under root v1. */
export function rootBefore({ pinnedRoot }: Anchors, { trust }: Pick<SignerState, "trust">): Root | undefined {
  const file = [pinnedRoot, ...(trust?.roots ?? [])].at(-2);
  return file && parseMetadata("root", file).signed;
}

/** The log's name in the policy that trustees signed. @throws VerificationError ERR_SIGNER_KEY */
export function originOf({ policyText }: TrustedState, logKey: PublicKey): string {
  const { logs } = parsePolicy(utf8(policyText));
  const own = logs.find(({ verifier }) => equalBytes(verifier.key.spki, logKey.spki));
  if (!own) throw new VerificationError("ERR_SIGNER_KEY", "the log policy does not name this signer's log key");
  return own.verifier.name;
}

/** Undefined before the first statement. */
export function lastStatement({
  statement,
}: Pick<SignerState, "statement">): ReturnType<typeof parseStatement> | undefined {
  return statement.length === 0 ? undefined : parseStatement(parseNote(statement).text);
}

/** Profiles and policies say nothing that the signer decides by. */
export function neededFiles(files: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array> {
  return new Map([...files].filter(([path]) => NEEDED_FILES.includes(path)));
}

function assertSuccessor(
  state: SignerState,
  current: TrustedState,
  next: TrustedState,
  files: StoredTrust,
  headProof: readonly Hash[],
): void {
  const stored = state.trust!;
  const rows = [
    ["root", current.rootVersion, next.rootVersion, stored.roots.at(-1), files.roots.at(-1)],
    ["targets", current.targetsVersion, next.targetsVersion, stored.targets, files.targets],
    ["batches", current.batchesVersion, next.batchesVersion, stored.batches, files.batches],
  ] as const;
  for (const [name, old, version, oldFile, file] of rows) {
    if (version < old)
      throw new VerificationError("ERR_ROLLBACK", `${name} ${version} is older than ${old}, which was accepted`);
    if (version === old && oldFile && file && !equalBytes(oldFile, file))
      throw new VerificationError("ERR_ROLLBACK", `two files of ${name} ${version}`);
  }
  // A longer chain must contain the roots that are known already, signatures included: their hashes are in the log.
  if (stored.roots.some((root, i) => !files.roots[i] || !equalBytes(root, files.roots[i])))
    throw new VerificationError("ERR_ROLLBACK", "another chain of roots than the accepted one");
  // The same file again is a question asked twice, and its proof starts from where the caller was the first time.
  if (!equalBytes(stored.batches, files.batches)) assertHeadExtends(current.head, next.head, headProof);
}

function assertHeadExtends(old: Head, next: Head, proof: readonly Hash[]): void {
  try {
    verifyConsistency({ oldSize: old.size, oldRoot: old.root, newSize: next.size, newRoot: next.root, proof });
  } catch (cause) {
    throw new VerificationError("ERR_HEAD_FORK", "the head does not extend the last accepted one", { cause });
  }
  if (next.next < old.next || next.issued < old.issued || next.log.size < old.log.size)
    throw new VerificationError("ERR_ROLLBACK", "the head goes back in indices, time or log size");
}

/** What the head says about the log and the statuses, against what this signer signed. */
function assertKnownToUs(state: SignerState, head: Head): void {
  const { log, floor } = head;
  const statement = lastStatement(state);
  const epoch = statement?.epoch ?? 0;
  if (log.size > state.log.size || floor.logSize > state.log.size || floor.epoch > epoch) {
    throw new OperationError(
      "ERR_SIGNER_BEHIND",
      `the head knows log size ${log.size} and epoch ${floor.epoch}; this signer ${state.log.size} and ${epoch}`,
    );
  }
  if (log.size === state.log.size && !equalBytes(log.root, frontierOf(state).root()))
    throw new VerificationError("ERR_HEAD_FORK", `the head names another log root at size ${log.size}`);
  if (statement && floor.epoch === epoch) {
    const [revoked, suspended] = statement.planes;
    if (
      floor.n !== statement.n ||
      !equalBytes(floor.revokedRoot, revoked.root) ||
      !equalBytes(floor.suspendedRoot, suspended.root)
    )
      throw new VerificationError("ERR_HEAD_FORK", `the head's floor is not what was signed for epoch ${epoch}`);
  }
}

/** Each newly accepted version, in the order in which its leaf must come. */
function newFiles(
  anchors: Anchors,
  trusted: TrustedState,
  current: TrustedState | undefined,
  trust: StoredTrust,
): readonly UnloggedFile[] {
  const files: UnloggedFile[] = [];
  for (const file of [anchors.pinnedRoot, ...trust.roots]) {
    const { version } = parseMetadata("root", file).signed;
    if (version > (current?.rootVersion ?? 0))
      files.push({ kind: "root", number: version, fileHash: sha256(file), content: file });
  }
  if (trusted.targetsVersion > (current?.targetsVersion ?? 0)) {
    const content = trust.targetFiles.get(RULES_PATH)!;
    files.push({ kind: "targets", number: trusted.targetsVersion, fileHash: sha256(trust.targets), content });
  }
  if (trusted.batchesVersion > (current?.batchesVersion ?? 0)) {
    const fileHash = sha256(trust.batches);
    files.push({ kind: "batches", number: trusted.batchesVersion, fileHash, content: NO_CONTENT });
  }
  return files;
}
