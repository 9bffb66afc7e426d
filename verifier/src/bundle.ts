/**
 * Taking in a batch bundle: checked once against the head, read for every tap afterwards.
 *
 * After this a token needs no proof of its own: its leaf is one read and compare in `leaves`, which as a whole is
 * under `manifest.root`, which is under the head that k trustees signed, and whose batch leaf is in the log.
 */
import {
  CodedError,
  decodeLeaf,
  decodeManifest,
  equalBytes,
  type Hash,
  hashLeaf,
  type Manifest,
  MerkleFrontier,
  manifestHash,
  SEALED_TOKEN_BYTES,
  sha256,
  TOKEN_LEAF_BYTES,
  verifyInclusion,
} from "@viafabric/schemas";
import { parseProof, verifyProof } from "@viafabric/transparency-log";
import type { Trust } from "./trust.ts";
import { Refusal, type RefusalCode } from "./verdict.ts";

/** The files of `batch/<seq>/`, as published. */
export interface BundleFiles {
  readonly manifest: Uint8Array;
  readonly leaves: Uint8Array;
  /** Absent for batches whose subjects are not Ed25519 did:keys. */
  readonly tokens?: Uint8Array;
  readonly logProof: Uint8Array;
}

/** A bundle that belongs to the head. `logRefusal` is what a token of it meets when its turn comes. */
export interface HeldBatch {
  readonly manifest: Manifest;
  readonly leaves: Uint8Array;
  readonly tokens?: Uint8Array;
  readonly logRefusal?: RefusalCode;
}

/**
 * @param manifestProof inclusion of H(manifest) at its `seq` in the tree of `trust.head`
 * @throws Refusal bundle-invalid, manifest-not-in-head
 */
export function verifyBundle(trust: Trust, files: BundleFiles, manifestProof: readonly Hash[]): HeldBatch {
  const manifest = readManifest(files.manifest);
  if (!equalBytes(manifest.authority, trust.authority))
    throw new Refusal("bundle-invalid", "a bundle of another authority");
  checkLeaves(manifest, files.leaves);
  checkUnderHead(trust, manifest, files.manifest, manifestProof);
  const logRefusal = checkLogged(trust, manifest, files);
  return {
    manifest,
    leaves: files.leaves,
    ...(files.tokens ? { tokens: files.tokens } : {}),
    ...(logRefusal ? { logRefusal } : {}),
  };
}

function readManifest(bytes: Uint8Array): Manifest {
  try {
    return decodeManifest(bytes);
  } catch (cause) {
    throw new Refusal("bundle-invalid", "manifest.cbor is not a manifest", { cause });
  }
}

/** Every entry has the shape and index of its place, and together they are `manifest.root`. */
function checkLeaves(manifest: Manifest, leaves: Uint8Array): void {
  if (leaves.length !== manifest.count * TOKEN_LEAF_BYTES)
    throw new Refusal("bundle-invalid", "leaves.bin has another length");
  const tree = new MerkleFrontier();
  for (let i = 0; i < manifest.count; i++) {
    const entry = leaves.subarray(i * TOKEN_LEAF_BYTES, (i + 1) * TOKEN_LEAF_BYTES);
    const leaf = readLeaf(entry);
    if (leaf?.type !== "token" || leaf.index !== manifest.first + i) {
      throw new Refusal("bundle-invalid", `entry ${i} of leaves.bin is not the token ${manifest.first + i}`);
    }
    tree.append(hashLeaf(entry));
  }
  if (!equalBytes(tree.root(), manifest.root))
    throw new Refusal("bundle-invalid", "leaves.bin is not what the manifest commits to");
}

function checkUnderHead(trust: Trust, manifest: Manifest, bytes: Uint8Array, proof: readonly Hash[]): void {
  const { size, root } = trust.head;
  try {
    verifyInclusion({ index: manifest.seq, size, leafHash: hashLeaf(manifestHash(bytes)), proof, root });
  } catch (cause) {
    throw new Refusal("manifest-not-in-head", `batch ${manifest.seq} is not under the signed head`, { cause });
  }
}

/** The batch leaf names this manifest and tokens.bin, and is proven to be in the log with its tokens after it. */
function checkLogged(trust: Trust, manifest: Manifest, files: BundleFiles): RefusalCode | undefined {
  const tokensHash = sha256(files.tokens ?? new Uint8Array(0));
  if (files.tokens && files.tokens.length !== manifest.count * SEALED_TOKEN_BYTES) {
    throw new Refusal("bundle-invalid", "tokens.bin has another length");
  }
  let leafIndex: number;
  let size: number;
  try {
    const entry = parseProof(files.logProof).extra;
    const leaf = entry && readLeaf(entry);
    if (leaf?.type !== "batch") return "log-proof-invalid";
    const named = leaf.seq === manifest.seq && equalBytes(leaf.manifestHash, manifestHash(files.manifest));
    if (!named) return "log-proof-invalid";
    if (!equalBytes(leaf.tokensHash, tokensHash))
      throw new Refusal("bundle-invalid", "tokens.bin is not what was logged");
    const proven = verifyProof(trust.policy, entry!, files.logProof);
    leafIndex = proven.index;
    size = proven.checkpoint.size;
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (!(error instanceof CodedError)) throw error;
    return error.code === "ERR_WITNESS_QUORUM" ? "witness-quorum-missing" : "log-proof-invalid";
  }
  // A checkpoint that ends before the batch's tokens would prove an announcement, not the tokens.
  return size >= leafIndex + 1 + manifest.count ? undefined : "log-proof-invalid";
}

function readLeaf(entry: Uint8Array): ReturnType<typeof decodeLeaf> | undefined {
  try {
    return decodeLeaf(entry);
  } catch (error) {
    if (error instanceof CodedError) return undefined;
    throw error;
  }
}
