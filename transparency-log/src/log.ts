/**
 * Keeping a log: the one writer that appends entries, and what survives a crash of it.
 *
 * An append goes through these steps, each durable before the next:
 *
 *     1 stage      the entries, in a segment of the journal
 *     2 recompute  the new root twice: the tiles in memory, and by other code from the segment read back
 *     3 sign       the signer computes the root a third time, in its own process
 *     4 lock       the signed head replaces the last one, if that is still the one we started from
 *     5 write      bundles and tiles, all immutable
 *     6 publish    the checkpoint file
 *
 * After 4 the entries are in the log, whatever happens next: opening the log again finishes the rest. Before 4 they
 * are not, but an append that was staged is finished on the next opening all the same, because the signer may have
 * signed it. So whoever gets an error opens the log again and looks at its size.
 */
import { setImmediate } from "node:timers/promises";
import { lockFolder } from "@viafabric/platform";
import {
  CodedError,
  equalBytes,
  FormatError,
  formatHex,
  HASH_BYTES,
  hashLeavesSingly,
  type MerkleFrontier,
  type NoteVerifier,
  OperationError,
  VerificationError,
} from "@viafabric/schemas";
import { CHECKPOINT_PATH, type TreeHead } from "./checkpoint.ts";
import {
  APPEND_BYTES_MAX,
  APPEND_ENTRIES_MAX,
  type CheckpointLock,
  folderFiles,
  folderStaging,
  type LockedHead,
  type LogFiles,
  type SignCheckpoint,
  type StagingFiles,
} from "./log-ports.ts";
import { recover } from "./log-recovery.ts";
import { type GrownTip, growTip, type LogTip, type NewFile, verifyFirstBundle } from "./log-tip.ts";
import { policyOfLog, verifyCheckpoint } from "./policy.ts";
import {
  entriesOf,
  type FramedEntries,
  formatSegment,
  isIntact,
  parseSegment,
  type SegmentName,
  segmentName,
} from "./staging.ts";
import { frontierOf } from "./tile-edge.ts";

export * from "./log-ports.ts";
export * from "./write-tree.ts";

/**
 * How far an append goes before it answers. `committed`: signed and in the lock, the files follow in a pause between
 * appends; `written`: tiles and bundles are on disk, so proofs can be made; `published`: the checkpoint file too.
 */
export type AppendUntil = "committed" | "written" | "published";

export interface LogOptions {
  /** The log's key. Its name is the origin. */
  readonly verifier: NoteVerifier;
  readonly lock: CheckpointLock;
  readonly sign: SignCheckpoint;
  /** What append and the finishing of an interrupted append do unless told otherwise; `published` by default. */
  readonly until?: AppendUntil;
}

export interface LogFolders extends LogOptions {
  /** The published folder, with `checkpoint` and `tile/` in it. */
  readonly folder: string;
  /** Private, on a disk of this machine. */
  readonly stagingFolder: string;
}

export interface LogPorts extends LogOptions {
  readonly files: LogFiles;
  readonly staging: StagingFiles;
}

export interface Appended {
  readonly firstIndex: number;
  /** The signed note of a tree that holds the entries. */
  readonly checkpoint: Uint8Array;
}

export interface Log {
  readonly origin: string;
  /** Of the last committed append. */
  readonly size: number;
  readonly head: TreeHead;
  /** The signed note of `head`; undefined while the log is empty. */
  readonly checkpoint: Uint8Array | undefined;
  /**
   * Appends run one after the other. A refusal by the signer, or for want of free space (ERR_DISK_FULL), leaves the log
   * as it was; after any other error the log answers ERR_LOG_FAILED until it is opened again.
   */
  append(entries: readonly Uint8Array[], until?: AppendUntil): Promise<Appended>;
  /**
   * Writes the checkpoint file, once all it covers is on disk.
   * @param cosigned the same checkpoint with witnesses' lines added
   */
  publish(cosigned?: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** @throws OperationError ERR_LOCKED, ERR_LOG_STATE */
export async function openLog(options: LogFolders): Promise<Log> {
  const [files, staging] = [await folderFiles(options.folder), await folderStaging(options.stagingFolder)];
  const unlock = await lockFolder(options.stagingFolder);
  try {
    return await openLogOn({ ...options, files, staging }, unlock);
  } catch (error) {
    await unlock();
    throw error;
  }
}

/** As openLog, for whoever brings other storage, and keeps other writers away from it. */
export async function openLogOn(ports: LogPorts, release: () => Promise<void> = async () => {}): Promise<Log> {
  const policy = policyOfLog(ports.verifier);
  const recovered = await recover(ports, policy);
  const sequencer = new Sequencer(ports, recovered.tip, recovered.locked, release);
  if (recovered.pending) await sequencer.finish(recovered.pending);
  else if ((ports.until ?? "published") === "published") await sequencer.publish();
  return sequencer;
}

class Sequencer implements Log {
  readonly origin: string;
  readonly #ports: LogPorts;
  readonly #release: () => Promise<void>;
  #tip: LogTip;
  /** The same tree in the other spelling, for the second computation of each root. */
  #frontier: MerkleFrontier;
  #head: TreeHead;
  #note: Uint8Array | undefined;
  /** Appends and publications, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  /** Committed appends whose files are not on the disk yet, in order. */
  #unwritten: { readonly segment: SegmentName; readonly files: readonly NewFile[]; readonly bytes: number }[] = [];
  #writing: Promise<void> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;
  #failure: unknown;

  constructor(ports: LogPorts, tip: LogTip, locked: LockedHead | undefined, release: () => Promise<void>) {
    this.origin = ports.verifier.name;
    this.#ports = ports;
    this.#release = release;
    this.#tip = tip;
    this.#frontier = frontierOf(tip.edge);
    this.#head = { size: tip.edge.size, root: this.#frontier.root() };
    this.#note = locked?.note;
  }

  get size(): number {
    return this.#head.size;
  }

  get head(): TreeHead {
    return this.#head;
  }

  get checkpoint(): Uint8Array | undefined {
    return this.#note;
  }

  append(entries: readonly Uint8Array[], until: AppendUntil = this.#ports.until ?? "published"): Promise<Appended> {
    return this.#inTurn(async () => {
      await this.#checkRoom(checkEntries(entries));
      clearTimeout(this.#idle);
      if (this.#unwrittenBytes() > UNWRITTEN_BYTES_MAX) await this.#write();
      const firstIndex = this.size;
      const segment = segmentName(firstIndex, firstIndex + entries.length);
      const { bytes, framed, hash } = formatSegment(this.#head.root, entries);
      await this.#commit(segment, entries, { framed, hash }, async () => {
        // First the disk alone: writing goes in small steps, and each would wait for a slice of hashing.
        await this.#ports.staging.write(segment.name, bytes);
        const second = this.#ports.staging.grow(segment.name, this.#frontier);
        const first = hashInSlices(entries).then((hashes) => growTip(this.#tip, entries, framed, hashes));
        const [frontier, grown] = await Promise.all([second, first]);
        return { frontier, grown };
      });
      await this.#settle(until);
      return { firstIndex, checkpoint: this.#note! };
    });
  }

  /** An append that was staged before a crash. The signer may still refuse it; then it never happened. */
  finish(segment: SegmentName): Promise<void> {
    return this.#inTurn(async () => {
      const staged = parseSegment(await this.#ports.staging.read(segment.name));
      const entries = entriesOf(segment, staged);
      try {
        await this.#commit(segment, entries, staged.entries, async () => {
          if (!equalBytes(staged.oldRoot, this.#head.root)) {
            throw new OperationError("ERR_LOG_STATE", `the staged ${segment.name} is of another log`);
          }
          const frontier = await this.#ports.staging.grow(segment.name, this.#frontier);
          return { frontier, grown: growTip(this.#tip, entries, staged.entries.framed) };
        });
      } catch (error) {
        if (!isRefusal(error) || this.#failure) throw error;
      }
      await this.#settle(this.#ports.until ?? "published");
    });
  }

  publish(cosigned?: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      if (cosigned) this.#verifySigned(cosigned, this.#head);
      await this.#publish(cosigned ?? this.#note);
    });
  }

  async close(): Promise<void> {
    await this.#queue;
    await this.#write().catch(() => {});
    await this.#ports.staging.close();
    await this.#release();
  }

  /** @param compute gives the new tree by both computations, once the segment is durable */
  async #commit(
    segment: SegmentName,
    entries: readonly Uint8Array[],
    framed: FramedEntries,
    compute: () => Promise<{ readonly grown: GrownTip; readonly frontier: MerkleFrontier }>,
  ): Promise<void> {
    const { grown, frontier } = await this.#guarded(compute);
    const { head } = grown;
    await this.#guarded(async () => verifyGrown(grown, frontier, framed));
    const note = await this.#sign(segment, entries);
    await this.#guarded(async () => {
      this.#verifySigned(note, head);
      await this.#ports.lock.replace(this.size, { ...head, note });
    });
    // From here on the entries are in the log.
    [this.#tip, this.#frontier, this.#head, this.#note] = [grown.tip, frontier, head, note];
    const bytes = grown.files.reduce((sum, file) => sum + file.bytes.length, 0);
    this.#unwritten.push({ segment, files: grown.files, bytes });
    // Files written now would hold up the next append: both wait for the same journal of the same disk.
    this.#idle = setTimeout(() => void this.#write().catch(() => {}), IDLE_MS);
  }

  /** Before anything is begun: an append that stops halfway for want of room stops the log. */
  async #checkRoom(bytes: number): Promise<void> {
    const { files, staging } = this.#ports;
    const needed = FREE_BYTES_MIN + this.#unwrittenBytes() + BYTES_WRITTEN_PER_BYTE * bytes;
    const free = Math.min(await files.freeBytes(), await staging.freeBytes());
    if (free >= needed) return;
    const reason = `${free} bytes are free on the log's disk, and the append is begun from ${needed} on: make room`;
    throw new OperationError("ERR_DISK_FULL", reason, { retryable: true });
  }

  #unwrittenBytes(): number {
    return this.#unwritten.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Writes all files of committed appends, in order. */
  #write(): Promise<void> {
    clearTimeout(this.#idle);
    const due = this.#unwritten;
    this.#unwritten = [];
    this.#writing = this.#writing.then(async () => {
      for (const { segment, files } of due) {
        await this.#ports.files.putImmutable(files);
        await this.#ports.staging.remove(segment.name);
      }
    });
    this.#writing.catch((error: unknown) => {
      this.#failure ??= error;
    });
    return this.#writing;
  }

  async #sign(segment: SegmentName, entries: readonly Uint8Array[]): Promise<Uint8Array> {
    try {
      return await this.#ports.sign(entries, segment.oldSize);
    } catch (error) {
      // Only a refusal says for certain that nothing was signed.
      if (isRefusal(error)) await this.#guarded(() => this.#ports.staging.remove(segment.name));
      else this.#failure ??= error;
      throw error;
    }
  }

  #verifySigned(note: Uint8Array, head: TreeHead): void {
    const signed = verifyCheckpoint(policyOfLog(this.#ports.verifier), note);
    if (signed.size !== head.size || !equalBytes(signed.root, head.root)) {
      const text = `${signed.size} ${formatHex(signed.root)} instead of ${head.size} ${formatHex(head.root)}`;
      throw new VerificationError("ERR_LOG_SIGNED", `the signed checkpoint states ${text}`);
    }
  }

  async #settle(until: AppendUntil): Promise<void> {
    if (until === "published") await this.#publish(this.#note);
    else if (until === "written") await this.#write();
  }

  async #publish(note: Uint8Array | undefined): Promise<void> {
    await this.#write();
    if (note) await this.#guarded(() => this.#ports.files.replace(CHECKPOINT_PATH, note));
  }

  /** After an error here nobody knows what is on disk, so the log stops until recovery has looked. */
  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#failure ??= error;
      throw error;
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      if (this.#failure) {
        throw new OperationError("ERR_LOG_FAILED", "an earlier append failed; open the log again to recover", {
          cause: this.#failure,
        });
      }
      return work();
    });
    this.#queue = result.catch(() => {});
    return result;
  }
}

/** Left alone by every append: for the checkpoint, for recovery, and for whoever shares the disk meanwhile. */
export const FREE_BYTES_MIN = 16 * 2 ** 20;
/** An entry is staged, stands in a bundle and in the partial one before it, and its hashes in tiles. */
const BYTES_WRITTEN_PER_BYTE = 4;

/** Appends that never pause are made to: what they wrote must not fill the memory. */
const UNWRITTEN_BYTES_MAX = 2 ** 27;

/** Appends that come one after the other are all committed first; a pause this long, and their files are written. */
const IDLE_MS = 100;

/** Entries hashed before others get a turn: a few milliseconds. */
const SLICE_ENTRIES = 8192;

/**
 * By node:crypto, because the second computation hashes leaves the other way: see second-root.ts.
 * A large append must not keep the process from answering others.
 */
async function hashInSlices(entries: readonly Uint8Array[]): Promise<Uint8Array> {
  const hashes = new Uint8Array(entries.length * HASH_BYTES);
  for (let at = 0; at < entries.length; at += SLICE_ENTRIES) {
    hashes.set(hashLeavesSingly(entries.slice(at, at + SLICE_ENTRIES)), at * HASH_BYTES);
    await setImmediate();
  }
  return hashes;
}

/**
 * A bit that flipped in memory since the entries were accepted. A wrong root would end the log; a right one over bundles
 * with another entry would lose that entry, because the segment goes once the bundles are written.
 */
function verifyGrown(grown: GrownTip, frontier: MerkleFrontier, entries: FramedEntries): void {
  const { head } = grown;
  const damaged = (what: string) => new OperationError("ERR_LOG_STATE", `${what}: check this machine's memory`);
  if (frontier.size !== head.size || !equalBytes(frontier.root(), head.root))
    throw damaged("two computations of the new root differ");
  if (!isIntact(entries)) throw damaged("the entries are not those that were accepted");
  verifyFirstBundle(grown);
}

function isRefusal(error: unknown): boolean {
  return error instanceof CodedError && !(error instanceof OperationError);
}

/** @returns how many bytes they are in a segment */
function checkEntries(entries: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += 2 + entry.length;
  if (entries.length === 0 || entries.length > APPEND_ENTRIES_MAX || bytes > APPEND_BYTES_MAX) {
    throw new FormatError("ERR_LOG_ENTRY", `cannot append ${entries.length} entries of ${bytes} bytes at once`);
  }
  return bytes;
}
