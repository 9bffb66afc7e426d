/**
 * A witness's home folder: its key, its name, and the memory of what it cosigned.
 *
 * The memory must never be older than what was cosigned: a home that was restored from a backup is the one way in
 * which a witness can be made to cosign two histories. Such a witness is given up, and starts again with another key.
 */
import path from "node:path";
import {
  createKeystore,
  ensureFolder,
  openKeystore,
  PRIVATE_FOLDER,
  putImmutable,
  readFileBounded,
} from "@viafabric/platform";
import { type NoteVerifier, noteVerifier, OperationError, parseUtf8, utf8 } from "@viafabric/schemas";
import {
  Cosigner,
  type FolderWitnessStore,
  type KnownLog,
  openWitnessFolder,
} from "@viafabric/transparency-log/witness";

const NAME_BYTES_MAX = 1024;

/** @throws OperationError ERR_HOME when it is one already, ERR_USAGE for a name that no key can have */
export async function initWitness(home: string, name: string, passphrase: string): Promise<NoteVerifier> {
  await ensureFolder(home, PRIVATE_FOLDER);
  if (!isName(name)) throw new OperationError("ERR_USAGE", "a name is a schema-less URL such as witness.example/w1");
  const { publicKey } = await createKeystore(path.join(home, "keystore.json"), passphrase);
  await putImmutable(path.join(home, "name"), utf8(`${name}\n`));
  return noteVerifier(name, publicKey, 4);
}

export interface OpenWitness {
  readonly cosigner: Cosigner;
  close(): Promise<void>;
}

/** @throws OperationError ERR_HOME, ERR_PASSPHRASE, ERR_LOCKED */
export async function openWitnessHome(
  home: string,
  passphrase: string,
  logs: readonly KnownLog[],
  now: () => number,
): Promise<OpenWitness> {
  const signer = await openKeystore(path.join(home, "keystore.json"), passphrase);
  const name = parseUtf8(await readFileBounded(path.join(home, "name"), NAME_BYTES_MAX)).trimEnd();
  const store: FolderWitnessStore = await openWitnessFolder(
    path.join(home, "logs"),
    noteVerifier(name, signer.publicKey, 4),
  );
  return { cosigner: new Cosigner({ name, signer, logs, store, now }), close: () => store.close() };
}

/** No white space and no plus; printable, because people type it. */
function isName(name: string): boolean {
  return /^[\x21-\x2a\x2c-\x7e]{1,200}$/.test(name);
}
