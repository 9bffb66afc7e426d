/**
 * The published files that log entries name: whether those that the source holds are the ones that were logged.
 *
 * The log holds hashes; a mirror may hold the log alone, or the whole published tree. What is there is checked, what
 * is not is counted.
 */
import {
  CodedError,
  decodeManifest,
  decodeTranscript,
  type ErrorCode,
  equalBytes,
  formatHex,
  type Hash,
  OperationError,
  rootOfHashes,
  sha256,
  type TrustLeaf,
  VerificationError,
  verifyTranscript,
} from "@viafabric/schemas";
import {
  formatProof,
  type LogPolicy,
  parseProof,
  type VerifiedCheckpoint,
  verifyProof,
} from "@viafabric/transparency-log";
import type { FetchFile } from "@viafabric/transparency-log/client";
import type { Finding, LoggedBatch } from "./log-rules.ts";

export interface Evidence {
  /** Whether the source holds the file or bundle at all. */
  readonly held: boolean;
  readonly findings: readonly Finding[];
}

const NOTHING: Evidence = { held: false, findings: [] };

/** Where a trust file is published; the first root lies in two places. */
export function trustPaths(leaf: TrustLeaf): readonly string[] {
  switch (leaf.kind) {
    case "root":
      return [`tuf/metadata/${leaf.number}.root.json`, `root/${leaf.number}.root.json`];
    case "targets":
    case "batches":
      return [`tuf/metadata/${leaf.number}.${leaf.kind}.json`];
    case "statement":
      return [`revocation/e/${leaf.number}.txt`];
    case "transcript":
      return [`transcripts/${leaf.number}.json`];
  }
}

/** @param fetch gives the published tree */
export async function checkTrustFile(fetch: FetchFile, entry: number, leaf: TrustLeaf): Promise<Evidence> {
  const findings: Finding[] = [];
  let held = false;
  for (const path of trustPaths(leaf)) {
    const file = await fetch(path);
    if (!file) continue;
    held = true;
    if (!equalBytes(sha256(file), leaf.fileHash)) findings.push(differs(entry, `${path} is not the file logged here`));
    else if (leaf.kind === "transcript") findings.push(...checkTranscript(entry, leaf.number, file));
  }
  return { held, findings };
}

/** Whether its keys have signed it. Whose it is, is asked where decisions are judged. */
function checkTranscript(entry: number, number: number, file: Uint8Array): readonly Finding[] {
  try {
    const transcript = verifyTranscript(file, decodeTranscript(file).authority);
    return transcript.number === number
      ? []
      : [differs(entry, `transcript ${number} calls itself ${transcript.number}`)];
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    return [{ entry, code: error.code as ErrorCode, message: `transcript ${number}: ${error.message}` }];
  }
}

/**
 * The bundle of a batch against its leaf and the token leaves behind it: the manifest states exactly those tokens.
 * @param fetch gives the published tree
 */
export async function checkBatch(
  fetch: FetchFile,
  policies: readonly LogPolicy[],
  batch: LoggedBatch,
  rootAt?: RootAt,
): Promise<Evidence> {
  const { entry, leaf, count } = batch;
  const folder = `batch/${leaf.seq}`;
  const manifestBytes = await fetch(`${folder}/manifest.cbor`);
  if (!manifestBytes) return NOTHING;
  const findings: Finding[] = [];
  const check = async (work: () => Promise<void> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
      findings.push({ entry, code: error.code as ErrorCode, message: `batch ${leaf.seq}: ${error.message}` });
    }
  };
  const fail = (message: string) => findings.push(differs(entry, `batch ${leaf.seq}: ${message}`));

  await check(() => {
    if (!equalBytes(sha256(manifestBytes), leaf.manifestHash)) {
      fail(`manifest.cbor is not the manifest logged here: ${notJudged(count)}`);
      return;
    }
    const manifest = decodeManifest(manifestBytes);
    if (manifest.seq !== leaf.seq) fail(`the manifest is that of batch ${manifest.seq}`);
    if (manifest.count !== count) {
      fail(`the manifest counts ${manifest.count} tokens, ${count} token leaves follow`);
    } else if (manifest.first !== batch.first) {
      fail(`the manifest begins at index ${manifest.first}, the token leaves at ${batch.first}`);
    } else if (!equalBytes(manifest.root, rootOfHashes(batch.hashes))) {
      fail(`the manifest's root ${formatHex(manifest.root)} is not that of the token leaves`);
    }
  });
  const leaves = await fetch(`${folder}/leaves.bin`);
  if (leaves && !equalBytes(leaves, batch.leaves)) fail("leaves.bin does not hold the token leaves");
  // A batch with subjects other than did:key has no tokens.bin, and its leaf hashes the empty string.
  const tokensBin = (await fetch(`${folder}/tokens.bin`)) ?? new Uint8Array(0);
  if (!equalBytes(sha256(tokensBin), leaf.tokensHash)) fail("tokens.bin is not the file logged here");
  const proof = await fetch(`${folder}/log.proof`);
  if (proof) {
    await check(async () => {
      const checkpoint = await checkProof(policies, { path: "log.proof", entry, bytes: batch.bytes, proof, rootAt });
      if (checkpoint.size < entry + 1 + count) fail("the checkpoint of log.proof does not cover the tokens");
    });
  }
  return { held: true, findings };
}

/** The root that the audited log has at a size; undefined beyond it. */
export type RootAt = (size: number) => Promise<Hash | undefined>;

export interface ProofFile {
  readonly path: string;
  /** Log index and bytes of the entry that it must prove. */
  readonly entry: number;
  readonly bytes: Uint8Array;
  readonly proof: Uint8Array;
  readonly rootAt?: RootAt | undefined;
}

/** @param policies all that were ever in force: a proof is as old as what it proves. @throws VerificationError */
export async function checkProof(policies: readonly LogPolicy[], file: ProofFile): Promise<VerifiedCheckpoint> {
  const { path, entry, bytes, proof, rootAt } = file;
  const { index, checkpoint } = verifyUnderAny(policies, bytes, proof);
  const parsed = parseProof(proof);
  // Readers take the leaf from `extra`, so it must be there although nothing signs it.
  if (!equalBytes(parsed.extra ?? new Uint8Array(0), bytes)) throw evidence(`${path} brings another leaf`);
  if (!equalBytes(formatProof(parsed), proof)) throw evidence(`${path} is not in the one spelling of a proof`);
  if (index !== entry) throw evidence(`${path} proves entry ${index}`);
  const root = await rootAt?.(checkpoint.size);
  if (root && !equalBytes(root, checkpoint.root)) {
    const reason = `${path} holds a signed checkpoint of ${checkpoint.size} entries that this log does not extend`;
    throw new VerificationError("ERR_LOG_SPLIT", reason);
  }
  return checkpoint;
}

function verifyUnderAny(policies: readonly LogPolicy[], entry: Uint8Array, proof: Uint8Array) {
  let failure: unknown;
  for (const policy of policies) {
    try {
      return verifyProof(policy, entry, proof);
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
      failure = error;
    }
  }
  throw failure ?? evidence("there is no log policy to judge a proof by");
}

/** What hangs on a manifest that is not there. */
export function notJudged(count: number): string {
  return `who may decide about its ${count} tokens is not judged`;
}

export function evidence(message: string): VerificationError {
  return new VerificationError("ERR_LOG_EVIDENCE", message);
}

function differs(entry: number, message: string): Finding {
  return { entry, code: "ERR_LOG_EVIDENCE", message };
}
