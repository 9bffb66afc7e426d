/**
 * `log-append`, `log-latency`, `log-audit`: keeping a log and checking it, against the hashing and the durable writes
 * that neither can do without.
 */
import path from "node:path";
import { fileURLToPath } from "node:url";
import { writeFileDurable } from "@viafabric/platform";
import { formatVerifierKey, u64 } from "@viafabric/schemas";
import { LOG, LOG_ORIGIN } from "@viafabric/test/authority";
import { openSoftwareLog } from "@viafabric/test/software-log";
import { type Figure, figureOf, median, ROUNDS } from "./figure.ts";
import type { LogAppends } from "./log-child.ts";
import { hashingAlone, LogLoad, TOKENS } from "./log-load.ts";
import { inFolder, runNode } from "./run.ts";

const MB = 1_000_000;
const FLOOR = `floor: ${2 * TOKENS} hashes on one thread`;

export async function* logAppend(): AsyncGenerator<Figure> {
  const { output } = await inFolder((folder) =>
    runNode([fileURLToPath(new URL("log-child.js", import.meta.url)), folder]),
  );
  const measured = JSON.parse(output) as LogAppends;
  const common = { bench: "log-append", n: TOKENS } as const;
  const floor = median(measured.floor);
  yield figureOf({
    ...common,
    figure: "seconds-to-committed",
    value: median(measured.committed),
    floor,
    atMost: 1.6,
    note: `10 batches, each root computed twice, signed, in the lock and in the journal; ${FLOOR}`,
  });
  yield figureOf({
    ...common,
    figure: "cpu-seconds-to-committed",
    value: median(measured.cpu),
    floor,
    note: "of both threads and the disk's: what is left of it on two cores that nobody else uses is half",
  });
  yield figureOf({
    ...common,
    figure: "seconds-to-published",
    value: median(measured.published),
    floor,
    note: "until all tiles, bundles and the checkpoint file are durable too",
  });
  yield figureOf({
    ...common,
    figure: "rss-mb",
    value: measured.rssBytes / MB,
    atMost: 600,
    note: "the most the process ever took",
  });
}

/** Appends of one entry in each round. */
const SINGLE_APPENDS = 200;

export async function* logLatency(): AsyncGenerator<Figure> {
  const rounds = await inFolder(async (folder) => {
    const { log } = await openSoftwareLog(folder, LOG, LOG_ORIGIN);
    const file = path.join(folder, "one-write");
    const measured: { floor: number; p99: number; median: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const [appends, writes]: [number[], number[]] = [[], []];
      for (let i = 0; i < SINGLE_APPENDS; i++) {
        writes.push(await secondsOf(() => writeFileDurable(file, new Uint8Array(1000))));
        appends.push(await secondsOf(() => log.append([u64(i)])));
      }
      const p99 = appends.toSorted((a, b) => a - b)[Math.ceil(SINGLE_APPENDS * 0.99) - 1]!;
      // The first round warms up.
      if (round > 0) measured.push({ floor: median(writes), p99, median: median(appends) });
    }
    await log.close();
    return measured;
  });
  const common = { bench: "log-latency", n: ROUNDS * SINGLE_APPENDS } as const;
  const floor = median(rounds.map((round) => round.floor));
  yield figureOf({
    ...common,
    figure: "p99-seconds",
    value: median(rounds.map((round) => round.p99)),
    floor,
    atMost: 15,
    note: "until the signed checkpoint is published; floor: the median durable write",
  });
  yield figureOf({
    ...common,
    figure: "median-seconds",
    value: median(rounds.map((round) => round.median)),
    floor,
    note: "the same appends",
  });
}

export async function* logAudit(): AsyncGenerator<Figure> {
  const [seconds, floor]: [number[], number[]] = [[], []];
  let rssBytes = 0;
  await inFolder(async (home) => {
    const { log, verifier, folder } = await openSoftwareLog(home, LOG, LOG_ORIGIN);
    for (const batch of new LogLoad().batches()) await log.append(batch, "committed");
    await log.publish();
    await log.close();
    const main = fileURLToPath(new URL("../../auditor/dist/main.js", import.meta.url));
    for (let round = 0; round <= ROUNDS; round++) {
      const alone = hashingAlone();
      const audit = await runNode([main, "log", folder, "--vkey", formatVerifierKey(verifier), "--json"]);
      const report = JSON.parse(audit.output) as { verdict: string; counts: { token: number }; seconds: number };
      if (report.verdict !== "verified" || report.counts.token !== TOKENS) throw new Error(audit.output);
      if (round === 0) continue;
      floor.push(alone);
      seconds.push(report.seconds);
      rssBytes = Math.max(rssBytes, audit.rssBytes);
    }
  });
  const common = { bench: "log-audit", n: TOKENS } as const;
  yield figureOf({
    ...common,
    figure: "seconds",
    value: median(seconds),
    floor: median(floor),
    atMost: 2.5,
    note: `via audit log, from the files; ${FLOOR}`,
  });
  yield figureOf({
    ...common,
    figure: "rss-mb",
    value: rssBytes / MB,
    atMost: 300,
    note: "the most the audit's process ever took",
  });
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}
