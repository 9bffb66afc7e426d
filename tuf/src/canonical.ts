/**
 * Canonical JSON, the form under every TUF signature (TUF specification 4.2, after the OLPC definition).
 *
 * Keys in ascending order, no white space, integers only, and in strings nothing is escaped but `"` and `\`. Control
 * characters therefore stand raw inside strings (the line feeds of a PEM key do), so canonical bytes are not always
 * JSON: `parseCanonicalJson` reads them, `escapeControls` turns them into JSON for transport.
 *
 * Implementations disagree on keys outside ASCII (UTF-16 units here, code points elsewhere), on numbers beyond 2^53
 * and on lone surrogates, so all of these are refused: what we sign, everybody else must compute too.
 */
import { equalBytes, FormatError, parseUtf8, quote, utf8 } from "@viafabric/schemas";

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** Nothing in TUF metadata nests deeper than six. */
const DEPTH_MAX = 12;

export function canonicalJson(value: Json): Uint8Array {
  return utf8(canonicalText(value, 0));
}

function canonicalText(value: Json, depth: number): string {
  if (depth > DEPTH_MAX) throw wrong(`nested deeper than ${DEPTH_MAX}`);
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return canonicalString(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw wrong(`${value} is not an integer below 2^53`);
    return String(value);
  }
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonicalText(item, depth + 1)).join(",")}]`;
  if (typeof value !== "object") throw wrong(`a value of type ${typeof value}`);
  const object = value as JsonObject;
  const members = Object.keys(object).sort();
  for (const key of members) if (!/^[\x20-\x7e]*$/.test(key)) throw wrong(`a key outside ASCII: ${quote(key)}`);
  return `{${members.map((key) => `${canonicalString(key)}:${canonicalText(object[key]!, depth + 1)}`).join(",")}}`;
}

function canonicalString(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw wrong(`a lone surrogate in ${quote(text)}`);
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** @throws FormatError ERR_JSON unless `bytes` is the canonical spelling of a value */
export function parseCanonicalJson(bytes: Uint8Array): Json {
  const value = parseJson(utf8(escapeControls(parseUtf8(bytes))));
  // Whatever JSON.parse let through (other escapes, white space, repeated keys) is not the same text when written again.
  if (!equalBytes(canonicalJson(value), bytes)) throw wrong("another spelling than the canonical one");
  return value;
}

/** Plain JSON in any spelling. Of a repeated key the last one counts, as in every TUF client. */
export function parseJson(bytes: Uint8Array): Json {
  try {
    return JSON.parse(parseUtf8(bytes)) as Json;
  } catch (cause) {
    throw new FormatError("ERR_JSON", "not JSON", { cause });
  }
}

/** Canonical text as JSON. Between tokens canonical text has no control characters, so each one is inside a string. */
export function escapeControls(canonical: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is being replaced
  return canonical.replace(/[\u0000-\u001f]/g, (character) => JSON.stringify(character).slice(1, -1));
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_JSON", `not canonical JSON: ${reason}`);
}
