/**
 * Keys and shapes that all format vectors share.
 *
 * The private keys are published ones: RFC 8032 section 7.1 for Ed25519, RFC 6979 A.2.5 for P-256. Signatures are
 * deterministic (RFC 8032, RFC 6979) and made by @noble/curves, a second implementation beside the one the rooms use,
 * so a vector that both agree on is not one library's opinion.
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import {
  type CborMap,
  type CborValue,
  decodeCbor,
  ed25519PublicKey,
  encodeCbor,
  formatHex,
  type PublicKey,
  p256PublicKey,
  parseHex,
  type Signer,
  sha256,
  utf8,
} from "@viafabric/schemas";

/** Bytes that a reader must refuse, and the code of the refusal. */
export interface InvalidVector {
  readonly name: string;
  /** The reader to give it to. */
  readonly read: string;
  readonly hex: string;
  readonly code: string;
}

export interface VectorFile {
  readonly description: string;
  readonly [section: string]: unknown;
}

interface VectorKey {
  readonly source: string;
  readonly secret: Uint8Array;
  readonly signer: Signer;
}

function ed25519Key(source: string, secret: string): VectorKey {
  const seed = parseHex(secret, 32);
  const publicKey = ed25519PublicKey(ed25519.getPublicKey(seed));
  return { source, secret: seed, signer: { publicKey, sign: async (message) => ed25519.sign(message, seed) } };
}

function p256Key(source: string, secret: string): VectorKey {
  const scalar = parseHex(secret, 32);
  const publicKey = p256PublicKey(p256.getPublicKey(scalar, false));
  const sign = async (message: Uint8Array): Promise<Uint8Array> => p256.sign(message, scalar, { lowS: true });
  return { source, secret: scalar, signer: { publicKey, sign } };
}

export const VECTOR_KEYS = {
  issuer: ed25519Key("RFC 8032 7.1 test 1", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
  holder: ed25519Key("RFC 8032 7.1 test 2", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
  release: ed25519Key("RFC 8032 7.1 test 3", "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
  station: ed25519Key("RFC 8032 7.1 test 1024", "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5"),
  trustee: ed25519Key("RFC 8032 7.1 test SHA(abc)", "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42"),
  issuerP256: p256Key("RFC 6979 A.2.5", "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
} as const;

export type VectorKeyName = keyof typeof VECTOR_KEYS;

export const AUTHORITY = sha256(utf8("an authority for vectors"));
/** 2027-01-15T08:00:00Z */
export const NOW = 1_800_000_000;
export const DAY = 86_400;

export function publicKey(name: VectorKeyName): PublicKey {
  return VECTOR_KEYS[name].signer.publicKey;
}

export function signer(name: VectorKeyName): Signer {
  return VECTOR_KEYS[name].signer;
}

/** How a file names the keys it uses, so that no other file is needed to check it. */
export function describeKeys(...names: readonly VectorKeyName[]): Record<string, unknown> {
  return Object.fromEntries(
    names.map((name) => {
      const { source, secret } = VECTOR_KEYS[name];
      const { algorithm, spki, kid } = publicKey(name);
      return [name, { source, algorithm, secret: formatHex(secret), spki: formatHex(spki), kid: formatHex(kid) }];
    }),
  );
}

export function invalid(read: string, name: string, bytes: Uint8Array, code: string): InvalidVector {
  return { name, read, hex: formatHex(bytes), code };
}

/** A fixed stand-in for random bytes. */
export function filler(name: string, length: number): Uint8Array {
  return sha256(utf8(name)).slice(0, length);
}

/** The same CBOR map with other values; `undefined` leaves a key out. */
export function altered(bytes: Uint8Array, changes: Readonly<Record<number, CborValue | undefined>>): Uint8Array {
  const map = new Map(decodeCbor(bytes) as CborMap);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) map.delete(Number(key));
    else map.set(Number(key), value);
  }
  return encodeCbor(map);
}

/** Wrong spellings that every CBOR format of ours must refuse. @param bytes a map of fewer than 24 entries */
export function misspelled(read: string, bytes: Uint8Array, code: string): readonly InvalidVector[] {
  const head = bytes[0]!;
  const indefinite = new Uint8Array([0xbf, ...bytes.subarray(1), 0xff]);
  const longHead = new Uint8Array([0xb8, head & 31, ...bytes.subarray(1)]);
  // The first entry moved to the end: the same map in another order. It is key 1, one byte, value 1, one byte.
  const unsorted = new Uint8Array([head, ...bytes.subarray(3), ...bytes.subarray(1, 3)]);
  return [
    invalid(read, "nothing", new Uint8Array(0), code),
    invalid(read, "cut short", bytes.subarray(0, bytes.length - 1), code),
    invalid(read, "a byte too many", new Uint8Array([...bytes, 0]), code),
    invalid(read, "a map of indefinite length", indefinite, code),
    invalid(read, "a map head in two bytes", longHead, code),
    invalid(read, "keys in another order", unsorted, code),
    invalid(read, "an array", encodeCbor([1, 2, 3]), code),
    invalid(read, "a thousand opening brackets", new Uint8Array(1000).fill(0x81), code),
  ];
}
