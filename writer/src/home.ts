/**
 * A station's home folder; a release officer's has the first four and no kits.
 *
 *     keystore.json       the private key under a passphrase
 *     card.json           the enrolment card
 *     root.json           the pinned root of the authority
 *     trust/              the published state last accepted (tuf's store)
 *     kits/<id>/          a sealed kit, the key that opens it, and its proof under the accepted head
 *     ledger/<id>         which serial went onto which tag; outlives its kit, for it alone prevents a second writing
 */
import path from "node:path";
import { ensureFolder, PRIVATE_FOLDER, putImmutable, readFileIfPresent } from "@viafabric/platform";
import { equalBytes, OperationError, utf8 } from "@viafabric/schemas";
import { parsePolicy } from "@viafabric/transparency-log";
import { METADATA_BYTES_MAX, type PinnedRoot, type TrustedState, verifyRootChain } from "@viafabric/tuf";
import { loadTrust } from "@viafabric/tuf/client";
import type { Trust } from "@viafabric/verifier";

export interface Home {
  readonly folder: string;
  readonly keystore: string;
  readonly card: string;
  readonly root: string;
  readonly trust: string;
  readonly kits: string;
  readonly ledgers: string;
}

/** The authority that this home belongs to. */
export interface Enrolment {
  readonly pinned: PinnedRoot;
  readonly authority: Uint8Array;
}

export function homeAt(folder: string): Home {
  const at = (name: string) => path.join(folder, name);
  return {
    folder,
    keystore: at("keystore.json"),
    card: at("card.json"),
    root: at("root.json"),
    trust: at("trust"),
    kits: at("kits"),
    ledgers: at("ledger"),
  };
}

export async function createHome(home: Home): Promise<void> {
  for (const folder of [home.folder, home.kits, home.ledgers]) await ensureFolder(folder, PRIVATE_FOLDER);
}

/** What a root file says, without keeping it. @throws FormatError, VerificationError */
export function readRoot(file: Uint8Array): Enrolment {
  const pinned = { file };
  return { pinned, authority: verifyRootChain(pinned, []).authority };
}

/** A home belongs to one authority for ever. @throws OperationError ERR_HOME when it belongs to another one */
export async function pinRoot(home: Home, enrolment: Enrolment): Promise<void> {
  const existing = await readFileIfPresent(home.root, METADATA_BYTES_MAX.root);
  if (existing && !equalBytes(readRoot(existing).authority, enrolment.authority)) {
    throw new OperationError("ERR_HOME", `${home.folder} belongs to another authority; use a new home and a new key`);
  }
  if (!existing) await putImmutable(home.root, enrolment.pinned.file);
}

/** @throws OperationError ERR_HOME before enrolment */
export async function readEnrolment(home: Home): Promise<Enrolment> {
  const file = await readFileIfPresent(home.root, METADATA_BYTES_MAX.root);
  if (file) return readRoot(file);
  throw new OperationError("ERR_HOME", `${home.folder} belongs to no authority yet; run via writer enroll --root FILE`);
}

/** What the verifier needs of the state accepted last. @throws OperationError ERR_TRUST_MISSING before the first fetch */
export async function loadStationTrust(home: Home, enrolment: Enrolment): Promise<Trust> {
  return trustOf(await loadTrust(home.trust, enrolment.pinned));
}

export function trustOf(state: TrustedState): Trust {
  const { authority, trustees, keys, rules, head, batchesVersion, expires } = state;
  const policy = parsePolicy(utf8(state.policyText));
  return { authority, trustees, keys, rules, head, batchesVersion, expires, policy };
}
