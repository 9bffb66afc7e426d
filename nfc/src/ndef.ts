/**
 * NDEF messages (NFC Data Exchange Format 1.0); the only door to the `ndef` package.
 *
 * The package writes, our own decoder reads. The package's decoder accepts truncated records, lets the id length of
 * one record bleed into the next and turns large lengths negative, so nothing from a tag ever reaches it; and
 * because its encoder has gaps too (types over 255 bytes), what it wrote is read again and compared.
 */
import { equalBytes, FormatError, parseUtf8, readU32 } from "@viafabric/schemas";
import ndef from "ndef";

/** Type name formats, section 3.2.6. `unchanged` and `reserved` never stand in a message of whole records. */
export const TNF = { empty: 0, wellKnown: 1, mimeMedia: 2, absoluteUri: 3, external: 4, unknown: 5 } as const;
const TNF_MAX = 5;

export interface NdefRecord {
  readonly tnf: number;
  /** The type's octets as text; ASCII in every type there is. */
  readonly type: string;
  readonly id: Uint8Array;
  readonly payload: Uint8Array;
}

/** The largest data area that a Type 2 capability container can state. */
export const NDEF_MESSAGE_BYTES_MAX = 255 * 8;
/** The richest layout has six records. */
export const NDEF_RECORDS_MAX = 16;

const MB = 0x80;
const ME = 0x40;
const CF = 0x20;
const SR = 0x10;
const IL = 0x08;

/** RTD URI 1.0, table 3: what the first payload byte stands for. */
const URI_PREFIXES = [
  ...["", "http://www.", "https://www.", "http://", "https://", "tel:", "mailto:", "ftp://anonymous:anonymous@"],
  ...["ftp://ftp.", "ftps://", "sftp://", "smb://", "nfs://", "ftp://", "dav://", "news:", "telnet://", "imap:"],
  ...["rtsp://", "urn:", "pop:", "sip:", "sips:", "tftp:", "btspp://", "btl2cap://", "btgoep://", "tcpobex://"],
  ...["irdaobex://", "file://", "urn:epc:id:", "urn:epc:tag:", "urn:epc:pat:", "urn:epc:raw:", "urn:epc:", "urn:nfc:"],
];

/** An external type (RTD 1.0 section 3.2), e.g. `vf.test:r`. */
export function externalRecord(type: string, payload: Uint8Array): NdefRecord {
  return { tnf: TNF.external, type, id: new Uint8Array(0), payload };
}

/** A URI record, with the longest abbreviation there is for its beginning. */
export function uriRecord(uri: string): NdefRecord {
  const { tnf, type, payload } = ndef.uriRecord(uri);
  return { tnf, type, id: new Uint8Array(0), payload: new Uint8Array(payload) };
}

/** The URI of a URI record; undefined for any other record. @throws FormatError ERR_NDEF */
export function uriOf(record: NdefRecord): string | undefined {
  if (record.tnf !== TNF.wellKnown || record.type !== "U") return undefined;
  const prefix = record.payload.length === 0 ? undefined : URI_PREFIXES[record.payload[0]!];
  if (prefix === undefined) throw wrong("a URI record with an unknown abbreviation");
  return prefix + parseUtf8(record.payload.subarray(1));
}

export function encodeNdef(records: readonly NdefRecord[]): Uint8Array {
  const message = new Uint8Array(
    ndef.encodeMessage(records.map((r) => ndef.record(r.tnf, r.type, [...r.id], [...r.payload]))),
  );
  // Not our caller's fault if this fires: the encoder wrote something other than what it was given.
  if (!sameRecords(decodeNdef(message), records)) throw wrong("the encoder wrote another message than it was given");
  return message;
}

/**
 * Strict: every length inside the message, begin and end flags exactly where they belong, no chunks, no bytes after
 * the last record. Both the short and the long form of a small payload's length are accepted, as the standard does.
 * @throws FormatError ERR_NDEF
 */
export function decodeNdef(message: Uint8Array): NdefRecord[] {
  if (message.length > NDEF_MESSAGE_BYTES_MAX) throw wrong(`${message.length} bytes`);
  const records: NdefRecord[] = [];
  let at = 0;
  for (let ended = false; !ended; ) {
    if (records.length === NDEF_RECORDS_MAX) throw wrong(`more than ${NDEF_RECORDS_MAX} records`);
    const { record, next, last } = decodeRecord(message, at, records.length === 0);
    records.push(record);
    at = next;
    ended = last;
  }
  if (at !== message.length) throw wrong("bytes after the last record");
  return records;
}

function decodeRecord(bytes: Uint8Array, start: number, first: boolean) {
  const take = (at: number, length: number): Uint8Array => {
    if (length > bytes.length - at) throw wrong("a record that ends beyond the message");
    return bytes.slice(at, at + length);
  };
  const flags = take(start, 1)[0]!;
  const tnf = flags & 7;
  if (first !== ((flags & MB) !== 0)) throw wrong("the begin flag is not on the first record alone");
  if ((flags & CF) !== 0) throw wrong("a chunked record");
  if (tnf > TNF_MAX) throw wrong(`type name format ${tnf}`);
  let at = start + 1;
  const typeLength = take(at++, 1)[0]!;
  const lengthBytes = (flags & SR) !== 0 ? 1 : 4;
  const length = take(at, lengthBytes);
  const payloadLength = lengthBytes === 1 ? length[0]! : readU32(length, 0);
  at += lengthBytes;
  const idLength = (flags & IL) !== 0 ? take(at++, 1)[0]! : 0;
  const typeBytes = take(at, typeLength);
  const id = take(at + typeLength, idLength);
  const payload = take(at + typeLength + idLength, payloadLength);
  if (tnf === TNF.empty && typeLength + idLength + payloadLength > 0) throw wrong("an empty record with content");
  if (typeLength > 0 === (tnf === TNF.empty || tnf === TNF.unknown)) {
    throw wrong(`a type of ${typeLength} bytes in type name format ${tnf}`);
  }
  const record: NdefRecord = { tnf, type: typeText(typeBytes), id, payload };
  return { record, next: at + typeLength + idLength + payloadLength, last: (flags & ME) !== 0 };
}

function typeText(bytes: Uint8Array): string {
  if (bytes.some((byte) => byte < 0x20 || byte > 0x7e)) throw wrong("a type that is not printable ASCII");
  return parseUtf8(bytes);
}

function sameRecords(a: readonly NdefRecord[], b: readonly NdefRecord[]): boolean {
  return (
    a.length === b.length &&
    a.every((record, i) => {
      const other = b[i]!;
      const sameType = record.tnf === other.tnf && record.type === other.type;
      return sameType && equalBytes(record.id, other.id) && equalBytes(record.payload, other.payload);
    })
  );
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_NDEF", `not an NDEF message: ${reason}`);
}
