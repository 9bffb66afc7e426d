/**
 * NTAG213, 215 and 216 as the chip behaves: raw commands against memory, with one-time-programmable bits, lock bits,
 * block-locking bits, password protection, and what a page holds when the field goes away during a write.
 */
import { concat } from "@viafabric/schemas";
import { TAG_COMMAND } from "./apdu.ts";
import { AUTH0_OFF, CC_PAGE, factoryDump, isLocked, PAGE_BYTES, STATIC_LOCK_PAGE, type TagModel } from "./tag-model.ts";

export interface VirtualTag {
  readonly model: TagModel;
  readonly uid: Uint8Array;
  readonly memory: Uint8Array;
  readonly signature: Uint8Array;
  /** Pages that acknowledge writes and do not take them. */
  readonly worn: Set<number>;
  authenticated: boolean;
}

/** How much of a page write takes effect: a pulled tag keeps nothing, the first two bytes, or all of it. */
export type WriteExtent = "none" | "half" | "whole";

const EMPTY = new Uint8Array(0);
/** The 4-bit acknowledge reaches the reader as success without data. */
const ACKNOWLEDGED = EMPTY;

export function blankTag(model: TagModel, uid: Uint8Array): VirtualTag {
  return tagOfDump(model, factoryDump(model, uid));
}

export function tagOfDump(model: TagModel, dump: Uint8Array): VirtualTag {
  const memory = dump.slice();
  const uid = concat(memory.subarray(0, 3), memory.subarray(4, 8));
  return { model, uid, memory, signature: new Uint8Array(32).fill(uid[6]!), worn: new Set(), authenticated: false };
}

/** The answer to a raw command, or undefined for a NAK. */
export function execute(tag: VirtualTag, command: Uint8Array, extent: WriteExtent = "whole"): Uint8Array | undefined {
  const [code, a = 0, b = 0] = command;
  switch (code) {
    case TAG_COMMAND.getVersion:
      return tag.model.version;
    case TAG_COMMAND.read:
      return read(tag, a);
    case TAG_COMMAND.fastRead:
      return fastRead(tag, a, b);
    case TAG_COMMAND.write:
      return write(tag, a, command.slice(2), extent);
    case TAG_COMMAND.readSignature:
      return tag.signature;
    case TAG_COMMAND.passwordAuth:
      return authenticate(tag, command.subarray(1));
    case TAG_COMMAND.readCounter:
      return new Uint8Array(3);
    default:
      return undefined;
  }
}

/** READ gives four pages and wraps to page 0 behind the last. */
function read(tag: VirtualTag, page: number): Uint8Array | undefined {
  if (page >= tag.model.pages || !mayRead(tag, page)) return undefined;
  return concat(...[0, 1, 2, 3].map((i) => visiblePage(tag, (page + i) % tag.model.pages)));
}

function fastRead(tag: VirtualTag, first: number, last: number): Uint8Array | undefined {
  if (first > last || last >= tag.model.pages || !mayRead(tag, last)) return undefined;
  return concat(...Array.from({ length: last - first + 1 }, (_, i) => visiblePage(tag, first + i)));
}

/** Password and PACK read as zeros. */
function visiblePage(tag: VirtualTag, page: number): Uint8Array {
  if (page >= tag.model.lockPage + 3) return new Uint8Array(PAGE_BYTES);
  return tag.memory.slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
}

function write(tag: VirtualTag, page: number, content: Uint8Array, extent: WriteExtent): Uint8Array | undefined {
  if (page < STATIC_LOCK_PAGE || page >= tag.model.pages || content.length !== PAGE_BYTES) return undefined;
  if (isProtected(tag, page) && !tag.authenticated) return undefined;
  const stored = tag.memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
  const next = nextContent(tag, page, stored, content);
  if (next === undefined) return undefined;
  // The chip protects lock bytes and the capability container against tearing; user pages it does not.
  if (tag.worn.has(page)) return ACKNOWLEDGED;
  const tornFree = page === STATIC_LOCK_PAGE || page === CC_PAGE || page === tag.model.lockPage;
  if (extent === "none" || (extent === "half" && tornFree)) return ACKNOWLEDGED;
  stored.set(extent === "half" ? next.subarray(0, PAGE_BYTES / 2) : next);
  return ACKNOWLEDGED;
}

function nextContent(tag: VirtualTag, page: number, old: Uint8Array, wanted: Uint8Array): Uint8Array | undefined {
  const { model, memory } = tag;
  if (page === STATIC_LOCK_PAGE) {
    const blocked = staticBlocked(old[2]!);
    return new Uint8Array([
      old[0]!,
      old[1]!,
      old[2]! | (wanted[2]! & ~blocked.low),
      old[3]! | (wanted[3]! & ~blocked.high),
    ]);
  }
  const locks = { static: memory.subarray(8, 12), dynamic: memory.subarray(model.lockPage * PAGE_BYTES) };
  if (page === CC_PAGE) return isLocked(model, page, locks) ? undefined : old.map((byte, i) => byte | wanted[i]!);
  if (page <= model.lastUserPage) return isLocked(model, page, locks) ? undefined : wanted;
  if (page === model.lockPage) return old.map((byte, i) => (i < 3 ? byte | wanted[i]! : byte));
  const configurationLocked = (memory[(model.lockPage + 2) * PAGE_BYTES]! & 0x40) !== 0;
  return page <= model.lockPage + 2 && configurationLocked ? undefined : wanted;
}

/** Block-locking bits freeze the lock bits of the CC, of pages 4-9 and of pages 10-15. */
function staticBlocked(low: number): { low: number; high: number } {
  return {
    low: (low & 1 ? 0x08 : 0) | (low & 2 ? 0xf0 : 0),
    high: (low & 2 ? 0x03 : 0) | (low & 4 ? 0xfc : 0),
  };
}

function authenticate(tag: VirtualTag, password: Uint8Array): Uint8Array | undefined {
  const at = (tag.model.lockPage + 3) * PAGE_BYTES;
  if (password.length !== PAGE_BYTES || password.some((byte, i) => byte !== tag.memory[at + i])) return undefined;
  tag.authenticated = true;
  return tag.memory.slice(at + PAGE_BYTES, at + PAGE_BYTES + 2);
}

function isProtected(tag: VirtualTag, page: number): boolean {
  const auth0 = tag.memory[(tag.model.lockPage + 1) * PAGE_BYTES + 3]!;
  return auth0 !== AUTH0_OFF && page >= auth0;
}

/** PROT (ACCESS bit 7) extends the password to reading. */
function mayRead(tag: VirtualTag, page: number): boolean {
  const readProtected = (tag.memory[(tag.model.lockPage + 2) * PAGE_BYTES]! & 0x80) !== 0;
  return !readProtected || tag.authenticated || !isProtected(tag, page);
}
