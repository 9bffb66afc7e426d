/**
 * `vault init` and `vault genesis`: from cards and an HSM to an authority whose first files are public.
 *
 * init makes keys and writes down what trustees will sign; it publishes nothing and decides nothing. genesis takes the
 * trustees' signatures, and publishes exactly what they signed. Both may be run again after a crash: keys that exist
 * are not made twice, and files that were put together once stay as they are.
 */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import {
  findSoftHsm,
  initSoftHsmToken,
  type KeysReference,
  performCeremony,
  type SoftwareReference,
  type TokenReference,
} from "@viafabric/hsm";
import { formatSignerConfig, SIGNER_KEYS, type SignerConfig, type SignerKey, signerKeys } from "@viafabric/hsm/signer";
import {
  createKeystore,
  ensureFolder,
  PRIVATE_FILE,
  PRIVATE_FOLDER,
  putImmutable,
  readFileIfPresent,
  writeFileDurable,
} from "@viafabric/platform";
import {
  type Algorithm,
  concat,
  formatBase64Url,
  type KeyClass,
  NO_AUTHORITY,
  OperationError,
  type PublicKey,
  parsePublicKey,
  u32,
  utf8,
} from "@viafabric/schemas";
import { GENESIS_ROLES } from "@viafabric/tuf";
import { Desk, type DeskDependencies } from "./desk.ts";
import { type Genesis, type GenesisOptions, type OnlineKeys, planGenesis } from "./genesis.ts";
import {
  assembleGenesis,
  formatSettings,
  GENESIS_FILE_BYTES_MAX,
  genesisFolder,
  genesisSigners,
  readGenesisFolder,
  type SignedGenesis,
  signatureFilesIn,
} from "./genesis-folder.ts";
import { type Home, makeHome, readFolder } from "./home.ts";
import { TOOL } from "./online-keys.ts";
import { socketFolder } from "./postgres.ts";
import { publicationRound } from "./round.ts";
import { SECRET_KEY_BYTES } from "./secrets.ts";
import { keepTranscript, logTranscripts } from "./transcripts.ts";
import { genesisEntries, genesisFiles } from "./trust-files.ts";

const SOCKET = "signer.sock";
const TOKEN_LABEL = "viafabric";
const PASSPHRASE_BYTES = 24;
/** Notes are signed with Ed25519 alone. */
const NOTE_KEYS: readonly SignerKey[] = ["log", "status"];

export interface InitOptions extends Omit<GenesisOptions, "online" | "onlineClass" | "operator" | "now"> {
  /** A token of a module; a new SoftHSM token in the home when left out. */
  readonly token?: TokenReference;
  /** Keys in files under a drawn passphrase, for a machine without any module. */
  readonly software?: boolean;
  /** Of the keys that need not sign notes. For modules without Ed25519. */
  readonly algorithm?: Algorithm;
  /** What the token is called; refused where it is known to be no hardware. Told by the token when left out. */
  readonly keyClass?: KeyClass;
  /** For the operator key; drawn and kept in private/ when left out. */
  readonly passphrase?: string;
  readonly now: number;
}

/** @throws OperationError ERR_HOME when the home is in use; whatever planGenesis throws, before anything is made */
export async function initVault(home: Home, options: InitOptions): Promise<Genesis> {
  const { token, software, algorithm, keyClass, passphrase, ...ceremony } = options;
  // Cards are checked with throw-away keys first: a bad card must not leave a half-made home behind.
  planGenesis({ ...ceremony, online: throwAwayKeys(), onlineClass: "software", operator: throwAwayKey() });
  if ((await readdir(home.root).catch(() => [])).length > 0)
    throw new OperationError("ERR_HOME", `${home.root} is not empty; a vault needs a folder of its own`);
  if (!token && !software) await findSoftHsm();
  if (!token && keyClass === "hardware")
    throw new OperationError("ERR_HSM_TOKEN", "keys of class hardware need a token: name it with --hsm");
  try {
    return await initHome(home, options, ceremony);
  } catch (error) {
    // Nobody has seen anything of it yet, and the next try needs an empty folder.
    await rm(home.root, { recursive: true, force: true });
    throw error;
  }
}

async function initHome(
  home: Home,
  options: InitOptions,
  ceremony: Omit<GenesisOptions, "online" | "onlineClass" | "operator">,
): Promise<Genesis> {
  const { token, software, passphrase } = options;
  await makeHome(home);
  const operator = await createOperator(home, passphrase);
  await writeFileDurable(home.vaultKey, new Uint8Array(randomBytes(SECRET_KEY_BYTES)), PRIVATE_FILE);
  const hsm =
    token ?? (software ? await softwareKeys(home) : await initSoftHsmToken({ folder: home.hsm, label: TOKEN_LABEL }));
  const { online, onlineClass } = await createOnlineKeys(home, hsm, options);
  const genesis = planGenesis({ ...ceremony, online, onlineClass, operator });
  for (const [name, bytes] of genesisFolder(genesis)) {
    const file = path.join(home.genesis, name);
    await ensureFolder(path.dirname(file));
    await writeFileDurable(file, bytes);
  }
  return genesis;
}

async function softwareKeys(home: Home): Promise<SoftwareReference> {
  const passphraseFile = path.join(home.hsm, "passphrase");
  const passphrase = formatBase64Url(randomBytes(PASSPHRASE_BYTES));
  await writeFileDurable(passphraseFile, utf8(`${passphrase}\n`), PRIVATE_FILE);
  return { software: path.join(home.hsm, "keys"), passphraseFile };
}

async function createOperator(home: Home, given: string | undefined): Promise<PublicKey> {
  const passphrase = given ?? formatBase64Url(randomBytes(PASSPHRASE_BYTES));
  if (given === undefined) await writeFileDurable(home.operatorPassphrase, utf8(`${passphrase}\n`), PRIVATE_FILE);
  return (await createKeystore(home.operator, passphrase)).publicKey;
}

async function createOnlineKeys(
  home: Home,
  hsm: KeysReference,
  { algorithm = "ed25519", keyClass, now }: Pick<InitOptions, "algorithm" | "keyClass" | "now">,
): Promise<{ readonly online: OnlineKeys; readonly onlineClass: KeyClass }> {
  // Ids of our own, so that a token which holds other keys is not disturbed.
  const prefix = new Uint8Array(randomBytes(4));
  const bytes = await performCeremony(hsm, {
    authority: NO_AUTHORITY,
    number: 1,
    made: now,
    action: "init",
    tool: TOOL,
    ...(keyClass && { class: keyClass }),
    keys: SIGNER_KEYS.map((role, i) => ({
      role,
      id: concat(prefix, u32(i + 1)),
      make: NOTE_KEYS.includes(role) ? "ed25519" : algorithm,
    })),
  });
  const { keys, class: onlineClass } = await keepTranscript(home.transcripts, bytes);
  const config: SignerConfig = {
    hsm,
    root: path.basename(home.pinnedRoot),
    public: path.relative(home.signer, home.public),
    socket: path.join(await socketFolder(home.signer, SOCKET), SOCKET),
    keys: signerKeys((_name, i) => [{ id: keys[i]!.id, publicKey: keys[i]!.key }]),
  };
  await writeFileDurable(home.signerConfig, formatSignerConfig(config), PRIVATE_FILE);
  const online = Object.fromEntries(SIGNER_KEYS.map((name, i) => [name, keys[i]!.key])) as unknown as OnlineKeys;
  return { online, onlineClass };
}

/** Who of the trustees has signed, by key id. */
export async function ceremonyState(
  home: Home,
): Promise<{ readonly genesis: Genesis; readonly signed: readonly string[] }> {
  const folder = await readGenesis(home);
  const genesis = readGenesisFolder(folder);
  return { genesis, signed: genesisSigners(genesis, signatureFilesIn(folder)) };
}

/**
 * Puts the signed files together, once: which signatures are in them is settled by the first run that has enough.
 * @throws VerificationError ERR_THRESHOLD until k trustees have signed
 */
export async function foundAuthority(home: Home, now: number): Promise<{ genesis: Genesis; signed: SignedGenesis }> {
  const folder = await readGenesis(home);
  const genesis = readGenesisFolder(folder);
  const signed = await settle(home, assembleGenesis(genesis, signatureFilesIn(folder), now));
  await putImmutable(home.settings, formatSettings(genesis.settings), PRIVATE_FILE);
  return { genesis, signed };
}

async function settle(home: Home, { files, trusted }: SignedGenesis): Promise<SignedGenesis> {
  await ensureFolder(home.founded, PRIVATE_FOLDER);
  const settled: Record<string, Uint8Array> = {};
  for (const role of GENESIS_ROLES) {
    const file = role === "root" ? home.pinnedRoot : path.join(home.founded, `1.${role}.json`);
    settled[role] = (await readFileIfPresent(file, GENESIS_FILE_BYTES_MAX)) ?? files[role];
    await putImmutable(file, settled[role], PRIVATE_FILE);
  }
  return { files: settled as unknown as SignedGenesis["files"], trusted };
}

/** The first entries of the log, the first statement, the first publication. Nothing to do when it is published. */
export async function publishGenesis(
  deps: DeskDependencies,
  { genesis, signed }: { readonly genesis: Genesis; readonly signed: SignedGenesis },
): Promise<void> {
  const desk = await Desk.open(deps);
  try {
    if (desk.published) return;
    await deps.store.bindAuthority(genesis.authority, deps.now());
    const { targets, batches } = signed.files;
    if ((await deps.signer.state()).accepted.root === 0) {
      const targetFiles = signed.trusted.files;
      await deps.signer.trust({ roots: [], targets, batches, targetFiles, headProof: [] });
    }
    await desk.appendOnce("genesis", genesisEntries(signed));
    await logTranscripts(desk);
    await publicationRound(desk, {
      trusted: signed.trusted,
      targets: { version: 1, file: targets },
      batches: { version: 1, file: batches },
      files: genesisFiles(genesis, signed, deps.logKey),
    });
  } finally {
    await desk.close();
  }
}

async function readGenesis(home: Home) {
  const entries = await readdir(home.genesis, { recursive: true, withFileTypes: true }).catch((cause: unknown) => {
    throw new OperationError("ERR_HOME", `${home.genesis} is missing: run \`via vault init\` first`, { cause });
  });
  const names = entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
    .map((entry) => path.relative(home.genesis, path.join(entry.parentPath, entry.name)));
  return readFolder(home.genesis, names, GENESIS_FILE_BYTES_MAX);
}

function throwAwayKeys(): OnlineKeys {
  return Object.fromEntries(SIGNER_KEYS.map((name) => [name, throwAwayKey()])) as unknown as OnlineKeys;
}

function throwAwayKey(): PublicKey {
  const { publicKey } = generateKeyPairSync("ed25519");
  return parsePublicKey(new Uint8Array(publicKey.export({ type: "spki", format: "der" })));
}
