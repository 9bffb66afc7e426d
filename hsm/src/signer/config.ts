/**
 * The bounded signer's configuration: one JSON file in its private folder. Relative paths start at that folder.
 *
 *     { "module": "/usr/lib/softhsm/libsofthsm2.so", "conf": "../hsm/softhsm2.conf", "tokenLabel": "…",
 *       "tokenSerial": "…", "pinFile": "../hsm/pin", "root": "1.root.json", "public": "../../public",
 *       "socket": "signer.sock", "keys": { "issuer": { "id": "<hex>", "spki": "<base64>" }, "log": …, … } }
 *
 * On a laptop without a module, `"software": "keys", "passphraseFile": "keys/passphrase"` stand in place of module,
 * conf, token and PIN.
 *
 * The keys are pinned by their public halves: what stands behind an id in the token must be exactly that.
 */
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import {
  formatBase64,
  formatHex,
  OperationError,
  type PublicKey,
  parseBase64,
  parseHex,
  parsePublicKey,
  parseUtf8,
  utf8,
} from "@viafabric/schemas";
import { type KeysReference, POOL_WORKERS_MAX } from "../index.ts";

export const SIGNER_KEYS = ["issuer", "log", "status", "snapshot", "timestamp", "revocations"] as const;
/** What each key is for; no key has two purposes. */
export type SignerKey = (typeof SIGNER_KEYS)[number];

export interface PinnedKey {
  /** CKA_ID in the token. */
  readonly id: Uint8Array;
  readonly publicKey: PublicKey;
}

export interface SignerConfig {
  readonly hsm: KeysReference;
  /** File of root v1. */
  readonly root: string;
  /** Folder of what is published. */
  readonly public: string;
  readonly socket: string;
  readonly keys: Readonly<Record<SignerKey, PinnedKey>>;
  /** Threads that sign tokens; as many as there are processors when left out. A slow device on a network wants more. */
  readonly workers?: number;
}

type JsonObject = Readonly<Record<"keys" | "id" | "spki" | "workers", unknown>> & Readonly<Record<string, unknown>>;

const CONFIG_BYTES_MAX = 64 * 1024;

export function formatSignerConfig({ hsm, root, public: published, socket, keys, workers }: SignerConfig): Uint8Array {
  const pinned = SIGNER_KEYS.map((name) => {
    const { id, publicKey } = keys[name];
    return [name, { id: formatHex(id), spki: formatBase64(publicKey.spki) }] as const;
  });
  const json = { ...placeJson(hsm), root, public: published, socket, workers };
  return utf8(`${JSON.stringify({ ...json, keys: Object.fromEntries(pinned) }, undefined, 2)}\n`);
}

function placeJson(hsm: KeysReference): object {
  if ("software" in hsm) return { software: hsm.software, passphraseFile: hsm.passphraseFile };
  const { module, confFile, tokenLabel, tokenSerial, pinFile } = hsm;
  return { module, conf: confFile, tokenLabel, tokenSerial, pinFile };
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
  const keys = Object.fromEntries(SIGNER_KEYS.map((name) => [name, asPinnedKey(listed[name], name)]));
  const kids = new Set(SIGNER_KEYS.map((name) => formatHex(keys[name]!.publicKey.kid)));
  if (kids.size < SIGNER_KEYS.length) throw new TypeError("one key has two purposes");
  return {
    hsm: software
      ? { software: file("software"), passphraseFile: file("passphraseFile") }
      : {
          module: text("module"),
          pinFile: file("pinFile"),
          ...(optional("conf") ? { confFile: file("conf") } : {}),
          ...(optional("tokenLabel") ? { tokenLabel: text("tokenLabel") } : {}),
          ...(optional("tokenSerial") ? { tokenSerial: text("tokenSerial") } : {}),
        },
    root: file("root"),
    public: file("public"),
    socket: file("socket"),
    ...(optional("workers") ? { workers: asWorkers(json.workers) } : {}),
    keys: keys as unknown as Readonly<Record<SignerKey, PinnedKey>>,
  };
}

const COMMON = ["root", "public", "socket", "keys", "workers"];
const TOKEN = ["module", "conf", "tokenLabel", "tokenSerial", "pinFile"];
const SOFTWARE = ["software", "passphraseFile"];

function asPinnedKey(value: unknown, name: string): PinnedKey {
  const key = asObject(value, `key ${name}`);
  const id = parseHex(asText(key.id, `${name}.id`));
  return { id, publicKey: parsePublicKey(parseBase64(asText(key.spki, `${name}.spki`))) };
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
