/**
 * From a token's index to its batch, without trusting whoever says so.
 *
 * `batches/list/<n>` says which batch covers an index; nothing signs it. So what it says is only where to look first:
 * the manifest that is found there must be under the signed head and must cover the index. Where the list is missing or
 * wrong, the manifests themselves are searched: ranges strictly ascend with the place in the head's tree, so a
 * bisection over proven manifests finds the batch, or proves that there is none.
 */
import {
  buildInclusionProof,
  CodedError,
  decodeManifest,
  type Head,
  hashLeaf,
  type Manifest,
  manifestHash,
  OperationError,
  parseDecimal,
  parseUtf8,
  quote,
  verifyInclusion,
} from "@viafabric/schemas";
import { type FetchFile, openTree, subFolder, type TileTree } from "@viafabric/transparency-log/client";
import { Refusal } from "@viafabric/verifier";

export interface FoundBatch {
  readonly seq: number;
  /** Whether the list led there, or the manifests had to be searched. */
  readonly by: "list" | "search";
}

const LIST_LINES = 256;
/** 256 lines of three numbers and a profile. */
const LIST_BYTES_MAX = 64 * 1024;
const MANIFEST_BYTES_MAX = 8 * 1024;

/** @throws Refusal batch-not-held when no batch under the head covers the index; OperationError ERR_FETCH */
export async function findBatch(head: Head, index: number, fetch: FetchFile): Promise<FoundBatch> {
  if (index >= head.next)
    throw notHeld(`the signed head ends before index ${head.next}; refresh from a mirror that knows more`);
  const tree = await openTree(subFolder(fetch, "batches"), head);
  const hinted = await readHint(head, index, fetch);
  if (hinted !== undefined && (await isIn(tree, head, hinted, index, fetch))) return { seq: hinted, by: "list" };
  return { seq: await search(tree, head, index, fetch), by: "search" };
}

async function isIn(tree: TileTree, head: Head, seq: number, index: number, fetch: FetchFile): Promise<boolean> {
  try {
    return covers(await provenManifest(tree, head, seq, fetch), index);
  } catch (error) {
    // What the list names may be missing or forged; the search says what is really there.
    if (error instanceof CodedError) return false;
    throw error;
  }
}

async function search(tree: TileTree, head: Head, index: number, fetch: FetchFile): Promise<number> {
  let [low, high] = [0, head.size];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const manifest = await provenManifest(tree, head, middle, fetch);
    if (covers(manifest, index)) return middle;
    if (manifest.first > index) high = middle;
    else low = middle + 1;
  }
  throw notHeld(`index ${index} lies between two batches: no token was ever approved with it`);
}

/** @throws Refusal manifest-not-in-head; OperationError ERR_FETCH; FormatError */
async function provenManifest(tree: TileTree, head: Head, seq: number, fetch: FetchFile): Promise<Manifest> {
  const name = `batch/${seq}/manifest.cbor`;
  const bytes = await fetch(name, MANIFEST_BYTES_MAX);
  if (!bytes) throw new OperationError("ERR_FETCH", `the source has no ${name}`);
  const { size, root } = head;
  try {
    const proof = await buildInclusionProof(seq, size, tree.subtree);
    verifyInclusion({ index: seq, size, leafHash: hashLeaf(manifestHash(bytes)), proof, root });
  } catch (cause) {
    if (cause instanceof OperationError) throw cause;
    throw new Refusal("manifest-not-in-head", `${name} is not under the signed head`, { cause });
  }
  return decodeManifest(bytes);
}

function covers({ first, count }: Manifest, index: number): boolean {
  return first <= index && index < first + count;
}

/** Undefined when the list does not say, for whatever reason. */
async function readHint(head: Head, index: number, fetch: FetchFile): Promise<number | undefined> {
  let [low, high] = [0, Math.ceil(head.size / LIST_LINES)];
  try {
    while (low < high) {
      const page = Math.floor((low + high) / 2);
      const lines = parsePage(await fetch(`batches/list/${page}`, LIST_BYTES_MAX), page);
      const [first, last] = [lines[0]!, lines.at(-1)!];
      if (index < first.first) high = page;
      else if (index >= last.first + last.count) low = page + 1;
      else return lines.find((line) => index >= line.first && index < line.first + line.count)?.seq;
    }
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
  }
  return undefined;
}

function parsePage(bytes: Uint8Array | undefined, page: number) {
  if (!bytes) throw new OperationError("ERR_FETCH", `there is no batches/list/${page}`);
  const lines = parseUtf8(bytes).split("\n").slice(0, -1);
  if (lines.length === 0 || lines.length > LIST_LINES) throw new OperationError("ERR_FETCH", "a page without lines");
  return lines.map((line) => {
    const [seq, first, count] = line.split(" ");
    if (count === undefined) throw new OperationError("ERR_FETCH", `not a line of the list: ${quote(line)}`);
    return { seq: parseDecimal(seq!), first: parseDecimal(first!), count: parseDecimal(count) };
  });
}

function notHeld(reason: string): Refusal {
  return new Refusal("batch-not-held", reason);
}
