/** The verdict, code by code: each refusal has a token or a state that earns it, and the first failure wins. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexSet, setRoot } from "@viafabric/revocation";
import {
  buildInclusionProof,
  concat,
  decodeCompact,
  decodeToken,
  EVENT_CONTEXT,
  encodeCompact,
  encodeEventBody,
  encodeLeaf,
  encodeToken,
  formatNote,
  formatTokenJson,
  formatVerifierKey,
  hashLeaf,
  type KeyClass,
  noteVerifier,
  rootOf,
  type Signer,
  signingInput,
  signNote,
  subtreeOf,
  utf8,
} from "@viafabric/schemas";
import { formatCheckpoint, formatProof, parsePolicy } from "@viafabric/transparency-log";
import {
  advanceStatus,
  checkToken,
  type HeldBatch,
  type NodeState,
  Refusal,
  type RefusalCode,
  type Trust,
  verifyBundle,
  withHardware,
} from "@viafabric/verifier";
import {
  AUTHORITY,
  DAY,
  LOG,
  LOG_ORIGIN,
  makeBatch,
  NOW,
  type StatementOptions,
  seededSigner,
  setsOf,
  signStatement,
} from "./authority.ts";

const batch = await makeBatch();
const trust = batch.trust;
const held = verifyBundle(trust, batch.files, batch.manifestProof);

async function advance(options: StatementOptions & { trust?: Trust; reinstatements?: Uint8Array[] } = {}) {
  const { note, sets } = await signStatement(options);
  const reinstatements = options.reinstatements ?? [];
  return advanceStatus(options.trust ?? trust, options.previous, {
    note,
    sets,
    between: [],
    floor: undefined,
    reinstatements,
  });
}

const status = await advance({ revoked: [1], suspended: [2], unreleased: [3] });
const good: NodeState = { authority: AUTHORITY, trust, batches: [held], status, clockFloor: NOW - DAY };

function codeOf(token: Uint8Array, state: Partial<NodeState> = {}, now = NOW): string {
  return checkToken(token, { ...good, ...state }, now).code;
}

const token = batch.compact[0]!;
const flip = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
const withTrust = (change: Partial<Trust>): Partial<NodeState> => ({ trust: { ...trust, ...change } });
const withBatch = (change: Partial<HeldBatch>): Partial<NodeState> => ({ batches: [{ ...held, ...change }] });

test("the same token is accepted in all three spellings", () => {
  const json = utf8(JSON.stringify(formatTokenJson(decodeToken(batch.cose[0]!))));
  for (const bytes of [token, batch.cose[0]!, json]) {
    const verdict = checkToken(bytes, good, NOW);
    assert.equal(verdict.code, "accept");
    assert.ok(
      verdict.code === "accept" && !verdict.aging && verdict.index === 0 && verdict.subject.startsWith("did:key:z6Mk"),
    );
  }
});

test("a node without anything accepts nothing", () => {
  const empty: NodeState = { authority: AUTHORITY, trust: undefined, batches: [], status: undefined, clockFloor: 0 };
  assert.equal(checkToken(token, empty, NOW).code, "trust-invalid");
  assert.equal(checkToken(token, { ...empty, trust }, NOW).code, "batch-not-held");
  assert.equal(checkToken(token, { ...empty, trust, batches: [held] }, NOW).code, "status-missing");
});

const foreignAuthority = concat(token.subarray(0, 1), new Uint8Array(4), token.subarray(5));
const cose = decodeToken(batch.cose[0]!);
const compactOfOther = encodeCompact({ ...decodeCompact(token), subjectKey: seededSigner("mallory").publicKey.raw });
const claimingMore = batch.cose[0]!.map((byte, i, all) => (i === indexOfQuota(all) ? 101 : byte));

function indexOfQuota(bytes: Uint8Array): number {
  // 3a 00011174 is the key -70005; the quota 100 follows as 18 64.
  return Buffer.from(bytes).indexOf(Buffer.from("3a000111741864", "hex")) + 6;
}

const cases: readonly [RefusalCode, Uint8Array, Partial<NodeState>?, number?][] = [
  ["malformed", new Uint8Array(0)],
  ["malformed", token.slice(0, 120)],
  ["malformed", concat(token, new Uint8Array(1))],
  ["malformed", batch.cose[0]!.slice(0, -1)],
  ["malformed", utf8("{}")],
  ["unsupported-version", concat(new Uint8Array([2]), token.subarray(1))],
  ["unknown-authority", foreignAuthority],
  ["trust-invalid", token, { trust: undefined }],
  ["trust-invalid", token, withTrust({ authority: new Uint8Array(32) })],
  ["trust-expired", token, {}, trust.expires.batches],
  ["trust-expired", token, withTrust({ expires: { ...trust.expires, root: NOW } })],
  ["batch-not-held", token, { batches: [] }],
  ["batch-not-held", encodeCompact({ ...decodeCompact(token), index: 8 })],
  ["head-too-old", token, withTrust({ batchesVersion: 1 })],
  ["leaf-mismatch", flip(token, 5)],
  ["leaf-mismatch", encodeCompact({ ...decodeCompact(token), index: 1 })],
  ["payload-mismatch", compactOfOther],
  ["payload-mismatch", claimingMore],
  ["issuer-unknown", token, withTrust({ keys: trust.keys.filter((entry) => entry.purpose !== "issuer") })],
  [
    "issuer-unknown",
    token,
    withTrust({ keys: trust.keys.map((entry) => ({ ...entry, purpose: "operator" as const })) }),
  ],
  ["issuer-not-valid", token, withTrust({ keys: trust.keys.map((entry) => ({ ...entry, until: NOW - 2 * DAY })) })],
  ["issuer-class", token, withTrust({ keys: trust.keys.map((entry) => ({ ...entry, class: "software" as const })) })],
  ["signature-invalid", flip(token, 120)],
  ["signature-invalid", encodeToken({ ...cose, kid: new Uint8Array(32) })],
  ["log-proof-invalid", token, withBatch({ logRefusal: "log-proof-invalid" })],
  ["witness-quorum-missing", token, withBatch({ logRefusal: "witness-quorum-missing" })],
  ["not-yet-valid", token, { clockFloor: 0 }, batch.manifest.nbf - 1],
  ["expired", token, withTrust({ expires: { root: 2e9, targets: 2e9, batches: 2e9 } }), batch.manifest.exp],
  ["revoked", batch.compact[1]!],
  ["suspended", batch.compact[2]!],
  ["not-released", batch.compact[3]!],
  ["status-missing", token, { status: undefined }],
  ["status-stale", token, {}, NOW + 7 * DAY + 1],
  ["clock-untrusted", token, { clockFloor: NOW + 60 }],
];

for (const [code, bytes, state, now] of cases) {
  test(`${code} is the answer where it should be (${cases.filter((c) => c[0] === code).findIndex((c) => c[1] === bytes && c[2] === state)})`, () => {
    assert.equal(codeOf(bytes, state, now), code);
  });
}

test("an index past N is not covered, and never valid by default", async () => {
  assert.equal(codeOf(token, { status: await advance({ n: 0 }) }), "not-covered");
});

test("past the soft age a token is accepted as aging", () => {
  const verdict = checkToken(token, good, NOW + DAY + 1);
  assert.ok(verdict.code === "accept" && verdict.aging);
});

test("a statement from more than a day ahead decides nothing", async () => {
  assert.equal(codeOf(token, { status: await advance({ issued: NOW + DAY + 1 }) }), "status-invalid");
});

test("no single flipped bit of a token is accepted", () => {
  for (const [bytes, step] of [
    [token, 1],
    [batch.cose[0]!, 3],
  ] as const) {
    for (let bit = 0; bit < bytes.length * 8; bit += step) {
      const changed = bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      assert.notEqual(codeOf(changed), "accept", `bit ${bit}`);
    }
  }
});

const refuses = (code: RefusalCode, work: () => unknown) =>
  assert.throws(work, (error) => error instanceof Refusal && error.code === code, code);

test("a bundle is taken in only whole, and only under the head", async () => {
  const { files, manifestProof } = batch;
  for (const name of ["manifest", "leaves", "tokens"] as const) {
    for (let at = 0; at < files[name]!.length; at += 37) {
      assert.throws(
        () => verifyBundle(trust, { ...files, [name]: flip(files[name]!, at) }, manifestProof),
        Refusal,
        `${name} ${at}`,
      );
    }
  }
  refuses("bundle-invalid", () => verifyBundle(trust, { ...files, leaves: files.leaves.slice(73) }, manifestProof));
  refuses("bundle-invalid", () => verifyBundle(trust, { ...files, tokens: files.tokens!.slice(112) }, manifestProof));
  refuses("manifest-not-in-head", () => verifyBundle(trust, files, [new Uint8Array(32)]));
  const other = await makeBatch({ manifest: { quota: 101 } });
  refuses("manifest-not-in-head", () => verifyBundle(trust, other.files, other.manifestProof));
  const changed = { ...trust, authority: new Uint8Array(32) };
  refuses("bundle-invalid", () => verifyBundle(changed, files, manifestProof));
});

test("a batch that is not proven to be in the log is held, and refused when its turn comes", () => {
  const wrongProof = verifyBundle(
    trust,
    { ...batch.files, logProof: flip(batch.files.logProof, 300) },
    batch.manifestProof,
  );
  assert.equal(wrongProof.logRefusal, "log-proof-invalid");
  const witness = noteVerifier("witness.example", seededSigner("witness").publicKey, 4);
  const policy = parsePolicy(
    utf8(
      `log ${formatVerifierKey(noteVerifier(LOG_ORIGIN, LOG.publicKey))}\nwitness w ${formatVerifierKey(witness)}\nquorum w\n`,
    ),
  );
  const unwitnessed = verifyBundle({ ...trust, policy }, batch.files, batch.manifestProof);
  assert.equal(unwitnessed.logRefusal, "witness-quorum-missing");
});

test("statements follow one another, from a listed key, with the sets they sign", async () => {
  const next = await advance({ previous: status, revoked: [1, 4], issued: NOW + 3600, logSize: 20 });
  assert.deepEqual([next.revoked.has(1), next.revoked.has(4), next.verified.statement.epoch], [true, true, 2]);
  const rejects = (code: RefusalCode, options: Parameters<typeof advance>[0]) =>
    assert.rejects(advance(options), (error) => error instanceof Refusal && error.code === code, code);
  await rejects("status-rollback", { previous: next, n: 7, logSize: 30, issued: NOW + 7200 });
  await rejects("status-rollback", { previous: next, logSize: 19, issued: NOW + 7200 });
  await rejects("status-rollback", { previous: next, batches: 1, logSize: 30, issued: NOW + 7200 });
  await rejects("status-invalid", { signer: seededSigner("mallory") });
  await rejects("status-invalid", {
    trust: { ...trust, keys: trust.keys.filter((entry) => entry.purpose !== "status") },
  });
  const rules = (minimum: KeyClass) => ({ ...trust.rules, classes: new Map([["status", minimum]] as const) });
  const soft = trust.keys.map((entry) =>
    entry.purpose === "status" ? { ...entry, class: "software" as const } : entry,
  );
  await rejects("status-invalid", { trust: { ...trust, keys: soft, rules: rules("hardware") } });
  await rejects("status-invalid", { trust: withHardware({ ...trust, keys: soft, rules: rules("software") }) });
  assert.ok(await advance({ trust: { ...trust, keys: soft, rules: rules("software") } }));
  const { note, sets } = await signStatement({ revoked: [1] });
  const evidence = { note, sets, between: [], floor: undefined, reinstatements: [] };
  refuses("status-rollback", () => advanceStatus(trust, next, evidence));
  refuses("status-chain-broken", () => advanceStatus(trust, status, evidence));
  refuses("status-invalid", () =>
    advanceStatus(trust, undefined, { ...evidence, sets: setsOf({ revoked: [] }, 1, 8) }),
  );
  refuses("status-invalid", () => advanceStatus(trust, undefined, { ...evidence, note: flip(note, 70) }));
  const third = await signStatement({ previous: next, issued: NOW + 7200, logSize: 30, revoked: [1, 4] });
  const gap = { ...evidence, note: third.note, sets: third.sets };
  refuses("status-chain-broken", () => advanceStatus(trust, status, gap));
});

/** A reinstatement in a log of its own size, as `revocation/event/<leaf>` holds it. */
async function reinstate(indices: readonly number[], leafIndex: number, by: readonly Signer[]): Promise<Uint8Array> {
  const body = encodeEventBody({
    authority: AUTHORITY,
    action: "reinstate",
    ranges: indices.map((first) => ({ first, count: 1 })),
    reason: "found again",
    notAfter: NOW + DAY,
    undoes: [2],
    nonce: new Uint8Array(16),
  });
  const message = signingInput(EVENT_CONTEXT, AUTHORITY, body);
  const signatures = await Promise.all(
    by.map(async (s) => ({ kid: s.publicKey.kid, signature: await s.sign(message) })),
  );
  const entry = encodeLeaf({ type: "event", event: { body, signatures } });
  const leaves = [...Array.from({ length: leafIndex }, (_, i) => new Uint8Array([i])), entry].map(hashLeaf);
  const text = formatCheckpoint({ origin: LOG_ORIGIN, size: leaves.length, root: rootOf(leaves) });
  const checkpoint = formatNote({ text, signatures: [await signNote(text, LOG_ORIGIN, LOG)] });
  const hashes = await buildInclusionProof(leafIndex, leaves.length, subtreeOf(leaves));
  return formatProof({ extra: entry, index: leafIndex, hashes, checkpoint });
}

const trustees = [1, 2, 3, 4, 5].map((i) => seededSigner(`trustee ${i}`));

test("a node frees nobody because the status key says so", async () => {
  const silent = await advance({ previous: status, logSize: 20, issued: NOW + 3600 });
  assert.ok(silent.revoked.has(1) && silent.suspended.has(2), "the union is kept");
  assert.equal(codeOf(batch.compact[1]!, { status: silent }, NOW + 3600), "revoked");
  const next = { previous: status, logSize: 20, issued: NOW + 3600 };
  const freed = await advance({ ...next, reinstatements: [await reinstate([1], 15, trustees.slice(0, 3))] });
  assert.ok(!freed.revoked.has(1) && freed.suspended.has(2));
  const late = await advance({
    ...next,
    previous: silent,
    logSize: 40,
    reinstatements: [await reinstate([1], 30, trustees.slice(2))],
  });
  assert.ok(!late.revoked.has(1), "a later reinstatement frees what was kept");
  const old = await advance({ ...next, reinstatements: [await reinstate([1], 5, trustees.slice(0, 3))] });
  assert.ok(old.revoked.has(1), "an old reinstatement does not undo a newer revocation");
  const few = [...trustees.slice(0, 2), trustees[0]!];
  await assert.rejects(advance({ ...next, reinstatements: [await reinstate([1], 15, few)] }), Refusal);
});

test("a newcomer starts from the floor that trustees signed", async () => {
  const floorSet = IndexSet.fromIndices([5]);
  const floor = {
    epoch: 1,
    n: 8,
    logSize: 12,
    revokedRoot: setRoot(floorSet, 8),
    suspendedRoot: setRoot(IndexSet.EMPTY, 8),
  };
  const floored = { ...trust, head: { ...trust.head, floor } };
  const { note, sets } = await signStatement({ previous: status, logSize: 20, issued: NOW + 3600 });
  const evidence = { note, sets, between: [], reinstatements: [] };
  refuses("floor-missing", () => advanceStatus(floored, undefined, { ...evidence, floor: undefined }));
  refuses("floor-missing", () =>
    advanceStatus(floored, undefined, { ...evidence, floor: [IndexSet.EMPTY, IndexSet.EMPTY] }),
  );
  const taken = advanceStatus(floored, undefined, { ...evidence, floor: [floorSet, IndexSet.EMPTY] });
  assert.ok(taken.revoked.has(5), "revoked at the floor, dropped by the status key, still revoked here");
  const deep = { ...trust, head: { ...trust.head, floor: { ...floor, epoch: 9 } } };
  assert.equal(codeOf(token, { trust: deep, status }), "floor-missing");
});
