import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BATCH_TOKENS_MAX,
  concat,
  decodeHead,
  decodeLeaf,
  decodeManifest,
  decodePayload,
  encodeHead,
  encodeManifest,
  FormatError,
  formatHex,
  hashLeaf,
  INDEX_MAX,
  MerkleFrontier,
  manifestHash,
  parseDidKey,
  rootOf,
  sha256,
} from "@viafabric/schemas";
import fc from "fast-check";
import { parseBatchRequest, verifyBatchRequest } from "./batch-request.ts";
import {
  DAY,
  issuanceState,
  KEYS,
  keyEntry,
  NOW,
  requestJson,
  seededRandom,
  subjects,
  TRUST,
} from "./fixtures.test.ts";
import { nextIndex, planBatch, reissuedHead, tokenEntries, validateRequest } from "./issuance.ts";

const kid = (name: keyof typeof KEYS): string => formatHex(KEYS[name].publicKey.kid);

function sameBytes(actual: Uint8Array, expected: Uint8Array): void {
  assert.equal(formatHex(actual), formatHex(expected));
}

function planOf(count: number, state = issuanceState()) {
  return planBatch(validateRequest(requestJson(count), TRUST, NOW), state, seededRandom("ids"), NOW);
}

test("a plan commits to exactly its tokens", () => {
  const plan = planOf(5);
  const manifest = decodeManifest(plan.manifestBytes);
  sameBytes(encodeManifest(manifest), plan.manifestBytes);
  const entries = tokenEntries(plan.tokens, plan.payloads);
  sameBytes(concat(...entries), plan.leaves);
  assert.equal(entries.length, 5);
  sameBytes(manifest.root, rootOf(entries.map(hashLeaf)));
  for (const [i, payload] of plan.payloads.entries()) {
    const body = decodePayload(payload);
    assert.equal(body.index, manifest.first + i);
    assert.equal(body.subject, subjects(5)[i]);
    assert.equal(body.batch, manifest.seq);
    const leaf = decodeLeaf(entries[i]!);
    assert(leaf.type === "token");
    assert.equal(leaf.index, body.index);
    sameBytes(leaf.rctIdHash, sha256(body.rctId));
    sameBytes(leaf.payloadHash, sha256(payload));
  }
});

test("the head commits to the manifest and moves the next index past the batch", () => {
  const plan = planOf(5);
  const head = decodeHead(plan.headBytes);
  assert.equal(head.size, 1);
  sameBytes(head.root, hashLeaf(manifestHash(plan.manifestBytes)));
  assert.equal(head.next, 5);
  const { log, floor } = issuanceState();
  sameBytes(encodeHead({ ...head, log, floor }), plan.headBytes);
});

test("the same draw gives the same plan, another draw other ids", () => {
  const request = validateRequest(requestJson(3), TRUST, NOW);
  const [one, same, other] = ["a", "a", "b"].map((seed) =>
    planBatch(request, issuanceState(), seededRandom(seed), NOW),
  );
  sameBytes(one!.headBytes, same!.headBytes);
  sameBytes(one!.leaves, same!.leaves);
  assert.notEqual(formatHex(one!.leaves), formatHex(other!.leaves));
});

test("a second batch extends the tree of the first", () => {
  const first = planOf(4);
  const manifests = new MerkleFrontier();
  manifests.append(hashLeaf(manifestHash(first.manifestBytes)));
  const second = planOf(3, { ...issuanceState(), head: first.head, manifests });
  assert.equal(second.manifest.seq, 1);
  assert.equal(second.manifest.first, 4);
  assert.equal(second.head.size, 2);
  sameBytes(second.head.root, rootOf([first, second].map((p) => hashLeaf(manifestHash(p.manifestBytes)))));
});

test("a dead plan burns its range, never its place in the tree", () => {
  const state = {
    ...issuanceState(),
    planned: [
      { first: 0, count: 10 },
      { first: 10, count: 7 },
    ],
  };
  assert.equal(nextIndex(state), 17);
  const plan = planOf(2, state);
  assert.equal(plan.manifest.first, 17);
  assert.equal(plan.manifest.seq, 0);
  assert.equal(plan.head.next, 19);
  assert.equal(reissuedHead(state, NOW).size, 0);
});

test("stations share a batch without gaps, in the order of the request", () => {
  const { station: _, ...rest } = requestJson(5);
  const stations = [
    { kid: kid("station"), count: 2 },
    { kid: kid("otherStation"), count: 3 },
  ];
  const plan = planBatch(validateRequest({ ...rest, stations }, TRUST, NOW), issuanceState(), seededRandom("s"), NOW);
  assert.deepEqual(
    plan.manifest.stations.map(({ first, count }) => [first, count]),
    [
      [0, 2],
      [2, 3],
    ],
  );
});

test("a source of randomness that repeats itself stops the plan", () => {
  const request = validateRequest(requestJson(2), TRUST, NOW);
  const stuck = (length: number) => new Uint8Array(length);
  assert.throws(() => planBatch(request, issuanceState(), stuck, NOW), { code: "ERR_ASSERTION" });
});

test("a manifest tree that is not the head's stops the plan", () => {
  const manifests = new MerkleFrontier();
  manifests.append(new Uint8Array(32));
  assert.throws(() => planOf(1, { ...issuanceState(), manifests }), { code: "ERR_ASSERTION" });
});

test("indices end before they wrap", () => {
  const state = { ...issuanceState(), planned: [{ first: INDEX_MAX, count: 1 }] };
  assert.throws(() => planOf(1, state), { code: "ERR_INDEX_EXHAUSTED" });
  const last = { ...issuanceState(), planned: [{ first: INDEX_MAX - 1, count: 1 }] };
  assert.equal(planOf(1, last).head.next, INDEX_MAX + 1);
});

test("the largest batch is planned, one more is refused", () => {
  const subject = subjects(1)[0]!;
  const list = new Array<string>(BATCH_TOKENS_MAX + 1).fill(subject);
  assert.throws(() => parseBatchRequest({ ...requestJson(1), subjects: list }), { code: "ERR_BATCH_REQUEST" });
  const plan = planBatch(
    parseBatchRequest({ ...requestJson(1), subjects: list.slice(1) }),
    issuanceState(),
    seededRandom("many"),
    NOW,
  );
  assert.equal(plan.payloads.length, BATCH_TOKENS_MAX);
});

const MALFORMED: readonly (readonly [string, Record<string, unknown>, string?])[] = [
  ["an unknown field", { colour: "red" }],
  ["no subjects", { subjects: [] }],
  ["subjects that are no list", { subjects: "did:key:z6Mk" }],
  ["a subject that is no did:key", { subjects: ["did:web:example.org"] }, "ERR_DID"],
  ["a profile in capitals", { profile: "Edge" }],
  ["an empty name", { unit: "" }],
  ["a long name", { creditClass: "x".repeat(65) }],
  ["a negative quota", { quota: -1 }],
  ["a fractional quota", { quota: 1.5 }],
  ["a quota in text", { quota: "100" }],
  ["milliseconds for seconds", { exp: NOW * 1000 }],
  ["a claim window that ends before it begins", { claimBy: NOW - 1 }],
  ["a claim window that outlives the token", { claimBy: NOW + 91 * DAY }],
  ["a token of eleven years", { exp: NOW + 11 * 366 * DAY }],
  ["an unknown claim profile", { claim: "pin" }],
  ["an unknown layout", { layout: "full" }],
  ["a layout named like a property of every object", { layout: "toString" }],
  ["a layout that does not fit the tag", { layout: "link" }],
  ["an unknown tag", { tagClass: "ntag424" }],
  ["a hub that is no DID", { offline: "always" }, "ERR_DID"],
  ["a station in base64", { station: "AAAA" }, "ERR_HEX"],
  ["a station in capitals", { station: kid("station").toUpperCase() }, "ERR_HEX"],
  ["station and stations", { stations: [{ kid: kid("station"), count: 2 }] }],
  ["neither station nor stations", { station: undefined }],
  ["stations that leave tokens over", { station: undefined, stations: [{ kid: kid("station"), count: 1 }] }],
  ["a station twice", { station: undefined, stations: [1, 1].map((count) => ({ kid: kid("station"), count })) }],
  ["an empty part", { station: undefined, stations: [{ kid: kid("station"), count: 0 }] }],
  ["no release key", { release: [] }],
  ["a release key twice", { release: [kid("release"), kid("release")] }],
];

for (const [name, change, code = "ERR_BATCH_REQUEST"] of MALFORMED) {
  test(`a request with ${name} is refused`, () => {
    assert.throws(() => parseBatchRequest({ ...requestJson(2), ...change }), { name: "FormatError", code });
  });
}

test("every field of a request is needed", () => {
  for (const key of Object.keys(requestJson(1))) {
    const { [key]: _, ...rest } = requestJson(1);
    assert.throws(() => parseBatchRequest(rest), { code: "ERR_BATCH_REQUEST" }, key);
  }
  for (const value of [undefined, null, [], "text", 7]) {
    assert.throws(() => parseBatchRequest(value), { code: "ERR_BATCH_REQUEST" });
  }
});

test("a request must fit the trust files", () => {
  const refused = (change: Record<string, unknown>, code: string, trust = TRUST) =>
    assert.throws(() => verifyBatchRequest(parseBatchRequest({ ...requestJson(1), ...change }), trust, NOW), {
      name: "VerificationError",
      code,
    });
  refused({ profile: "edge-pro" }, "ERR_BATCH_PROFILE");
  refused({ station: kid("issuer") }, "ERR_BATCH_KEY");
  refused({ station: "00".repeat(32) }, "ERR_BATCH_KEY");
  refused({ release: kid("station") }, "ERR_BATCH_KEY");
  refused({ nbf: NOW - 10, claimBy: NOW }, "ERR_BATCH_TIME");
  refused({ nbf: NOW - 2 * DAY }, "ERR_BATCH_TIME");
  const expired = keyEntry(KEYS.station, "station", 0, NOW);
  refused({}, "ERR_BATCH_KEY", { ...TRUST, keys: [...TRUST.keys.filter((k) => k.purpose !== "station"), expired] });
  refused({}, "ERR_BATCH_TIME", { ...TRUST, keys: TRUST.keys.filter((k) => k.purpose !== "issuer") });
});

test("a writing station is never the release key, even where a key list says so", () => {
  const both = [...TRUST.keys, keyEntry(KEYS.station, "release")];
  const request = parseBatchRequest({ ...requestJson(1), release: kid("station") });
  assert.throws(() => verifyBatchRequest(request, { ...TRUST, keys: both }, NOW), { code: "ERR_BATCH_KEY" });
});

test("every token of a batch has an Ed25519 subject, so each fits the compact spelling", () => {
  for (const subject of parseBatchRequest(requestJson(3)).subjects) assert.equal(parseDidKey(subject).length, 32);
});

test("any JSON in any field of a request gives a request or a coded refusal", () => {
  const fields = [...Object.keys(requestJson(1)), "stations", "__proto__", "tenant"];
  const property = fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) => {
    const text = JSON.stringify({ ...requestJson(1), [field]: value });
    try {
      parseBatchRequest(JSON.parse(text));
    } catch (error) {
      assert.ok(error instanceof FormatError, `${error}`);
    }
  });
  // A failure prints its seed.
  fc.assert(property, { numRuns: 2000 });
});
