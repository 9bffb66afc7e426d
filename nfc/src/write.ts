/**
 * Writes one message onto one tag, so that neither a pulled tag nor a lying reader leaves a wrong message behind.
 *
 * `inspectTag`, then `planWrite`, then (the caller records what it is about to do) `executePlan`. Every failure is
 * an unknown outcome: while the tag is still there it is read again and the rest is planned anew; when it is gone,
 * the caller does the same three steps at its next tap, and the plan then holds only what is missing.
 */
import { concat, equalBytes, formatHex, OperationError } from "@viafabric/schemas";
import {
  type PageWrite,
  pagesFor,
  planLock,
  planWrite,
  type TagImage,
  type TagMemory,
  type WritePlan,
} from "./plan.ts";
import type { TagReader } from "./tag.ts";
import {
  CC_PAGE,
  FIRST_USER_PAGE,
  modelByCapabilityContainer,
  modelByVersion,
  PAGE_BYTES,
  type TagModel,
} from "./tag-model.ts";

export interface TagInspection {
  readonly uid: Uint8Array;
  readonly memory: TagMemory;
  /** NXP's originality signature, where tag and reader give it. */
  readonly signature?: Uint8Array;
}

/** Looks again this often while the tag stays on the reader; what fails more often is broken. */
const ATTEMPTS_MAX = 3;
/** Lock page, CFG0, CFG1. */
const LOCK_PAGES = 3;

/** Reads what planning a message of this length needs. @throws OperationError ERR_TAG_TYPE, ERR_TAG_GONE, ERR_READER */
export async function inspectTag(tag: TagReader, messageLength: number): Promise<TagInspection> {
  const uid = await tag.uid();
  const model = await identifyTag(tag);
  const signature = await tag.signature();
  return { uid, memory: await readMemory(tag, model, messageLength), ...(signature ? { signature } : {}) };
}

/**
 * Carries a plan out. @returns the image that was read back from the tag
 * @throws OperationError ERR_TAG_GONE, ERR_READER, ERR_TAG_CHANGED, ERR_TAG_WRITE
 */
export async function executePlan(
  tag: TagReader,
  inspection: TagInspection,
  message: Uint8Array,
  plan: Extract<WritePlan, { kind: "write" }>,
): Promise<TagImage> {
  let next: WritePlan = plan;
  for (let attempt = 1; ; attempt++) {
    try {
      if (next.kind === "write") await execute(tag, inspection.uid, next);
      return plan.image;
    } catch (error) {
      const lastTry = attempt === ATTEMPTS_MAX || !isUnknownOutcome(error);
      if (lastTry) throw error;
      next = await planAgain(tag, inspection, message);
    }
  }
}

/** Makes a written tag read-only for ever. */
export async function lockTag(tag: TagReader, inspection: TagInspection): Promise<void> {
  await expectUid(tag, inspection.uid);
  for (const write of planLock(inspection.memory)) await writeAndCheck(tag, write);
}

async function execute(tag: TagReader, uid: Uint8Array, plan: Extract<WritePlan, { kind: "write" }>): Promise<void> {
  for (const write of plan.pages) {
    // A page 4 that does not take its empty length must not see the body follow: old content would show it, garbled.
    if (write.page === FIRST_USER_PAGE) await writeAndCheck(tag, write);
    else await tag.writePage(write.page, write.bytes);
  }
  for (const { first, count } of plan.readBack) {
    const at = (first - FIRST_USER_PAGE) * PAGE_BYTES;
    const expected = plan.image.bytes.subarray(at, at + count * PAGE_BYTES);
    if (!equalBytes(await tag.readPages(first, count), expected)) throw notTaken(`pages from ${first}`);
  }
  // The last moment at which a tag that was exchanged unnoticed can still be spared the commit.
  await expectUid(tag, uid);
  await writeAndCheck(tag, plan.commit);
}

async function writeAndCheck(tag: TagReader, { page, bytes }: PageWrite): Promise<void> {
  await tag.writePage(page, bytes);
  if (!equalBytes(await tag.readPages(page, 1), bytes)) throw notTaken(`page ${page}`);
}

/** After an unknown outcome: the same tag must still be there, and its memory decides what is left to do. */
async function planAgain(tag: TagReader, inspection: TagInspection, message: Uint8Array): Promise<WritePlan> {
  await expectUid(tag, inspection.uid);
  const memory = await readMemory(tag, inspection.memory.model, message.length);
  // Our own half-done write is no foreign content.
  const plan = planWrite(memory, message, { overwrite: true });
  if (plan.kind === "refused") throw new OperationError(plan.code, plan.reason);
  return plan;
}

/** By GET_VERSION, or by the capability container where the reader passes no raw command. */
export async function identifyTag(tag: TagReader): Promise<TagModel> {
  const version = await tag.version();
  const cc = (await (version ? undefined : tag.readPages(CC_PAGE, 1))) ?? new Uint8Array(PAGE_BYTES);
  const model = version ? modelByVersion(version) : modelByCapabilityContainer(cc);
  if (model) return model;
  const answer = formatHex(version ?? cc);
  throw new OperationError("ERR_TAG_TYPE", `not an NTAG213, 215 or 216 (it says ${answer})`);
}

async function readMemory(tag: TagReader, model: TagModel, messageLength: number): Promise<TagMemory> {
  const needed = Math.min(pagesFor(messageLength), model.lockPage);
  // One read more costs less than what it saves where the lock page is near.
  if (model.lockPage + LOCK_PAGES - needed <= LOCK_PAGES + PAGE_BYTES) {
    const head = await tag.readPages(0, model.lockPage + LOCK_PAGES);
    return { model, head, locks: head.slice(model.lockPage * PAGE_BYTES) };
  }
  const head = await tag.readPages(0, needed);
  return { model, head, locks: concat(await tag.readPages(model.lockPage, LOCK_PAGES)) };
}

async function expectUid(tag: TagReader, uid: Uint8Array): Promise<void> {
  const found = await tag.uid();
  if (equalBytes(found, uid)) return;
  throw new OperationError("ERR_TAG_CHANGED", `tag ${formatHex(found)} lies where ${formatHex(uid)} was`);
}

function isUnknownOutcome(error: unknown): boolean {
  return error instanceof OperationError && (error.code === "ERR_READER" || error.code === "ERR_TAG_WRITE");
}

function notTaken(what: string): OperationError {
  return new OperationError("ERR_TAG_WRITE", `${what} of the tag do not hold what was written`);
}
