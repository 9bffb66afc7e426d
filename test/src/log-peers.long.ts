/**
 * Tessera, and the Go checksum database's own code, on a log that our sequencer made.
 *
 * Tessera's fsck derives the whole folder from its entries; its POSIX driver makes the same log from the same entries,
 * to be compared file by file; x/mod's tlog authenticates every tile and checks our proofs.
 */
import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import {
  buildConsistencyProof,
  buildInclusionProof,
  concat,
  formatBase64,
  formatHex,
  formatVerifierKey,
  type Hash,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { ENTRY_BYTES_MAX, encodeEntries, newBundles, newTiles, tilePath } from "@viafabric/transparency-log";
import { folderFetch, openTree, readEntries } from "@viafabric/transparency-log/client";
import { LOG, LOG_ORIGIN } from "./authority.ts";
import { type GoAnswer, goPeer, runGo, skipReason } from "./peers-go.ts";
import { openSoftwareLog } from "./software-log.ts";

const peer = await goPeer();
const skip = skipReason(peer);
if (skip) console.log(skip);

/** The same seed as LOG's, in the spelling of Go's note package. */
function skeyOf(name: string, seedOf: string, keyId: Uint8Array): string {
  return `PRIVATE+KEY+${name}+${formatHex(keyId)}+${formatBase64(concat(new Uint8Array([1]), sha256(utf8(seedOf))))}`;
}

interface MadeLog {
  readonly folder: string;
  readonly vkey: string;
  readonly skey: string;
  readonly entries: readonly Uint8Array[];
  /** All entries, framed, for the peer. */
  readonly entriesFile: string;
  /** Sizes of all checkpoints, the last one is the log's. */
  readonly heads: readonly { size: number; root: Hash }[];
}

async function makeLog(home: string, entries: readonly Uint8Array[], sizes: readonly number[]): Promise<MadeLog> {
  const { log, verifier, folder } = await openSoftwareLog(home, LOG, LOG_ORIGIN);
  const heads: { size: number; root: Hash }[] = [];
  for (const size of sizes) {
    await log.append(entries.slice(log.size, size));
    heads.push(log.head);
  }
  await log.close();
  const entriesFile = path.join(home, "entries");
  await writeFile(entriesFile, encodeEntries(entries));
  const skey = skeyOf(LOG_ORIGIN, "log", verifier.keyId);
  return { folder, vkey: formatVerifierKey(verifier), skey, entries, entriesFile, heads };
}

/** Files that the newest checkpoint covers. */
function coveredFiles(size: number): string[] {
  return ["checkpoint", ...[...newTiles(0, size), ...newBundles(0, size)].map(tilePath)];
}

async function filesBelow(folder: string): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of found.filter((e) => e.isFile())) {
    const file = path.join(entry.parentPath, entry.name);
    files.set(path.relative(folder, file), new Uint8Array(await readFile(file)));
  }
  return files;
}

/** Every inclusion proof asked for, and the consistency with each earlier checkpoint, as our client builds them. */
async function claimsOf(made: MadeLog, indices: readonly number[]) {
  const head = made.heads.at(-1)!;
  const tree = await openTree(folderFetch(made.folder), head);
  const inclusion: { index: number; hashes: string[] }[] = [];
  for (const index of indices) {
    const hashes = await buildInclusionProof(index, head.size, tree.subtree);
    inclusion.push({ index, hashes: hashes.map(formatBase64) });
  }
  const consistency: { size: number; root: string; hashes: string[] }[] = [];
  for (const { size, root } of made.heads) {
    const hashes = await buildConsistencyProof(size, head.size, tree.subtree);
    consistency.push({ size, root: formatBase64(root), hashes: hashes.map(formatBase64) });
  }
  return { inclusion, consistency };
}

type Claims = Awaited<ReturnType<typeof claimsOf>>;

async function sumdb(made: MadeLog, claims: Claims): Promise<GoAnswer> {
  const file = path.join(home, "claims.json");
  await writeFile(file, JSON.stringify(claims));
  return runGo(peer, "sumdb", made.folder, made.vkey, made.entriesFile, file);
}

/** Runs `check` with one bit of `file` flipped, and puts the bit back. */
async function withFlippedBit(file: string, check: () => Promise<void>) {
  const bytes = await readFile(file);
  const spoiled = Buffer.from(bytes);
  // The last base64 digit of a checkpoint has bits that mean nothing, and Go's decoder lets them be anything.
  spoiled[random(file.endsWith("checkpoint") ? bytes.length - "X=\n".length : bytes.length)]! ^= 1 << random(8);
  await writeFile(file, spoiled);
  await check();
  await writeFile(file, bytes);
}

/** Seeded, for where and which bit. */
function seededRandom(seed: number): (below: number) => number {
  let state = sha256(utf8(`flip ${seed}`));
  return (below) => {
    state = sha256(state);
    return new DataView(state.buffer, state.byteOffset).getUint32(0) % below;
  };
}

const seed = Number(process.env.VIA_SEED ?? randomInt(2 ** 31));
const random = seededRandom(seed);
let home: string;
/** The entries of the published vectors, and sizes on both sides of every kind of edge. */
let decimals: MadeLog;
/** Entries of all lengths, among them the shortest and the longest. */
let uneven: MadeLog;

before(async () => {
  if (skip) return;
  console.log(`seed ${seed}`);
  home = await mkdtemp(path.join(tmpdir(), "viafabric-log-peers-"));
  decimals = await makeLog(
    path.join(home, "decimals"),
    Array.from({ length: 70_000 }, (_, i) => utf8(String(i))),
    [1, 255, 256, 257, 511, 512, 3000, 65_535, 65_536, 65_537, 70_000],
  );
  const lengths = [0, 1, ENTRY_BYTES_MAX, ...Array.from({ length: 4_997 }, () => random(300))];
  uneven = await makeLog(
    path.join(home, "uneven"),
    lengths.map((length) => new Uint8Array(randomBytes(length))),
    [3, 4, 999, 1000, 4_864, 5_000],
  );
});
after(async () => {
  if (!skip) await rm(home, { recursive: true, force: true });
});

test("the root of 70,000 entries is the published one", { skip }, () => {
  assert.equal(formatBase64(decimals.heads.at(-1)!.root), "Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34=");
});

test("Tessera's fsck accepts both logs", { skip }, async () => {
  for (const made of [decimals, uneven]) {
    const answer = await runGo(peer, "fsck", made.folder, made.vkey);
    assert.deepEqual([answer.ok, answer.error], [true, undefined]);
    // It has read the checkpoint, every tile and every bundle.
    assert.equal(answer.files, coveredFiles(made.entries.length).length);
  }
});

test("Tessera's POSIX driver makes the same files from the same entries", { skip }, async () => {
  for (const [name, made] of Object.entries({ decimals, uneven })) {
    const folder = path.join(home, `tessera-${name}`);
    const sizes = made.heads.map((head) => String(head.size));
    const answer = await runGo(peer, "posix", folder, made.skey, made.entriesFile, ...sizes);
    assert.equal(answer.ok, true, answer.error);
    const theirs = await filesBelow(folder);
    // What it keeps for itself.
    for (const file of theirs.keys()) if (file.startsWith(".state/")) theirs.delete(file);
    const ours = await filesBelow(made.folder);
    assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
    for (const [file, bytes] of ours) assert.deepEqual(bytes, theirs.get(file), file);
    assert.ok(ours.size > coveredFiles(made.entries.length).length, "partial tiles of earlier checkpoints as well");
  }
});

test("our client reads the log that Tessera keeps", { skip }, async () => {
  const head = uneven.heads.at(-1)!;
  let index = 0;
  for await (const entry of readEntries(folderFetch(path.join(home, "tessera-uneven")), head)) {
    assert.deepEqual(entry, uneven.entries[index++]);
  }
  assert.equal(index, uneven.entries.length);
});

test("tlog authenticates every tile and builds the proofs that we build", { skip }, async () => {
  for (const made of [decimals, uneven]) {
    const size = made.entries.length;
    const edges = made.heads.flatMap((head) => [head.size - 1, head.size]).filter((index) => index < size);
    const indices = [...new Set([...edges, 0, ...Array.from({ length: 1_000 }, () => random(size))])];
    const answer = await sumdb(made, await claimsOf(made, indices));
    assert.equal(answer.ok, true, answer.error);
    assert.equal(answer.root, formatBase64(made.heads.at(-1)!.root));
    assert.deepEqual([answer.inclusion, answer.consistency], [indices.length, made.heads.length]);
  }
});

test("one flipped bit in any file that the checkpoint covers is refused by both", { skip }, async () => {
  const claims = await claimsOf(uneven, []);
  for (const file of coveredFiles(uneven.entries.length)) {
    await withFlippedBit(path.join(uneven.folder, file), async () => {
      assert.equal((await runGo(peer, "fsck", uneven.folder, uneven.vkey)).ok, false, `fsck accepted ${file}`);
      // The checksum database has no bundles: its records come from elsewhere.
      if (file.startsWith("tile/entries/")) return;
      assert.equal((await sumdb(uneven, claims)).ok, false, `tlog accepted ${file}`);
    });
  }
  assert.equal((await runGo(peer, "fsck", uneven.folder, uneven.vkey)).ok, true);
});

test("one flipped bit in a proof is refused by tlog", { skip }, async () => {
  const claims = await claimsOf(uneven, [0, 4_321, 4_999]);
  const flipped = (hash: string) => {
    const bytes = Buffer.from(hash, "base64");
    bytes[random(32)]! ^= 1 << random(8);
    return bytes.toString("base64");
  };
  assert.equal((await sumdb(uneven, claims)).ok, true);
  let tried = 0;
  for (const kind of ["inclusion", "consistency"] as const) {
    for (const [i, claim] of claims[kind].entries()) {
      for (const at of claim.hashes.keys()) {
        const changed = structuredClone(claims);
        changed[kind][i]!.hashes[at] = flipped(claim.hashes[at]!);
        const answer = await sumdb(uneven, changed);
        assert.match(String(answer.error), /^(inclusion of|consistency with) \d+: invalid/);
        tried++;
      }
    }
  }
  assert.ok(tried > 50);
});

test("another key, another origin and a shorter log are refused", { skip }, async () => {
  const other = path.join(home, "other");
  await cp(uneven.folder, other, { recursive: true });
  const stranger = "log.example/nfc+5b22172d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
  assert.equal((await runGo(peer, "fsck", other, stranger)).ok, false);
  await rm(path.join(other, tilePath({ level: "entries", index: 3, width: 256 })));
  assert.equal((await runGo(peer, "fsck", other, uneven.vkey)).ok, false);
});
