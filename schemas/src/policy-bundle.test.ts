import assert from "node:assert/strict";
import { test } from "node:test";
import {
  assertPolicyFiles,
  buildInclusionProof,
  type CborValue,
  CodedError,
  decodeCbor,
  decodePolicyManifest,
  encodeCbor,
  encodePolicyManifest,
  FormatError,
  hashLeaf,
  isPolicyPath,
  POLICY_BYTES_MAX,
  POLICY_FILES_MAX,
  policyLeaf,
  policyManifestOf,
  sha256,
  subtreeOf,
  utf8,
  verifyInclusion,
} from "./index.ts";

const AUTHORITY = sha256(utf8("authority"));
const LINEAGE = sha256(utf8("lineage"));
const malformed = (error: unknown) => error instanceof FormatError && error.code === "ERR_POLICY_BUNDLE";
const filesOf = (...names: readonly string[]) => new Map(names.map((name) => [name, utf8(`file ${name}`)]));
const manifestOf = (files: ReadonlyMap<string, Uint8Array>, previous?: Uint8Array) =>
  policyManifestOf(AUTHORITY, LINEAGE, previous, files);

test("the same files give the same manifest in any order, and it comes back from its bytes", () => {
  const bytes = encodePolicyManifest(manifestOf(filesOf("b/x.rego", "a", "b/c.json")));
  assert.deepEqual(encodePolicyManifest(manifestOf(filesOf("a", "b/c.json", "b/x.rego"))), bytes);
  const manifest = decodePolicyManifest(bytes);
  assert.deepEqual(manifest, manifestOf(filesOf("a", "b/c.json", "b/x.rego")));
  assert.deepEqual(
    manifest.entries.map(({ path }) => path),
    ["a", "b/c.json", "b/x.rego"],
  );
  assert.equal(manifest.version, 1);
  const next = decodePolicyManifest(encodePolicyManifest(manifestOf(filesOf("a"), bytes)));
  assert.deepEqual([next.version, next.previous], [2, sha256(bytes)]);
});

test("one file is proven to be in the bundle by a few hashes", async () => {
  const { entries, root } = manifestOf(filesOf("a", "b", "c", "d", "e"));
  const leaves = entries.map((entry) => hashLeaf(policyLeaf(entry)));
  const proof = await buildInclusionProof(3, leaves.length, subtreeOf(leaves));
  verifyInclusion({ index: 3, size: 5, leafHash: leaves[3]!, proof, root });
  // A path that ends in what looks like another entry's hash and length is still another leaf.
  const [first, second] = entries;
  assert.notDeepEqual(policyLeaf(first!), policyLeaf(second!));
});

test("paths are plain, and no two of them can be one file on some disk", () => {
  for (const path of ["a", "A-1_b.rego", "x/y/z.json", "_x", "constructor", "__proto__"])
    assert.ok(isPolicyPath(path), path);
  const bad = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    ".git/config",
    "a/.x",
    "a b",
    "a\\b",
    "ä",
    "a\0",
    "a:b",
    "a\n",
  ];
  for (const path of [...bad, "x".repeat(129), "a/b/c/d/e/f/g/h/i"]) {
    assert.ok(!isPolicyPath(path), path);
    assert.throws(() => manifestOf(filesOf(path)), malformed, path);
  }
  for (const names of [
    ["a", "A"],
    ["a", "a/b"],
    ["x/A", "x/a"],
    ["A", "a/b"],
  ])
    assert.throws(() => manifestOf(filesOf(...names)), malformed, names.join());
});

test("a bundle that is empty or too big is refused", () => {
  assert.throws(() => manifestOf(new Map()), malformed);
  const many = Array.from({ length: POLICY_FILES_MAX + 1 }, (_, i) => `f${i}`);
  manifestOf(filesOf(...many.slice(1)));
  assert.throws(() => manifestOf(filesOf(...many)), malformed);
  const half = new Uint8Array(POLICY_BYTES_MAX / 2);
  manifestOf(
    new Map([
      ["a", half],
      ["b", half],
    ]),
  );
  assert.throws(
    () =>
      manifestOf(
        new Map([
          ["a", half],
          ["b", half],
          ["c", new Uint8Array(1)],
        ]),
      ),
    malformed,
  );
});

test("what a manifest lists is what comes, no file more and no bit other", () => {
  const files = filesOf("a", "b");
  const manifest = manifestOf(files);
  assertPolicyFiles(manifest, files);
  for (const other of [filesOf("a"), filesOf("a", "b", "c"), filesOf("a", "c"), new Map([...files, ["b", utf8("x")]])])
    assert.throws(() => assertPolicyFiles(manifest, other), malformed);
});

test("every changed field of a manifest is refused or another bundle", () => {
  const bytes = encodePolicyManifest(manifestOf(filesOf("a", "b")));
  const map = decodeCbor(bytes) as ReadonlyMap<number, CborValue>;
  const [a, b] = map.get(7) as readonly (readonly CborValue[])[];
  const changes: readonly (readonly [number, CborValue | undefined])[] = [
    [1, 2],
    [2, new Uint8Array(31)],
    [3, "lineage"],
    [4, 0],
    [4, 2],
    [4, 2 ** 32],
    [5, sha256(utf8("another"))],
    [6, sha256(utf8("another root"))],
    [7, []],
    [7, [b!, a!]],
    [7, [a!, a!]],
    [7, [a!]],
    [7, [[...a!, 1], b!]],
    [7, [["../a", a![1]!, a![2]!], b!]],
    [7, [[a![0]!, a![1]!, -1], b!]],
    [7, undefined],
    [8, 0],
  ];
  for (const [key, value] of changes) {
    const changed = new Map(map);
    if (value === undefined) changed.delete(key);
    else changed.set(key, value);
    assert.throws(() => decodePolicyManifest(encodeCbor(changed)), malformed, `key ${key}`);
  }
  for (let at = 0; at < bytes.length; at += 7) {
    const flipped = new Uint8Array(bytes);
    flipped[at]! ^= 1;
    try {
      assert.notDeepEqual(encodePolicyManifest(decodePolicyManifest(flipped)), bytes);
    } catch (error) {
      assert.ok(error instanceof CodedError, String(error));
    }
  }
});
