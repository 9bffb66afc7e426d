/**
 * Known answers of other people, read from where Go keeps their modules; none of it is copied here. The proofs, good and
 * bad, that transparency-dev/merkle is tested with, and the log that Tessera keeps for its own tests.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import {
  CodedError,
  concat,
  EMPTY_ROOT,
  ed25519PublicKey,
  equalBytes,
  HASH_BYTES,
  parseBase64,
  parseHex,
  type Signer,
  utf8,
  verifyConsistency,
  verifyInclusion,
} from "@viafabric/schemas";
import { skipReason } from "./peers-go.ts";
import { openSoftwareLog, signHead } from "./software-log.ts";

/** The first versions whose modules hold the data, and the hashes of them that a go.sum would state. */
const MERKLE = {
  module: "github.com/transparency-dev/merkle@v0.0.3-0.20260707140218-77df88e508fa",
  sum: "h1:thPHsl5llVwAR7q5m8HmI/z6rUO0aGDfXVD+5YSBwjA=",
};
const TESSERA = {
  module: "github.com/transparency-dev/tessera@v1.0.4",
  sum: "h1:IXjGowubcLR0T3zUQrysSMKgtTh9KGKQ0iajUiubyP4=",
};
const DOWNLOAD_MS = 300_000;

type Found = { readonly binary: string } | { readonly missing: string };

async function moduleFolder({ module, sum }: { readonly module: string; readonly sum: string }): Promise<Found> {
  // Outside any module, so that nobody's go.mod changes.
  const cwd = await mkdtemp(path.join(tmpdir(), "vectors-"));
  const options = { cwd, env: { ...process.env, GOTOOLCHAIN: "local" }, timeout: DOWNLOAD_MS };
  try {
    const { stdout } = await promisify(execFile)("go", ["mod", "download", "-json", module], options);
    const found = JSON.parse(stdout) as { readonly Dir: string; readonly Sum: string };
    assert.equal(found.Sum, sum, module);
    return { binary: found.Dir };
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return { missing: `${module} cannot be had` };
  } finally {
    await rm(cwd, { recursive: true });
  }
}

const merkle = await moduleFolder(MERKLE);
const tessera = await moduleFolder(TESSERA);

/** As Go writes them: what is empty may be missing. Those of subtrees have `start`, `end` and `size`. */
interface Claim {
  readonly leafIdx?: number;
  readonly treeSize?: number;
  readonly size1?: number;
  readonly size2?: number;
  readonly start?: number;
  readonly end?: number;
  readonly size?: number;
  readonly leafHash?: string | null;
  readonly root?: string | null;
  readonly root1?: string | null;
  readonly root2?: string | null;
  readonly proof?: readonly string[] | null;
  readonly desc: string;
  readonly wantErr: boolean;
}

async function claims(folder: string): Promise<readonly (readonly [name: string, claim: Claim])[]> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".json")).sort();
  return Promise.all(
    names.map(async (name) => [name, JSON.parse(await readFile(path.join(folder, name), "utf8"))] as const),
  );
}

const bytesOf = (text: string | null | undefined) => parseBase64(text ?? "");
const proofOf = ({ proof }: Claim) => (proof ?? []).map(bytesOf);

function isAccepted(verify: () => void): boolean {
  try {
    verify();
    return true;
  } catch (error) {
    if (error instanceof CodedError) return false;
    throw error;
  }
}

const isIncluded = (claim: Claim) =>
  isAccepted(() =>
    verifyInclusion({
      index: claim.leafIdx ?? 0,
      size: claim.treeSize ?? claim.end ?? 0,
      leafHash: bytesOf(claim.leafHash),
      root: bytesOf(claim.root),
      proof: proofOf(claim),
    }),
  );

const isConsistent = (claim: Claim) =>
  isAccepted(() =>
    verifyConsistency({
      oldSize: claim.size1 ?? claim.end ?? 0,
      newSize: claim.size2 ?? claim.size ?? 0,
      oldRoot: bytesOf(claim.root1),
      newRoot: bytesOf(claim.root2),
      proof: proofOf(claim),
    }),
  );

const hasWholeRoots = ({ root, root1, root2 }: Claim) =>
  [root, root1, root2].every((text) => text == null || bytesOf(text).length === HASH_BYTES);

/** A subtree that begins with the log is a tree. */
const isTree = ([, { start }]: readonly [string, Claim]) => (start ?? 0) === 0;

test("the proofs of transparency-dev/merkle are told good from bad", { skip: skipReason(merkle) }, async (t) => {
  assert.ok("binary" in merkle);
  const data = path.join(merkle.binary, "testdata");
  const kinds = [
    ["inclusion", isIncluded],
    ["consistency", isConsistent],
    ["subtreeinclusion", isIncluded],
    ["subtreeconsistency", isConsistent],
  ] as const;
  const disagree: string[] = [];
  let shortRoots = 0;
  for (const [kind, verify] of kinds) {
    const cases = (await claims(path.join(data, kind))).filter(isTree);
    t.diagnostic(`${kind}: ${cases.length} cases`);
    assert.ok(cases.length >= 20, kind);
    for (const [name, claim] of cases) {
      // Theirs compares roots of any length; ours are hashes, or nothing is proven.
      const short = !claim.wantErr && !hasWholeRoots(claim);
      if (short) shortRoots++;
      if (verify(claim) !== (!claim.wantErr && !short)) disagree.push(`${kind}/${name}: ${claim.desc}`);
    }
  }
  assert.deepEqual(disagree.sort(), []);
  assert.equal(shortRoots, 3);
});

test("Tessera's own log is made again, byte for byte, at each of its sizes", {
  skip: skipReason(tessera),
}, async (t) => {
  assert.ok("binary" in tessera);
  const data = path.join(tessera.binary, "testdata");
  const script = await readFile(path.join(data, "build_log.sh"), "utf8");
  // A key that they publish for this very purpose.
  const [, origin, key] = /LOG_PRIVATE_KEY="PRIVATE\+KEY\+([^+]+)\+[0-9a-f]{8}\+([^"]+)"/.exec(script)!;
  const words = /for i in ([a-z ]+); do/.exec(script)![1]!.split(" ");
  const home = await mkdtemp(path.join(tmpdir(), "vectors-"));
  const signer = signerOf(parseBase64(key!).slice(1));
  const { log, folder } = await openSoftwareLog(home, signer, origin!);
  try {
    const theirs = (name: string) => readFile(path.join(data, "log", name));
    const empty = await signHead(signer, origin!, { size: 0, root: EMPTY_ROOT });
    assert.ok(equalBytes(empty, await theirs("checkpoint.0")));
    for (const word of words) {
      await log.append([utf8(word)]);
      const checkpoint = await readFile(path.join(folder, "checkpoint"));
      assert.ok(equalBytes(checkpoint, await theirs(`checkpoint.${log.size}`)), `checkpoint ${log.size}`);
    }
    const files = (await readdir(path.join(data, "log/tile"), { recursive: true, withFileTypes: true })).filter(
      (entry) => entry.isFile(),
    );
    for (const file of files) {
      const name = path.relative(path.join(data, "log"), path.join(file.parentPath, file.name));
      assert.ok(equalBytes(await readFile(path.join(folder, name)), await theirs(name)), name);
    }
    t.diagnostic(`${words.length + 1} checkpoints, ${files.length} tiles and bundles`);
    assert.equal(files.length, 2 * words.length);
  } finally {
    await log.close();
    await rm(home, { recursive: true });
  }
});

function signerOf(seed: Uint8Array): Signer {
  assert.equal(seed.length, HASH_BYTES);
  const der = concat(parseHex("302e020100300506032b657004220420"), seed);
  const key = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  return {
    publicKey: ed25519PublicKey(spki.slice(12)),
    sign: async (message) => new Uint8Array(sign(null, message, key)),
  };
}
