/**
 * Trust files that trustees sign as TUF targets: `trust/keys.cbor` and `trust/rules.cbor` (FORMATS "TUF targets").
 */
import { compareBytes, equalBytes } from "./bytes.ts";
import { type CborValue, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { type PublicKey, parsePublicKey } from "./crypto.ts";
import { FormatError } from "./errors.ts";
import { NAME_LENGTH_MAX } from "./manifest.ts";

export const PURPOSES = ["issuer", "status", "release", "station", "operator"] as const;
/** Each key has one purpose. */
export type Purpose = (typeof PURPOSES)[number];

export const KEY_CLASSES = ["hardware", "software"] as const;
export type KeyClass = (typeof KEY_CLASSES)[number];

/** Valid while from ≤ t < until, unix seconds. */
export interface KeyEntry {
  readonly key: PublicKey;
  readonly purpose: Purpose;
  readonly class: KeyClass;
  readonly from: number;
  readonly until: number;
}

/** Maximum ages of a status statement in seconds: after `soft` it is aging, after `hard` the node refuses. */
export interface Ages {
  readonly soft: number;
  readonly hard: number;
}

export interface Rules {
  readonly authority: Uint8Array;
  readonly thresholds: {
    readonly suspend: number;
    readonly revokeKit: number;
    readonly revoke: number;
    readonly reinstate: number;
  };
  readonly ages: ReadonlyMap<string, Ages>;
  readonly classes: ReadonlyMap<Purpose, KeyClass>;
}

export const TRUST_FILE_BYTES_MAX = 1024 * 1024;
export const TRUST_KEYS_MAX = 4096;
const THRESHOLD_MAX = 32;
const PROFILES_MAX = 256;

export function encodeTrustKeys(entries: readonly KeyEntry[]): Uint8Array {
  const sorted = [...entries].sort((a, b) => compareBytes(a.key.kid, b.key.kid));
  return encodeCbor(
    sorted.map(
      (entry) =>
        new Map<number, CborValue>([
          [1, entry.key.kid],
          [2, entry.key.spki],
          [3, entry.purpose],
          [4, entry.class],
          [5, entry.from],
          [6, entry.until],
        ]),
    ),
  );
}

/** @throws FormatError ERR_TRUST_FILE for a key listed twice, a kid that is not its key's, a status key that is not Ed25519 */
export function decodeTrustKeys(bytes: Uint8Array): readonly KeyEntry[] {
  if (bytes.length > TRUST_FILE_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const list = decodeCbor(bytes, "ERR_TRUST_FILE");
  if (!Array.isArray(list) || list.length > TRUST_KEYS_MAX) throw wrong("a list of keys");
  const entries = list.map(decodeKeyEntry);
  for (let i = 1; i < entries.length; i++) {
    if (compareBytes(entries[i - 1]!.key.kid, entries[i]!.key.kid) >= 0)
      throw wrong("keys must ascend by kid, each once");
  }
  return entries;
}

function decodeKeyEntry(value: CborValue): KeyEntry {
  const fields = new Fields(value, [1, 2, 3, 4, 5, 6], "ERR_TRUST_FILE");
  const key = parsePublicKey(fields.bytes(2));
  if (!equalBytes(key.kid, fields.bytes(1, 32))) throw wrong("a kid that is not the hash of its key");
  const purpose = PURPOSES.find((known) => known === fields.text(3));
  const keyClass = KEY_CLASSES.find((known) => known === fields.text(4));
  if (!purpose || !keyClass) throw wrong("an unknown purpose or class");
  if (purpose === "status" && key.algorithm !== "ed25519") throw wrong("a status key signs notes and is Ed25519");
  return { key, purpose, class: keyClass, from: fields.integer(5), until: fields.integer(6) };
}

/** The entry of `kid` for one purpose. @param at unix seconds; undefined asks whether it is listed at all */
export function findKey(
  entries: readonly KeyEntry[],
  kid: Uint8Array,
  purpose: Purpose,
  at?: number,
): KeyEntry | undefined {
  return entries.find(
    (entry) =>
      entry.purpose === purpose &&
      equalBytes(entry.key.kid, kid) &&
      (at === undefined || (entry.from <= at && at < entry.until)),
  );
}

/**
 * Which key of a purpose signs at `at`: of those that are valid then, the one that became valid last. So a new key takes
 * over as soon as trustees have listed it, while the one before still vouches for what it signed.
 */
export function newestKey(entries: readonly KeyEntry[], purpose: Purpose, at: number): KeyEntry | undefined {
  const valid = entries.filter((entry) => entry.purpose === purpose && entry.from <= at && at < entry.until);
  return valid.reduce<KeyEntry | undefined>((newest, entry) => {
    return newest === undefined || entry.from > newest.from ? entry : newest;
  }, undefined);
}

export function encodeRules(rules: Rules): Uint8Array {
  const { suspend, revokeKit, revoke, reinstate } = rules.thresholds;
  return encodeCbor(
    new Map<number, CborValue>([
      [1, 1],
      [2, rules.authority],
      [
        3,
        new Map([
          ["suspend", suspend],
          ["revoke_kit", revokeKit],
          ["revoke", revoke],
          ["reinstate", reinstate],
        ]),
      ],
      [4, new Map([...rules.ages].map(([profile, ages]) => [profile, [ages.soft, ages.hard]]))],
      [5, new Map(rules.classes)],
    ]),
  );
}

export function decodeRules(bytes: Uint8Array): Rules {
  if (bytes.length > TRUST_FILE_BYTES_MAX) throw wrong(`${bytes.length} bytes`);
  const fields = new Fields(decodeCbor(bytes, "ERR_TRUST_FILE"), [1, 2, 3, 4, 5], "ERR_TRUST_FILE");
  if (fields.integer(1) !== 1) throw wrong(`version ${fields.integer(1)}`);
  const thresholds = new Fields(fields.value(3), ["suspend", "revoke_kit", "revoke", "reinstate"], "ERR_TRUST_FILE");
  return {
    authority: fields.bytes(2, 32),
    thresholds: {
      suspend: thresholds.integer("suspend", THRESHOLD_MAX, 1),
      revokeKit: thresholds.integer("revoke_kit", THRESHOLD_MAX, 1),
      revoke: thresholds.integer("revoke", THRESHOLD_MAX, 1),
      reinstate: thresholds.integer("reinstate", THRESHOLD_MAX, 1),
    },
    ages: decodeAges(fields.value(4)),
    classes: decodeClasses(fields.value(5)),
  };
}

function decodeAges(value: CborValue): Map<string, Ages> {
  if (!(value instanceof Map) || value.size > PROFILES_MAX) throw wrong("ages by profile");
  const ages = new Map<string, Ages>();
  for (const [profile, pair] of value) {
    const [soft, hard] = Array.isArray(pair) && pair.length === 2 ? pair : [];
    if (typeof profile !== "string" || profile.length > NAME_LENGTH_MAX) throw wrong("a profile name");
    if (typeof soft !== "number" || typeof hard !== "number" || soft < 0 || hard < soft)
      throw wrong("ages are [soft, hard]");
    ages.set(profile, { soft, hard });
  }
  return ages;
}

function decodeClasses(value: CborValue): Map<Purpose, KeyClass> {
  if (!(value instanceof Map)) throw wrong("minimum classes by purpose");
  const classes = new Map<Purpose, KeyClass>();
  for (const [name, minimum] of value) {
    const purpose = PURPOSES.find((known) => known === name);
    const keyClass = KEY_CLASSES.find((known) => known === minimum);
    if (!purpose || !keyClass) throw wrong("a minimum class of an unknown purpose");
    classes.set(purpose, keyClass);
  }
  return classes;
}

function wrong(reason: string): FormatError {
  return new FormatError("ERR_TRUST_FILE", `not a trust file: ${reason}`);
}
