/**
 * Kits on disk: sealed until they are written, each with the key that opens it, the proof of its manifest under
 * the head that this station accepted last, and that of its batch in the log.
 *
 *     kits/<id>/kit.jwe      as the vault sealed it
 *     kits/<id>/seal.key     X25519 private key, PKCS #8, mode 0600
 *     kits/<id>/kit.json     {id, batch, first, count}: what may be known without opening it
 *     kits/<id>/head.proof   CBOR list of hashes
 *     kits/<id>/log.proof    as published when this station was last refreshed; instead of the one in the kit, whose
 *                            witnesses may have gone since
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import {
  ensureFolder,
  isCode,
  PRIVATE_FILE,
  PRIVATE_FOLDER,
  readFileBounded,
  readFileIfPresent,
  writeFileDurable,
} from "@viafabric/platform";
import {
  decodeCbor,
  decodeKit,
  encodeCbor,
  FormatError,
  formatHex,
  HASH_BYTES,
  type Hash,
  type Kit,
  OperationError,
  parseHex,
  parseUtf8,
  utf8,
} from "@viafabric/schemas";
import { LOG_PROOF_BYTES_MAX } from "@viafabric/transparency-log";
import type { Home } from "./home.ts";
import { openSealed, SEAL_KEY_BYTES_MAX, SEALED_KIT_BYTES_MAX } from "./unseal.ts";

export interface KitSummary {
  /** 16 bytes in hex. */
  readonly id: string;
  readonly batch: number;
  readonly first: number;
  readonly count: number;
}

/** More kits than one station carries; a larger folder is not ours. */
const KITS_MAX = 10_000;
const SMALL_FILE_BYTES_MAX = 4096;

export async function storeKit(
  home: Home,
  summary: KitSummary,
  sealed: Uint8Array,
  privateKey: Uint8Array,
): Promise<void> {
  const folder = path.join(home.kits, summary.id);
  await ensureFolder(folder, PRIVATE_FOLDER);
  await writeFileDurable(path.join(folder, "seal.key"), privateKey, PRIVATE_FILE);
  await writeFileDurable(path.join(folder, "kit.json"), utf8(`${JSON.stringify(summary)}\n`), PRIVATE_FILE);
  // Last: a folder without it holds no kit, and the same fetch can be done again.
  await writeFileDurable(path.join(folder, "kit.jwe"), sealed, PRIVATE_FILE);
}

export async function storeManifestProof(home: Home, kit: KitSummary, proof: readonly Hash[]): Promise<void> {
  await writeFileDurable(path.join(home.kits, kit.id, "head.proof"), encodeCbor([...proof]), PRIVATE_FILE);
}

export async function storeLogProof(home: Home, kit: KitSummary, proof: Uint8Array): Promise<void> {
  await writeFileDurable(path.join(home.kits, kit.id, "log.proof"), proof, PRIVATE_FILE);
}

/** By batch, ascending. */
export async function listKits(home: Home): Promise<readonly KitSummary[]> {
  const kits: KitSummary[] = [];
  for (const id of (await folderNames(home.kits)).slice(0, KITS_MAX)) {
    const folder = path.join(home.kits, id);
    const summary = await readFileIfPresent(path.join(folder, "kit.json"), SMALL_FILE_BYTES_MAX);
    const sealed = await readFileIfPresent(path.join(folder, "kit.jwe"), SEALED_KIT_BYTES_MAX);
    if (summary && sealed) kits.push(parseSummary(summary, id));
  }
  return kits.sort((a, b) => a.batch - b.batch);
}

/** @param batch the only kit when left out. @throws OperationError ERR_NOT_FOUND */
export async function findKit(home: Home, batch?: number): Promise<KitSummary> {
  const kits = await listKits(home);
  const found = kits.filter((kit) => batch === undefined || kit.batch === batch);
  if (found.length === 1) return found[0]!;
  const have = kits.map((kit) => kit.batch).join(", ") || "none; run via writer fetch first";
  const which = batch === undefined ? "say which with --batch" : `there is no kit of batch ${batch}`;
  throw new OperationError("ERR_NOT_FOUND", `${which}; this station holds kits of batches: ${have}`);
}

/** Opens the seal. Nothing in the kit has been verified yet. */
export async function openKit(home: Home, { id }: KitSummary): Promise<{ kit: Kit; manifestProof: readonly Hash[] }> {
  const folder = path.join(home.kits, id);
  const sealed = await readFileBounded(path.join(folder, "kit.jwe"), SEALED_KIT_BYTES_MAX);
  const privateKey = await readFileBounded(path.join(folder, "seal.key"), SEAL_KEY_BYTES_MAX);
  const kit = decodeKit(await openSealed(sealed, privateKey));
  if (formatHex(kit.id) !== id) throw new FormatError("ERR_KIT", `the kit in ${folder} is ${formatHex(kit.id)}`);
  const newer = await readFileIfPresent(path.join(folder, "log.proof"), LOG_PROOF_BYTES_MAX);
  return {
    kit: newer ? { ...kit, logProof: newer } : kit,
    manifestProof: await readManifestProof(path.join(folder, "head.proof")),
  };
}

export function ledgerFile(home: Home, { id }: KitSummary): string {
  return path.join(home.ledgers, id);
}

async function readManifestProof(file: string): Promise<readonly Hash[]> {
  const value = decodeCbor(await readFileBounded(file, SMALL_FILE_BYTES_MAX), "ERR_KIT");
  const isHash = (each: unknown) => each instanceof Uint8Array && each.length === HASH_BYTES;
  if (!Array.isArray(value) || !value.every(isHash))
    throw new FormatError("ERR_KIT", `${file} is not a list of hashes`);
  return value as readonly Hash[];
}

function parseSummary(bytes: Uint8Array, folderName: string): KitSummary {
  const { id, batch, first, count } = JSON.parse(parseUtf8(bytes)) as Record<keyof KitSummary, unknown>;
  const whole = [batch, first, count].every((each) => Number.isSafeInteger(each) && (each as number) >= 0);
  if (id !== folderName || !whole) throw new FormatError("ERR_KIT", `kit.json of ${folderName} is not about a kit`);
  parseHex(folderName, 16);
  return { id: folderName, batch: batch as number, first: first as number, count: count as number };
}

async function folderNames(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (isCode(cause, "ENOENT")) return [];
    throw new OperationError("ERR_FILE", `could not read ${folder}`, { cause });
  }
}
