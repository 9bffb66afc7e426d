/**
 * `node log-child.js FOLDER`: appends a million token leaves in turn with the hashing alone, and prints one JSON object.
 * A process of its own, because the most memory a process ever took is the process's.
 */
import path from "node:path";
import { equalBytes, type MerkleFrontier, noteVerifier } from "@viafabric/schemas";
import { LOG, LOG_ORIGIN } from "@viafabric/test/authority";
import { fileLock, signHead } from "@viafabric/test/software-log";
import { folderFiles, folderStaging, type Log, openLogOn } from "@viafabric/transparency-log/log";
import { ROUNDS } from "./figure.ts";
import { hashingAlone, LogLoad } from "./log-load.ts";

/** What it prints: a value for each round, and the most memory it ever took. */
export interface LogAppends {
  /** Until the last checkpoint is signed and nothing can be lost. */
  readonly committed: readonly number[];
  /** Until all tiles and bundles are written and the checkpoint is published too. */
  readonly published: readonly number[];
  readonly floor: readonly number[];
  /** Processor time of all threads until the last is committed. */
  readonly cpu: readonly number[];
  readonly rssBytes: number;
}

/**
 * A log that signs the root of its second computation: by other code, from the segment on the disk, in another
 * thread. The bounded signer computes the root once more, in its own process; that is its bench's time.
 */
async function openCheckedLog(home: string): Promise<Log> {
  const verifier = noteVerifier(LOG_ORIGIN, LOG.publicKey);
  const stagingFolder = path.join(home, "private");
  const staging = await folderStaging(stagingFolder);
  let second: MerkleFrontier | undefined;
  return openLogOn({
    verifier,
    files: await folderFiles(path.join(home, "log")),
    staging: {
      ...staging,
      async grow(name, frontier) {
        second = await staging.grow(name, frontier);
        return second;
      },
    },
    lock: fileLock(path.join(home, "head"), verifier),
    sign: () => signHead(LOG, LOG_ORIGIN, { size: second!.size, root: second!.root() }),
  });
}

async function main(folder: string): Promise<LogAppends> {
  const load = new LogLoad();
  const committed: number[] = [];
  const published: number[] = [];
  const floor: number[] = [];
  const cpu: number[] = [];
  let root: Uint8Array | undefined;
  // The first round warms up and is not counted.
  for (let round = 0; round <= ROUNDS; round++) {
    const alone = hashingAlone();
    const home = path.join(folder, String(round));
    const log = await openCheckedLog(home);
    const [start, cpuStart] = [performance.now(), process.cpuUsage()];
    // Files are written when no append follows; publish waits for them.
    for (const batch of load.batches()) await log.append(batch, "committed");
    const [middle, { user, system }] = [performance.now(), process.cpuUsage(cpuStart)];
    await log.publish();
    const end = performance.now();
    root ??= log.head.root;
    if (!equalBytes(root, log.head.root)) throw new Error("another root of the same entries");
    // The folder stays until the end: a file system that has just freed ten thousand inodes searches past them all for
    // each new file.
    await log.close();
    if (round === 0) continue;
    floor.push(alone);
    cpu.push((user + system) / 1_000_000);
    committed.push((middle - start) / 1000);
    published.push((end - start) / 1000);
  }
  return { committed, published, floor, cpu, rssBytes: process.resourceUsage().maxRSS * 1024 };
}

const [folder] = process.argv.slice(2);
if (!folder) throw new Error("node log-child.js FOLDER");
process.stdout.write(`${JSON.stringify(await main(folder))}\n`);
