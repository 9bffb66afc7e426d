/**
 * A tag in the field of a reader: pages and raw commands over APDUs.
 *
 * Every call ends within the reader's deadline. A call that fails leaves the outcome unknown, whatever the error
 * says: a tag may have taken a write whose acknowledgement was lost. Read back before deciding anything.
 */
import { concat, OperationError } from "@viafabric/schemas";
import {
  dataOf,
  GET_UID,
  parsePassThrough,
  passThrough,
  readBinary,
  SIGNAL_FAILURE,
  SIGNAL_SUCCESS,
  TAG_COMMAND,
  updateBinary,
} from "./apdu.ts";
import { blocks } from "./plan.ts";
import { PAGE_BYTES } from "./tag-model.ts";

export interface TagReader {
  /** Sends one APDU; the answer with its two status bytes. @throws OperationError ERR_TAG_GONE, ERR_READER */
  transmit(apdu: Uint8Array): Promise<Uint8Array>;
  uid(): Promise<Uint8Array>;
  /** GET_VERSION. Undefined when the tag does not know it, or the reader cannot pass it on. */
  version(): Promise<Uint8Array | undefined>;
  /** READ_SIG: NXP's originality signature over the UID. A weak sign: it can be copied with the UID. */
  signature(): Promise<Uint8Array | undefined>;
  readPages(first: number, count: number): Promise<Uint8Array>;
  writePage(page: number, content: Uint8Array): Promise<void>;
  /** Light and beep, as far as the reader has them. */
  signal(success: boolean): Promise<void>;
}

/** What a tag is built on: one tag of one reader process. */
export interface TagLink {
  transmit(apdu: Uint8Array): Promise<Uint8Array>;
  reconnect(): Promise<void>;
}

/** READ gives four pages whatever was asked for. */
const READ_PAGES = 4;

export function openTag(link: TagLink): TagReader {
  // Not every reader has a PN532 behind its plug, and names lie: the first raw command tells.
  let raw = true;

  const command = async (...bytes: number[]): Promise<Uint8Array | undefined> => {
    if (!raw) return undefined;
    const answer = parsePassThrough(await link.transmit(passThrough(new Uint8Array(bytes))));
    if (answer.kind === "ok") return answer.data;
    if (answer.kind === "unsupported") raw = false;
    // After a NAK the tag is idle and hears nothing until it is selected again.
    else await link.reconnect();
    return undefined;
  };

  const readBlock = async (first: number, count: number): Promise<Uint8Array> => {
    const fast = await command(TAG_COMMAND.fastRead, first, first + count - 1);
    if (fast) return fast;
    const parts: Uint8Array[] = [];
    for (let done = 0; done < count; done += READ_PAGES) {
      const pages = Math.min(READ_PAGES, count - done);
      const data = dataOf(await link.transmit(readBinary(first + done, pages * PAGE_BYTES)));
      if (!data) throw failed(`reading page ${first + done}`);
      parts.push(data);
    }
    return concat(...parts);
  };

  return {
    transmit: link.transmit,
    async uid() {
      const uid = dataOf(await link.transmit(GET_UID));
      if (!uid) throw failed("reading the UID");
      return uid;
    },
    version: () => command(TAG_COMMAND.getVersion),
    signature: () => command(TAG_COMMAND.readSignature, 0),
    async readPages(first, count) {
      const parts: Uint8Array[] = [];
      for (const block of blocks(first, count)) parts.push(await readBlock(block.first, block.count));
      const pages = concat(...parts);
      if (pages.length !== count * PAGE_BYTES) throw failed(`reading pages ${first} to ${first + count - 1}`);
      return pages;
    },
    async writePage(page, content) {
      if (!dataOf(await link.transmit(updateBinary(page, content)))) throw failed(`writing page ${page}`);
    },
    async signal(success) {
      // A reader without lights answers with an error: nothing depends on it.
      await link.transmit(success ? SIGNAL_SUCCESS : SIGNAL_FAILURE);
    },
  };
}

function failed(doing: string): OperationError {
  return new OperationError("ERR_READER", `the tag or the reader refused ${doing}`, { retryable: true });
}
