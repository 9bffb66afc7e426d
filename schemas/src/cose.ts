/**
 * COSE_Sign1 (RFC 9052 section 4.2), the one shape we use: tag 18, protected {1: alg, 16: typ}, unprotected exactly
 * {4: kid}, no external data. `typ` (RFC 9596) separates tokens from receipts; algorithms are the fully specified
 * ones of RFC 9864 and follow the key.
 */
import { concat } from "./bytes.ts";
import { type CborValue, cborHead, decodeCbor, decodeTagged, encodeCbor, encodeTagged, Fields } from "./cbor.ts";
import { type Algorithm, SIGNATURE_BYTES } from "./crypto.ts";
import { type FormatCode, FormatError } from "./errors.ts";

const COSE_SIGN1 = 18;
/** RFC 9864. The deprecated polymorphic -8 (EdDSA) and -7 (ES256) are refused. */
const ALGORITHM_IDS = { ed25519: -19, p256: -9 } as const;
const EMPTY = new Uint8Array(0);

export interface CoseSign1 {
  readonly algorithm: Algorithm;
  readonly kid: Uint8Array;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

/** Sig_structure: the bytes that the key signs. */
export function coseSigningInput(typ: string, algorithm: Algorithm, payload: Uint8Array): Uint8Array {
  return concat(sigStructureBefore(typ, algorithm), cborHead(2, payload.length), payload);
}

/** Everything of a Sig_structure that comes before its payload: the same for all tokens of one algorithm. */
function sigStructureBefore(typ: string, algorithm: Algorithm): Uint8Array {
  const known = befores.get(`${typ} ${algorithm}`);
  if (known) return known;
  const whole = encodeCbor(["Signature1", protectedHeader(typ, algorithm), EMPTY, EMPTY]);
  const before = whole.subarray(0, -1);
  befores.set(`${typ} ${algorithm}`, before);
  return before;
}

/** Types and algorithms are few, and named in this room. */
const befores = new Map<string, Uint8Array>();

export function encodeCose(typ: string, { algorithm, kid, payload, signature }: CoseSign1): Uint8Array {
  const unprotected = new Map<number, CborValue>([[4, kid]]);
  return encodeTagged(COSE_SIGN1, [protectedHeader(typ, algorithm), unprotected, payload, signature]);
}

export function decodeCose(typ: string, bytes: Uint8Array, code: FormatCode): CoseSign1 {
  const parts = decodeTagged(bytes, COSE_SIGN1, code);
  if (!Array.isArray(parts) || parts.length !== 4) throw new FormatError(code, "COSE_Sign1 has four parts");
  const [header, unprotected, payload, signature] = parts as readonly CborValue[];
  if (!(header instanceof Uint8Array && payload instanceof Uint8Array && signature instanceof Uint8Array)) {
    throw new FormatError(code, "header, payload and signature are byte strings");
  }
  if (signature.length !== SIGNATURE_BYTES) throw new FormatError(code, `a signature of ${signature.length} bytes`);
  const fields = new Fields(decodeCbor(header, code), [1, 16], code);
  if (fields.text(16) !== typ) throw new FormatError(code, `typ is not ${typ}`);
  const id = fields.integer(1, 0, -100);
  const algorithm = id === ALGORITHM_IDS.ed25519 ? "ed25519" : id === ALGORITHM_IDS.p256 ? "p256" : undefined;
  if (!algorithm) throw new FormatError(code, `COSE algorithm ${id}`);
  const kid = new Fields(unprotected!, [4], code).bytes(4, 32);
  return { algorithm, kid, payload, signature };
}

function protectedHeader(typ: string, algorithm: Algorithm): Uint8Array {
  return encodeCbor(
    new Map<number, CborValue>([
      [1, ALGORITHM_IDS[algorithm]],
      [16, typ],
    ]),
  );
}
