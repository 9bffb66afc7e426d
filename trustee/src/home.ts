/**
 * A trustee's home folder: the private key, the card, and everything this tool has accepted or signed.
 *
 *     keystore.json       the private key under a passphrase
 *     token.json          in its place: which PKCS#11 token holds the key
 *     card.json           the enrolment card
 *     accepted/root-1     the signed part of root v1, as built here from the cards; its hash is the authority
 *     accepted/trust/     the published state last accepted (tuf's store)
 *     accepted/replay     where the replay of the log stands
 *     signed.journal      what was signed and what was rejected
 */
import path from "node:path";
import {
  ensureFolder,
  openKeystore,
  PRIVATE_FOLDER,
  putImmutable,
  readFileIfPresent,
  readKeystorePublicKey,
} from "@viafabric/platform";
import { equalBytes, OperationError, type PublicKey, type Signer } from "@viafabric/schemas";
import { authorityOf, METADATA_BYTES_MAX } from "@viafabric/tuf";
import { openTokenKey, readTokenFile } from "./token-key.ts";

export interface Home {
  readonly folder: string;
  readonly keystore: string;
  readonly token: string;
  readonly card: string;
  readonly accepted: string;
  readonly trust: string;
  readonly replay: string;
  readonly journal: string;
}

export function homeAt(folder: string): Home {
  const accepted = path.join(folder, "accepted");
  return {
    folder,
    keystore: path.join(folder, "keystore.json"),
    token: path.join(folder, "token.json"),
    card: path.join(folder, "card.json"),
    accepted,
    trust: path.join(accepted, "trust"),
    replay: path.join(accepted, "replay"),
    journal: path.join(folder, "signed.journal"),
  };
}

export async function createHome(home: Home): Promise<void> {
  await ensureFolder(home.folder, PRIVATE_FOLDER);
  await ensureFolder(home.accepted, PRIVATE_FOLDER);
}

/** The signed part of the root v1 that this trustee enrolled under. @throws OperationError ERR_HOME before enrolment */
export async function readFirstRoot(
  home: Home,
): Promise<{ readonly signed: Uint8Array; readonly authority: Uint8Array }> {
  const signed = await readFileIfPresent(firstRootFile(home), METADATA_BYTES_MAX.root);
  if (!signed) throw new OperationError("ERR_HOME", `${home.folder} belongs to no authority yet; run enroll first`);
  return { signed, authority: authorityOf(signed) };
}

/** A home belongs to one authority for ever. @throws OperationError ERR_HOME when it belongs to another one */
export async function writeFirstRoot(home: Home, signed: Uint8Array): Promise<void> {
  const existing = await readFileIfPresent(firstRootFile(home), METADATA_BYTES_MAX.root);
  if (existing && !equalBytes(existing, signed))
    throw new OperationError("ERR_HOME", `${home.folder} belongs to another authority; use a new home and a new key`);
  await putImmutable(firstRootFile(home), signed);
}

/** @param secret the passphrase of the keystore, or the PIN of the token */
export async function openSigner(home: Home, secret: string): Promise<Signer> {
  const token = await readTokenFile(home.token);
  return token ? openTokenKey(token, secret) : openKeystore(home.keystore, secret);
}

export async function readOwnKey(home: Home): Promise<PublicKey> {
  return (await readTokenFile(home.token))?.key ?? readKeystorePublicKey(home.keystore);
}

function firstRootFile(home: Home): string {
  return path.join(home.accepted, "root-1");
}
