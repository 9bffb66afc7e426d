/**
 * What stands on a tag (FORMATS "Tags"), and how it is read back.
 *
 * - `compact`: one external record, payload the 121-byte token. Fits an NTAG213.
 * - `cose`: the same external type with a COSE token.
 * - `link`: one URI record `https://HOST/t#<token, base64url>[.<claim secret>]`, for phones.
 * - `pointer`: one URI record `https://HOST/t#<rct_id>.<index>.<claim secret>`; the token is in the batch bundle.
 *
 * Everything identifying is in the fragment, which no browser sends to a server. The host proves nothing and is not
 * returned: a tag never introduces an authority.
 */
import {
  COMPACT_BYTES,
  equalBytes,
  FormatError,
  formatBase64Url,
  formatRctId,
  INDEX_MAX,
  parseBase64Url,
  parseDecimal,
  parseRctId,
  quote,
} from "@viafabric/schemas";
import { decodeNdef, encodeNdef, externalRecord, type NdefRecord, TNF, uriOf, uriRecord } from "./ndef.ts";
import { areaBytesOf, FIRST_USER_PAGE, modelByDumpLength, PAGE_BYTES } from "./tag-model.ts";
import { findNdefMessage } from "./tlv.ts";

/** What a tap gives: unverified bytes. */
export type ParsedTag =
  | { readonly layout: "compact" | "cose"; readonly token: Uint8Array; readonly claimSecret?: undefined }
  | { readonly layout: "link"; readonly token: Uint8Array; readonly claimSecret?: Uint8Array }
  | {
      readonly layout: "pointer";
      readonly rctId: Uint8Array;
      readonly index: number;
      readonly claimSecret: Uint8Array;
    };

export const DEFAULT_RECORD_TYPE = "vf.test:r";
/** With a longer name the compact layout would not fit an NTAG213. */
export const RECORD_TYPE_LENGTH_MAX = 14;
export const CLAIM_SECRET_BYTES = 16;

/** `domain:name` in lower case. */
const RECORD_TYPE = /^[a-z0-9][a-z0-9.-]*:[a-z0-9][a-z0-9._-]*$/;
/** A host name with an optional port; longer ones are of no use on a tag. */
const HOST = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?(:[1-9][0-9]{0,4})?$/;
const LINK = /^https:\/\/([^/#?]+)\/t#([^#]*)$/;
/** First byte of the compact spelling (its version) and of a tagged COSE_Sign1. */
const COMPACT_VERSION = 0x01;
const COSE_TAG = 0xd2;

/** The NDEF message of the layouts `compact` and `cose`: the first byte of the token tells them apart. */
export function formatRecord(token: Uint8Array, recordType: string = DEFAULT_RECORD_TYPE): Uint8Array {
  checkRecordType(recordType);
  tokenLayout(token);
  return encodeNdef([externalRecord(recordType, token)]);
}

/** The NDEF message of the layout `link`. @param token the compact spelling */
export function formatLink(host: string, token: Uint8Array, claimSecret?: Uint8Array): Uint8Array {
  if (token.length !== COMPACT_BYTES) throw new RangeError(`a compact token has ${COMPACT_BYTES} bytes`);
  const secret = claimSecret ? `.${formatSecret(claimSecret)}` : "";
  return formatUri(host, formatBase64Url(token) + secret);
}

/** The NDEF message of the layout `pointer`. */
export function formatPointer(host: string, rctId: Uint8Array, index: number, claimSecret: Uint8Array): Uint8Array {
  return formatUri(host, `${formatRctId(rctId)}.${index}.${formatSecret(claimSecret)}`);
}

/**
 * Reads a dump of a whole tag, from page 0, or an NDEF message.
 * @throws FormatError ERR_TLV, ERR_NDEF; ERR_TAG_LAYOUT when the message is none of ours, or there is none
 */
export function parseTag(bytes: Uint8Array, recordType: string = DEFAULT_RECORD_TYPE): ParsedTag {
  return parseMessage(isDump(bytes) ? messageOfDump(bytes) : bytes, recordType);
}

/** The NDEF message in a dump of a whole tag. @throws FormatError ERR_TLV, ERR_TAG_LAYOUT */
export function messageOfDump(dump: Uint8Array): Uint8Array {
  const model = modelByDumpLength(dump.length);
  const area = model && areaBytesOf(model, dump.subarray(12, 16));
  if (area === undefined) throw wrong(`a dump of ${dump.length} bytes is of no tag we know`);
  const start = FIRST_USER_PAGE * PAGE_BYTES;
  const message = findNdefMessage(dump.subarray(start, start + area));
  if (message === undefined || message.length === 0) throw wrong("the tag is empty");
  return message;
}

export function parseMessage(message: Uint8Array, recordType: string = DEFAULT_RECORD_TYPE): ParsedTag {
  const records = decodeNdef(message);
  const [record] = records;
  if (records.length !== 1 || !record || record.id.length > 0) throw wrong(`${records.length} records`);
  const parsed = parseRecord(record, recordType);
  if (!equalBytes(formatAgain(parsed, record), message)) throw wrong("another spelling than the one we write");
  return parsed;
}

function parseRecord(record: NdefRecord, recordType: string): ParsedTag {
  if (record.tnf === TNF.external) {
    if (record.type !== recordType) throw wrong(`a record of type ${quote(record.type)}`);
    return { layout: tokenLayout(record.payload), token: record.payload };
  }
  const uri = uriOf(record);
  if (uri === undefined) throw wrong(`a record of type ${quote(record.type)}`);
  return parseFragment(parts(uri).fragment);
}

function parseFragment(fragment: string): ParsedTag {
  const fields = fragment.split(".");
  if (fields.length === 3) {
    const [id, index, secret] = fields as [string, string, string];
    return {
      layout: "pointer",
      rctId: parseRctId(id),
      index: parseDecimal(index, INDEX_MAX),
      claimSecret: parseBase64Url(secret, CLAIM_SECRET_BYTES),
    };
  }
  const [token, secret] = fields;
  if (fields.length > 3 || token === undefined) throw wrong("a link with another number of parts");
  return {
    layout: "link",
    token: parseBase64Url(token, COMPACT_BYTES),
    ...(secret === undefined ? {} : { claimSecret: parseBase64Url(secret, CLAIM_SECRET_BYTES) }),
  };
}

/** One spelling for each value: what was read is written once more. */
function formatAgain(parsed: ParsedTag, record: NdefRecord): Uint8Array {
  const host = () => parts(uriOf(record) ?? "").host;
  if (parsed.layout === "pointer") return formatPointer(host(), parsed.rctId, parsed.index, parsed.claimSecret);
  if (parsed.layout === "link") return formatLink(host(), parsed.token, parsed.claimSecret);
  return formatRecord(parsed.token, record.type);
}

function parts(uri: string): { host: string; fragment: string } {
  const match = LINK.exec(uri);
  if (!match) throw wrong(`a link that is not ours: ${quote(uri)}`);
  checkHost(match[1]!);
  return { host: match[1]!, fragment: match[2]! };
}

function formatUri(host: string, fragment: string): Uint8Array {
  checkHost(host);
  return encodeNdef([uriRecord(`https://${host}/t#${fragment}`)]);
}

function formatSecret(secret: Uint8Array): string {
  if (secret.length !== CLAIM_SECRET_BYTES) throw new RangeError(`a claim secret has ${CLAIM_SECRET_BYTES} bytes`);
  return formatBase64Url(secret);
}

function tokenLayout(token: Uint8Array): "compact" | "cose" {
  if (token.length === COMPACT_BYTES && token[0] === COMPACT_VERSION) return "compact";
  if (token[0] === COSE_TAG) return "cose";
  throw new FormatError("ERR_TOKEN_VERSION", `a tag record of ${token.length} bytes that begins with ${token[0]}`);
}

function isDump(bytes: Uint8Array): boolean {
  return bytes[12] === 0xe1 && modelByDumpLength(bytes.length) !== undefined;
}

function checkHost(host: string): void {
  if (!HOST.test(host)) throw wrong(`not a host name: ${quote(host)}`);
}

function checkRecordType(type: string): void {
  if (type.length > RECORD_TYPE_LENGTH_MAX || !RECORD_TYPE.test(type)) throw wrong(`not a record type: ${quote(type)}`);
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TAG_LAYOUT", `not one of our tags: ${reason}`);
}
