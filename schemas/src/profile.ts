/**
 * A capability profile: what a node grants to whoever presents a token of it, as one JSON file of the catalogue that
 * trustees sign (`profiles/<id>.json`). `json/capability-profile.schema.json` says the same to other people's tools.
 *
 *     {"capability_profile_id":"edge-basic","quotas":{"cpu_hours":10},"title":"…","version":1}
 */
import { equalBytes, parseUtf8, quote, utf8 } from "./bytes.ts";
import { FormatError } from "./errors.ts";

export interface CapabilityProfile {
  readonly id: string;
  /** Rises with every change. */
  readonly version: number;
  /** For people. */
  readonly title: string;
  /** What is granted, by name: `cpu_hours`, `storage_gb`. */
  readonly quotas: ReadonlyMap<string, number>;
}

export const PROFILE_BYTES_MAX = 4096;
const TITLE_LENGTH_MAX = 128;
const QUOTAS_MAX = 16;
const QUOTA_MAX = 2 ** 48;
const VERSION_MAX = 2 ** 32 - 1;
const ID = /^[a-z0-9][a-z0-9-]{0,31}$/;
const QUOTA_NAME = /^[a-z][a-z0-9_]{0,31}$/;

export function isProfileId(text: string): boolean {
  return ID.test(text);
}

/** The one spelling: members ascend, no white space. */
export function encodeProfile({ id, version, title, quotas }: CapabilityProfile): Uint8Array {
  const names = [...quotas.keys()].sort();
  return utf8(
    JSON.stringify({
      capability_profile_id: id,
      quotas: Object.fromEntries(names.map((name) => [name, quotas.get(name)])),
      title,
      version,
    }),
  );
}

/** @throws FormatError ERR_PROFILE */
export function decodeProfile(bytes: Uint8Array): CapabilityProfile {
  const profile = readProfile(bytes);
  if (!equalBytes(encodeProfile(profile), bytes)) throw wrong("another spelling than the one with ascending members");
  return profile;
}

/** As a person writes it: members in any order, with white space. @throws FormatError ERR_PROFILE */
export function readProfile(bytes: Uint8Array): CapabilityProfile {
  if (bytes.length > PROFILE_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = membersOf(parseJson(bytes));
  for (const name of ["capability_profile_id", "quotas", "title", "version"])
    if (!fields.has(name)) throw wrong(`${name} is missing`);
  if (fields.size > 4) throw wrong("it has unknown members");
  const [id, title] = [fields.get("capability_profile_id"), fields.get("title")];
  if (typeof id !== "string" || !ID.test(id)) throw wrong(`the id ${quote(String(id))}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not stand in a title
  if (typeof title !== "string" || !/^[^\u0000-\u001f\u007f\p{Surrogate}]{1,128}$/u.test(title))
    throw wrong(`a title is 1 to ${TITLE_LENGTH_MAX} characters`);
  const quotas = [...membersOf(fields.get("quotas"))].map(([name, value]) => {
    if (!QUOTA_NAME.test(name)) throw wrong(`a quota named ${quote(name)}`);
    return [name, asNatural(value, QUOTA_MAX, name)] as const;
  });
  if (quotas.length > QUOTAS_MAX) throw wrong(`${quotas.length} quotas`);
  return { id, title, version: asNatural(fields.get("version"), VERSION_MAX, "version", 1), quotas: new Map(quotas) };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(parseUtf8(bytes));
  } catch (cause) {
    throw new FormatError("ERR_PROFILE", "not a capability profile: not JSON", { cause });
  }
}

function membersOf(value: unknown): ReadonlyMap<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("not an object");
  return new Map(Object.entries(value));
}

function asNatural(value: unknown, max: number, name: string, min = 0): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max || Object.is(value, -0))
    throw wrong(`${name} is no whole number from ${min} to ${max}`);
  return value;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_PROFILE", `not a capability profile: ${reason}`);
}
