/** Reading a whole tag, as a node does: nothing is written, nothing is assumed about what the tag holds. */
import type { TagReader } from "./tag.ts";
import { identifyTag } from "./write.ts";

/** The memory from page 0 to the last; the pages of password and acknowledgement read as zero. */
export async function readDump(tag: TagReader): Promise<Uint8Array> {
  const model = await identifyTag(tag);
  return tag.readPages(0, model.pages);
}
