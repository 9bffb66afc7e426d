import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { before, test } from "node:test";
import {
  buildConsistencyProof,
  buildInclusionProof,
  CodedError,
  EMPTY_ROOT,
  equalBytes,
  formatHex,
  hashLeaf,
  MerkleFrontier,
  rootOf,
  sha256,
  subtreeOf,
  utf8,
  verifyConsistency,
  verifyInclusion,
} from "@viafabric/schemas";
import type { TreeHead } from "./checkpoint.ts";
import {
  folderFetch,
  frontierAt,
  httpFetch,
  openTree,
  proveConsistency,
  proveInclusion,
  readCheckpoint,
  readEntries,
  subFolder,
  tileSubtree,
} from "./client.ts";
import {
  decimals,
  freshSeed,
  logVerifier,
  mapFetch,
  memoryFiles,
  memoryLock,
  memoryStaging,
  randomFrom,
  rememberingSigner,
} from "./fixtures.test.ts";
import { openLogOn } from "./log.ts";
import { policyOfLog } from "./policy.ts";
import { tilesOf, writeTree } from "./write-tree.ts";

/** Two full levels and a ragged edge: 70,000 entries. */
const SIZE = 70_000;
const files = memoryFiles();
const leafHashes = decimals(0, SIZE).map(hashLeaf);
let head: TreeHead;

before(async () => {
  const ports = { files, staging: memoryStaging(), lock: memoryLock(), sign: rememberingSigner() };
  const log = await openLogOn({ ...ports, verifier: logVerifier });
  await log.append(decimals(0, SIZE));
  head = log.head;
});

const seed = freshSeed();
test(`proofs from tiles are those of the tree in memory (seed ${seed})`, async () => {
  const random = randomFrom(seed);
  const fetch = mapFetch(files.map);
  const tree = await openTree(fetch, head);
  for (let round = 0; round < 200; round++) {
    const index = random(SIZE);
    const proof = await buildInclusionProof(index, SIZE, tree.subtree);
    verifyInclusion({ index, size: SIZE, leafHash: leafHashes[index]!, proof, root: head.root });
    const oldSize = 1 + random(SIZE);
    const frontier = await tree.frontierAt(oldSize);
    const extension = await buildConsistencyProof(oldSize, SIZE, tree.subtree);
    verifyConsistency({ oldSize, oldRoot: frontier.root(), newSize: SIZE, newRoot: head.root, proof: extension });
  }
  for (const size of [1, 255, 256, 257, 65_535, 65_536]) {
    assert.deepEqual((await frontierAt(fetch, head, size)).root(), rootOf(leafHashes.slice(0, size)), `${size}`);
  }
  assert.deepEqual(await proveInclusion(fetch, head, 7), await buildInclusionProof(7, SIZE, tileSubtree(fetch, head)));
  assert.deepEqual(await proveConsistency(fetch, 0, head), []);
});

test("every size up to 600 gives the same tiles, frontiers and proofs as the tree in memory", async () => {
  const leaves = decimals(0, 600);
  const hashes = leaves.map(hashLeaf);
  const frontier = new MerkleFrontier();
  for (let size = 1; size <= 600; size++) {
    frontier.append(hashes[size - 1]!);
    if (size > 20 && ![255, 256, 257, 511, 512, 513, 600].includes(size)) continue;
    const { root, files: tiles } = tilesOf(leaves.slice(0, size));
    assert.deepEqual(root, frontier.root());
    const tree = await openTree(mapFetch(new Map(tiles.map((file) => [file.path, file.bytes]))), { size, root });
    const inMemory = subtreeOf(hashes);
    for (const index of [0, 1, size >> 1, size - 1].filter((i) => i < size)) {
      const expected = await buildInclusionProof(index, size, inMemory);
      assert.deepEqual(await buildInclusionProof(index, size, tree.subtree), expected);
    }
  }
});

test("a flipped bit in any tile or bundle is found by every read that touches it", async () => {
  const random = randomFrom(seed);
  for (const [file, bytes] of files.map) {
    if (file === "checkpoint") continue;
    // Every file of the upper levels, a sample of the others: there are hundreds.
    if (/^tile\/(entries|0)\//.test(file) && random(40) !== 0 && !file.includes(".p/")) continue;
    const wrong = bytes.slice();
    wrong[random(wrong.length)]! ^= 1 << random(8);
    const fetch = mapFetch(new Map(files.map).set(file, wrong));
    await assert.rejects(readAll(fetch), { code: "ERR_LOG_MISMATCH" }, file);
    const tile = /^tile\/(\d+)\/([0-9]{3})$/.exec(file);
    if (!tile) continue;
    const tree = openTree(fetch, head);
    await assert.rejects(
      tree.then((t) => t.tile(Number(tile[1]), Number(tile[2]))),
      { code: "ERR_LOG_MISMATCH" },
    );
    if (tile[1] === "0") {
      const index = Number(tile[2]) * 256;
      await assert.rejects(proveInclusion(fetch, head, index), { code: "ERR_LOG_MISMATCH" });
      await assert.rejects(frontierAt(fetch, head, index + 1), { code: "ERR_LOG_MISMATCH" });
    }
  }
});

async function readAll(fetch: ReturnType<typeof mapFetch>): Promise<number> {
  let count = 0;
  for await (const _ of readEntries(fetch, head)) count++;
  return count;
}

test("a missing file is missing, and a partial one may have given way to the full one", async () => {
  for (const file of ["tile/0/007", "tile/entries/009", "tile/1/000", "tile/2/000.p/1", "tile/0/273.p/112"]) {
    const map = new Map(files.map);
    map.delete(file);
    await assert.rejects(readAll(mapFetch(map)), { code: "ERR_LOG_FILE" }, file);
  }
  await assert.rejects(readCheckpoint(mapFetch(new Map()), policyOfLog(logVerifier)), { code: "ERR_LOG_FILE" });

  const ports = { files: memoryFiles(), staging: memoryStaging(), lock: memoryLock(), sign: rememberingSigner() };
  const log = await openLogOn({ ...ports, verifier: logVerifier });
  await log.append(decimals(0, 300));
  const small = log.head;
  await log.append(decimals(300, 600));
  const pruned = new Map([...ports.files.map].filter(([file]) => !file.endsWith(".p/44")));
  let index = 0;
  for await (const entry of readEntries(mapFetch(pruned), small)) {
    assert.ok(equalBytes(entry, utf8(String(index++))));
  }
  assert.equal(index, 300);
});

test("a tree of manifests grows in its folder, and growing again is harmless", async () => {
  const home = await mkdtemp(path.join(os.tmpdir(), "tree-"));
  try {
    const leaves = decimals(0, 700).map(sha256);
    const empty = { size: 0, root: EMPTY_ROOT };
    const one = await writeTree(home, empty, leaves.slice(0, 300));
    const two = await writeTree(home, one, leaves.slice(300));
    assert.deepEqual(await writeTree(home, one, leaves.slice(300)), two);
    assert.deepEqual(two, { size: 700, root: rootOf(leaves.map(hashLeaf)) });
    const proof = await proveInclusion(folderFetch(home), two, 5);
    verifyInclusion({ index: 5, size: 700, leafHash: hashLeaf(leaves[5]!), proof, root: two.root });
    await assert.rejects(writeTree(home, { size: 300, root: two.root }, []), { code: "ERR_LOG_MISMATCH" });
  } finally {
    await rm(home, { recursive: true });
  }
});

test("no path leaves the folder", async () => {
  const home = await mkdtemp(path.join(os.tmpdir(), "fetch-"));
  try {
    await mkdir(path.join(home, "log"));
    await writeFile(path.join(home, "secret"), "secret");
    await symlink("missing", path.join(home, "log", "dangling"));
    const fetch = folderFetch(path.join(home, "log"));
    assert.equal(await fetch("checkpoint"), undefined);
    assert.equal(await fetch("dangling"), undefined);
    assert.ok(await subFolder(folderFetch(path.dirname(home)), path.basename(home))("secret"));
    for (const file of [
      "../secret",
      "./../secret",
      "a/../../secret",
      "/etc/passwd",
      "",
      "a//b",
      ".hidden",
      "a\0b",
      "%2e%2e/secret",
    ]) {
      await assert.rejects(fetch(file), CodedError, file);
      await assert.rejects(httpFetch("http://127.0.0.1:1")(file), { code: "ERR_USAGE" }, file);
    }
  } finally {
    await rm(home, { recursive: true });
  }
});

async function serve(listener: RequestListener, work: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}/log`);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

test("a web server's answers are bounded in size and time", async () => {
  const respond: RequestListener = (request, response) => {
    const name = request.url!.slice("/log/".length);
    if (name === "checkpoint") response.end("here");
    else if (name === "slow") response.write("so");
    else if (name === "endless") {
      const write = (): boolean => response.write(new Uint8Array(65_536)) && write();
      response.on("drain", write);
      write();
    } else if (name === "redirect") response.writeHead(302, { location: "/log/checkpoint" }).end();
    else if (name === "forbidden") response.writeHead(403).end();
    else response.writeHead(404).end();
  };
  await serve(respond, async (url) => {
    const fetch = httpFetch(url, { attemptsMax: 1, secondsMax: 0.2, bytesMax: 1_000_000 });
    assert.deepEqual(await fetch("checkpoint"), utf8("here"));
    assert.equal(await fetch("missing"), undefined);
    await assert.rejects(fetch("endless"), { code: "ERR_FILE_TOO_LARGE" });
    await assert.rejects(fetch("forbidden"), { code: "ERR_FETCH" });
    await assert.rejects(fetch("redirect"), { code: "ERR_FETCH" });
    await assert.rejects(fetch("slow"), { code: "ERR_FETCH" });
  });
  await assert.rejects(httpFetch("http://127.0.0.1:1/", { attemptsMax: 1 })("checkpoint"), { code: "ERR_FETCH" });
  assert.throws(() => httpFetch("ftp://log.example/"), { code: "ERR_USAGE" });
  assert.throws(() => httpFetch("log.example"), { code: "ERR_USAGE" });
});

test("a server that fails once is asked again", async () => {
  let asked = 0;
  const respond: RequestListener = (_request, response) => {
    response.writeHead(asked++ === 0 ? 503 : 200).end("late");
  };
  await serve(respond, async (url) => {
    assert.equal(formatHex((await httpFetch(url)("checkpoint"))!), formatHex(utf8("late")));
  });
});
