/** The quick way to the payloads of a batch gives what the plain one gives. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatHex } from "./bytes.ts";
import { type CborValue, encodeCbor } from "./cbor.ts";
import { INDEX_MAX, type Manifest } from "./manifest.ts";
import { bodyFrom, decodePayload, encodePayload, payloadEncoder, signatureInput, TOKEN_TYP } from "./token.ts";

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
/** Around the places where a CBOR head grows, and a status list ends. */
const index = fc.oneof(
  fc.integer({ min: 0, max: INDEX_MAX }),
  fc.constantFrom(0, 23, 24, 255, 256, 65_535, 65_536, 131_071, 131_072, INDEX_MAX),
);
const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });

const manifests: fc.Arbitrary<Manifest> = fc.record({
  authority: bytes(32),
  seq: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  first: fc.constant(0),
  count: fc.constant(1),
  root: bytes(32),
  issuer: bytes(32),
  iss: name,
  profile: name,
  creditClass: name,
  quota: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  unit: name,
  policyRoot: bytes(32),
  nbf: fc.integer({ min: 0, max: 2 ** 40 }),
  claimBy: fc.integer({ min: 0, max: 2 ** 40 }),
  exp: fc.integer({ min: 0, max: 2 ** 40 }),
  claim: name,
  layout: name,
  tagClass: name,
  offline: name,
  releaseKeys: fc.constant([]),
  stations: fc.constant([]),
  statusUri: name,
});

const owns = fc.record(
  { rctId: bytes(16), subject: name, index, confirmation: bytes(32) },
  { requiredKeys: ["rctId", "subject", "index"] },
);

test("every payload of a batch is the encoding of its body, and its signature covers the COSE structure", () => {
  fc.assert(
    fc.property(manifests, fc.array(owns, { minLength: 1, maxLength: 5 }), (manifest, tokens) => {
      const payloadOf = payloadEncoder(manifest);
      for (const own of tokens) {
        const body = bodyFrom(manifest, own);
        const payload = payloadOf(own);
        assert.equal(formatHex(payload), formatHex(encodePayload(body)));
        assert.equal(decodePayload(payload).index, own.index);
        for (const [algorithm, id] of [
          ["ed25519", -19],
          ["p256", -9],
        ] as const) {
          const header = encodeCbor(
            new Map<number, CborValue>([
              [1, id],
              [16, TOKEN_TYP],
            ]),
          );
          const structure = formatHex(encodeCbor(["Signature1", header, new Uint8Array(0), payload]));
          assert.equal(formatHex(signatureInput(algorithm, payload)), structure);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("an id or a thumbprint of another length is a bug of the caller", () => {
  const [manifest] = fc.sample(manifests, 1) as [Manifest];
  const own = { rctId: new Uint8Array(16), subject: "did:web:example.org", index: 0 };
  assert.throws(() => payloadEncoder(manifest)({ ...own, rctId: new Uint8Array(15) }), RangeError);
  assert.throws(() => payloadEncoder(manifest)({ ...own, confirmation: new Uint8Array(31) }), RangeError);
});
