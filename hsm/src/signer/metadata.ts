/**
 * Which online metadata may be signed: snapshot, timestamp and revocations, listing exactly what the signer accepted
 * or signed last and what the log already shows.
 *
 * The bytes come from outside, so they are parsed strictly and held against the signer's own memory. The worst that a
 * thief gets is a valid pointer to what is true anyway.
 */
import { equalBytes, type PublicKey, type Role, sha256, VerificationError } from "@viafabric/schemas";
import {
  assemble,
  delegatedRole,
  type FileInfo,
  fileInfo,
  keyId,
  type MetaInfo,
  parseSigned,
  type Snapshot,
  STATEMENT_PATH,
  type Targets,
  type Timestamp,
  type TrustedState,
} from "@viafabric/tuf";
import { roleKey } from "./key-ring.ts";
import type { OnlineRole, SignedMetadata, SignerState } from "./state.ts";
import { lastStatement } from "./trust.ts";

export interface MetadataRequest {
  readonly role: OnlineRole;
  /** Canonical signed part. */
  readonly signed: Uint8Array;
  /**
   * Also by the key that the root before this one names. A new root becomes visible after its metadata: for that moment
   * clients judge snapshot and timestamp by the old one.
   */
  readonly bridge?: boolean;
}

/** 30 days, and a day for clocks and for rounding. */
export const ONLINE_SECONDS_MAX = 31 * 86_400;

/**
 * @param held the keys of this signer for the role
 * @param before the role under the root before, where its key is to sign as well
 * @returns the version to sign and the keys, or what was signed when the same bytes come again
 */
export function planMetadata(
  state: SignerState,
  trusted: TrustedState,
  held: readonly PublicKey[],
  { role, signed }: Pick<MetadataRequest, "role" | "signed">,
  now: number,
  before?: Role,
): { readonly version: number; readonly keys: readonly PublicKey[] } | { readonly again: SignedMetadata } {
  const last = state.metadata.get(role);
  const keys = keysOf(held, roleOf(trusted, role), before, role);
  if (last && equalBytes(last.signed, signed)) {
    const hasSigned = (key: PublicKey) => last.signatures.some(({ keyid }) => keyid === keyId(key));
    return keys.every(hasSigned) ? { again: last } : { version: last.version, keys };
  }
  const metadata = parseSigned(role === "revocations" ? "targets" : role, signed);
  // Exactly the next: a thief of the socket must not be able to use the versions up.
  if (last && metadata.version !== last.version + 1)
    throw refused(`${role} ${metadata.version} does not come after ${last.version}, which was signed`);
  if (metadata.expires <= now || metadata.expires > now + ONLINE_SECONDS_MAX)
    throw refused(`${role} expires at ${metadata.expires}, and now it is ${now}`);
  switch (metadata.type) {
    case "targets":
      assertRevocations(state, metadata);
      break;
    case "snapshot":
      assertSnapshot(state, trusted, metadata);
      break;
    case "timestamp":
      assertTimestamp(state, metadata);
  }
  return { version: metadata.version, keys };
}

/** A key of the old role that is not held any more cannot sign, and is no reason not to go on. */
function keysOf(
  held: readonly PublicKey[],
  role: Role,
  before: Role | undefined,
  name: OnlineRole,
): readonly PublicKey[] {
  const key = roleKey(held, role, name);
  const old = held.findLast((own) => before?.keys.some((known) => equalBytes(known.spki, own.spki)));
  return old && !equalBytes(old.spki, key.spki) ? [key, old] : [key];
}

export function withMetadata(state: SignerState, role: OnlineRole, signed: SignedMetadata): SignerState {
  return { ...state, metadata: new Map(state.metadata).set(role, signed) };
}

function roleOf(trusted: TrustedState, role: OnlineRole): Role {
  return role === "revocations"
    ? delegatedRole(trusted.targets, "revocations", STATEMENT_PATH)
    : trusted.root.roles[role];
}

function assertRevocations(state: SignerState, { targets, delegations }: Targets): void {
  const statement = targets.get(STATEMENT_PATH);
  if (targets.size !== 1 || delegations.length > 0 || !statement)
    throw refused(`revocations lists ${STATEMENT_PATH} and nothing else`);
  const epoch = lastStatement(state)?.epoch ?? 0;
  if (epoch === 0 || state.logged.statement < epoch) throw refused("the last statement has no leaf in the log yet");
  assertListed(STATEMENT_PATH, statement, fileInfo(state.statement));
}

function assertSnapshot(state: SignerState, trusted: TrustedState, { meta }: Snapshot): void {
  const { trust, logged } = state;
  const files: (readonly [string, MetaInfo])[] = [
    ["targets.json", { version: trusted.targetsVersion, ...fileInfo(trust!.targets) }],
    ["batches.json", { version: trusted.batchesVersion, ...fileInfo(trust!.batches) }],
  ];
  // What is published must be in the log first.
  if (logged.targets < trusted.targetsVersion || logged.batches < trusted.batchesVersion)
    throw refused("targets or batches has no leaf in the log yet");
  const revocations = state.metadata.get("revocations");
  // Clients take the loss of an entry that was once listed for an attack.
  if (revocations) files.push(["revocations.json", publishedInfo(revocations)]);
  if (meta.size !== files.length) throw refused(`the snapshot lists ${meta.size} roles, not ${files.length}`);
  for (const [name, known] of files) assertListed(name, meta.get(name), known, known.version);
}

function assertTimestamp(state: SignerState, { snapshot }: Timestamp): void {
  const last = state.metadata.get("snapshot");
  if (!last) throw refused("no snapshot was signed yet");
  const known = publishedInfo(last);
  assertListed("snapshot.json", snapshot, known, known.version);
}

/** The file as it is published: the signed part with what was signed here. */
function publishedInfo({ version, signed, signatures }: SignedMetadata): MetaInfo {
  const file = assemble(signed, signatures);
  return { version, length: file.length, sha256: sha256(file) };
}

function assertListed(
  name: string,
  listed: (FileInfo & { readonly version?: number }) | undefined,
  known: FileInfo,
  version?: number,
): void {
  if (!listed) throw refused(`${name} is missing`);
  if (version !== undefined && listed.version !== version)
    throw refused(`${name} is listed as version ${listed.version}; the one to publish is ${version}`);
  if (listed.length !== known.length || !equalBytes(listed.sha256, known.sha256))
    throw refused(`${name} is listed with another length or hash than the file known here`);
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_METADATA_REFUSED", reason);
}
