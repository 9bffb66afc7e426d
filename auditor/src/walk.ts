/**
 * Every file below a published folder, against the log, the statements and the metadata: what the replay has not
 * asked for is old tiles, old online metadata, sets of epochs that a head may name, and what nobody can account for.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { statementPath } from "@viafabric/revocation";
import {
  CodedError,
  type ErrorCode,
  equalBytes,
  formatHex,
  HASH_BYTES,
  hashLeaves,
  OperationError,
  sha256,
  VerificationError,
} from "@viafabric/schemas";
import { decodeEntries, parseTilePath, TILE_WIDTH, type TreeHead, tileOf } from "@viafabric/transparency-log";
import { type FetchFile, openTree, subFolder, type TileTree } from "@viafabric/transparency-log/client";
import { type Authority, checkSnapshot } from "./authority.ts";
import { evidence } from "./evidence.ts";
import type { Finding } from "./log-rules.ts";
import { verifyUnderAny } from "./trust-history.ts";
import { readMetadata } from "./trust-start.ts";

export interface Walk {
  readonly checked: number;
  /** Newer than the checkpoint: a publication was under way. */
  readonly ahead: number;
  /** Names that no format knows, at most UNKNOWN_MAX of them. */
  readonly unknown: readonly string[];
  readonly unknownTotal: number;
  readonly findings: readonly Finding[];
}

const UNKNOWN_MAX = 20;

export interface WalkSource {
  readonly files: readonly string[];
  readonly published: FetchFile;
  /** Paths that the audit asked for: each was verified or found wrong then. */
  readonly seen: ReadonlySet<string>;
  readonly log: TreeHead;
  readonly authority: Authority;
}

/** Paths below the folder, with forward slashes, sorted. */
export async function listFiles(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => !entry.isDirectory());
    return files
      .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
      .sort();
  } catch (cause) {
    throw new OperationError("ERR_FILE", `could not list ${folder}`, { cause });
  }
}

type Outcome = "checked" | "ahead" | "unknown";

export async function walkFiles(source: WalkSource): Promise<Walk> {
  const walker = new Walker(source);
  const counts = { checked: 0, ahead: 0, unknown: 0 };
  const unknown: string[] = [];
  const findings: Finding[] = [];
  for (const file of source.files) {
    try {
      const outcome = await walker.check(file);
      counts[outcome]++;
      if (outcome === "unknown" && unknown.length < UNKNOWN_MAX) unknown.push(file);
    } catch (error) {
      if (!(error instanceof CodedError) || (error instanceof OperationError && error.code !== "ERR_FILE_TOO_LARGE")) {
        throw error;
      }
      const message = error.message.includes(file) ? error.message : `${file}: ${error.message}`;
      findings.push({ entry: source.log.size, code: error.code as ErrorCode, message });
    }
  }
  return { checked: counts.checked, ahead: counts.ahead, unknown, unknownTotal: counts.unknown, findings };
}

class Walker {
  readonly #source: WalkSource;
  readonly #logTree: Promise<TileTree>;
  readonly #manifestTree: Promise<TileTree>;

  constructor(source: WalkSource) {
    this.#source = source;
    this.#logTree = openTree(subFolder(source.published, "log"), source.log);
    this.#manifestTree = openTree(subFolder(source.published, "batches"), source.authority.manifests);
    // Reported where a tile is asked for.
    this.#logTree.catch(() => {});
    this.#manifestTree.catch(() => {});
  }

  async check(file: string): Promise<Outcome> {
    const { seen } = this.#source;
    const tile = /^(log|batches)\/(tile\/.*)$/.exec(file);
    if (tile) return this.#checkTile(file, tile[2]!, await (tile[1] === "log" ? this.#logTree : this.#manifestTree));
    if (seen.has(file)) return "checked";
    const role = /^tuf\/metadata\/([1-9][0-9]*)\.(root|targets|batches|snapshot|revocations)\.json$/.exec(file);
    if (role) return this.#checkMetadata(file, role[2]!);
    if (file.startsWith("tuf/targets/")) return this.#checkTarget(file);
    const snapshot = /^revocation\/([012])\/s\/([1-9][0-9]*)\.rvx$/.exec(file);
    if (snapshot) return this.#checkSnapshot(file, Number(snapshot[1]) as 0 | 1 | 2, Number(snapshot[2]));
    if (
      /^revocation\/(?:e\/|undo\/|event\/|[012]\/[dc]\/)|^batch\/[0-9]+\/|^batches\/list\/|^transcripts\//.test(file)
    ) {
      throw unlogged(`${file} belongs to nothing in the log`);
    }
    if (file.startsWith("root/")) throw unlogged(`${file} is no root of the log`);
    return "unknown";
  }

  async #checkTile(file: string, name: string, tree: TileTree): Promise<Outcome> {
    const tile = parseTilePath(name);
    const known = tileOf(tree.size, tile.level, tile.index);
    if (!known || known.width < tile.width) return "ahead";
    // The replay read it, and every hash in it.
    if (this.#source.seen.has(file)) return "checked";
    const bytes = await this.#read(file);
    const level = tile.level === "entries" ? 0 : tile.level;
    const hashes = (await tree.tile(level, tile.index)).subarray(0, tile.width * HASH_BYTES);
    const found = tile.level === "entries" ? hashLeaves(decodeEntries(bytes, tile.width)) : bytes;
    if (tile.width > TILE_WIDTH || !equalBytes(found, hashes)) {
      throw new VerificationError("ERR_LOG_MISMATCH", `${file} is not what the checkpoint covers`);
    }
    return "checked";
  }

  async #checkMetadata(file: string, role: string): Promise<Outcome> {
    const { trust } = this.#source.authority;
    if (role !== "snapshot" && role !== "revocations") throw unlogged(`${file} is not in the log`);
    const bytes = await this.#read(file);
    if (role === "snapshot") {
      verifyUnderAny(
        trust.roots.map((root) => root.roles.snapshot),
        file,
        readMetadata("snapshot", file, bytes),
      );
    } else verifyUnderAny(trust.revocations, file, readMetadata("targets", file, bytes));
    return "checked";
  }

  /** Named by its hash; which version listed it does not matter, because versions are judged themselves. */
  async #checkTarget(file: string): Promise<Outcome> {
    const name = file.slice(file.lastIndexOf("/") + 1);
    const bytes = await this.#read(file);
    if (!name.startsWith(`${formatHex(sha256(bytes))}.`)) throw evidence(`${file} does not have the hash in its name`);
    return "checked";
  }

  /** The floor of a head that trustees were shown: published before they sign. */
  async #checkSnapshot(file: string, plane: 0 | 1 | 2, epoch: number): Promise<Outcome> {
    const stated = this.#source.authority.status.stated.get(epoch);
    const note = await this.#source.published(statementPath(epoch));
    if (!stated || !note || !equalBytes(sha256(note), stated.fileHash)) {
      throw unlogged(`${file} belongs to no statement of the log`);
    }
    await checkSnapshot(file, await this.#read(file), note, plane);
    return "checked";
  }

  async #read(file: string): Promise<Uint8Array> {
    const bytes = await this.#source.published(file);
    if (!bytes) throw evidence(`${file} vanished`);
    return bytes;
  }
}

function unlogged(reason: string): VerificationError {
  return new VerificationError("ERR_TRUST_UNLOGGED", reason);
}
