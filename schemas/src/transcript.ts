/**
 * Transcripts of key ceremonies: `transcripts/<n>.json` (docs/formats.md). Which module and token, what the token says of
 * each key, and a signature by each over all of it: proof that the key exists there and of what was written down.
 *
 * One spelling: JSON of two spaces, members in the order below, a newline at the end. A transcript holds no secret and
 * decides nothing; its place in the log keeps anybody from writing it again later.
 */
import { formatBase64, formatHex, parseBase64, parseHex, parseUtf8, quote, utf8 } from "./bytes.ts";
import { isValidSignature, NO_AUTHORITY, type PublicKey, parsePublicKey, signingInput } from "./crypto.ts";
import { FormatError, VerificationError } from "./errors.ts";
import { KEY_CLASSES, type KeyClass } from "./trust.ts";
import { formatWords } from "./words.ts";

export const TRANSCRIPT_CONTEXT = "transcript";
export const TRANSCRIPT_ACTIONS = ["init", "generate", "check"] as const;
export type TranscriptAction = (typeof TRANSCRIPT_ACTIONS)[number];

/** What a module and a token say about themselves; texts as they are reported, without padding. */
export const DEVICE_FIELDS = [
  "module",
  "moduleSha256",
  "cryptoki",
  "moduleManufacturer",
  "moduleDescription",
  "moduleVersion",
  "tokenLabel",
  "tokenSerial",
  "tokenManufacturer",
  "tokenModel",
  "hardwareVersion",
  "firmwareVersion",
] as const;
export type DeviceInfo = Readonly<Record<(typeof DEVICE_FIELDS)[number], string>>;

export interface TranscriptKey {
  /** What it is for: issuer, log, … */
  readonly role: string;
  /** CKA_ID. */
  readonly id: Uint8Array;
  readonly key: PublicKey;
  /** Read back from the token, by their PKCS#11 names; none where there is no token. */
  readonly attributes: ReadonlyMap<string, boolean>;
}

export interface TranscriptBody {
  readonly authority: Uint8Array;
  /** 1, 2, 3, … */
  readonly number: number;
  /** Unix seconds, by the clock of the machine that made it. */
  readonly made: number;
  readonly action: TranscriptAction;
  /** Program and version. */
  readonly tool: string;
  readonly class: KeyClass;
  readonly device: DeviceInfo;
  readonly keys: readonly TranscriptKey[];
}

export interface Transcript extends TranscriptBody {
  /** By each key, in order, over the body. */
  readonly signatures: readonly Uint8Array[];
}

export const TRANSCRIPT_BYTES_MAX = 256 * 1024;
/** Every key that a signer can hold. */
const KEYS_MAX = 256;
const ATTRIBUTES_MAX = 32;
/** Longest field of PKCS#11 is 32 bytes; a path is longer. */
const TEXT_LENGTH_MAX = 256;
/** What each key signs. */
export function transcriptInput(body: TranscriptBody): Uint8Array {
  return signingInput(TRANSCRIPT_CONTEXT, body.authority, textOf(body, undefined));
}

export function encodeTranscript(transcript: Transcript): Uint8Array {
  return textOf(transcript, transcript.signatures);
}

function textOf(body: TranscriptBody, signatures: readonly Uint8Array[] | undefined): Uint8Array {
  const document = {
    transcript: 1,
    authority: formatHex(body.authority),
    number: body.number,
    made: body.made,
    action: body.action,
    tool: body.tool,
    class: body.class,
    device: Object.fromEntries(DEVICE_FIELDS.map((name) => [name, body.device[name]])),
    keys: body.keys.map(({ role, id, key, attributes }, i) => ({
      role,
      id: formatHex(id),
      spki: formatBase64(key.spki),
      kid: formatHex(key.kid),
      words: formatWords(key.kid),
      attributes: Object.fromEntries([...attributes].sort(([a], [b]) => (a < b ? -1 : 1))),
      ...(signatures && { signature: formatBase64(signatures[i]!) }),
    })),
  };
  return utf8(`${JSON.stringify(document, undefined, 2)}\n`);
}

/** @throws FormatError ERR_TRANSCRIPT unless the bytes are the one spelling of a transcript */
export function decodeTranscript(bytes: Uint8Array): Transcript {
  if (bytes.length > TRANSCRIPT_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  let transcript: Transcript;
  try {
    transcript = read(JSON.parse(parseUtf8(bytes)));
  } catch (cause) {
    throw wrong(cause instanceof Error ? cause.message.slice(0, 200) : "unreadable", cause);
  }
  // Written again and compared: whatever was not read, or is spelled otherwise, makes other bytes.
  if (formatBase64(encodeTranscript(transcript)) !== formatBase64(bytes)) throw wrong("not in its one spelling");
  return transcript;
}

/**
 * A transcript in which each key has signed. Every key is named once, and a key called hardware is one that says of
 * itself that it cannot leave, in a token that is not known to keep its keys in files.
 * @param authority whose it must be; the first may have been made before the authority was
 * @throws FormatError ERR_TRANSCRIPT; VerificationError ERR_AUTHORITY, ERR_TRANSCRIPT_REFUSED
 */
export function verifyTranscript(bytes: Uint8Array, authority: Uint8Array): Transcript {
  const transcript = decodeTranscript(bytes);
  const owner = formatHex(transcript.authority);
  const before = transcript.number === 1 && owner === formatHex(NO_AUTHORITY);
  if (owner !== formatHex(authority) && !before)
    throw new VerificationError("ERR_AUTHORITY", `the transcript belongs to authority ${owner}`);
  const message = transcriptInput(transcript);
  const kids = new Set(transcript.keys.map(({ key }) => formatHex(key.kid)));
  if (kids.size === 0 || kids.size < transcript.keys.length) throw refused("it names no key, or one key twice");
  transcript.keys.forEach(({ role, key, attributes }, i) => {
    if (!isValidSignature(key, message, transcript.signatures[i]!))
      throw refused(`its ${role} key ${formatHex(key.kid)} has not signed it`);
    if (transcript.class === "hardware" && !staysInside(attributes))
      throw refused(`its ${role} key ${formatHex(key.kid)} could leave the token, so its class is not hardware`);
  });
  if (transcript.class === "hardware" && isSoftwareDevice(transcript.device))
    throw refused("it calls a token hardware that keeps its keys in files");
  return transcript;
}

/** SoftHSM tells so itself, whatever it is called by; a keystore in files has no module. */
export function isSoftwareDevice(device: DeviceInfo): boolean {
  return device.module === "" || DEVICE_FIELDS.some((name) => /softhsm/i.test(device[name]));
}

function staysInside(attributes: ReadonlyMap<string, boolean>): boolean {
  const must = { SENSITIVE: true, ALWAYS_SENSITIVE: true, EXTRACTABLE: false, NEVER_EXTRACTABLE: true, LOCAL: true };
  return Object.entries(must).every(([name, value]) => attributes.get(name) === value);
}

type Members = Readonly<Record<string, unknown>>;

function read(value: unknown): Transcript {
  const fields = asMembers(value, "the document");
  const keys = asList(fields.keys, "keys", KEYS_MAX).map((item) => asMembers(item, "a key"));
  const device = asMembers(fields.device, "device");
  return {
    authority: parseHex(asText(fields.authority, "authority"), 32),
    number: asInteger(fields.number, "number", 2 ** 32 - 1),
    made: asInteger(fields.made, "made"),
    action: asOneOf(TRANSCRIPT_ACTIONS, fields.action, "action"),
    tool: asText(fields.tool, "tool"),
    class: asOneOf(KEY_CLASSES, fields.class, "class"),
    device: Object.fromEntries(DEVICE_FIELDS.map((name) => [name, asText(device[name], name)])) as DeviceInfo,
    keys: keys.map((key) => ({
      role: asText(key.role, "role"),
      id: parseHex(asText(key.id, "id")),
      key: parsePublicKey(parseBase64(asText(key.spki, "spki"))),
      attributes: asAttributes(key.attributes),
    })),
    signatures: keys.map((key) => parseBase64(asText(key.signature, "signature"), 64)),
  };
}

function asAttributes(value: unknown): ReadonlyMap<string, boolean> {
  const entries = Object.entries(asMembers(value, "attributes"));
  if (entries.length > ATTRIBUTES_MAX) throw new TypeError(`${entries.length} attributes`);
  return new Map(
    entries.map(([name, held]): [string, boolean] => {
      if (!/^[A-Z_]{1,32}$/.test(name) || typeof held !== "boolean") throw new TypeError("an attribute is yes or no");
      return [name, held];
    }),
  );
}

function asMembers(value: unknown, what: string): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError(`${what} is no object`);
  // A map of own members only: names from outside must not meet prototypes.
  return Object.assign(Object.create(null) as Members, value);
}

function asList(value: unknown, what: string, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max) throw new TypeError(`${what} is no list of at most ${max}`);
  return value;
}

/** Printable ASCII: it is shown on terminals and printed. */
function asText(value: unknown, what: string): string {
  if (typeof value === "string" && value.length <= TEXT_LENGTH_MAX && /^[\x20-\x7e]*$/.test(value)) return value;
  throw new TypeError(`${what} is no printable text: ${quote(String(value))}`);
}

function asInteger(value: unknown, what: string, max: number = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= max) return value as number;
  throw new TypeError(`${what} is no integer of at least 1`);
}

function asOneOf<Name extends string>(names: readonly Name[], value: unknown, what: string): Name {
  const found = names.find((name) => name === value);
  if (!found) throw new TypeError(`an unknown ${what}`);
  return found;
}

function wrong(reason: string, cause?: unknown): FormatError {
  return new FormatError("ERR_TRANSCRIPT", `not a transcript of a key ceremony: ${reason}`, { cause });
}

function refused(reason: string): VerificationError {
  return new VerificationError("ERR_TRANSCRIPT_REFUSED", `the transcript does not hold: ${reason}`);
}
