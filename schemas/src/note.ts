/**
 * Signed notes (C2SP signed-note v1.0.0) and their verifier keys.
 *
 *     text, ends in LF, may contain empty lines
 *     LF
 *     — name base64(4-byte key id ‖ signature) LF       one or more
 *
 * The signed bytes are the text with its last LF. Here because both the log's checkpoints and the status statements
 * are notes. Key types: 01 Ed25519, 04 Ed25519 cosignature (tlog-cosignature v1).
 */
import {
  concat,
  equalBytes,
  formatBase64,
  formatHex,
  parseBase64,
  parseHex,
  parseUtf8,
  quote,
  readU64,
  u64,
  utf8,
} from "./bytes.ts";
import { ed25519PublicKey, isValidSignature, type PublicKey, SIGNATURE_BYTES, sha256 } from "./crypto.ts";
import { FormatError, VerificationError } from "./errors.ts";
import type { Signer } from "./keys.ts";

export const NOTE_BYTES_MAX = 64 * 1024;
export const NOTE_SIGNATURES_MAX = 100;

export type NoteKeyType = 1 | 4;

export interface NoteVerifier {
  readonly name: string;
  readonly type: NoteKeyType;
  readonly key: PublicKey;
  readonly keyId: Uint8Array;
}

export interface NoteSignature {
  readonly name: string;
  readonly keyId: Uint8Array;
  /** Without the key id. */
  readonly signature: Uint8Array;
}

export interface Note {
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** A note whose text at least one of the given keys signed; `signatures` holds only the verified ones. */
export interface OpenedNote {
  readonly text: string;
  readonly signatures: readonly { readonly verifier: NoteVerifier; readonly time?: number }[];
}

export function noteVerifier(name: string, key: PublicKey, type: NoteKeyType = 1): NoteVerifier {
  if (!isNoteName(name)) throw new FormatError("ERR_VKEY", `not a key name: ${quote(name)}`);
  if (key.algorithm !== "ed25519") throw new FormatError("ERR_VKEY", "a note key is Ed25519");
  const keyId = sha256(concat(utf8(`${name}\n`), new Uint8Array([type]), key.raw)).slice(0, 4);
  return { name, type, key, keyId };
}

/** `name+hex8(key id)+base64(type ‖ key)`; the key id is recomputed and compared. */
export function parseVerifierKey(vkey: string): NoteVerifier {
  const first = vkey.indexOf("+");
  const second = vkey.indexOf("+", first + 1);
  if (first < 1 || second < 0) throw new FormatError("ERR_VKEY", `not a verifier key: ${quote(vkey)}`);
  const material = parseBase64(vkey.slice(second + 1), 33);
  const type = material[0];
  if (type !== 1 && type !== 4) throw new FormatError("ERR_VKEY", `unsupported verifier key type ${type}`);
  const verifier = noteVerifier(vkey.slice(0, first), ed25519PublicKey(material.slice(1)), type);
  if (!equalBytes(parseHex(vkey.slice(first + 1, second), 4), verifier.keyId)) {
    throw new FormatError("ERR_VKEY", "the key id of a verifier key does not match its key");
  }
  return verifier;
}

export function formatVerifierKey(verifier: NoteVerifier): string {
  const material = concat(new Uint8Array([verifier.type]), verifier.key.raw);
  return `${verifier.name}+${formatHex(verifier.keyId)}+${formatBase64(material)}`;
}

/** Shape only: nothing here has been verified. */
export function parseNote(bytes: Uint8Array): Note {
  if (bytes.length > NOTE_BYTES_MAX) throw new FormatError("ERR_NOTE", `a note of ${bytes.length} bytes`);
  const source = parseUtf8(bytes);
  for (let i = 0; i < source.length; i++) {
    const unit = source.charCodeAt(i);
    if (unit < 0x20 && unit !== 0x0a) throw new FormatError("ERR_NOTE", "a control character in a note");
  }
  // The last empty line separates text and signatures: the text itself may contain empty lines.
  const separator = source.lastIndexOf("\n\n");
  if (separator < 0 || !source.endsWith("\n")) throw new FormatError("ERR_NOTE", "no signatures after the text");
  const lines = source.slice(separator + 2, -1).split("\n");
  if (separator + 2 >= source.length) throw new FormatError("ERR_NOTE", "no signatures after the text");
  if (lines.length > NOTE_SIGNATURES_MAX) throw new FormatError("ERR_NOTE", `${lines.length} signature lines`);
  return { text: source.slice(0, separator + 1), signatures: lines.map(parseSignatureLine) };
}

export function parseSignatureLine(line: string): NoteSignature {
  const match = /^\u2014 ([^ ]+) ([^ ]+)$/u.exec(line);
  if (!match || !isNoteName(match[1]!)) throw new FormatError("ERR_NOTE", `not a signature line: ${quote(line)}`);
  const blob = parseBase64(match[2]!);
  if (blob.length < 5) throw new FormatError("ERR_NOTE", "a signature line without a signature");
  return { name: match[1]!, keyId: blob.slice(0, 4), signature: blob.slice(4) };
}

export function formatSignatureLine(s: NoteSignature): string {
  return `\u2014 ${s.name} ${formatBase64(concat(s.keyId, s.signature))}\n`;
}

export function formatNote(note: Note): Uint8Array {
  return utf8(`${note.text}\n${note.signatures.map(formatSignatureLine).join("")}`);
}

/**
 * Lines of unknown keys are skipped; a wrong line of a known key spoils the whole note.
 * @throws VerificationError ERR_NOTE_SIGNATURE, ERR_NOTE_UNSIGNED
 */
export function openNote(bytes: Uint8Array, verifiers: readonly NoteVerifier[]): OpenedNote {
  const note = parseNote(bytes);
  const verified = new Map<NoteVerifier, { verifier: NoteVerifier; time?: number }>();
  for (const signature of note.signatures) {
    for (const verifier of verifiers) {
      if (verifier.name !== signature.name || !equalBytes(verifier.keyId, signature.keyId)) continue;
      const result = verifySignatureLine(note.text, verifier, signature);
      if (verified.has(verifier))
        throw new VerificationError("ERR_NOTE_SIGNATURE", `${quote(verifier.name)} signed twice`);
      verified.set(verifier, result);
    }
  }
  if (verified.size === 0) throw new VerificationError("ERR_NOTE_UNSIGNED", "no known key signed this note");
  return { text: note.text, signatures: [...verified.values()] };
}

function verifySignatureLine(
  text: string,
  verifier: NoteVerifier,
  line: NoteSignature,
): { verifier: NoteVerifier; time?: number } {
  const wrong = () => new VerificationError("ERR_NOTE_SIGNATURE", `the signature of ${quote(verifier.name)} is wrong`);
  if (verifier.type === 1) {
    if (!isValidSignature(verifier.key, utf8(text), line.signature)) throw wrong();
    return { verifier };
  }
  if (line.signature.length !== 8 + SIGNATURE_BYTES) throw wrong();
  const time = readU64(line.signature, 0);
  if (!isValidSignature(verifier.key, cosignatureInput(text, time), line.signature.subarray(8))) throw wrong();
  return { verifier, time };
}

/** The message under a 04 cosignature (tlog-cosignature v1). @param time unix seconds */
export function cosignatureInput(text: string, time: number): Uint8Array {
  return utf8(`cosignature/v1\ntime ${time}\n${text}`);
}

/** Signs as `name`; the key type decides what is signed. @param time unix seconds, for type 04. */
export async function signNote(text: string, name: string, signer: Signer, time?: number): Promise<NoteSignature> {
  if (!text.endsWith("\n")) throw new RangeError("a note's text ends in a line feed");
  const verifier = noteVerifier(name, signer.publicKey, time === undefined ? 1 : 4);
  const signature =
    time === undefined
      ? await signer.sign(utf8(text))
      : concat(u64(time), await signer.sign(cosignatureInput(text, time)));
  return { name, keyId: verifier.keyId, signature };
}

/** Non-empty, without white space or plus. */
function isNoteName(name: string): boolean {
  return name.length > 0 && !/[\p{White_Space}+]/u.test(name);
}
