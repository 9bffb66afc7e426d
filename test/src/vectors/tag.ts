/** Memory dumps of whole tags, from page 0, as a reader finds them: the layouts, and tags that must be refused. */
import {
  encodeNdef,
  externalRecord,
  FIRST_USER_PAGE,
  factoryDump,
  formatLink,
  formatRecord,
  memoryOfDump,
  NTAG213,
  NTAG215,
  PAGE_BYTES,
  planWrite,
  type TagModel,
} from "@viafabric/nfc";
import { concat, encodeCompact, formatHex, parseHex, utf8 } from "@viafabric/schemas";
import { AUTHORITY, filler, invalid, publicKey, type VectorFile } from "./common.ts";

const UID = parseHex("04a1b2c3d4e5f6");
const HOST = "vault.example";
/** The token's bytes are shape only here; `rct.json` has signed ones. */
const TOKEN = encodeCompact({
  selector: AUTHORITY.slice(0, 4),
  rctId: filler("rct on a tag", 16),
  subjectKey: publicKey("holder").raw,
  index: 7,
  signature: concat(filler("first half", 32), filler("second half", 32)),
});
const SECRET = filler("claim secret", 16);
const MESSAGE_START = FIRST_USER_PAGE * PAGE_BYTES;

export function tagVectors(): VectorFile {
  const compact = dump(NTAG213, formatRecord(TOKEN));
  const link = dump(NTAG215, formatLink(HOST, TOKEN));
  const secretLink = dump(NTAG215, formatLink(HOST, TOKEN, SECRET));
  const foreign = (type: string, payload: Uint8Array) => dump(NTAG215, encodeNdef([externalRecord(type, payload)]));
  const cases: readonly (readonly [string, Uint8Array, string])[] = [
    ["a blank NTAG213", factoryDump(NTAG213, UID), "ERR_TAG_LAYOUT"],
    ["a dump cut short", compact.subarray(0, compact.length - 1), "ERR_NDEF"],
    ["another record type", foreign("vf.test:q", TOKEN), "ERR_TAG_LAYOUT"],
    ["a record from the future", foreign("vf.test:r", utf8("no token")), "ERR_TOKEN_VERSION"],
    [
      "two records",
      dump(NTAG215, encodeNdef([externalRecord("vf.test:r", TOKEN), externalRecord("vf.test:r", TOKEN)])),
      "ERR_TAG_LAYOUT",
    ],
    ["a link with a token cut short", dump(NTAG215, cutLink()), "ERR_BASE64"],
    ["a message longer than the tag", changed(compact, MESSAGE_START + 1, 0xf0), "ERR_TLV"],
    ["a message begun and not committed", changed(compact, MESSAGE_START + 1, 0), "ERR_TAG_LAYOUT"],
    ["a chunked record", changed(compact, MESSAGE_START + 2, 0xf4), "ERR_NDEF"],
    ["a record longer than its message", changed(compact, MESSAGE_START + 4, 0xff), "ERR_NDEF"],
  ];
  return {
    description:
      "Memory dumps of tags from page 0 (UID 04a1b2c3d4e5f6), and the token bytes that a node finds in them.",
    token: formatHex(TOKEN),
    claim_secret: formatHex(SECRET),
    valid: [
      { name: "compact on an NTAG213", layout: "compact", hex: formatHex(compact) },
      { name: "link on an NTAG215", layout: "link", hex: formatHex(link) },
      { name: "link with a claim secret on an NTAG215", layout: "link", hex: formatHex(secretLink) },
    ],
    invalid: cases.map(([name, bytes, code]) => invalid("parseTag", name, bytes, code)),
  };
}

/** A tag as the writer leaves it: a factory-new one with the plan carried out. */
function dump(model: TagModel, message: Uint8Array): Uint8Array {
  const memory = factoryDump(model, UID);
  const plan = planWrite(memoryOfDump(model, memory), message);
  if (plan.kind !== "write") throw new RangeError(`${model.name}: ${plan.kind}`);
  for (const { page, bytes } of [...plan.pages, plan.commit]) memory.set(bytes, page * PAGE_BYTES);
  return memory;
}

/** A link whose fragment lost its last character: not 121 bytes any more. */
function cutLink(): Uint8Array {
  const message = formatLink(HOST, TOKEN).slice(0, -1);
  // The payload length of a short record is its third byte.
  message[2]! -= 1;
  return message;
}

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  return bytes.with(at, value);
}
