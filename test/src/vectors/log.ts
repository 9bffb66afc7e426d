/** Status events and the entries of the log. */
import {
  concat,
  EVENT_CONTEXT,
  type EventBody,
  encodeCbor,
  encodeEventBody,
  encodeLeaf,
  formatHex,
  hashLeaf,
  INDEX_MAX,
  type Leaf,
  type SignedEvent,
  signingInput,
} from "@viafabric/schemas";
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
  type VectorKeyName,
} from "./common.ts";

function body(changes: Partial<EventBody>): EventBody {
  return {
    authority: AUTHORITY,
    action: "revoke",
    ranges: [{ first: 4, count: 2 }],
    reason: "lost on the way",
    notAfter: NOW + 3600,
    undoes: [],
    nonce: filler("nonce", 16),
    ...changes,
  };
}

async function signed(bytes: Uint8Array, ...names: readonly VectorKeyName[]): Promise<SignedEvent> {
  const input = signingInput(EVENT_CONTEXT, AUTHORITY, bytes);
  const signatures = names.map(async (name) => ({
    kid: publicKey(name).kid,
    signature: await signer(name).sign(input),
  }));
  return { body: bytes, signatures: await Promise.all(signatures) };
}

const BODIES: readonly (readonly [string, EventBody, readonly VectorKeyName[]])[] = [
  ["suspend one token", body({ action: "suspend", ranges: [{ first: 4, count: 1 }], reason: "" }), ["trustee"]],
  ["revoke a batch", body({}), ["trustee", "holder", "release"]],
  [
    "reinstate what two events held",
    body({ action: "reinstate", undoes: [7, 300], reason: "found again" }),
    ["trustee", "holder"],
  ],
  [
    "release ranges with a gap",
    body({
      action: "release",
      ranges: [
        { first: 0, count: 1 },
        { first: 131_072, count: 131_072 },
      ],
      reason: "",
    }),
    ["release"],
  ],
  [
    "the last index there is",
    body({ ranges: [{ first: INDEX_MAX, count: 1 }], reason: "Ende – fin – 終" }),
    ["trustee"],
  ],
];

export async function eventVectors(): Promise<VectorFile> {
  const bytes = encodeEventBody(body({}));
  const cases = [
    ["another version", { 1: 2 }],
    ["an unknown action", { 3: "delete" }],
    ["no ranges", { 4: [] }],
    ["an empty range", { 4: [[4, 0]] }],
    [
      "ranges that do not ascend",
      {
        4: [
          [4, 2],
          [0, 1],
        ],
      },
    ],
    [
      "ranges that overlap",
      {
        4: [
          [4, 2],
          [5, 2],
        ],
      },
    ],
    ["a range beyond 32 bits", { 4: [[INDEX_MAX, 2]] }],
    ["a reason of 201 characters", { 5: "x".repeat(201) }],
    ["a revocation that undoes", { 7: [1] }],
    ["a reinstatement that undoes nothing", { 3: "reinstate" }],
    ["undone leaves that do not ascend", { 3: "reinstate", 7: [2, 2] }],
    ["a nonce of 15 bytes", { 8: new Uint8Array(15) }],
    ["no nonce", { 8: undefined }],
  ] as const;
  return {
    description: "Bodies of status events. They are signed as type `event`; `to_be_signed` is what goes under the key.",
    authority: formatHex(AUTHORITY),
    keys: describeKeys("trustee", "release", "holder"),
    valid: await Promise.all(
      BODIES.map(async ([name, event, names]) => {
        const hex = encodeEventBody(event);
        const { signatures } = await signed(hex, ...names);
        return {
          name,
          action: event.action,
          hex: formatHex(hex),
          to_be_signed: formatHex(signingInput(EVENT_CONTEXT, AUTHORITY, hex)),
          signatures: signatures.map(({ kid, signature }) => ({
            kid: formatHex(kid),
            signature: formatHex(signature),
          })),
        };
      }),
    ),
    invalid: [
      ...misspelled("decodeEventBody", bytes, "ERR_EVENT"),
      ...cases.map(([name, change]) => invalid("decodeEventBody", name, altered(bytes, change as never), "ERR_EVENT")),
    ],
  };
}

export async function leafVectors(): Promise<VectorFile> {
  const [h1, h2, h3] = ["one", "two", "three"].map((name) => filler(name, 32));
  const leaves: readonly (readonly [string, Leaf])[] = [
    ["token", { type: "token", index: 4, rctIdHash: h1!, payloadHash: h2! }],
    ["batch", { type: "batch", seq: 1, manifestHash: h1!, metadataHash: h2!, tokensHash: h3! }],
    ["event", { type: "event", event: await signed(encodeEventBody(body({})), "trustee", "release") }],
    ["a holder suspends their own token", { type: "holder-event", evidenceHash: h1!, index: 5 }],
    ["binding", { type: "binding", rctIdHash: h1!, epoch: 2, commitment: h2! }],
    ["root 1", { type: "trust", kind: "root", number: 1, fileHash: h1! }],
    ["targets 3", { type: "trust", kind: "targets", number: 3, fileHash: h1! }],
    ["batches 2", { type: "trust", kind: "batches", number: 2, fileHash: h1! }],
    ["statement 9000", { type: "trust", kind: "statement", number: 9000, fileHash: h1! }],
    ["transcript 0", { type: "trust", kind: "transcript", number: 0, fileHash: h1! }],
  ];
  const bytes = new Map(leaves.map(([name, leaf]) => [name, encodeLeaf(leaf)]));
  const token = bytes.get("token")!;
  const event = bytes.get("event")!;
  const three = (value: Parameters<typeof encodeCbor>[0]): Uint8Array => concat(new Uint8Array([3]), encodeCbor(value));
  const { body: eventBody, signatures } = await signed(encodeEventBody(body({})), "trustee", "release");
  const pairs = [...signatures].sort((a, b) => Buffer.compare(a.kid, b.kid)).map((s) => [s.kid, s.signature]);
  const cases: readonly (readonly [string, Uint8Array, string?])[] = [
    ["nothing", new Uint8Array(0)],
    ["type 00", new Uint8Array(73)],
    ["type 06", token.with(0, 6)],
    ["a token leaf cut short", token.subarray(0, 72)],
    ["a token leaf with a byte too many", concat(token, new Uint8Array(1))],
    ["a token index beyond 2^53", token.with(1, 0x80), "ERR_INTEGER"],
    ["a batch leaf cut short", bytes.get("batch")!.subarray(0, 100)],
    ["a binding leaf cut short", bytes.get("binding")!.subarray(0, 68)],
    ["trust kind 0", bytes.get("root 1")!.with(1, 0)],
    ["trust kind 6", bytes.get("root 1")!.with(1, 6)],
    ["an event with a byte too many", concat(event, new Uint8Array(1))],
    ["an event that is no array", three(1)],
    ["an event without signatures", three([eventBody, []]), "ERR_EVENT"],
    ["an event with a signature twice", three([eventBody, [pairs[0]!, pairs[0]!]]), "ERR_EVENT"],
    ["signatures that do not ascend by key", three([eventBody, [pairs[1]!, pairs[0]!]]), "ERR_EVENT"],
    ["a signature of 63 bytes", three([eventBody, [[pairs[0]![0]!, new Uint8Array(63)]]]), "ERR_EVENT"],
    ["an event body that is none", three([new Uint8Array([0xa0]), [pairs[0]!]]), "ERR_EVENT"],
    ["a holder who revokes", three([filler("one", 32), [[5, 1]], "revoke"])],
    ["a holder of two tokens", three([filler("one", 32), [[5, 2]], "suspend"])],
    [
      "a holder of two ranges",
      three([
        filler("one", 32),
        [
          [5, 1],
          [7, 1],
        ],
        "suspend",
      ]),
    ],
  ];
  return {
    description: "Entries of the log, as they stand in entry bundles. `hash` is the RFC 6962 leaf hash.",
    keys: describeKeys("trustee", "release"),
    valid: leaves.map(([name]) => ({
      name,
      hex: formatHex(bytes.get(name)!),
      hash: formatHex(hashLeaf(bytes.get(name)!)),
    })),
    invalid: cases.map(([name, wrong, code = "ERR_LEAF"]) => invalid("decodeLeaf", name, wrong, code)),
  };
}
