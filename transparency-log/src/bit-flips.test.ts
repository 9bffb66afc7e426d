/**
 * One bit flips in memory, or on the way to the disk and back, between the moment an append is accepted and the moment
 * its head is signed. Each place is reached through the ports: they are handed what the log holds.
 *
 * A wrong head must never be signed; and what is served under a right one must be right.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, equalBytes, formatHex, hashLeaf, MerkleFrontier } from "@viafabric/schemas";
import { readCheckpoint, readEntries } from "./client.ts";
import {
  freshSeed,
  logVerifier,
  mapFetch,
  memoryFiles,
  memoryLock,
  memoryStaging,
  randomFrom,
  rememberingSigner,
} from "./fixtures.test.ts";
import { type LogPorts, openLogOn } from "./log.ts";
import { policyOfLog, verifyCheckpoint } from "./policy.ts";

const CASES_EACH = 40;

type Random = (below: number) => number;

function flip(bytes: Uint8Array, random: Random): void {
  bytes[random(bytes.length)]! ^= 1 << random(8);
}

/** What is held of a healthy log while another append goes through it. */
interface Held {
  readonly random: Random;
  /** The caller's own entries. */
  readonly entries: readonly Uint8Array[];
  /** What the log got to read when it was opened: its tiles, and its last bundle. */
  readonly read: readonly Uint8Array[];
  /** What earlier appends handed over to be written: tiles and bundles, which grow on from there. */
  readonly written: readonly Uint8Array[];
}

/** Where the bit flips. Each changes one port of a healthy log. */
/** For the first append after it. */
const AFTER_OPENING = "a tile or bundle that was read when the log was opened";

type Place = (ports: LogPorts, held: Held) => Partial<LogPorts>;
const PLACES: Readonly<Record<string, Place>> = {
  "an entry, before it is staged": ({ staging }, { random, entries }) => ({
    staging: {
      ...staging,
      write(name, bytes) {
        flip(entries[random(entries.length)]!, random);
        return staging.write(name, bytes);
      },
    },
  }),
  "an entry, once it is staged": ({ staging }, { random, entries }) => ({
    staging: {
      ...staging,
      async write(name, bytes) {
        await staging.write(name, bytes);
        flip(entries[random(entries.length)]!, random);
      },
    },
  }),
  "the segment, on its way to the disk": ({ staging }, { random }) => ({
    staging: {
      ...staging,
      write(name, bytes) {
        const wrong = bytes.slice();
        flip(wrong, random);
        return staging.write(name, wrong);
      },
    },
  }),
  "the segment in memory, which bundles are cut from": ({ staging }, { random }) => ({
    staging: {
      ...staging,
      async write(name, bytes) {
        await staging.write(name, bytes.slice());
        flip(bytes.subarray(64), random);
      },
    },
  }),
  "the frontier": ({ staging }, { random }) => ({
    staging: {
      ...staging,
      grow(name, frontier) {
        flip(frontier.peaks[random(frontier.peaks.length)]!, random);
        return staging.grow(name, frontier);
      },
    },
  }),
  "the grown frontier": ({ staging }, { random }) => ({
    staging: {
      ...staging,
      async grow(name, frontier): Promise<MerkleFrontier> {
        const grown = await staging.grow(name, frontier);
        flip(grown.peaks[random(grown.peaks.length)]!, random);
        return grown;
      },
    },
  }),
  [AFTER_OPENING]: ({ staging }, { random, read }) => ({
    staging: {
      ...staging,
      write(name, bytes) {
        flip(read[random(read.length)]!, random);
        return staging.write(name, bytes);
      },
    },
  }),
  "a tile or bundle that an earlier append made": ({ staging }, { random, written }) => ({
    staging: {
      ...staging,
      write(name, bytes) {
        flip(written[random(written.length)]!, random);
        return staging.write(name, bytes);
      },
    },
  }),
};

const seed = freshSeed();
console.log(`bit flips: seed ${seed}`);

for (const [place, change] of Object.entries(PLACES)) {
  test(`no bad head is signed when a bit flips in ${place}`, async (t) => {
    const random = randomFrom(seed);
    const outcomes = { refused: 0, harmless: 0 };
    for (let i = 0; i < CASES_EACH; i++) outcomes[await suffer(random, change, place === AFTER_OPENING)]++;
    assert.ok(outcomes.refused > 0);
    t.diagnostic(`${outcomes.refused} refused, ${outcomes.harmless} without effect`);
  });
}

async function suffer(random: Random, change: Place, atOnce: boolean): Promise<"refused" | "harmless"> {
  const files = memoryFiles();
  const [staging, lock, signer] = [memoryStaging(), memoryLock(), rememberingSigner()];
  const [read, written, signed]: [Uint8Array[], Uint8Array[], Uint8Array[]] = [[], [], []];
  const healthy: LogPorts = {
    verifier: logVerifier,
    staging,
    lock,
    files: {
      ...files,
      async read(path) {
        const bytes = (await files.read(path))?.slice();
        if (bytes && path.startsWith("tile/")) read.push(bytes);
        return bytes;
      },
      putImmutable(all) {
        written.push(...all.map(({ bytes }) => bytes));
        return files.putImmutable(all);
      },
    },
    async sign(entries, from) {
      const note = await signer(entries, from);
      signed.push(note);
      return note;
    },
  };
  const entriesOf = (count: number) =>
    Array.from({ length: count }, () => Uint8Array.from({ length: 1 + random(80) }, () => random(256)));
  const [old, early, late] = [
    entriesOf(1 + random(600)),
    entriesOf(atOnce ? 0 : 1 + random(40)),
    entriesOf(1 + random(300)),
  ];
  const truth = [...old, ...early, ...late].map((entry) => entry.slice());
  await (await openLogOn(healthy)).append(old);
  written.length = 0;
  const held: Held = { random, entries: late, read, written };
  const log = await openLogOn(withChange(healthy, change, held, old.length + early.length));
  if (early.length > 0) await log.append(early);
  const outcome = await log.append(late).then(
    () => "harmless" as const,
    (error: unknown) => {
      assert.ok(error instanceof CodedError, `${error}`);
      return "refused" as const;
    },
  );

  for (const note of signed) {
    const { size, root } = verifyCheckpoint(policyOfLog(logVerifier), note);
    const tree = new MerkleFrontier();
    for (const entry of truth.slice(0, size)) tree.append(hashLeaf(entry));
    assert.equal(formatHex(root), formatHex(tree.root()), `a bad head of ${size} was signed`);
  }
  const { checkpoint } = await readCheckpoint(mapFetch(files.map), policyOfLog(logVerifier));
  assert.equal(checkpoint.size, lock.held?.size);
  let index = 0;
  for await (const entry of readEntries(mapFetch(files.map), checkpoint)) {
    assert.ok(equalBytes(entry, truth[index]!), `entry ${index} is served wrong`);
    index++;
  }
  assert.equal(index, outcome === "harmless" ? truth.length : old.length + early.length);
  return outcome;
}

/** The change takes hold with the append that starts at `size`. */
function withChange(healthy: LogPorts, change: Place, held: Held, size: number): LogPorts {
  const changed = { ...healthy, ...change(healthy, held) };
  const now = (name: string) => name.startsWith(`${size}-`);
  return {
    ...healthy,
    staging: {
      ...healthy.staging,
      write: (name, bytes) => (now(name) ? changed : healthy).staging.write(name, bytes),
      grow: (name, frontier) => (now(name) ? changed : healthy).staging.grow(name, frontier),
    },
  };
}
