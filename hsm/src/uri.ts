/**
 * PKCS#11 URIs (RFC 7512), read strictly: which token, which key in it, which module, where its PIN is.
 *
 *     pkcs11:token=vault;serial=0123;id=%01%ff?module-path=/usr/lib/libfoo.so&pin-source=/run/credentials/vault/pin
 *
 * A URI ends up in shell histories, process lists and logs, so a PIN in one is refused wherever it stands, and so is a
 * PIN source that would run a command. What would be looked up by chance, a slot's number, is refused as well. An
 * attribute that is not understood is never skipped: it might be the one that told two tokens apart.
 */
import { FormatError, formatHex, parseUtf8, quote, utf8 } from "@viafabric/schemas";
import { KEY_ID_BYTES_MAX } from "./keys.ts";
import type { TokenName } from "./pkcs11.ts";

export interface HsmUri {
  readonly token: TokenName;
  /** CKA_ID. */
  readonly id?: Uint8Array;
  /** CKA_LABEL. */
  readonly object?: string;
  /** Path of the module. */
  readonly module?: string;
  readonly pinFile?: string;
}

export const HSM_URI_LENGTH_MAX = 2048;
const SCHEME = "pkcs11:";

/** Path attributes that name a token or a key, by what they become here. */
const TOKEN_ATTRIBUTES = {
  token: "tokenLabel",
  serial: "tokenSerial",
  manufacturer: "manufacturer",
  model: "model",
} as const;
const PATH_ATTRIBUTES = [...Object.keys(TOKEN_ATTRIBUTES), "id", "object", "type"];
const QUERY_ATTRIBUTES = ["module-path", "pin-source"];

/** RFC 7512 section 2.3: what may stand unescaped in a value. */
const PATH_VALUE = /^(?:[A-Za-z0-9\-._~:[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*$/;
const QUERY_VALUE = /^(?:[A-Za-z0-9\-._~:[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*$/;

/** @throws FormatError ERR_HSM_URI */
export function parseHsmUri(text: string): HsmUri {
  if (text.length > HSM_URI_LENGTH_MAX) throw wrong(`${text.length} characters`);
  if (!text.startsWith(SCHEME)) throw wrong(`it begins with ${SCHEME}`);
  const [path = "", query, ...rest] = splitOnce(text.slice(SCHEME.length));
  if (rest.length > 0) throw wrong("more than one query");
  const named = attributesOf(path, ";", PATH_ATTRIBUTES, PATH_VALUE);
  const asked = attributesOf(query ?? "", "&", QUERY_ATTRIBUTES, QUERY_VALUE);
  const type = named.get("type");
  if (type && textOf("type", type) !== "private") throw wrong("type is private: only that signs");
  const id = named.get("id");
  if (id && (id.length === 0 || id.length > KEY_ID_BYTES_MAX)) throw wrong(`an id of ${id.length} bytes`);
  const object = named.get("object");
  const module = asked.get("module-path");
  const pinSource = asked.get("pin-source");
  return {
    token: Object.fromEntries(
      Object.entries(TOKEN_ATTRIBUTES).flatMap(([name, own]) => {
        const value = named.get(name);
        return value ? [[own, textOf(name, value)]] : [];
      }),
    ),
    ...(id && { id }),
    ...(object && { object: textOf("object", object) }),
    ...(module && { module: absolute("module-path", textOf("module-path", module)) }),
    ...(pinSource && { pinFile: pinFileOf(textOf("pin-source", pinSource)) }),
  };
}

/** The URI of a token or a key without its query: what may be shown and written down. */
export function formatHsmUri({ token, id, object }: Pick<HsmUri, "token" | "id" | "object">): string {
  const attributes = Object.entries(TOKEN_ATTRIBUTES).flatMap(([name, own]) => {
    const value = token[own];
    return value === undefined ? [] : [`${name}=${escaped(utf8(value))}`];
  });
  if (object !== undefined) attributes.push(`object=${escaped(utf8(object))}`);
  if (id) attributes.push(`id=${formatHex(id).replace(/../g, "%$&")}`);
  return SCHEME + attributes.join(";");
}

/** `?` is allowed inside a query and never inside a path. */
function splitOnce(text: string): readonly string[] {
  const at = text.indexOf("?");
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function attributesOf(
  text: string,
  separator: string,
  known: readonly string[],
  spelling: RegExp,
): ReadonlyMap<string, Uint8Array> {
  const attributes = new Map<string, Uint8Array>();
  for (const part of text === "" ? [] : text.split(separator)) {
    const at = part.indexOf("=");
    const name = at < 0 ? part : part.slice(0, at);
    // Said before anything of the value is looked at, and without showing it.
    if (name === "pin-value") throw wrong("a PIN never stands in a URI; name its file with pin-source");
    if (at < 0 || !known.includes(name)) throw wrong(`${quote(name)} is not an attribute understood here`);
    if (attributes.has(name)) throw wrong(`${name} twice`);
    const value = part.slice(at + 1);
    if (!spelling.test(value)) throw wrong(`the value of ${name} is not percent-encoded as it must be`);
    attributes.set(name, bytesOf(value));
  }
  return attributes;
}

/** Bytes, not text: an id is binary. */
function bytesOf(value: string): Uint8Array {
  const units = value.match(/%..|[^%]/g) ?? [];
  return Uint8Array.from(units, (unit) => (unit[0] === "%" ? Number.parseInt(unit.slice(1), 16) : unit.charCodeAt(0)));
}

/** Fixed-width fields of a token are padded with blanks, and some tools copy the padding. */
function textOf(name: string, bytes: Uint8Array): string {
  let text: string;
  try {
    text = parseUtf8(bytes).replace(/[\0 ]+$/, "");
  } catch (cause) {
    throw wrong(`the value of ${name} is not UTF-8`, cause);
  }
  if (text === "" || /\p{Cc}/u.test(text)) throw wrong(`the value of ${name} is empty or holds control characters`);
  return text;
}

/** RFC 7512 section 2.4: a file as a path or a file: URI; `|command` would run a program. */
function pinFileOf(source: string): string {
  if (source.startsWith("|")) throw wrong("a PIN is read from a file, never from a command");
  return absolute(
    "pin-source",
    source.startsWith("file:") ? source.slice("file:".length).replace(/^\/\/(?=\/)/, "") : source,
  );
}

function absolute(name: string, path: string): string {
  if (!path.startsWith("/") || path.startsWith("//")) throw wrong(`${name} is the absolute path of a file`);
  return path;
}

function escaped(bytes: Uint8Array): string {
  return [...bytes]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9\-._~]/.test(character) ? character : `%${byte.toString(16).padStart(2, "0")}`;
    })
    .join("");
}

function wrong(reason: string, cause?: unknown): FormatError {
  return new FormatError("ERR_HSM_URI", `not a PKCS#11 URI: ${reason}`, { cause });
}
