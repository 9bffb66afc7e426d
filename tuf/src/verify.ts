/**
 * Who signed: thresholds over distinct public keys, and the chain of roots (TUF specification 5.3).
 *
 * The authority is the hash of root v1's signed part. It never changes, whatever keys rotate in later, so everything
 * else of ours can name it.
 */
import {
  equalBytes,
  formatHex,
  kidText,
  type PublicKey,
  type Role,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import { isMetadataSignature, keyId } from "./keys.ts";
import { type FileInfo, type Metadata, parseMetadata, parseSigned, type Root } from "./metadata.ts";

/** The keys of `role` that signed. Unknown keys and wrong signatures count for nothing. */
export function metadataSigners(
  role: Role,
  metadata: Pick<Metadata, "signedBytes" | "signatures">,
): readonly PublicKey[] {
  const signatures = new Map(metadata.signatures.map(({ keyid, sig }) => [keyid, sig]));
  const signers = new Map<string, PublicKey>();
  for (const key of role.keys) {
    const sig = signatures.get(keyId(key));
    if (sig && isMetadataSignature(key, metadata.signedBytes, sig)) signers.set(kidText(key), key);
  }
  return [...signers.values()];
}

/** @throws VerificationError ERR_THRESHOLD */
export function verifyRole(
  role: Role,
  name: string,
  metadata: Pick<Metadata, "signedBytes" | "signatures">,
): readonly PublicKey[] {
  const signers = metadataSigners(role, metadata);
  // A broken threshold must never mean yes, whoever built the Role.
  const satisfiable = Number.isSafeInteger(role.threshold) && role.threshold >= 1;
  if (!satisfiable || signers.length < role.threshold)
    throw new VerificationError(
      "ERR_THRESHOLD",
      `${signers.length} of the ${role.threshold} distinct keys needed signed ${name}`,
    );
  return signers;
}

/** @param signedBytes the canonical signed part of root v1 */
export function authorityOf(signedBytes: Uint8Array): Uint8Array {
  const { version } = parseSigned("root", signedBytes);
  if (version !== 1)
    throw new VerificationError("ERR_AUTHORITY", `root ${version} does not name the authority; root 1 does`);
  return sha256(signedBytes);
}

/** Where trust starts: root v1, or a later root together with the authority it belongs to. Kept where no server writes. */
export interface PinnedRoot {
  readonly file: Uint8Array;
  readonly authority?: Uint8Array;
}

export interface RootChain {
  readonly authority: Uint8Array;
  readonly root: Root;
  /** SHA-256 of its signed part. */
  readonly id: Uint8Array;
}

/**
 * Follows the roots from the pinned one, each signed by the threshold of its predecessor and by its own.
 * @param files the roots after the pinned one, in order and without gaps; expiry of the last is judged elsewhere
 * @throws VerificationError ERR_THRESHOLD, ERR_ROLLBACK, ERR_AUTHORITY
 */
export function verifyRootChain(pinned: PinnedRoot, files: readonly Uint8Array[]): RootChain {
  let current = parseMetadata("root", pinned.file);
  verifyRole(current.signed.roles.root, "the pinned root", current);
  const authority = pinnedAuthority(pinned, current);
  for (const file of files) {
    const next = parseMetadata("root", file);
    const version = current.signed.version + 1;
    if (next.signed.version !== version)
      throw new VerificationError("ERR_ROLLBACK", `root ${next.signed.version} does not follow root ${version - 1}`);
    verifyRole(current.signed.roles.root, `root ${version} for its predecessor`, next);
    verifyRole(next.signed.roles.root, `root ${version}`, next);
    current = next;
  }
  return { authority, root: current.signed, id: sha256(current.signedBytes) };
}

function pinnedAuthority(pinned: PinnedRoot, root: Metadata<Root>): Uint8Array {
  if (root.signed.version > 1) {
    if (pinned.authority?.length !== 32)
      throw new VerificationError("ERR_AUTHORITY", `root ${root.signed.version} is pinned without its authority`);
    return pinned.authority;
  }
  const authority = authorityOf(root.signedBytes);
  if (pinned.authority && !equalBytes(pinned.authority, authority))
    throw new VerificationError("ERR_AUTHORITY", `the pinned root makes authority ${formatHex(authority)}`);
  return authority;
}

/** @throws VerificationError ERR_METADATA_MISMATCH */
export function verifyFile(name: string, bytes: Uint8Array, listed: FileInfo | undefined): void {
  if (!listed) throw new VerificationError("ERR_METADATA_MISMATCH", `${name} is not listed`);
  if (bytes.length !== listed.length || !equalBytes(sha256(bytes), listed.sha256))
    throw new VerificationError("ERR_METADATA_MISMATCH", `${name} has another length or hash than the one listed`);
}
