/**
 * The tags we write: NXP NTAG213, 215 and 216 (data sheet NTAG213/215/216 rev. 3.2).
 *
 * Memory is pages of four bytes: 0-2 serial number and static lock bytes, 3 capability container (CC), then user
 * pages, the dynamic lock page, two configuration pages, password and PACK.
 */
import { equalBytes } from "@viafabric/schemas";

export const PAGE_BYTES = 4;
export const CC_PAGE = 3;
export const FIRST_USER_PAGE = 4;
export const STATIC_LOCK_PAGE = 2;
/** First page that dynamic lock bits cover; pages 3-15 have static ones. */
const FIRST_DYNAMIC_PAGE = 16;
/** CC byte 0: an NDEF tag. Byte 3: 00 is read and write, 0F read only. */
const CC_MAGIC = 0xe1;
/** AUTH0 above the last page: no page asks for the password. */
export const AUTH0_OFF = 0xff;

export interface TagModel {
  readonly name: "ntag213" | "ntag215" | "ntag216";
  readonly pages: number;
  readonly lastUserPage: number;
  /** NDEF area by the factory CC, in bytes. */
  readonly areaBytes: number;
  /** Page of the dynamic lock bytes; the configuration pages CFG0 and CFG1 follow, then PWD and PACK. */
  readonly lockPage: number;
  /** Pages that one dynamic lock bit covers. */
  readonly lockGranularity: number;
  /** Dynamic lock bytes with every lock and block-lock bit set. */
  readonly lockAll: Uint8Array;
  readonly capabilityContainer: Uint8Array;
  /** Answer to GET_VERSION; its byte 6 tells the three apart, the ATR does not. */
  readonly version: Uint8Array;
  /** Pages 4 and 5 as they leave the factory. */
  readonly factory: Uint8Array;
}

function model(
  own: Omit<TagModel, "capabilityContainer" | "version" | "factory" | "lockAll"> & {
    readonly storage: number;
    readonly lock: readonly number[];
    readonly content: readonly number[];
  },
): TagModel {
  const { storage, lock, content, ...rest } = own;
  return {
    ...rest,
    lockAll: new Uint8Array(lock),
    capabilityContainer: new Uint8Array([CC_MAGIC, 0x10, own.areaBytes / 8, 0x00]),
    version: new Uint8Array([0x00, 0x04, 0x04, 0x02, 0x01, 0x00, storage, 0x03]),
    factory: new Uint8Array(content),
  };
}

export const NTAG213 = model({
  ...{ name: "ntag213", pages: 0x2d, lastUserPage: 0x27, areaBytes: 144, lockPage: 0x28, lockGranularity: 2 },
  // The factory's lock control TLV states the defaults, so overwriting it loses nothing and gains five bytes.
  ...{ storage: 0x0f, lock: [0xff, 0x0f, 0x3f], content: [0x01, 0x03, 0xa0, 0x0c, 0x34, 0x03, 0x00, 0xfe] },
});
export const NTAG215 = model({
  ...{ name: "ntag215", pages: 0x87, lastUserPage: 0x81, areaBytes: 496, lockPage: 0x82, lockGranularity: 16 },
  ...{ storage: 0x11, lock: [0xff, 0x00, 0x0f], content: [0x03, 0x00, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x00] },
});
export const NTAG216 = model({
  ...{ name: "ntag216", pages: 0xe7, lastUserPage: 0xe1, areaBytes: 872, lockPage: 0xe2, lockGranularity: 16 },
  ...{ storage: 0x13, lock: [0xff, 0x3f, 0x7f], content: [0x03, 0x00, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x00] },
});

export const TAG_MODELS: readonly TagModel[] = [NTAG213, NTAG215, NTAG216];

export function modelByName(name: string): TagModel | undefined {
  return TAG_MODELS.find((each) => each.name === name);
}

/** @param version the eight bytes that GET_VERSION answers. */
export function modelByVersion(version: Uint8Array): TagModel | undefined {
  return TAG_MODELS.find((each) => equalBytes(each.version, version));
}

/** For readers that cannot pass GET_VERSION on: the size in the CC, which differs among the three. */
export function modelByCapabilityContainer(cc: Uint8Array): TagModel | undefined {
  return TAG_MODELS.find((each) => each.capabilityContainer[2] === cc[2]);
}

export function modelByDumpLength(bytes: number): TagModel | undefined {
  return TAG_MODELS.find((each) => each.pages * PAGE_BYTES === bytes);
}

/** The data area's size in bytes: what the CC states, never beyond the user pages. Undefined: no NDEF tag. */
export function areaBytesOf(tag: TagModel, cc: Uint8Array): number | undefined {
  if (cc[0] !== CC_MAGIC) return undefined;
  return Math.min(cc[2]! * 8, (tag.lastUserPage - FIRST_USER_PAGE + 1) * PAGE_BYTES);
}

/** Whether the CC forbids writing. */
export function isReadOnly(cc: Uint8Array): boolean {
  return (cc[3]! & 0x0f) !== 0;
}

/**
 * Whether lock bits forbid writing a page.
 * @param locks static: the four bytes of page 2; dynamic: the four bytes of the model's lock page
 */
export function isLocked(
  tag: TagModel,
  page: number,
  locks: { readonly static: Uint8Array; readonly dynamic: Uint8Array },
): boolean {
  if (page < CC_PAGE) return true;
  if (page < FIRST_DYNAMIC_PAGE) return bit(locks.static.subarray(2), page);
  if (page > tag.lastUserPage) return false;
  return bit(locks.dynamic, Math.floor((page - FIRST_DYNAMIC_PAGE) / tag.lockGranularity));
}

/** Static bits 3-15 stand for pages 3-15 (bits 0-2 block locking itself), so both kinds index the same way. */
function bit(bytes: Uint8Array, index: number): boolean {
  return (bytes[index >>> 3]! & (1 << (index & 7))) !== 0;
}

/** The memory of a blank tag as it leaves the factory. @param uid seven bytes */
export function factoryDump(tag: TagModel, uid: Uint8Array): Uint8Array {
  const dump = new Uint8Array(tag.pages * PAGE_BYTES);
  const [u0, u1, u2, u3, u4, u5, u6] = uid as unknown as number[];
  // ISO/IEC 14443-3: cascade tag 88 and the exclusive or of each half as check bytes.
  dump.set([u0!, u1!, u2!, 0x88 ^ u0! ^ u1! ^ u2!, u3!, u4!, u5!, u6!, u3! ^ u4! ^ u5! ^ u6!, 0x48, 0, 0]);
  dump.set(tag.capabilityContainer, CC_PAGE * PAGE_BYTES);
  dump.set(tag.factory, FIRST_USER_PAGE * PAGE_BYTES);
  const locks = tag.lockPage * PAGE_BYTES;
  // Byte 3 of the lock page reads BD; CFG0 and CFG1: no mirror, no password, strong modulation.
  dump.set([0x00, 0x00, 0x00, 0xbd, 0x04, 0x00, 0x00, AUTH0_OFF, 0x00, 0x05, 0x00, 0x00], locks);
  return dump;
}
