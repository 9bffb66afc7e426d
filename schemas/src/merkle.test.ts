import assert from "node:assert/strict";
import { test } from "node:test";
import { formatHex, parseBase64, utf8 } from "./bytes.ts";
import { sha256 } from "./crypto.ts";
import { VerificationError } from "./errors.ts";
import {
  buildConsistencyProof,
  buildInclusionProof,
  EMPTY_ROOT,
  type Hash,
  hashChildren,
  hashLeaf,
  MerkleFrontier,
  rootOf,
  splitPoint,
  subtreeOf,
  verifyConsistency,
  verifyInclusion,
} from "./merkle.ts";

const LEAVES = Array.from({ length: 130 }, (_, i) => hashLeaf(new Uint8Array([i])));

/** The definition of RFC 6962 section 2.1, word for word: the second route to every root. */
function definition(leaves: readonly Hash[]): Hash {
  if (leaves.length === 0) return EMPTY_ROOT;
  if (leaves.length === 1) return leaves[0]!;
  const k = splitPoint(leaves.length);
  return hashChildren(definition(leaves.slice(0, k)), definition(leaves.slice(k)));
}

test("roots of 0 to 130 leaves agree with the definition and the published digest", () => {
  let lines = "";
  for (let n = 0; n <= 130; n++) {
    const root = rootOf(LEAVES.slice(0, n));
    assert.deepEqual(root, definition(LEAVES.slice(0, n)));
    lines += `${n} ${formatHex(root)}\n`;
  }
  assert.equal(formatHex(sha256(utf8(lines))), "9c67f07f906103b6bf201842a50ff0b8c91fca9b3e211334a6b7aa3133165dec");
});

test("every inclusion proof up to 130 leaves verifies and agrees with the published digest", async () => {
  let lines = "";
  for (let size = 1; size <= 130; size++) {
    const leaves = LEAVES.slice(0, size);
    const root = rootOf(leaves);
    for (let index = 0; index < size; index++) {
      const proof = await buildInclusionProof(index, size, subtreeOf(leaves));
      lines += `${index} ${size}${proof.map((hash) => ` ${formatHex(hash)}`).join("")}\n`;
      verifyInclusion({ index, size, leafHash: leaves[index]!, proof, root });
    }
  }
  assert.equal(formatHex(sha256(utf8(lines))), "893ce6eea61adc33c22c0e3a952498b76dfa3c282e78ac659f6fcc0ea44f9983");
});

test("every consistency proof up to 130 leaves verifies and agrees with the published digest", async () => {
  let lines = "";
  for (let newSize = 1; newSize <= 130; newSize++) {
    const newRoot = rootOf(LEAVES.slice(0, newSize));
    for (let oldSize = 1; oldSize <= newSize; oldSize++) {
      const oldRoot = rootOf(LEAVES.slice(0, oldSize));
      const proof = await buildConsistencyProof(oldSize, newSize, subtreeOf(LEAVES));
      lines += `${oldSize} ${newSize}${proof.map((hash) => ` ${formatHex(hash)}`).join("")}\n`;
      verifyConsistency({ oldSize, oldRoot, newSize, newRoot, proof });
    }
  }
  assert.equal(formatHex(sha256(utf8(lines))), "2498232e1aebe8d1aa8d339d897fc471f4495fe0b8a55ac08f7dae3d88bc4c2a");
});

test("a frontier resumed from its peaks goes on as if never stopped", () => {
  const whole = new MerkleFrontier();
  let resumed = new MerkleFrontier();
  for (const leaf of LEAVES) {
    whole.append(leaf);
    resumed = new MerkleFrontier(resumed.size, resumed.peaks);
    resumed.append(leaf);
    assert.deepEqual(resumed.root(), whole.root());
  }
  assert.throws(() => new MerkleFrontier(3, [EMPTY_ROOT]), RangeError);
});

const PROOF_ERROR = (error: unknown) => error instanceof VerificationError && error.code === "ERR_PROOF";

test("no neighbour of a good inclusion proof verifies", async () => {
  const size = 11;
  const leaves = LEAVES.slice(0, size);
  const root = rootOf(leaves);
  for (let index = 0; index < size; index++) {
    const leafHash = leaves[index]!;
    const proof = await buildInclusionProof(index, size, subtreeOf(leaves));
    const wrong = [
      { proof: proof.slice(1) },
      { proof: proof.slice(0, -1) },
      { proof: [...proof, EMPTY_ROOT] },
      ...(proof.length > 1 ? [{ proof: [...proof].reverse() }] : []),
      { index: index + size },
      { index: -1 },
      { index: index + 0.5 },
      { size: 0 },
      { leafHash: EMPTY_ROOT },
      { root: EMPTY_ROOT },
      { proof: proof.map((hash) => hash.slice(1)) },
      ...proof.map((hash, i) => ({
        proof: proof.with(
          i,
          hash.map((byte, at) => (at === 31 ? byte ^ 1 : byte)),
        ),
      })),
    ];
    for (const change of wrong) {
      const claim = { index, size, leafHash, proof, root, ...change };
      assert.throws(() => verifyInclusion(claim), PROOF_ERROR, JSON.stringify(Object.keys(change)));
    }
  }
});

test("no neighbour of a good consistency proof verifies", async () => {
  for (const [oldSize, newSize] of [
    [3, 11],
    [4, 8],
    [6, 7],
    [1, 130],
    [127, 130],
  ] as const) {
    const oldRoot = rootOf(LEAVES.slice(0, oldSize));
    const newRoot = rootOf(LEAVES.slice(0, newSize));
    const proof = await buildConsistencyProof(oldSize, newSize, subtreeOf(LEAVES));
    const claim = { oldSize, oldRoot, newSize, newRoot, proof };
    const wrong = [
      { proof: proof.slice(1) },
      { proof: [...proof, EMPTY_ROOT] },
      { oldSize: 0 },
      { oldSize: newSize },
      { oldSize: newSize + 1 },
      { oldRoot: EMPTY_ROOT },
      { newRoot: oldRoot },
      ...proof.map((hash, i) => ({
        proof: proof.with(
          i,
          hash.map((byte, at) => (at === 0 ? byte ^ 128 : byte)),
        ),
      })),
    ];
    for (const change of wrong) assert.throws(() => verifyConsistency({ ...claim, ...change }), PROOF_ERROR);
  }
});

test("sizes zero and equal are decided, not computed", () => {
  const root = rootOf(LEAVES);
  verifyConsistency({ oldSize: 0, oldRoot: EMPTY_ROOT, newSize: 130, newRoot: root, proof: [] });
  verifyConsistency({ oldSize: 130, oldRoot: root, newSize: 130, newRoot: root, proof: [] });
  assert.throws(
    () => verifyConsistency({ oldSize: 0, oldRoot: root, newSize: 130, newRoot: root, proof: [] }),
    PROOF_ERROR,
  );
  assert.throws(
    () => verifyConsistency({ oldSize: 130, oldRoot: EMPTY_ROOT, newSize: 130, newRoot: root, proof: [] }),
    PROOF_ERROR,
  );
});

test("a log of 70,000 decimal entries has the published roots", () => {
  const published = new Map([
    [1, "2zQm6HgGjSjSabbIcXIyLOU3K2V1bQeJAB00g19gHAM="],
    [256, "goUV0DPBnYyQHzfsy4rtkZZncDSG+NL/8c9wQDIcXbE="],
    [257, "HtoEmkNR2G92JSvX7At3Rq11t/oDFq1fVB29pFijEsQ="],
    [65536, "8CXQbtgEhZ/SdKG9rK3W5I6odjSqkeHtsgFD+UmM0Cs="],
    [70000, "Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34="],
  ]);
  const tree = new MerkleFrontier();
  for (let i = 0; i < 70_000; i++) {
    tree.append(hashLeaf(utf8(String(i))));
    const root = published.get(tree.size);
    if (root) assert.deepEqual(tree.root(), parseBase64(root));
  }
});
