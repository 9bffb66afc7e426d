/**
 * How a message gets onto a Type 2 tag, page by page, such that a tag pulled at any moment shows either what it
 * showed before, nothing, or the whole new message: never a corrupt or half one.
 *
 * User pages have no tear protection on the chip, so the order does it. First page 4 becomes an NDEF TLV of length
 * zero whose other bytes are already final; then the body; then the body is read back; and last the length is
 * written, which changes bytes of one page only: the commit.
 */
import { equalBytes, sha256 } from "@viafabric/schemas";
import {
  AUTH0_OFF,
  areaBytesOf,
  CC_PAGE,
  FIRST_USER_PAGE,
  isLocked,
  isReadOnly,
  PAGE_BYTES,
  STATIC_LOCK_PAGE,
  type TagModel,
} from "./tag-model.ts";
import { encodeNdefTlv, findNdefMessage, tlvHeaderBytes } from "./tlv.ts";

/** What is known of a tag: its first pages, and its dynamic lock page with CFG0 and CFG1 behind it. */
export interface TagMemory {
  readonly model: TagModel;
  /** From page 0; at least as far as `pagesFor` says. */
  readonly head: Uint8Array;
  /** Lock page, CFG0, CFG1. */
  readonly locks: Uint8Array;
}

export interface PageWrite {
  readonly page: number;
  readonly bytes: Uint8Array;
}

export interface PageRange {
  readonly first: number;
  readonly count: number;
}

/** Why a tag is not written. A subset of the operation codes, so that a shell can throw it as it is. */
export type TagRefusal =
  | "ERR_TAG_TYPE"
  | "ERR_TAG_FULL"
  | "ERR_TAG_LOCKED"
  | "ERR_TAG_PROTECTED"
  | "ERR_TAG_FOREIGN"
  | "ERR_TAG_UNREADABLE";

/** The pages of the wanted content from page 4 on, padded with zeros; `hash` stands in the receipt. */
export interface TagImage {
  readonly bytes: Uint8Array;
  readonly hash: Uint8Array;
}

export type WritePlan =
  | { readonly kind: "refused"; readonly code: TagRefusal; readonly reason: string }
  /** The tag holds exactly this message already. */
  | { readonly kind: "written"; readonly image: TagImage }
  | {
      readonly kind: "write";
      readonly image: TagImage;
      /** In this order, one by one: page 4 with length zero unless it is so already, then the body's pages. */
      readonly pages: readonly PageWrite[];
      /** Read back and compared with the image before the commit. */
      readonly readBack: readonly PageRange[];
      readonly commit: PageWrite;
    };

/** The longest answer a reader passes on is 255 bytes; 48 pages are 192 and leave room for its framing. */
export const READ_PAGES_MAX = 48;

/** Pages to read from page 0 on before planning this message: everything the image would cover. */
export function pagesFor(messageLength: number): number {
  const tlv = tlvHeaderBytes(messageLength) + messageLength + 1;
  return FIRST_USER_PAGE + Math.ceil(tlv / PAGE_BYTES);
}

/** A dump of a whole tag as the memory that plans are made of. */
export function memoryOfDump(model: TagModel, dump: Uint8Array): TagMemory {
  return { model, head: dump, locks: dump.slice(model.lockPage * PAGE_BYTES, (model.lockPage + 3) * PAGE_BYTES) };
}

/**
 * @param overwrite allow other NDEF content to be replaced: the operator said so, or the station's own ledger says
 *   that this tag was reserved for this very message
 */
export function planWrite(
  memory: TagMemory,
  message: Uint8Array,
  { overwrite = false }: { readonly overwrite?: boolean } = {},
): WritePlan {
  const cc = pageOf(memory.head, CC_PAGE);
  const area = areaBytesOf(memory.model, cc);
  if (area === undefined) return refuse("ERR_TAG_TYPE", "the tag is not formatted for NDEF");
  const needed = tlvHeaderBytes(message.length) + message.length;
  if (needed > area) return refuse("ERR_TAG_FULL", `the message needs ${needed} bytes and the tag has ${area}`);

  const image = imageOf(message, area);
  const pageCount = image.bytes.length / PAGE_BYTES;
  const start = FIRST_USER_PAGE * PAGE_BYTES;
  const present = memory.head.subarray(start, start + image.bytes.length);
  if (present.length < image.bytes.length) throw new RangeError("the pages that the message covers were not read");
  if (equalBytes(present, image.bytes)) return { kind: "written", image };

  const refusal =
    refuseProtected(memory, cc, pageCount) ?? (overwrite ? undefined : refuseForeign(memory, area, message));
  if (refusal) return refusal;
  return {
    kind: "write",
    image,
    pages: differing(present, [preparePage(message), image.bytes.subarray(PAGE_BYTES)]),
    readBack: blocks(FIRST_USER_PAGE + 1, pageCount - 1),
    commit: { page: FIRST_USER_PAGE, bytes: image.bytes.slice(0, PAGE_BYTES) },
  };
}

/** The page writes that make a written tag read-only for ever, the static lock bytes last: they lock the CC too. */
export function planLock(memory: TagMemory): readonly PageWrite[] {
  const { model, head, locks } = memory;
  const cc = pageOf(head, CC_PAGE).slice();
  cc[3]! |= 0x0f;
  const dynamic = locks.slice(0, PAGE_BYTES);
  for (const [i, byte] of model.lockAll.entries()) dynamic[i]! |= byte;
  const fixed = pageOf(head, STATIC_LOCK_PAGE).slice();
  fixed.set([0xff, 0xff], 2);
  return [
    { page: CC_PAGE, bytes: cc },
    { page: model.lockPage, bytes: dynamic },
    { page: STATIC_LOCK_PAGE, bytes: fixed },
  ];
}

/** TLV, terminator, zeros up to the page's end. */
function imageOf(message: Uint8Array, areaBytes: number): TagImage {
  const tlv = encodeNdefTlv(message, areaBytes);
  const bytes = new Uint8Array(Math.ceil(tlv.length / PAGE_BYTES) * PAGE_BYTES);
  bytes.set(tlv);
  return { bytes, hash: sha256(bytes) };
}

/** Page 4 before the commit: an empty message, everything but the length already final. */
function preparePage(message: Uint8Array): Uint8Array {
  if (tlvHeaderBytes(message.length) === 4) return new Uint8Array([0x03, 0xff, 0x00, 0x00]);
  return new Uint8Array([0x03, 0x00, message[0] ?? 0xfe, message[1] ?? 0x00]);
}

function refuseProtected(memory: TagMemory, cc: Uint8Array, pageCount: number): WritePlan | undefined {
  const { model, head, locks } = memory;
  if (isReadOnly(cc)) return refuse("ERR_TAG_LOCKED", "the tag is read-only");
  const lockBytes = { static: pageOf(head, STATIC_LOCK_PAGE), dynamic: locks.subarray(0, PAGE_BYTES) };
  const last = FIRST_USER_PAGE + pageCount - 1;
  for (let page = FIRST_USER_PAGE; page <= last; page++) {
    if (isLocked(model, page, lockBytes)) return refuse("ERR_TAG_LOCKED", `page ${page} of the tag is locked`);
  }
  const auth0 = locks[PAGE_BYTES + 3]!;
  if (auth0 !== AUTH0_OFF && auth0 <= last) {
    return refuse("ERR_TAG_PROTECTED", `the tag asks for a password from page ${auth0} on`);
  }
  return undefined;
}

function refuseForeign(memory: TagMemory, areaBytes: number, message: Uint8Array): WritePlan | undefined {
  const start = FIRST_USER_PAGE * PAGE_BYTES;
  // Unread bytes beyond the head count as zeros: a message that reaches into them is foreign by its length alone.
  const area = new Uint8Array(areaBytes);
  area.set(memory.head.subarray(start, start + areaBytes));
  let existing: Uint8Array | undefined;
  try {
    existing = findNdefMessage(area);
  } catch {
    return refuse("ERR_TAG_UNREADABLE", "the tag's content is damaged; allow overwriting to use it all the same");
  }
  if (existing === undefined || existing.length === 0 || equalBytes(existing, message)) return undefined;
  return refuse("ERR_TAG_FOREIGN", `the tag already holds a message of ${existing.length} bytes`);
}

function differing(present: Uint8Array, wanted: readonly Uint8Array[]): PageWrite[] {
  const out: PageWrite[] = [];
  let at = 0;
  for (const bytes of wanted) {
    for (let i = 0; i < bytes.length; i += PAGE_BYTES, at += PAGE_BYTES) {
      const page = bytes.slice(i, i + PAGE_BYTES);
      if (equalBytes(page, present.subarray(at, at + PAGE_BYTES))) continue;
      out.push({ page: FIRST_USER_PAGE + at / PAGE_BYTES, bytes: page });
    }
  }
  return out;
}

/** A run of pages as reads that a reader can answer. */
export function blocks(first: number, count: number): PageRange[] {
  const out: PageRange[] = [];
  for (let done = 0; done < count; done += READ_PAGES_MAX) {
    out.push({ first: first + done, count: Math.min(READ_PAGES_MAX, count - done) });
  }
  return out;
}

function pageOf(head: Uint8Array, page: number): Uint8Array {
  return head.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
}

function refuse(code: TagRefusal, reason: string): WritePlan {
  return { kind: "refused", code, reason };
}
