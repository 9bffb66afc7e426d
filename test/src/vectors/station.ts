/** What a writing station carries out and brings back: kits and receipts. */
import {
  type CborValue,
  encodeCbor,
  encodeKit,
  encodeManifest,
  encodeReceipt,
  encodeReceiptPayload,
  encodeTagged,
  formatHex,
  hmacSha256,
  type Kit,
  parseHex,
  type Receipt,
  receiptSignatureInput,
  sha256,
} from "@viafabric/schemas";
import { vectorManifest } from "./approval.ts";
import {
  AUTHORITY,
  altered,
  describeKeys,
  filler,
  invalid,
  misspelled,
  NOW,
  publicKey,
  signer,
  type VectorFile,
} from "./common.ts";

const KIT_ID = filler("kit", 16);
const UID_KEY = filler("uid key", 32);
/** Seven bytes that begin with 04, the maker of NTAG21x. */
const UID = parseHex("04a1b2c3d4e5f6");

export async function receiptVectors(): Promise<VectorFile> {
  const first: Receipt = {
    authority: AUTHORITY,
    kit: KIT_ID,
    seq: 0,
    previous: new Uint8Array(32),
    index: 4,
    payloadHash: filler("payload", 32),
    uidMac: hmacSha256(UID_KEY, UID),
    result: "written",
    imageHash: filler("image", 32),
    locked: true,
    time: NOW,
  };
  const { algorithm, kid } = publicKey("station");
  const seal = async (receipt: Receipt): Promise<Uint8Array> => {
    const signature = await signer("station").sign(receiptSignatureInput(algorithm, receipt));
    return encodeReceipt(receipt, { algorithm, kid, signature });
  };
  const firstBytes = await seal(first);
  const second: Receipt = {
    ...first,
    seq: 1,
    previous: sha256(firstBytes),
    index: 5,
    result: "void",
    locked: false,
    time: NOW + 2,
  };
  const header = (typ: string): Uint8Array =>
    encodeCbor(
      new Map<number, CborValue>([
        [1, -19],
        [16, typ],
      ]),
    );
  const typ = "application/rct-receipt+cbor";
  const message = (payload: Uint8Array, type = typ): Uint8Array =>
    encodeTagged(18, [header(type), new Map([[4, kid]]), payload, new Uint8Array(64)]);
  const payload = encodeReceiptPayload(first);
  const cases = [
    ["another version", { 1: 2 }],
    ["an unknown result", { 9: "maybe" }],
    ["locked as a number", { 11: 1 }],
    ["a kit id of 15 bytes", { 3: new Uint8Array(15) }],
    ["a UID in the clear", { 8: UID }],
    ["no previous receipt", { 5: undefined }],
    ["an unknown key", { 13: 0 }],
  ] as const;
  return {
    description:
      "Write receipts, chained: `previous` is SHA-256 of the COSE bytes before. uidMac is HMAC-SHA-256(uid_key, uid).",
    keys: describeKeys("station"),
    uid_key: formatHex(UID_KEY),
    uid: formatHex(UID),
    valid: [
      {
        name: "the first tag, written and locked",
        hex: formatHex(firstBytes),
        to_be_signed: formatHex(receiptSignatureInput(algorithm, first)),
      },
      {
        name: "the second tag, spoiled",
        hex: formatHex(await seal(second)),
        to_be_signed: formatHex(receiptSignatureInput(algorithm, second)),
      },
    ],
    invalid: [
      ...cases.map(([name, change]) =>
        invalid("decodeReceipt", name, message(altered(payload, change as never)), "ERR_RECEIPT"),
      ),
      ...misspelled("decodeReceipt", payload, "ERR_RECEIPT").map((vector) => {
        return { ...vector, hex: formatHex(message(parseHex(vector.hex))) };
      }),
      invalid("decodeReceipt", "the type of a token", message(payload, "application/rct+cwt"), "ERR_RECEIPT"),
      invalid("decodeReceipt", "no tag", firstBytes.subarray(1), "ERR_RECEIPT"),
    ],
  };
}

export function kitVectors(): VectorFile {
  const kit: Kit = {
    authority: AUTHORITY,
    id: KIT_ID,
    seq: 1,
    station: publicKey("station").kid,
    first: 4,
    count: 2,
    manifest: encodeManifest(vectorManifest()),
    leaves: new Uint8Array(146).fill(1),
    tokensBin: new Uint8Array(224).fill(2),
    logProof: new TextEncoder().encode("a log proof"),
    manifestProof: [filler("sibling", 32)],
    headSize: 2,
    uidKey: UID_KEY,
    recordType: "vf.test:r",
    host: "vault.example",
    tokens: [
      { index: 4, token: new Uint8Array(121).fill(3) },
      { index: 5, token: new Uint8Array(121).fill(4), claimSecret: filler("secret", 16) },
    ],
    created: NOW,
  };
  const bytes = encodeKit(kit);
  const token = new Uint8Array(121);
  const cases = [
    ["another version", { 1: 2 }],
    ["tokens of another range", { 6: 5 }],
    ["fewer tokens than it says", { 7: 3 }],
    [
      "tokens in another order",
      {
        17: [
          [5, token],
          [4, token],
        ],
      },
    ],
    [
      "a token twice",
      {
        17: [
          [4, token],
          [4, token],
        ],
      },
    ],
    [
      "a claim secret of 15 bytes",
      {
        17: [
          [4, token],
          [5, token, new Uint8Array(15)],
        ],
      },
    ],
    [
      "a token of 4097 bytes",
      {
        17: [
          [4, token],
          [5, new Uint8Array(4097)],
        ],
      },
    ],
    ["a sibling of 31 bytes", { 12: [new Uint8Array(31)] }],
    ["no uid key", { 14: undefined }],
    ["an unknown key", { 19: 0 }],
  ] as const;
  return {
    description: "Kits, as they are before sealing. Shape only: leaves, tokens and proofs in here are filler.",
    valid: [{ name: "two tokens", hex: formatHex(bytes) }],
    invalid: [
      ...misspelled("decodeKit", bytes, "ERR_KIT"),
      ...cases.map(([name, change]) => invalid("decodeKit", name, altered(bytes, change as never), "ERR_KIT")),
    ],
  };
}
