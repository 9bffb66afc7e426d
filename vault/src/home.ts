/**
 * A vault's home folder.
 *
 *     H/               0711   a web server may walk through, and sees nothing
 *       public/        0755   everything published: any static server or CDN serves it
 *       genesis/       0755   what trustees take home and sign
 *       private/       0700   hsm/, signer/, log/ (staging), transcripts/, operator.json with its passphrase, vault.key
 *       notify.json            whom to tell what, if anybody
 *       db/            0700   PostgreSQL, or db.path beside it: where it lives instead
 */
import { chmod } from "node:fs/promises";
import path from "node:path";
import { ensureFolder, PRIVATE_FOLDER, PUBLIC_FOLDER, readFileBounded } from "@viafabric/platform";
import { OperationError } from "@viafabric/schemas";
import type { Folder } from "./genesis-folder.ts";

/** Others may pass through it to public/, and list nothing. */
const HOME_FOLDER = 0o711;

export interface Home {
  readonly root: string;
  readonly public: string;
  readonly genesis: string;
  readonly private: string;
  readonly db: string;
  /** SoftHSM's token. */
  readonly hsm: string;
  /** The bounded signer's configuration and memory. */
  readonly signer: string;
  readonly signerConfig: string;
  /** Root v1 with its signatures: what the signer and the vault pin. */
  readonly pinnedRoot: string;
  /** The other two files of genesis, as they were put together. */
  readonly founded: string;
  readonly staging: string;
  /** Of key ceremonies, as they were held. */
  readonly transcripts: string;
  /** What a witness said when it contradicted the log: while it is there, nothing is signed. */
  readonly split: string;
  readonly settings: string;
  /** Whom to tell what; there need not be one. */
  readonly notify: string;
  readonly vaultKey: string;
  readonly operator: string;
  readonly operatorPassphrase: string;
}

export function homeAt(folder: string): Home {
  const root = path.resolve(folder);
  const inside = (...names: string[]): string => path.join(root, ...names);
  return {
    root,
    public: inside("public"),
    genesis: inside("genesis"),
    private: inside("private"),
    db: inside("db"),
    hsm: inside("private/hsm"),
    signer: inside("private/signer"),
    signerConfig: inside("private/signer/signer.json"),
    pinnedRoot: inside("private/signer/1.root.json"),
    founded: inside("private/genesis"),
    staging: inside("private/log"),
    transcripts: inside("private/transcripts"),
    split: inside("private/witness-split.json"),
    settings: inside("private/settings.json"),
    notify: inside("notify.json"),
    vaultKey: inside("private/vault.key"),
    operator: inside("private/operator.json"),
    operatorPassphrase: inside("private/operator.passphrase"),
  };
}

/** Makes the folders, each with the mode it must have whatever the umask. */
export async function makeHome(home: Home): Promise<void> {
  const folders = [
    [home.root, HOME_FOLDER],
    [home.public, PUBLIC_FOLDER],
    [home.genesis, PUBLIC_FOLDER],
    [home.private, PRIVATE_FOLDER],
    [home.hsm, PRIVATE_FOLDER],
    [home.signer, PRIVATE_FOLDER],
    [home.db, PRIVATE_FOLDER],
  ] as const;
  for (const [folder, mode] of folders) {
    await ensureFolder(folder, mode);
    await chmod(folder, mode);
  }
}

/** @throws OperationError ERR_HOME with what to do first */
export async function readHomeFile(file: string, bytesMax: number, advice: string): Promise<Uint8Array> {
  try {
    return await readFileBounded(file, bytesMax);
  } catch (cause) {
    throw new OperationError("ERR_HOME", `${file} is missing: ${advice}`, { cause });
  }
}

/** The files below a folder, by their path with forward slashes. */
export async function readFolder(folder: string, list: readonly string[], bytesMax: number): Promise<Folder> {
  const files = new Map<string, Uint8Array>();
  for (const name of list) files.set(name, await readFileBounded(path.join(folder, name), bytesMax));
  return files;
}
