/**
 * The Resource Capability Token (RCT): one token, three spellings, one signature (FORMATS "Token").
 *
 * - COSE: COSE_Sign1 over a CWT claims set (RFC 8392). This is what the issuer key signs.
 * - JSON: the vision's field names; verified by encoding it as COSE again.
 * - compact: 121 bytes for a tag; with its batch manifest it expands to exactly the COSE that was signed.
 */
import {
  concat,
  formatBase64Url,
  formatHex,
  parseBase64Url,
  parseDecimal,
  parseHex,
  readU32,
  u32,
  utf8,
} from "./bytes.ts";
import { type CborValue, cborHead, decodeCbor, encodeCbor, Fields } from "./cbor.ts";
import { type CoseSign1, coseSigningInput, decodeCose, encodeCose } from "./cose.ts";
import { type Algorithm, HASH_BYTES, SIGNATURE_BYTES } from "./crypto.ts";
import { formatDidKey } from "./did.ts";
import { FormatError } from "./errors.ts";
import { INDEX_MAX, type Manifest, NAME_LENGTH_MAX, URI_LENGTH_MAX } from "./manifest.ts";
import { formatRctId, parseRctId, RCT_ID_BYTES } from "./rct-id.ts";

/** What a token says. Times are unix seconds. */
export interface TokenBody {
  readonly iss: string;
  /** did_subject */
  readonly subject: string;
  readonly nbf: number;
  readonly exp: number;
  readonly claimBy: number;
  readonly rctId: Uint8Array;
  /** COSE_Key thumbprint (RFC 9679) of the subject's key: for did:web subjects, whose key is not in the name. */
  readonly confirmation?: Uint8Array;
  /** Place among all tokens of the authority; the revocation index. Not the log's leaf index. */
  readonly index: number;
  readonly batch: number;
  readonly profile: string;
  readonly creditClass: string;
  readonly quota: number;
  readonly unit: string;
  readonly policyRoot: Uint8Array;
  /** Base of the status lists: manifest field 23. */
  readonly statusUri: string;
}

export interface Token extends CoseSign1 {
  readonly body: TokenBody;
}

export const TOKEN_TYP = "application/rct+cwt";
export const TOKEN_BYTES_MAX = 4096;
export const COMPACT_BYTES = 121;
/** One status list covers this many indices: also a chunk of the revocation sets. */
export const STATUS_LIST_ENTRIES = 131_072;
const COMPACT_VERSION = 1;
/** The head of a CBOR map of no pairs. */
const MAP = 0xa0;

// CWT claim keys: RFC 8392, RFC 8747 (cnf), Token Status List (status); ours are in the private range.
const ISS = 1;
const SUB = 2;
const EXP = 4;
const NBF = 5;
const CTI = 7;
const CNF = 8;
const STATUS = 65535;
const INDEX = -70001;
const BATCH = -70002;
const PROFILE = -70003;
const CREDIT_CLASS = -70004;
const QUOTA = -70005;
const UNIT = -70006;
const POLICY_ROOT = -70007;
const CLAIM_BY = -70008;
const CLAIMS = [
  ISS,
  SUB,
  EXP,
  NBF,
  CTI,
  STATUS,
  INDEX,
  BATCH,
  PROFILE,
  CREDIT_CLASS,
  QUOTA,
  UNIT,
  POLICY_ROOT,
  CLAIM_BY,
];

/** What differs from one token of a batch to the next. */
export type OwnClaims = Pick<TokenBody, "rctId" | "subject" | "index" | "confirmation">;

/** What the manifest says about all its tokens, plus what is one token's own. */
export function bodyFrom(manifest: Manifest, own: OwnClaims): TokenBody {
  return {
    iss: manifest.iss,
    subject: own.subject,
    nbf: manifest.nbf,
    exp: manifest.exp,
    claimBy: manifest.claimBy,
    rctId: own.rctId,
    ...(own.confirmation ? { confirmation: own.confirmation } : {}),
    index: own.index,
    batch: manifest.seq,
    profile: manifest.profile,
    creditClass: manifest.creditClass,
    quota: manifest.quota,
    unit: manifest.unit,
    policyRoot: manifest.policyRoot,
    statusUri: manifest.statusUri,
  };
}

/** The CWT claims set, deterministic: the payload whose hash is in the log. */
export function encodePayload(body: TokenBody): Uint8Array {
  const claims = new Map<number, CborValue>([
    [ISS, body.iss],
    [SUB, body.subject],
    [EXP, body.exp],
    [NBF, body.nbf],
    [CTI, body.rctId],
    [STATUS, new Map([["status_list", new Map<string, CborValue>([...statusEntries(body)])]])],
    [INDEX, body.index],
    [BATCH, body.batch],
    [PROFILE, body.profile],
    [CREDIT_CLASS, body.creditClass],
    [QUOTA, body.quota],
    [UNIT, body.unit],
    [POLICY_ROOT, body.policyRoot],
    [CLAIM_BY, body.claimBy],
  ]);
  if (body.confirmation) claims.set(CNF, new Map([[5, body.confirmation]]));
  return encodeCbor(claims);
}

/**
 * The payloads of one batch, each the same bytes as `encodePayload(bodyFrom(manifest, own))`. What its tokens have in
 * common is encoded once: a batch of 100,000 would otherwise spend more time here than in its signatures.
 */
export function payloadEncoder(manifest: Manifest): (own: OwnClaims) => Uint8Array {
  const pair = (key: number, value: CborValue) => concat(encodeCbor(key), encodeCbor(value));
  // In the order of the encoded keys, as RFC 8949 section 4.2.1 has it; a test compares every byte with encodePayload.
  const before = (claims: number) => concat(Uint8Array.of(MAP + claims), pair(ISS, manifest.iss), encodeCbor(SUB));
  const [plain, confirmed] = [before(CLAIMS.length), before(CLAIMS.length + 1)];
  const times = concat(pair(EXP, manifest.exp), pair(NBF, manifest.nbf), encodeCbor(CTI), cborHead(2, RCT_ID_BYTES));
  const thumbprint = concat(encodeCbor(CNF), Uint8Array.of(MAP + 1), encodeCbor(5), cborHead(2, HASH_BYTES));
  const status = concat(
    encodeCbor(STATUS),
    Uint8Array.of(MAP + 1),
    encodeCbor("status_list"),
    Uint8Array.of(MAP + 2),
    encodeCbor("idx"),
  );
  const rest = concat(
    pair(BATCH, manifest.seq),
    pair(PROFILE, manifest.profile),
    pair(CREDIT_CLASS, manifest.creditClass),
    pair(QUOTA, manifest.quota),
    pair(UNIT, manifest.unit),
    pair(POLICY_ROOT, manifest.policyRoot),
    pair(CLAIM_BY, manifest.claimBy),
  );
  const listEnd = (chunk: number) =>
    concat(encodeCbor("uri"), encodeCbor(manifest.statusUri + String(chunk)), encodeCbor(INDEX));
  // A batch lies in one or two lists.
  let list = { chunk: -1, end: rest };
  return ({ rctId, subject, index, confirmation }) => {
    if (rctId.length !== RCT_ID_BYTES || (confirmation && confirmation.length !== HASH_BYTES))
      throw new RangeError("an id or a thumbprint of another length");
    const chunk = Math.floor(index / STATUS_LIST_ENTRIES);
    if (chunk !== list.chunk) list = { chunk, end: listEnd(chunk) };
    const name = utf8(subject);
    return concat(
      confirmation ? confirmed : plain,
      cborHead(3, name.length),
      name,
      times,
      rctId,
      ...(confirmation ? [thumbprint, confirmation] : []),
      status,
      cborHead(0, index % STATUS_LIST_ENTRIES),
      list.end,
      cborHead(0, index),
      rest,
    );
  };
}

/** @throws FormatError ERR_TOKEN, also when the status pointer is not the one of the index */
export function decodePayload(bytes: Uint8Array): TokenBody {
  const claims = decodeCbor(bytes, "ERR_TOKEN");
  const confirmed = claims instanceof Map && claims.has(CNF);
  const fields = new Fields(claims, confirmed ? [...CLAIMS, CNF] : CLAIMS, "ERR_TOKEN");
  const index = fields.integer(INDEX, INDEX_MAX);
  const list = new Fields(
    new Fields(fields.value(STATUS), ["status_list"], "ERR_TOKEN").value("status_list"),
    ["idx", "uri"],
    "ERR_TOKEN",
  );
  const uri = list.text("uri", URI_LENGTH_MAX + 8);
  const chunk = String(Math.floor(index / STATUS_LIST_ENTRIES));
  if (list.integer("idx") !== index % STATUS_LIST_ENTRIES || !uri.endsWith(chunk)) {
    throw new FormatError("ERR_TOKEN", `the status pointer does not belong to index ${index}`);
  }
  return {
    iss: fields.text(ISS, URI_LENGTH_MAX),
    subject: fields.text(SUB, URI_LENGTH_MAX),
    nbf: fields.integer(NBF),
    exp: fields.integer(EXP),
    claimBy: fields.integer(CLAIM_BY),
    rctId: fields.bytes(CTI, RCT_ID_BYTES),
    ...(confirmed ? { confirmation: new Fields(fields.value(CNF), [5], "ERR_TOKEN").bytes(5, 32) } : {}),
    index,
    batch: fields.integer(BATCH, 2 ** 32 - 1),
    profile: fields.text(PROFILE, NAME_LENGTH_MAX),
    creditClass: fields.text(CREDIT_CLASS, NAME_LENGTH_MAX),
    quota: fields.integer(QUOTA),
    unit: fields.text(UNIT, NAME_LENGTH_MAX),
    policyRoot: fields.bytes(POLICY_ROOT, 32),
    statusUri: uri.slice(0, -chunk.length),
  };
}

function statusEntries(body: TokenBody): [string, CborValue][] {
  return [
    ["idx", body.index % STATUS_LIST_ENTRIES],
    ["uri", body.statusUri + String(Math.floor(body.index / STATUS_LIST_ENTRIES))],
  ];
}

/** COSE Sig_structure: what the issuer key signs. */
export function signatureInput(algorithm: Algorithm, payload: Uint8Array): Uint8Array {
  return coseSigningInput(TOKEN_TYP, algorithm, payload);
}

export function encodeToken(token: CoseSign1): Uint8Array {
  return encodeCose(TOKEN_TYP, token);
}

export function decodeToken(bytes: Uint8Array): Token {
  if (bytes.length > TOKEN_BYTES_MAX) throw new FormatError("ERR_TOKEN", `a token of ${bytes.length} bytes`);
  const cose = decodeCose(TOKEN_TYP, bytes, "ERR_TOKEN");
  return { ...cose, body: decodePayload(cose.payload) };
}

export interface CompactToken {
  /** The first four bytes of the authority: selects among pinned authorities, proves nothing. */
  readonly selector: Uint8Array;
  readonly rctId: Uint8Array;
  readonly subjectKey: Uint8Array;
  readonly index: number;
  readonly signature: Uint8Array;
}

export function encodeCompact(token: CompactToken): Uint8Array {
  const { selector, rctId, subjectKey, index, signature } = token;
  const bytes = concat(new Uint8Array([COMPACT_VERSION]), selector, rctId, subjectKey, u32(index), signature);
  if (bytes.length !== COMPACT_BYTES) throw new RangeError("a part of a compact token has the wrong length");
  return bytes;
}

/** @throws FormatError ERR_TOKEN for the length, ERR_TOKEN_VERSION for a first byte from the future */
export function decodeCompact(bytes: Uint8Array): CompactToken {
  if (bytes.length !== COMPACT_BYTES) throw new FormatError("ERR_TOKEN", `${bytes.length} bytes, not ${COMPACT_BYTES}`);
  if (bytes[0] !== COMPACT_VERSION) throw new FormatError("ERR_TOKEN_VERSION", `compact token version ${bytes[0]}`);
  return {
    selector: bytes.slice(1, 5),
    rctId: bytes.slice(5, 21),
    subjectKey: bytes.slice(21, 53),
    index: readU32(bytes, 53),
    signature: bytes.slice(57, 57 + SIGNATURE_BYTES),
  };
}

/** What was signed, rebuilt from 121 bytes and the manifest. The signature has not been checked. */
export function expandCompact(
  compact: CompactToken,
  manifest: Manifest,
): { readonly body: TokenBody; readonly payload: Uint8Array } {
  const { rctId, index } = compact;
  const body = bodyFrom(manifest, { rctId, index, subject: formatDidKey(compact.subjectKey) });
  return { body, payload: encodePayload(body) };
}

/** The compact spelling of a token whose subject is an Ed25519 did:key. */
export function compactOf(
  authority: Uint8Array,
  body: TokenBody,
  subjectKey: Uint8Array,
  signature: Uint8Array,
): Uint8Array {
  return encodeCompact({
    selector: authority.slice(0, 4),
    rctId: body.rctId,
    subjectKey,
    index: body.index,
    signature,
  });
}

/** The JSON spelling: `rct.schema.json`. */
export interface TokenJson {
  readonly rct_id: string;
  readonly did_subject: string;
  readonly capability_profile_id: string;
  readonly credit_class: string;
  readonly credit_quota_initial: number;
  readonly unit: string;
  readonly policy_root_hash: string;
  /** `<status list uri>#<idx>` */
  readonly revocation_pointer: string;
  readonly iss: string;
  readonly index: number;
  readonly batch: number;
  readonly nbf: number;
  readonly claim_by: number;
  readonly exp: number;
  readonly kid: string;
  /** COSE_Key thumbprint in hex; present exactly for did:web subjects. */
  readonly cnf?: string;
  readonly signature: string;
}

const JSON_TEXT_FIELDS = ["rct_id", "did_subject", "capability_profile_id", "credit_class", "unit", "policy_root_hash"];
const JSON_TEXT_FIELDS_TOO = ["revocation_pointer", "iss", "kid", "signature"];
const JSON_INTEGER_FIELDS = ["credit_quota_initial", "index", "batch", "nbf", "claim_by", "exp"];

export function formatTokenJson(token: Token): TokenJson {
  const { body } = token;
  const [[, idx], [, uri]] = statusEntries(body) as [[string, number], [string, string]];
  return {
    rct_id: formatRctId(body.rctId),
    did_subject: body.subject,
    capability_profile_id: body.profile,
    credit_class: body.creditClass,
    credit_quota_initial: body.quota,
    unit: body.unit,
    policy_root_hash: formatHex(body.policyRoot),
    revocation_pointer: `${uri}#${idx}`,
    iss: body.iss,
    index: body.index,
    batch: body.batch,
    nbf: body.nbf,
    claim_by: body.claimBy,
    exp: body.exp,
    kid: formatHex(token.kid),
    ...(body.confirmation ? { cnf: formatHex(body.confirmation) } : {}),
    signature: formatBase64Url(token.signature),
  };
}

/**
 * Reads the JSON spelling into the COSE one. The algorithm is the issuer key's, so the caller names it.
 * @returns the COSE bytes. @throws FormatError ERR_TOKEN and those of the text spellings
 */
export function parseTokenJson(text: string, algorithm: Algorithm): Uint8Array {
  if (text.length > TOKEN_BYTES_MAX) throw new FormatError("ERR_TOKEN", `a token of ${text.length} characters`);
  const json = checkTokenJson(text);
  const pointer = /^(.*)#([^#]*)$/.exec(json.revocation_pointer);
  const chunk = String(Math.floor(json.index / STATUS_LIST_ENTRIES));
  if (!pointer?.[1]?.endsWith(chunk) || parseDecimal(pointer[2]!) !== json.index % STATUS_LIST_ENTRIES) {
    throw new FormatError("ERR_TOKEN", "revocation_pointer does not belong to index");
  }
  const payload = encodePayload({
    iss: json.iss,
    subject: json.did_subject,
    nbf: json.nbf,
    exp: json.exp,
    claimBy: json.claim_by,
    rctId: parseRctId(json.rct_id),
    ...(json.cnf === undefined ? {} : { confirmation: parseHex(json.cnf, 32) }),
    index: json.index,
    batch: json.batch,
    profile: json.capability_profile_id,
    creditClass: json.credit_class,
    quota: json.credit_quota_initial,
    unit: json.unit,
    policyRoot: parseHex(json.policy_root_hash, 32),
    statusUri: pointer[1].slice(0, -chunk.length),
  });
  // The limits of the COSE spelling are those of this one too.
  decodePayload(payload);
  const signature = parseBase64Url(json.signature, SIGNATURE_BYTES);
  return encodeToken({ algorithm, kid: parseHex(json.kid, 32), payload, signature });
}

function checkTokenJson(text: string): TokenJson {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError("ERR_JSON", "not JSON", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new FormatError("ERR_TOKEN", "not an object");
  const object = value as Record<string, unknown>;
  const texts = [...JSON_TEXT_FIELDS, ...JSON_TEXT_FIELDS_TOO, ...(Object.hasOwn(object, "cnf") ? ["cnf"] : [])];
  for (const key of Object.keys(object)) {
    if (!texts.includes(key) && !JSON_INTEGER_FIELDS.includes(key))
      throw new FormatError("ERR_TOKEN", `unknown field ${key}`);
  }
  for (const key of texts) {
    if (!Object.hasOwn(object, key) || typeof object[key] !== "string")
      throw new FormatError("ERR_TOKEN", `${key} must be text`);
  }
  for (const key of JSON_INTEGER_FIELDS) {
    const number = Object.hasOwn(object, key) ? object[key] : undefined;
    if (!Number.isSafeInteger(number) || (number as number) < 0)
      throw new FormatError("ERR_TOKEN", `${key} must be a natural number`);
  }
  return object as unknown as TokenJson;
}
