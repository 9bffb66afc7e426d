/**
 * The bounded signer's configuration: one JSON file in its private folder. Relative paths start at that folder.
 *
 *     { "module": "/usr/lib/softhsm/libsofthsm2.so", "conf": "../hsm/softhsm2.conf",
 *       "token": "pkcs11:token=viafabric;serial=…", "pinFile": "../hsm/pin", "root": "1.root.json", "public": "../../public",
 *       "socket": "signer.sock", "keys": { "issuer": [{ "id": "<hex>", "spki": "<base64>" }], "log": …, … } }
 *
 * On a laptop without a module, `"software": "keys", "passphraseFile": "keys/passphrase"` stand in place of module,
 * conf, token and PIN.
 *
 * The keys are pinned by their public halves: what stands behind an id in the token must be exactly that. A role may
 * have several, oldest first: which of them signs is said by the files that trustees signed, never by this one. A key
 * that stands alone may do without the brackets.
 */
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import {
  formatBase64,
  formatHex,
  kidText,
  OperationError,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
  parseUtf8,
  utf8,
} from "@viafabric/schemas";
import { formatHsmUri, type KeysReference, POOL_WORKERS_MAX, parseHsmUri, type TokenName } from "../index.ts";

export const SIGNER_KEYS = ["issuer", "log", "status", "snapshot", "timestamp", "revocations"] as const;
/** What each key is for; no key has two purposes. */
export type SignerKey = (typeof SIGNER_KEYS)[number];

export interface PinnedKey {
  /** CKA_ID in the token. */
  readonly id: Uint8Array;
  readonly publicKey: PublicKey;
}

/** At least one for each role, oldest first; exactly one for the log, whose key is its name for ever. */
export type SignerKeys = Readonly<Record<SignerKey, readonly PinnedKey[]>>;

export function signerKeys(of: (name: SignerKey, i: number) => readonly PinnedKey[]): SignerKeys {
  return Object.fromEntries(SIGNER_KEYS.map((name, i) => [name, of(name, i)])) as unknown as SignerKeys;
}

export interface SignerConfig {
  readonly hsm: KeysReference;
  /** File of root v1. */
  readonly root: string;
  /** Folder of what is published. */
  readonly public: string;
  readonly socket: string;
  readonly keys: SignerKeys;
  /** Whether the group of the signer's process may use its socket too: a vault that runs as another user. */
  readonly socketGroup?: boolean;
  /** Threads that sign tokens; as many as there are processors when left out. A slow device on a network wants more. */
  readonly workers?: number;
}

type JsonObject = Readonly<Record<"keys" | "id" | "spki" | "workers", unknown>> & Readonly<Record<string, unknown>>;

const CONFIG_BYTES_MAX = 64 * 1024;
/** A key a month for two years and more; each is opened when the signer starts. */
export const KEYS_PER_ROLE_MAX = 32;

export function formatSignerConfig(config: SignerConfig): Uint8Array {
  const { hsm, root, public: published, socket, socketGroup, keys, workers } = config;
  const pinned = SIGNER_KEYS.map((name) => {
    return [name, keys[name].map(({ id, publicKey }) => ({ id: formatHex(id), spki: formatBase64(publicKey.spki) }))];
  });
  const json = { ...placeJson(hsm), root, public: published, socket, socketGroup, workers };
  return utf8(`${JSON.stringify({ ...json, keys: Object.fromEntries(pinned) }, undefined, 2)}\n`);
}

function placeJson(hsm: KeysReference): object {
  if ("software" in hsm) return { software: hsm.software, passphraseFile: hsm.passphraseFile };
  const { module, confFile, pinFile } = hsm;
  return { module, conf: confFile, token: formatHsmUri({ token: hsm }), pinFile };
}

/** @throws OperationError ERR_SIGNER_CONFIG */
export async function readSignerConfig(file: string): Promise<SignerConfig> {
  const bytes = await readFileBounded(file, CONFIG_BYTES_MAX);
  try {
    return parseConfig(bytes, path.dirname(path.resolve(file)));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OperationError("ERR_SIGNER_CONFIG", `${file}: ${reason}`, { cause });
  }
}

function parseConfig(bytes: Uint8Array, folder: string): SignerConfig {
  const json = asObject(JSON.parse(parseUtf8(bytes)), "the configuration");
  const text = (name: string): string => asText(json[name], name);
  const file = (name: string): string => path.resolve(folder, text(name));
  const optional = (name: string): boolean => json[name] !== undefined;
  const software = optional("software");
  const known = [...COMMON, ...(software ? SOFTWARE : TOKEN)];
  for (const name of Object.keys(json)) if (!known.includes(name)) throw new TypeError(`unknown member ${name}`);
  const listed = asObject(json.keys, "keys");
  const keys = signerKeys((name) => asPinnedKeys(listed[name], name));
  const kids = SIGNER_KEYS.flatMap((name) => keys[name].map(({ publicKey }) => kidText(publicKey)));
  if (new Set(kids).size < kids.length) throw new TypeError("one key has two purposes");
  if (keys.log.length > 1) throw new TypeError("a log has one key");
  return {
    hsm: software
      ? { software: file("software"), passphraseFile: file("passphraseFile") }
      : {
          module: text("module"),
          // A service has nobody to ask.
          pinFile: file("pinFile"),
          ...(optional("conf") ? { confFile: file("conf") } : {}),
          ...(optional("token") ? tokenOf(text("token")) : {}),
          ...(optional("tokenLabel") ? { tokenLabel: text("tokenLabel") } : {}),
          ...(optional("tokenSerial") ? { tokenSerial: text("tokenSerial") } : {}),
        },
    root: file("root"),
    public: file("public"),
    socket: file("socket"),
    ...(optional("socketGroup") ? { socketGroup: asYesOrNo(json.socketGroup, "socketGroup") } : {}),
    ...(optional("workers") ? { workers: asWorkers(json.workers) } : {}),
    keys,
  };
}

const COMMON = ["root", "public", "socket", "socketGroup", "keys", "workers"];
/** `tokenLabel` and `tokenSerial` are how configurations of before name it. */
const TOKEN = ["module", "conf", "token", "tokenLabel", "tokenSerial", "pinFile"];
const SOFTWARE = ["software", "passphraseFile"];

/** It names a token and nothing else: modules, PINs and keys have members of their own. */
function tokenOf(uri: string): TokenName {
  const { token, ...rest } = parseHsmUri(uri);
  if (Object.keys(rest).length > 0) throw new TypeError("token names a token by label, serial, manufacturer and model");
  return token;
}

function asPinnedKeys(value: unknown, name: string): readonly PinnedKey[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0 || list.length > KEYS_PER_ROLE_MAX)
    throw new TypeError(`${list.length} ${name} keys; it takes 1 to ${KEYS_PER_ROLE_MAX}`);
  return list.map((key) => asPinnedKey(key, name));
}

function asPinnedKey(value: unknown, name: string): PinnedKey {
  const key = asObject(value, `key ${name}`);
  const id = parseHex(asText(key.id, `${name}.id`));
  return { id, publicKey: parsePublicKey(parseBase64(asText(key.spki, `${name}.spki`))) };
}

function asYesOrNo(value: unknown, name: string): boolean {
  if (typeof value !== "boolean") throw new TypeError(`${name} is true or false`);
  return value;
}

function asWorkers(value: unknown): number {
  const count = Number.isInteger(value) ? (value as number) : 0;
  if (count < 1 || count > POOL_WORKERS_MAX) throw new TypeError(`workers is 1 to ${POOL_WORKERS_MAX}`);
  return count;
}

function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError(`${what} is no object`);
  return value as JsonObject;
}

function asText(value: unknown, what: string): string {
  if (typeof value !== "string" || value === "") throw new TypeError(`${what} is missing`);
  return value;
}
