/**
 * Key pairs in a token: made there, never leaving it, found again by CKA_ID.
 *
 * Ed25519 (CKM_EDDSA, PKCS#11 v3.1 section 6.3.15) or, for devices without it, ECDSA over P-256. Defaults of modules
 * are permissive, so every attribute that matters is written out and read back.
 */
import {
  type Algorithm,
  ed25519PublicKey,
  equalBytes,
  formatHex,
  isValidSignature,
  OperationError,
  type PublicKey,
  p256PublicKey,
  parseHex,
  SIGNATURE_BYTES,
  sha256,
  utf8,
} from "@viafabric/schemas";
import type { PKCS11 } from "pkcs11js";
import { HsmError, hsmError } from "./ckr.ts";
import { type Attribute, attempt, CK, type Handle } from "./pkcs11.ts";

/** A session of a loaded module. */
export interface Session {
  readonly library: PKCS11;
  readonly handle: Handle;
}

export interface TokenKey {
  readonly publicKey: PublicKey;
  readonly privateHandle: Handle;
}

/** CKA_ID is ours to choose; some tokens store no more than this. */
export const KEY_ID_BYTES_MAX = 64;
export const KEY_LABEL_LENGTH_MAX = 64;

/** DER: PrintableString "edwards25519" (PKCS#11 v3.1), and the OID 1.3.101.112 that older modules want. */
const EDWARDS_PARAMS = [parseHex("130c656477617264733235353139"), parseHex("06032b6570")];
const P256_PARAMS = [parseHex("06082a8648ce3d030107")];

const KINDS = {
  ed25519: { keyType: CK.CKK_EC_EDWARDS, generate: CK.CKM_EC_EDWARDS_KEY_PAIR_GEN, params: EDWARDS_PARAMS },
  p256: { keyType: CK.CKK_EC, generate: CK.CKM_EC_KEY_PAIR_GEN, params: P256_PARAMS },
} as const;

/** @param session read-write and logged in. @throws OperationError ERR_HSM_KEY when the id is taken */
export function generateKeyPair(session: Session, id: Uint8Array, label: string, algorithm: Algorithm): PublicKey {
  if (id.length === 0 || id.length > KEY_ID_BYTES_MAX) throw new RangeError(`a key id of ${id.length} bytes`);
  if (label.length === 0 || label.length > KEY_LABEL_LENGTH_MAX) throw new RangeError(`a key label ${label}`);
  for (const objectClass of [CK.CKO_PRIVATE_KEY, CK.CKO_PUBLIC_KEY]) {
    if (findObjects(session, objectClass, id).length > 0)
      throw new OperationError("ERR_HSM_KEY", `the token already has a key with id ${formatHex(id)}`);
  }
  const kind = KINDS[algorithm];
  let failure: unknown;
  for (const params of kind.params) {
    try {
      session.library.C_GenerateKeyPair(
        session.handle,
        { mechanism: kind.generate },
        publicTemplate(id, label, kind.keyType, params),
        privateTemplate(id, label, kind.keyType),
      );
      return findKey(session, id).publicKey;
    } catch (error) {
      // Modules disagree about the spelling of the curve: the next one may do.
      if (error instanceof OperationError) throw error;
      failure = error;
    }
  }
  throw hsmError(`generate an ${algorithm} key`, failure);
}

function publicTemplate(id: Uint8Array, label: string, keyType: number, params: Uint8Array): Attribute[] {
  return [
    { type: CK.CKA_CLASS, value: CK.CKO_PUBLIC_KEY },
    { type: CK.CKA_KEY_TYPE, value: keyType },
    { type: CK.CKA_TOKEN, value: true },
    { type: CK.CKA_PRIVATE, value: false },
    { type: CK.CKA_ID, value: Buffer.from(id) },
    { type: CK.CKA_LABEL, value: label },
    { type: CK.CKA_EC_PARAMS, value: Buffer.from(params) },
    { type: CK.CKA_VERIFY, value: true },
    { type: CK.CKA_ENCRYPT, value: false },
    { type: CK.CKA_WRAP, value: false },
  ];
}

function privateTemplate(id: Uint8Array, label: string, keyType: number): Attribute[] {
  return [
    { type: CK.CKA_CLASS, value: CK.CKO_PRIVATE_KEY },
    { type: CK.CKA_KEY_TYPE, value: keyType },
    { type: CK.CKA_TOKEN, value: true },
    { type: CK.CKA_PRIVATE, value: true },
    { type: CK.CKA_ID, value: Buffer.from(id) },
    { type: CK.CKA_LABEL, value: label },
    { type: CK.CKA_SENSITIVE, value: true },
    { type: CK.CKA_EXTRACTABLE, value: false },
    { type: CK.CKA_SIGN, value: true },
    { type: CK.CKA_DECRYPT, value: false },
    { type: CK.CKA_UNWRAP, value: false },
    { type: CK.CKA_DERIVE, value: false },
  ];
}

/** What must hold of a private key before it signs anything. */
const REQUIRED: readonly (readonly [name: string, type: number, value: boolean])[] = [
  ["TOKEN", CK.CKA_TOKEN, true],
  ["PRIVATE", CK.CKA_PRIVATE, true],
  ["SENSITIVE", CK.CKA_SENSITIVE, true],
  ["ALWAYS_SENSITIVE", CK.CKA_ALWAYS_SENSITIVE, true],
  ["EXTRACTABLE", CK.CKA_EXTRACTABLE, false],
  ["NEVER_EXTRACTABLE", CK.CKA_NEVER_EXTRACTABLE, true],
  ["LOCAL", CK.CKA_LOCAL, true],
  ["SIGN", CK.CKA_SIGN, true],
  ["DECRYPT", CK.CKA_DECRYPT, false],
  ["UNWRAP", CK.CKA_UNWRAP, false],
  ["DERIVE", CK.CKA_DERIVE, false],
];

/**
 * The key pair behind `id`, with its attributes checked and a test signature verified: the public object of a token is
 * writable, so that it stands beside a private key proves nothing.
 * @throws OperationError ERR_HSM_KEY
 */
export function findKey(session: Session, id: Uint8Array): TokenKey {
  const privateHandle = findOne(session, CK.CKO_PRIVATE_KEY, id);
  const publicHandle = findOne(session, CK.CKO_PUBLIC_KEY, id);
  for (const [name, type, value] of REQUIRED) {
    const held = attribute(session, privateHandle, type);
    if (held.length !== 1 || (held[0] === 1) !== value)
      throw new OperationError("ERR_HSM_KEY", `key ${formatHex(id)} must have ${name} = ${value}`);
  }
  const publicKey = parsePoint(attribute(session, publicHandle, CK.CKA_EC_POINT));
  const key = { publicKey, privateHandle };
  if (!isValidSignature(publicKey, CANARY, signWith(session, key, CANARY))) {
    const message = `the private and the public key with id ${formatHex(id)} are no pair`;
    // Or the device made one wrong signature: where this key has signed before, it is worth another try.
    throw new HsmError("ERR_HSM_KEY", message, { fault: "session" });
  }
  return key;
}

/** Those attributes as the token has them. @throws OperationError ERR_HSM_KEY */
export function readAttributes(session: Session, id: Uint8Array): ReadonlyMap<string, boolean> {
  const handle = findOne(session, CK.CKO_PRIVATE_KEY, id);
  return new Map(REQUIRED.map(([name, type]) => [name, attribute(session, handle, type)[0] === 1]));
}

// No note, COSE structure or metadata file begins like this, so a canary can never pass for something signed.
const CANARY = utf8("viafabric/hsm-canary/v1\0");

/**
 * CKA_EC_POINT, in each of the forms that modules use. The form is decided by length alone: a raw key may begin like
 * DER. @throws OperationError ERR_HSM_KEY
 */
export function parsePoint(point: Uint8Array): PublicKey {
  const starts = (...prefix: number[]) => prefix.every((byte, i) => point[i] === byte);
  try {
    if (point.length === 32) return ed25519PublicKey(point);
    if (point.length === 34 && starts(0x04, 0x20)) return ed25519PublicKey(point.slice(2));
    if (point.length === 35 && starts(0x03, 0x21, 0x00)) return ed25519PublicKey(point.slice(3));
    if (point.length === 65) return p256PublicKey(point);
    if (point.length === 67 && starts(0x04, 0x41)) return p256PublicKey(point.slice(2));
  } catch (cause) {
    throw new OperationError("ERR_HSM_KEY", "the token holds a public key that is not on its curve", { cause });
  }
  throw new OperationError("ERR_HSM_KEY", `a public point of ${point.length} bytes in no known form`);
}

const MECHANISMS = { ed25519: { mechanism: CK.CKM_EDDSA }, p256: { mechanism: CK.CKM_ECDSA } } as const;
// One for all calls of a thread: they are synchronous, and a new one each would cost more than the rest of the binding.
const OUTPUT = Buffer.alloc(SIGNATURE_BYTES);

/** One signature: 64 bytes, P-256 as r ‖ s with low S. Throws what the binding throws. */
export function signWith({ library, handle }: Session, key: TokenKey, message: Uint8Array): Uint8Array {
  const { algorithm } = key.publicKey;
  const { buffer, byteOffset, byteLength } = algorithm === "ed25519" ? message : sha256(message);
  library.C_SignInit(handle, MECHANISMS[algorithm], key.privateHandle);
  const signature = new Uint8Array(library.C_Sign(handle, Buffer.from(buffer, byteOffset, byteLength), OUTPUT));
  if (signature.length !== SIGNATURE_BYTES)
    throw new OperationError("ERR_HSM_DEVICE", `the token gave a signature of ${signature.length} bytes`);
  return algorithm === "ed25519" ? signature : withLowS(signature);
}

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** ECDSA accepts s and n − s alike; we have one spelling for each signature. */
export function withLowS(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${formatHex(signature.subarray(32))}`);
  if (s <= P256_ORDER / 2n) return signature;
  const low = signature.slice();
  low.set(parseHex((P256_ORDER - s).toString(16).padStart(64, "0")), 32);
  return low;
}

function findOne(session: Session, objectClass: number, id: Uint8Array): Handle {
  const [handle, ...others] = findObjects(session, objectClass, id);
  if (!handle || others.length > 0) {
    const kind = objectClass === CK.CKO_PRIVATE_KEY ? "private" : "public";
    throw new OperationError(
      "ERR_HSM_KEY",
      `${others.length + (handle ? 1 : 0)} ${kind} keys with id ${formatHex(id)}`,
    );
  }
  return handle;
}

function findObjects({ library, handle }: Session, objectClass: number, id: Uint8Array): Handle[] {
  return attempt("look for a key", () => {
    library.C_FindObjectsInit(handle, [
      { type: CK.CKA_CLASS, value: objectClass },
      { type: CK.CKA_TOKEN, value: true },
      { type: CK.CKA_ID, value: Buffer.from(id) },
    ]);
    try {
      return library.C_FindObjects(handle, 2);
    } finally {
      library.C_FindObjectsFinal(handle);
    }
  });
}

function attribute({ library, handle }: Session, object: Handle, type: number): Uint8Array {
  return attempt(`read attribute 0x${type.toString(16)}`, () => {
    const [result] = library.C_GetAttributeValue(handle, object, [{ type }]);
    return new Uint8Array(result!.value);
  });
}

/** @throws OperationError ERR_HSM_KEY when another key is behind the id than the one written down */
export function checkKey(key: TokenKey, id: Uint8Array, expected: PublicKey): void {
  if (!equalBytes(key.publicKey.spki, expected.spki))
    throw new OperationError("ERR_HSM_KEY", `another key than the expected one is behind id ${formatHex(id)}`);
}
