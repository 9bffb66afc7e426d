/** The token in its three spellings, its id, its log leaf, and its place in a bundle. */
import {
  bodyFrom,
  type CborValue,
  COMPACT_BYTES,
  compactOf,
  concat,
  decodeToken,
  encodeCbor,
  encodeManifest,
  encodePayload,
  encodeTagged,
  encodeToken,
  formatDidKey,
  formatHex,
  formatRctId,
  formatTokenJson,
  hashLeaf,
  INDEX_MAX,
  type Manifest,
  parseHex,
  rootOf,
  sealTokens,
  signatureInput,
  type TokenBody,
  type TokenJson,
  tokenLeaf,
  utf8,
} from "@viafabric/schemas";
import { vectorManifest } from "./approval.ts";
import {
  AUTHORITY,
  altered,
  describeKeys,
  filler,
  type InvalidVector,
  invalid,
  publicKey,
  signer,
  type VectorFile,
} from "./common.ts";

interface TokenVector {
  readonly name: string;
  readonly cose: Uint8Array;
  readonly payload: Uint8Array;
  readonly fields: Record<string, unknown>;
}

const HOLDER = formatDidKey(publicKey("holder").raw);

/** @param compact whether the subject's key is in its name, so that 121 bytes are enough */
async function tokenVector(
  name: string,
  body: TokenBody,
  issuer: "issuer" | "issuerP256",
  compact: boolean,
): Promise<TokenVector> {
  const { algorithm, kid } = publicKey(issuer);
  const payload = encodePayload(body);
  const toSign = signatureInput(algorithm, payload);
  const signature = await signer(issuer).sign(toSign);
  const cose = encodeToken({ algorithm, kid, payload, signature });
  return {
    name,
    cose,
    payload,
    fields: {
      name,
      issuer,
      rct_id: formatHex(body.rctId),
      rct_id_text: formatRctId(body.rctId),
      payload: formatHex(payload),
      to_be_signed: formatHex(toSign),
      signature: formatHex(signature),
      cose: formatHex(cose),
      json: formatTokenJson(decodeToken(cose)),
      ...(compact ? { compact: formatHex(compactOf(AUTHORITY, body, publicKey("holder").raw, signature)) } : {}),
      leaf: formatHex(tokenLeaf(body.index, body.rctId, payload)),
    },
  };
}

export async function tokenVectors(): Promise<VectorFile> {
  const ids = [filler("rct 4", 16), filler("rct 5", 16)];
  const draft = vectorManifest();
  const bodies = ids.map((rctId, i) => bodyFrom(draft, { rctId, subject: HOLDER, index: draft.first + i }));
  const entries = bodies.map((body) => tokenLeaf(body.index, body.rctId, encodePayload(body)));
  const manifest: Manifest = { ...draft, root: rootOf(entries.map(hashLeaf)) };
  const [first, second] = await Promise.all(
    bodies.map((body, i) => tokenVector(`token ${i} of the manifest`, body, "issuer", true)),
  );
  const late = { ...bodies[0]!, index: 131_072 + 7, rctId: parseHex("ffffffffffffffffffffffffffffffff") };
  const web = {
    ...bodies[0]!,
    subject: "did:web:example.org:people:ada",
    confirmation: filler("thumbprint", 32),
    rctId: new Uint8Array(16),
  };
  const tokens = [
    first!,
    second!,
    await tokenVector("in the second status list", late, "issuer", true),
    await tokenVector("a did:web subject", web, "issuer", false),
    await tokenVector("an issuer key on P-256", bodies[0]!, "issuerP256", true),
  ];
  const opened = bodies.map((body, i) => {
    const signature = parseHex(String(tokens[i]!.fields.signature));
    return { index: body.index, rctId: body.rctId, subjectKey: publicKey("holder").raw, signature };
  });
  return {
    description:
      "Tokens: one token, three spellings, one signature. The compact spelling with the manifest gives `payload` again; " +
      "`manifest` commits to the leaves of the first two, which are also the two entries of tokens.bin.",
    authority: formatHex(AUTHORITY),
    keys: describeKeys("issuer", "issuerP256", "holder"),
    manifest: formatHex(encodeManifest(manifest)),
    tokens_bin: formatHex(sealTokens(AUTHORITY, opened)),
    valid: tokens.map(({ fields }) => fields),
    invalid: [
      ...invalidCose(first!),
      ...invalidCompact(parseHex(String(first!.fields.compact))),
      ...invalidJson(first!.fields.json as TokenJson),
    ],
  };
}

function invalidCose({ cose, payload }: TokenVector): readonly InvalidVector[] {
  const { kid } = publicKey("issuer");
  const signature = new Uint8Array(64);
  const header = (alg: CborValue, typ: CborValue): Uint8Array =>
    encodeCbor(
      new Map([
        [1, alg],
        [16, typ],
      ]),
    );
  const typ = "application/rct+cwt";
  const plain = header(-19, typ);
  const unprotected = (entries: [number, CborValue][]) => new Map<number, CborValue>(entries);
  const message = (...parts: CborValue[]): Uint8Array => encodeTagged(18, parts);
  const withPayload = (change: Readonly<Record<number, CborValue | undefined>>): Uint8Array =>
    message(plain, unprotected([[4, kid]]), altered(payload, change), signature);
  const status = (idx: number, uri: string): CborValue =>
    new Map([
      [
        "status_list",
        new Map<string, CborValue>([
          ["idx", idx],
          ["uri", uri],
        ]),
      ],
    ]);
  const uri = "https://vault.example/revocation/list/";
  const cases: readonly (readonly [string, Uint8Array])[] = [
    ["nothing", new Uint8Array(0)],
    ["no tag", cose.subarray(1)],
    ["the CWT tag around it", concat(new Uint8Array([0xd8, 61]), cose)],
    ["a byte too many", concat(cose, new Uint8Array(1))],
    ["the deprecated algorithm -8", message(header(-8, typ), unprotected([[4, kid]]), payload, signature)],
    ["the deprecated algorithm -7", message(header(-7, typ), unprotected([[4, kid]]), payload, signature)],
    [
      "the type of a receipt",
      message(header(-19, "application/rct-receipt+cbor"), unprotected([[4, kid]]), payload, signature),
    ],
    ["no type", message(encodeCbor(new Map([[1, -19]])), unprotected([[4, kid]]), payload, signature)],
    ["an empty protected header", message(new Uint8Array(0), unprotected([[4, kid]]), payload, signature)],
    ["no kid", message(plain, unprotected([]), payload, signature)],
    ["a kid of 31 bytes", message(plain, unprotected([[4, kid.subarray(1)]]), payload, signature)],
    [
      "something beside the kid",
      message(
        plain,
        unprotected([
          [4, kid],
          [5, 1],
        ]),
        payload,
        signature,
      ),
    ],
    ["a detached payload", message(plain, unprotected([[4, kid]]), null, signature)],
    ["a signature of 63 bytes", message(plain, unprotected([[4, kid]]), payload, signature.subarray(1))],
    ["three parts", message(plain, unprotected([[4, kid]]), payload)],
    ["a claim left out", withPayload({ 5: undefined })],
    ["a claim nobody defined", withPayload({ 6: 1 })],
    ["an id of 15 bytes", withPayload({ 7: new Uint8Array(15) })],
    ["a time in text", withPayload({ 4: "1800000000" })],
    ["an index beyond 32 bits", withPayload({ [-70001]: INDEX_MAX + 1 })],
    ["a negative quota", withPayload({ [-70005]: -1 })],
    ["the status entry of another index", withPayload({ 65535: status(5, `${uri}0`) })],
    ["the status list of another index", withPayload({ 65535: status(4, `${uri}1`) })],
    ["a confirmation that is no thumbprint", withPayload({ 8: new Map([[1, new Uint8Array(32)]]) })],
    ["a policy root in hex", withPayload({ [-70007]: "00".repeat(32) })],
  ];
  return cases.map(([name, bytes]) => invalid("decodeToken", name, bytes, "ERR_TOKEN"));
}

function invalidCompact(compact: Uint8Array): readonly InvalidVector[] {
  return [
    invalid("decodeCompact", "a byte too few", compact.subarray(0, COMPACT_BYTES - 1), "ERR_TOKEN"),
    invalid("decodeCompact", "a byte too many", concat(compact, new Uint8Array(1)), "ERR_TOKEN"),
    invalid("decodeCompact", "version 0", compact.with(0, 0), "ERR_TOKEN_VERSION"),
    invalid("decodeCompact", "version 2", compact.with(0, 2), "ERR_TOKEN_VERSION"),
  ];
}

function invalidJson(json: TokenJson): readonly InvalidVector[] {
  const text = (change: Record<string, unknown>): Uint8Array => utf8(JSON.stringify({ ...json, ...change }));
  const wrong = (name: string, change: Record<string, unknown>, code = "ERR_TOKEN"): InvalidVector =>
    invalid("parseTokenJson", name, text(change), code);
  return [
    invalid("parseTokenJson", "not JSON", utf8("{"), "ERR_JSON"),
    invalid("parseTokenJson", "a list", utf8("[]"), "ERR_TOKEN"),
    wrong("a field left out", { unit: undefined }),
    wrong("a field nobody defined", { tenant: "a" }),
    wrong("a number in text", { index: String(json.index) }),
    wrong("a fraction", { credit_quota_initial: 0.5 }),
    wrong("a negative quota", { credit_quota_initial: -1 }),
    wrong("a quota beyond 2^53", { credit_quota_initial: 2 ** 53 }),
    wrong("an id in small letters", { rct_id: json.rct_id.toLowerCase() }, "ERR_RCT_ID"),
    wrong("an id with a letter outside Crockford's alphabet", { rct_id: `${json.rct_id.slice(0, 25)}U` }, "ERR_RCT_ID"),
    wrong("an id beyond 128 bits", { rct_id: `8${json.rct_id.slice(1)}` }, "ERR_RCT_ID"),
    wrong("a hash in capitals", { policy_root_hash: json.policy_root_hash.toUpperCase() }, "ERR_HEX"),
    wrong("a signature with padding", { signature: `${json.signature}==` }, "ERR_BASE64"),
    wrong("a pointer to another entry", { revocation_pointer: json.revocation_pointer.replace(/#.*/, "#9") }),
    wrong("a pointer without an entry", { revocation_pointer: json.revocation_pointer.replace(/#.*/, "") }),
  ];
}
