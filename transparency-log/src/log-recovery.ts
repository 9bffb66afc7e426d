/**
 * Opening a log: what a crash, a restored backup or a second machine may have left, and which of it can be trusted.
 *
 * The lock holds the newest head ever signed. Files behind it are completed from the staging segments; files ahead of
 * it, or beside it, mean that the lock or the folder is not what it was, and nothing is touched.
 */
import { CodedError, equalBytes, formatHex, OperationError } from "@viafabric/schemas";
import { CHECKPOINT_PATH, type TreeHead } from "./checkpoint.ts";
import { readRuns } from "./entries.ts";
import type { LockedHead, LogFiles, StagingFiles } from "./log-ports.ts";
import { EMPTY_TIP, growTip, type LogTip, type NewFile, verifyTip } from "./log-tip.ts";
import { type LogPolicy, verifyCheckpoint } from "./policy.ts";
import { chainTo, entriesOf, parseSegment, parseSegmentName, type SegmentName } from "./staging.ts";
import { TILE_WIDTH, tilePath } from "./tile.ts";
import { edgeTiles, rootOfEdge, type TileEdge } from "./tile-edge.ts";
import { readEdge, TileTree } from "./tile-tree.ts";

export interface Recovered {
  readonly tip: LogTip;
  readonly locked: LockedHead | undefined;
  /** Staged after the locked head: signed or not, nobody knows. */
  readonly pending: SegmentName | undefined;
}

interface RecoveryPorts {
  readonly files: LogFiles;
  readonly staging: StagingFiles;
  readonly lock: { read(): Promise<LockedHead | undefined> };
}

/** @throws OperationError ERR_LOG_STATE */
export async function recover(ports: RecoveryPorts, policy: LogPolicy): Promise<Recovered> {
  const locked = await ports.lock.read();
  await checkPublished(ports.files, policy, locked);
  const segments = (await ports.staging.list()).map(parseSegmentName).filter((segment) => segment !== undefined);
  const size = locked?.size ?? 0;
  const chain = chainTo(size, segments);
  const pending = segments.filter((segment) => segment.oldSize === size);
  if (pending.length > 1) {
    // The log stages nothing before the last append is settled, so this folder has had two writers.
    throw refuse(
      `${pending.length} staged appends follow entry ${size}; find out which one was signed, keep only that`,
    );
  }
  const tip = await replay(ports, locked, chain);
  for (const segment of segments) if (segment !== pending[0]) await ports.staging.remove(segment.name);
  return { tip, locked, pending: pending[0] };
}

async function checkPublished(files: LogFiles, policy: LogPolicy, locked: LockedHead | undefined): Promise<void> {
  if (locked) {
    const signed = verifyCheckpoint(policy, locked.note);
    if (!isSame(signed, locked)) throw refuse("the lock's note states another tree than the lock");
  }
  const note = await files.read(CHECKPOINT_PATH);
  if (!note) return;
  const published = await wrapped("the published checkpoint is not one of this log", async () =>
    verifyCheckpoint(policy, note),
  );
  if (published.size > (locked?.size ?? 0)) {
    throw refuse(
      `checkpoint ${published.size} is published, but the lock holds ${locked?.size ?? "none"}: the lock was lost or restored from a backup; bring back its newest state`,
    );
  }
  if (locked && published.size === locked.size && !isSame(published, locked)) {
    throw refuse(
      `the published root ${formatHex(published.root)} is not the locked ${formatHex(locked.root)} of the same size: the log has forked; keep both and tell the trustees`,
    );
  }
}

/** Writes again what the segments hold; files that are there already are compared. */
async function replay(
  { files, staging }: RecoveryPorts,
  locked: LockedHead | undefined,
  chain: readonly SegmentName[],
): Promise<LogTip> {
  const [first] = chain;
  if (!first) return locked ? readTip(files, locked) : EMPTY_TIP;
  const { oldRoot } = parseSegment(await staging.read(first.name));
  let tip = await readTip(files, { size: first.oldSize, root: oldRoot });
  const written: NewFile[][] = [];
  for (const name of chain) {
    const segment = parseSegment(await staging.read(name.name));
    if (!equalBytes(segment.oldRoot, rootOfEdge(tip.edge))) throw refuse(`the staged ${name.name} is of another log`);
    const grown = growTip(tip, entriesOf(name, segment), segment.entries.framed);
    written.push([...grown.files]);
    tip = grown.tip;
  }
  // Only what leads to the locked root is written at all.
  if (!locked || !isSame({ size: tip.edge.size, root: rootOfEdge(tip.edge) }, locked)) {
    throw refuse(`the staged ${chain.at(-1)!.name} does not lead to the locked root`);
  }
  for (const batch of written) await files.putImmutable(batch);
  return tip;
}

async function readTip(files: LogFiles, head: TreeHead): Promise<LogTip> {
  return wrapped(`the published files do not hold the tree of ${head.size}; restore them from a mirror`, async () => {
    const edge = await readEdge(files.read, head);
    const [last] = edgeTiles(head.size);
    // The lowest partial tile, if it is of level 0, has a partial bundle beside it; else the last bundle is full.
    if (last?.level !== 0) {
      await verifyLastBundle(files, edge);
      return verifyTip(edge, new Uint8Array(0));
    }
    const bundle = await files.read(tilePath({ ...last, level: "entries" }));
    if (!bundle) throw new OperationError("ERR_LOG_FILE", `there is no ${tilePath({ ...last, level: "entries" })}`);
    return verifyTip(edge, bundle);
  });
}

async function verifyLastBundle(files: LogFiles, edge: TileEdge): Promise<void> {
  const tree = new TileTree(files.read, edge);
  for await (const { first } of readRuns(tree, files.read, Math.max(0, edge.size - TILE_WIDTH), edge.size)) void first;
}

function isSame(a: TreeHead, b: TreeHead): boolean {
  return a.size === b.size && equalBytes(a.root, b.root);
}

async function wrapped<T>(problem: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof CodedError)) throw cause;
    throw new OperationError("ERR_LOG_STATE", `${problem} (${cause.message})`, { cause });
  }
}

function refuse(reason: string): OperationError {
  return new OperationError("ERR_LOG_STATE", reason);
}
