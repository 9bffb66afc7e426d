/**
 * Merkle trees as in RFC 6962 section 2.1, SHA-256: hashes, compact ranges, proofs.
 *
 * leaf(d) = H(00 ‖ d), node(l, r) = H(01 ‖ l ‖ r), the empty tree is H(""). A tree of n leaves splits at the largest
 * power of two below n; an odd node is never duplicated. Sizes may pass 2^31, so no 32-bit operator touches them.
 */
import { equalBytes } from "./bytes.ts";
import { HASH_BYTES, sha256 } from "./crypto.ts";
import { VerificationError } from "./errors.ts";

export type Hash = Uint8Array;

export const EMPTY_ROOT: Hash = sha256(new Uint8Array(0));

/** A proof in a tree of at most 2^53 leaves never has more hashes. */
export const PROOF_HASHES_MAX = 63;

/** Hashing never waits, so one scratch space of each kind is enough; a new one for each hash costs more than the hash. */
let leafInput = new Uint8Array(1);
const nodeInput = new Uint8Array(1 + 2 * HASH_BYTES).fill(1, 0, 1);

export function hashLeaf(entry: Uint8Array): Hash {
  // Entries of one type share a length, so the space is almost always the right one already.
  if (leafInput.length !== 1 + entry.length) leafInput = new Uint8Array(1 + entry.length);
  leafInput.set(entry, 1);
  return sha256(leafInput);
}

export function hashChildren(left: Hash, right: Hash): Hash {
  if (left.length !== HASH_BYTES || right.length !== HASH_BYTES) throw new RangeError("a node has two hashes");
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

/**
 * The right edge of a growing tree: the roots of its complete subtrees, largest first. Enough to append and to give
 * the root, in O(log size) memory.
 */
export class MerkleFrontier {
  #size: number;
  readonly #peaks: Hash[];

  /** @param peaks one hash for each 1 bit of `size`, the largest subtree first. */
  constructor(size = 0, peaks: readonly Hash[] = []) {
    if (peaks.length !== countOnes(size)) throw new RangeError(`${peaks.length} peaks do not make a tree of ${size}`);
    this.#size = size;
    this.#peaks = [...peaks];
  }

  get size(): number {
    return this.#size;
  }

  get peaks(): readonly Hash[] {
    return this.#peaks;
  }

  clone(): MerkleFrontier {
    return new MerkleFrontier(this.#size, this.#peaks);
  }

  append(leafHash: Hash): void {
    let node = leafHash;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2))
      node = hashChildren(this.#peaks.pop()!, node);
    this.#peaks.push(node);
    this.#size++;
  }

  root(): Hash {
    let root = this.#peaks.at(-1);
    if (!root) return EMPTY_ROOT;
    for (let i = this.#peaks.length - 2; i >= 0; i--) root = hashChildren(this.#peaks[i]!, root);
    return root;
  }
}

function countOnes(size: number): number {
  let ones = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2;
  return ones;
}

/** The root over leaf hashes that are all at hand. */
export function rootOf(leafHashes: readonly Hash[]): Hash {
  const frontier = new MerkleFrontier();
  for (const hash of leafHashes) frontier.append(hash);
  return frontier.root();
}

/** The largest power of two strictly below n (n > 1): where a tree splits. */
export function splitPoint(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

/**
 * Gives the hash of the complete or ragged subtree [start, end). Proof builders ask it, so the same code serves
 * leaves in memory and tiles on a disk.
 */
export type SubtreeHash = (start: number, end: number) => Hash | Promise<Hash>;

/** RFC 6962 section 2.1.1, leaf to root. */
export async function buildInclusionProof(index: number, size: number, subtree: SubtreeHash): Promise<Hash[]> {
  if (!(index >= 0 && index < size)) throw new RangeError(`index ${index} is not below size ${size}`);
  const proof: Hash[] = [];
  let start = 0;
  let end = size;
  while (end - start > 1) {
    const middle = start + splitPoint(end - start);
    if (index < middle) {
      proof.push(await subtree(middle, end));
      end = middle;
    } else {
      proof.push(await subtree(start, middle));
      start = middle;
    }
  }
  return proof.reverse();
}

/** RFC 6962 section 2.1.2; empty for an old size of 0 and for equal sizes. */
export async function buildConsistencyProof(oldSize: number, newSize: number, subtree: SubtreeHash): Promise<Hash[]> {
  if (!(oldSize >= 0 && oldSize <= newSize)) throw new RangeError(`old size ${oldSize} is above ${newSize}`);
  if (oldSize === 0 || oldSize === newSize) return [];
  const proof: Hash[] = [];
  let start = 0;
  let end = newSize;
  while (oldSize !== end) {
    const middle = start + splitPoint(end - start);
    if (oldSize <= middle) {
      proof.push(await subtree(middle, end));
      end = middle;
    } else {
      proof.push(await subtree(start, middle));
      start = middle;
    }
  }
  if (start > 0) proof.push(await subtree(start, end));
  return proof.reverse();
}

/** A SubtreeHash over leaf hashes in memory. For trees small enough to be hashed again at each question. */
export function subtreeOf(leafHashes: readonly Hash[]): SubtreeHash {
  return (start, end) => rootOf(leafHashes.slice(start, end));
}

/** RFC 9162 section 2.1.3.2. @throws VerificationError ERR_PROOF */
export function verifyInclusion(claim: {
  readonly index: number;
  readonly size: number;
  readonly leafHash: Hash;
  readonly proof: readonly Hash[];
  readonly root: Hash;
}): void {
  const { index, size, leafHash, proof, root } = claim;
  checkShape(proof, [leafHash, root]);
  if (!isSize(index) || !isSize(size) || index >= size) fail(`index ${index} is not in a tree of ${size}`);
  let fn = index;
  let sn = size - 1;
  let hash = leafHash;
  for (const sibling of proof) {
    if (sn === 0) fail("the proof is too long");
    if (fn % 2 === 1 || fn === sn) {
      hash = hashChildren(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      hash = hashChildren(hash, sibling);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  if (sn !== 0) fail("the proof is too short");
  if (!equalBytes(hash, root)) fail("the inclusion proof leads to another root");
}

/**
 * RFC 9162 section 2.1.4.2. An old size of 0 needs the empty root and an empty proof; equal sizes need equal roots.
 * @throws VerificationError ERR_PROOF
 */
export function verifyConsistency(claim: {
  readonly oldSize: number;
  readonly oldRoot: Hash;
  readonly newSize: number;
  readonly newRoot: Hash;
  readonly proof: readonly Hash[];
}): void {
  const { oldSize, oldRoot, newSize, newRoot, proof } = claim;
  checkShape(proof, [oldRoot, newRoot]);
  if (!isSize(oldSize) || !isSize(newSize) || oldSize > newSize)
    fail(`a tree of ${newSize} does not extend ${oldSize}`);
  if (oldSize === 0 || oldSize === newSize) {
    if (proof.length > 0) fail("a proof where none is needed");
    if (oldSize === 0 && !equalBytes(oldRoot, EMPTY_ROOT)) fail("an empty tree with a root");
    if (oldSize === newSize && !equalBytes(oldRoot, newRoot)) fail("the roots differ");
    return;
  }
  let fn = oldSize - 1;
  let sn = newSize - 1;
  while (fn % 2 === 1) {
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  const rest = [...proof];
  // A complete old tree is itself the first element, and is left out of the proof.
  const first = fn === 0 ? oldRoot : rest.shift();
  if (!first) throw new VerificationError("ERR_PROOF", "the proof is too short");
  let oldHash = first;
  let newHash = first;
  for (const sibling of rest) {
    if (sn === 0) fail("the proof is too long");
    if (fn % 2 === 1 || fn === sn) {
      oldHash = hashChildren(sibling, oldHash);
      newHash = hashChildren(sibling, newHash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      newHash = hashChildren(newHash, sibling);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  if (sn !== 0) fail("the proof is too short");
  if (!equalBytes(oldHash, oldRoot)) fail("the consistency proof does not start at the old root");
  if (!equalBytes(newHash, newRoot)) fail("the consistency proof does not lead to the new root");
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function checkShape(proof: readonly Hash[], hashes: readonly Hash[]): void {
  if (proof.length > PROOF_HASHES_MAX) fail(`a proof of ${proof.length} hashes`);
  for (const hash of [...proof, ...hashes]) if (hash.length !== HASH_BYTES) fail("a hash that is not 32 bytes");
}

function fail(reason: string): never {
  throw new VerificationError("ERR_PROOF", reason);
}
