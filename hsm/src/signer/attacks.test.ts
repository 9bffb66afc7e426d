/**
 * What a thief of the server could ask of the bounded signer, and gets: a code, and nothing has changed.
 *
 * Every attack is made against the running process with a real token. After each one the signer's memory must be the
 * same to the byte, and the log as long as before.
 */
import assert from "node:assert/strict";
import { connect as connectSocket } from "node:net";
import { after, before, test } from "node:test";
import {
  CodedError,
  concat,
  encodeCbor,
  encodeHead,
  encodeLeaf,
  formatDidKey,
  genesisHead,
  type OwnClaims,
  SIGNATURE_BYTES,
  sha256,
  tokenLeaf,
  u32,
  utf8,
} from "@viafabric/schemas";
import {
  assemble,
  buildBatches,
  buildRevocations,
  buildSnapshot,
  buildTimestamp,
  keyId,
  signMetadata,
} from "@viafabric/tuf";
import { connect, type SignerClient, type SignerProcess, startSigner } from "../signer-client.ts";
import { encodeParams } from "./messages.ts";
import {
  type Batch,
  batchOf,
  DAY,
  NOW,
  RawSigner,
  refusedWith,
  signByTrustees,
  softSigner,
  TestAuthority,
} from "./testkit.test.ts";

let authority: TestAuthority;
let process: SignerProcess;
let signer: SignerClient;
/** Logged: indices 0 to 9. */
let first: Batch;
/** Approved, and its tokens not signed yet. */
let second: Batch;
/** Logged so far. */
let size = 0;

before(async () => {
  authority = await TestAuthority.create();
  process = await startSigner(authority.configFile);
  signer = await connect(process.socket);
  size = await authority.found(signer);
  const note = await signer.statement();
  await append(authority.trustLeaf("statement", 1, note));
  first = await authority.approve(signer, authority.draft(10));
  await signer.tokens(await authority.tokensRequest(first));
  await append(authority.trustLeaf("batches", 2, authority.batches), authority.batchLeaf(first), ...first.leaves);
  second = await authority.approve(signer, authority.draft(6));
});

after(async () => {
  await signer.close();
  await process.stop();
  await authority.remove();
});

async function append(...entries: Uint8Array[]): Promise<void> {
  await signer.append({ from: size, entries });
  size += entries.length;
}

/** The refusal has this code, the memory is the same to the byte, and the log is not longer. */
async function refuses(code: string, attack: () => Promise<unknown>, reason = /./): Promise<void> {
  const memory = await authority.stateBytes();
  await assert.rejects(attack(), refusedWith(code, reason));
  assert.ok(memory.equals(await authority.stateBytes()), "the memory has changed");
  assert.equal((await signer.state()).log.size, size);
}

const tokens = async (batch: Batch, change: Partial<Batch> = {}) => {
  return signer.tokens(await authority.tokensRequest({ ...batch, ...change }));
};
const appendOnce = (...entries: Uint8Array[]) => signer.append({ from: size, entries });
const range = (from: number, count: number) => [{ first: from, count }];

test("tokens: an altered manifest is not under the head", async () => {
  for (const change of [{ quota: 11 }, { exp: NOW + 900 * DAY }, { profile: "edge-gpu" }, { seq: 0 }]) {
    const altered = authority.draft(6, { ...second.manifest, ...change, root: second.manifest.root });
    await refuses("ERR_UNAPPROVED", () => tokens(second, { bytes: altered.bytes }));
  }
});

test("tokens: a manifest that nobody approved, or that is of another authority", async () => {
  const unapproved = authority.draft(3);
  await refuses("ERR_UNAPPROVED", () => signer.tokens({ manifest: unapproved.bytes, bodies: [], proof: [] }));
  const foreign = authority.draft(3, { authority: new Uint8Array(32) });
  await refuses("ERR_AUTHORITY", () => signer.tokens({ manifest: foreign.bytes, bodies: [], proof: [] }));
});

test("tokens: one body too many, one missing, two exchanged, one twice", async () => {
  const [a, b, ...rest] = second.tokens as [OwnClaims, OwnClaims, ...OwnClaims[]];
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(second, { tokens: [...second.tokens, a] }), /more than 6 bodies/);
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(second, { tokens: [b, ...rest] }), /5 bodies for 6/);
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(second, { tokens: [b, a, ...rest] }), /the root/);
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(second, { tokens: [a, a, ...rest] }), /the root/);
});

test("tokens: a body altered in what is its own; all else is the manifest's", async () => {
  const [own, ...rest] = second.tokens as [OwnClaims, ...OwnClaims[]];
  const thief = formatDidKey(softSigner("thief").publicKey.raw);
  for (const change of [
    { subject: thief },
    { subject: "did:web:example.org", confirmation: new Uint8Array(32) },
    { confirmation: sha256(utf8("thief")) },
    { rctId: sha256(own.rctId).slice(0, 16) },
  ])
    await refuses("ERR_TOKEN_MISMATCH", () => tokens(second, { tokens: [{ ...own, ...change }, ...rest] }), /the root/);
  const bad = (change: Partial<OwnClaims>) => tokens(second, { tokens: [{ ...own, ...change }, ...rest] });
  await refuses("ERR_TOKEN_MISMATCH", () => bad({ subject: "did:web:example.org" }), /neither key nor thumbprint/);
  await refuses("ERR_TOKEN_MISMATCH", () => bad({ subject: `did:${"x".repeat(300)}` }), /too long/);
  await refuses("ERR_TOKEN_MISMATCH", () => bad({ rctId: new Uint8Array(15) }), /belong to none/);
  await refuses("ERR_DID", () => bad({ subject: "did:key:z6Mk" }));
  await refuses("ERR_FRAME", () => bad({ confirmation: new Uint8Array(31) }));
});

test("tokens: whatever the order of messages, nothing is signed before all bodies are there", async () => {
  const { bytes, tokens: own, manifest } = second;
  const opening = { manifest: bytes, proof: await authority.proofOf(manifest.seq) };
  const columns = (some: readonly OwnClaims[], confirmations = new Map<number, Uint8Array>()) => ({
    ids: concat(...some.map(({ rctId }) => rctId)),
    subjects: some.map(({ subject }) => subject),
    confirmations,
  });
  const wire = await RawSigner.open(process.socket);
  const other = await RawSigner.open(process.socket);
  const bodies = (batch: number, some: readonly OwnClaims[]) =>
    wire.ask("bodies", encodeParams.bodies(batch, columns(some)));
  const sign = (batch: number, from: number, count: number, by = wire) =>
    by.ask("tokens", encodeParams.tokens({ batch, from, count }));
  try {
    await refuses("ERR_SIGNER_ORDER", () => bodies(0, own));
    await refuses("ERR_SIGNER_ORDER", () => sign(0, 0, 1));
    assert.equal(await wire.ask("batch", encodeParams.batch(opening)), 1);
    await refuses("ERR_TOKEN_MISMATCH", () => sign(1, 0, 1), /0 bodies for 6/);
    assert.equal(await bodies(1, own.slice(0, 3)), 3);
    await refuses("ERR_TOKEN_MISMATCH", () => sign(1, 0, 3), /3 bodies for 6/);
    await refuses("ERR_SIGNER_ORDER", () => sign(1, 0, 3, other), /not open on this connection/);
    await refuses("ERR_SIGNER_ORDER", () => bodies(2, own.slice(3)));
    // A thumbprint for a token whose leaf was made already, and for one that is not there.
    for (const place of [-1, 3]) {
      const strays = new Map([[place, new Uint8Array(32)]]);
      const params = encodeParams.bodies(1, columns(own.slice(3), strays));
      await refuses("ERR_TOKEN_MISMATCH", () => wire.ask("bodies", params), /belong to none/);
    }
    // Begun again, on the same connection: what came before is gone.
    assert.equal(await wire.ask("batch", encodeParams.batch(opening)), 2);
    await refuses("ERR_SIGNER_ORDER", () => bodies(1, own.slice(3)));
    assert.equal(await bodies(2, own.slice(3)), 3);
    assert.equal(await bodies(2, own.slice(0, 3)), 6);
    await refuses("ERR_TOKEN_MISMATCH", () => sign(2, 0, 6), /the root/);
    assert.equal(await wire.ask("batch", encodeParams.batch(opening)), 3);
    await bodies(3, own);
    await refuses("ERR_TOKEN_MISMATCH", () => bodies(3, own.slice(0, 1)), /more than 6/);
    for (const [from, count] of [
      [0, 0],
      [6, 1],
      [0, 7],
    ] as const)
      await refuses("ERR_TOKEN_MISMATCH", () => sign(3, from, count), /of 6/);
    for (const params of [
      new Map([["batch", 3]]),
      encodeParams.tokens({ batch: 3, from: -1, count: 1 }),
      encodeParams.tokens({ batch: 3, from: 0, count: 10_000 }),
    ])
      await refuses("ERR_FRAME", () => wire.ask("tokens", params));
  } finally {
    wire.close();
    other.close();
  }
});

test("trust: a head that 2 of 5 trustees signed, or one trustee under two key ids", async () => {
  const head = { ...authority.head, issued: NOW + 1 };
  const signed = buildBatches({ version: 9, expires: NOW + DAY, head: encodeHead(head) });
  const by = (count: number) => signByTrustees(signed, authority.trustees.slice(0, count));
  const request = async (batches: Uint8Array) => {
    const { targetFiles, ...rest } = await authority.trustRequest({ batches });
    return { ...rest, targetFiles: new Map([...targetFiles, ["batches/head.cbor", encodeHead(head)]]) };
  };
  const two = await by(2);
  await refuses("ERR_THRESHOLD", async () => signer.trust(await request(two)));
  // The same key once more, under an id that is not its own: counts for nothing.
  const [one, other] = authority.trustees;
  const signature = await signMetadata(one!, signed);
  const renamed = { keyid: keyId(authority.trustees[2]!.publicKey), sig: signature.sig };
  const doubled = assemble(signed, [signature, await signMetadata(other!, signed), renamed]);
  await refuses("ERR_THRESHOLD", async () => signer.trust(await request(doubled)));
  const strangers = [1, 2, 3].map((n) => softSigner(`stranger ${n}`));
  const foreign = await signByTrustees(signed, strangers);
  await refuses("ERR_THRESHOLD", async () => signer.trust(await request(foreign)));
});

test("trust: one public key listed under two ids is no metadata", async () => {
  const key = authority.trustees[0]!.publicKey;
  const text = Buffer.from(authority.targetsFile).toString();
  const twice = text.replaceAll(keyId(authority.trustees[1]!.publicKey), "0".repeat(64));
  assert.ok(text.includes(keyId(key)) && twice !== text);
  await refuses("ERR_METADATA", async () => signer.trust(await authority.trustRequest({ targets: utf8(twice) })));
});

test("trust: an older version, a second content of one version, a head that does not extend", async () => {
  const version = authority.batchesVersion;
  const files = async (head: typeof authority.head, atVersion: number, headProof?: Uint8Array[]) => {
    const bytes = encodeHead(head);
    const signed = buildBatches({ version: atVersion, expires: NOW + 50 * DAY, head: bytes });
    const request = await authority.trustRequest({ batches: await signByTrustees(signed) });
    const targetFiles = new Map([...request.targetFiles, ["batches/head.cbor", bytes]]);
    return { ...request, targetFiles, headProof: headProof ?? request.headProof };
  };
  const { head } = authority;
  await refuses("ERR_ROLLBACK", async () => signer.trust(await files(head, version - 1)));
  await refuses("ERR_ROLLBACK", async () => signer.trust(await files(head, version)));
  const genesis = genesisHead(authority.authority, NOW);
  await refuses("ERR_HEAD_FORK", async () => signer.trust(await files(genesis, version + 1, [])));
  const rewritten = { ...head, root: sha256(utf8("another history")) };
  await refuses("ERR_HEAD_FORK", async () => signer.trust(await files(rewritten, version + 1)));
  await refuses("ERR_ROLLBACK", async () => signer.trust(await files({ ...head, next: head.next - 1 }, version + 1)));
  const wrongLog = { ...head, log: { size, root: sha256(utf8("a fork")) } };
  await refuses("ERR_HEAD_FORK", async () => signer.trust(await files(wrongLog, version + 1)));
  const seenMore = { ...head, log: { size: size + 1, root: head.root } };
  await refuses("ERR_SIGNER_BEHIND", async () => signer.trust(await files(seenMore, version + 1)));
});

test("append: a trust leaf of a file that was never accepted or signed", async () => {
  for (const leaf of [
    authority.trustLeaf("batches", 3, utf8("another file")),
    authority.trustLeaf("batches", 4, authority.batches),
    authority.trustLeaf("root", 1, authority.rootFile),
    authority.trustLeaf("targets", 2, authority.targetsFile),
    authority.trustLeaf("statement", 2, utf8("a statement of a thief")),
    encodeLeaf({ type: "trust", kind: "transcript", number: 1, fileHash: sha256(utf8("x")) }),
  ]) {
    await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf));
  }
});

test("append: token leaves alone, bindings, unknown types, a batch whose tokens were not signed", async () => {
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(second.leaves[0]!));
  const hash = sha256(utf8("x"));
  await refuses("ERR_LEAF_REFUSED", () =>
    appendOnce(encodeLeaf({ type: "binding", rctIdHash: hash, epoch: 1, commitment: hash })),
  );
  await refuses("ERR_LEAF_REFUSED", () =>
    appendOnce(encodeLeaf({ type: "holder-event", evidenceHash: hash, index: 1 })),
  );
  await refuses("ERR_LEAF", () => appendOnce(new Uint8Array([9, 9])));
  const leaf = authority.trustLeaf("batches", 3, authority.batches);
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, authority.batchLeaf(second), ...second.leaves));
});

test("append: another place than the end of the log, and a log with another history", async () => {
  const leaf = authority.trustLeaf("batches", 3, authority.batches);
  for (const from of [0, size - 1, size + 1])
    await refuses("ERR_LOG_FORK", () => signer.append({ from, entries: [leaf] }));
  const replayed = [authority.batchLeaf(first), ...first.leaves];
  await refuses("ERR_LOG_FORK", () => signer.append({ from: size - replayed.length, entries: replayed }));
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(...replayed));
});

test("append: events under their threshold, too late, of others, repeated, or about what is not logged", async () => {
  const { trustees, release, station } = authority;
  const event = async (
    body: Parameters<TestAuthority["eventLeaf"]>[0],
    signers: Parameters<TestAuthority["eventLeaf"]>[1],
  ) => appendOnce(await authority.eventLeaf(body, signers));
  const [one, two] = trustees as [(typeof trustees)[0], (typeof trustees)[0]];
  await refuses("ERR_THRESHOLD", () => event({ action: "revoke", ranges: range(0, 10) }, [one, two]));
  await refuses("ERR_THRESHOLD", () => event({ action: "revoke", ranges: range(0, 2) }, [one]));
  await refuses("ERR_THRESHOLD", () => event({ action: "release", ranges: range(0, 10) }, [station]));
  await refuses("ERR_THRESHOLD", () => event({ action: "release", ranges: range(0, 10) }, trustees));
  await refuses("ERR_THRESHOLD", () => event({ action: "suspend", ranges: range(0, 10) }, [station]));
  await refuses("ERR_THRESHOLD", () => event({ action: "suspend", ranges: range(0, 2) }, [softSigner("stranger")]));
  await refuses("ERR_SIGNATURE", () => event({ action: "suspend", ranges: range(0, 2) }, [one, softSigner("junk")]));
  const late = { action: "suspend", ranges: range(0, 2), notAfter: NOW - 1 } as const;
  await refuses("ERR_EVENT_LATE", () => event(late, [one]));
  const foreign = { action: "suspend", ranges: range(0, 2), authority: new Uint8Array(32) } as const;
  await refuses("ERR_AUTHORITY", () => event(foreign, [one]));
  await refuses("ERR_EVENT_RANGE", () => event({ action: "release", ranges: range(10, 2) }, [release]));
  await refuses("ERR_EVENT_RANGE", () => event({ action: "revoke", ranges: range(8, 5) }, trustees.slice(0, 3)));
  const undo = { action: "reinstate", ranges: range(0, 2), undoes: [1] } as const;
  await refuses("ERR_EVENT_UNDOES", () => event(undo, trustees.slice(0, 3)));
  const suspension = await authority.eventLeaf({ action: "suspend", ranges: range(0, 2) }, [one]);
  await append(suspension);
  await refuses("ERR_EVENT_REPEATED", () => appendOnce(suspension));
});

test("append: one bad entry among good ones spoils them all", async () => {
  const leaf = authority.trustLeaf("batches", 3, authority.batches);
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, second.leaves[0]!));
});

test("append: a batch must come with its own leaves, all of them, and its own metadata", async () => {
  await tokens(second);
  const leaf = authority.trustLeaf("batches", 3, authority.batches);
  const other = tokenLeaf(10, new Uint8Array(16), utf8("another body"));
  const batch = authority.batchLeaf(second);
  const [token, ...rest] = second.leaves as [Uint8Array, ...Uint8Array[]];
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, batch, ...rest));
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, batch, other, ...rest));
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, batch, ...rest, token));
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(leaf, batch, ...second.leaves, token));
  await refuses("ERR_LEAF_REFUSED", () => appendOnce(batch, ...second.leaves));
  await refuses("ERR_LEAF_REFUSED", () =>
    appendOnce(leaf, authority.batchLeaf(second, utf8("other metadata")), ...second.leaves),
  );
  await append(leaf, batch, ...second.leaves);
});

test("statement: none before the last one is in the log", async () => {
  const note = await signer.statement();
  await refuses("ERR_SIGNER_ORDER", () => signer.statement());
  await refuses("ERR_METADATA_REFUSED", () =>
    signer.metadata({
      role: "revocations",
      signed: buildRevocations({ version: 1, expires: NOW + DAY, statement: note }),
    }),
  );
  await append(authority.trustLeaf("statement", 2, note));
});

test("metadata: wrong contents, versions, lifetimes and roles", async () => {
  const { statement } = await signer.state();
  const expires = NOW + 30 * DAY;
  const revocations = (change: object) => {
    const signed = buildRevocations({ version: 1, expires, statement, ...change });
    return signer.metadata({ role: "revocations", signed });
  };
  await refuses("ERR_METADATA_REFUSED", () => revocations({ statement: utf8("an emptier list") }));
  await refuses("ERR_METADATA_REFUSED", () => revocations({ expires: NOW + 400 * DAY }));
  await refuses("ERR_METADATA_REFUSED", () => revocations({ expires: NOW - 1 }));
  const signatures = await revocations({});
  await refuses("ERR_METADATA_REFUSED", () => revocations({ expires: expires - 1 }));

  const file = assemble(buildRevocations({ version: 1, expires, statement }), signatures);
  const roles = new Map([
    ["targets", { version: 1, file: authority.targetsFile }],
    ["batches", { version: authority.batchesVersion, file: authority.batches }],
    ["revocations", { version: 1, file }],
  ]);
  const snapshot = (change: Iterable<readonly [string, { version: number; file: Uint8Array }]>) => {
    const signed = buildSnapshot({ version: 1, expires, roles: new Map([...roles, ...change]) });
    return signer.metadata({ role: "snapshot", signed });
  };
  await refuses("ERR_METADATA_REFUSED", () => snapshot([["batches", { version: 2, file: authority.batches }]]));
  await refuses("ERR_METADATA_REFUSED", () => snapshot([["batches", { version: 3, file: utf8("x") }]]));
  await refuses("ERR_METADATA_REFUSED", () => snapshot([["surprise", { version: 1, file: utf8("x") }]]));
  const pointer = (version: number) =>
    buildTimestamp({ version, expires, snapshot: { version: 1, file: utf8("no snapshot") } });
  await refuses("ERR_METADATA_REFUSED", () => signer.metadata({ role: "timestamp", signed: pointer(1) }));
  const published = assemble(buildSnapshot({ version: 1, expires, roles }), await snapshot([]));
  await refuses("ERR_METADATA_REFUSED", () => signer.metadata({ role: "timestamp", signed: pointer(1) }));
  const timestamp = (version: number) => {
    const signed = buildTimestamp({ version, expires, snapshot: { version: 1, file: published } });
    return signer.metadata({ role: "timestamp", signed });
  };
  await timestamp(1);
  // Whoever could leap would use the versions up, and clients would never take another one.
  for (const version of [3, 2 ** 31, 2 ** 32 - 1])
    await refuses("ERR_METADATA_REFUSED", () => timestamp(version), /does not come after 1/);
  // A quorum role is not signed here at all, by whatever name it comes.
  const batches = buildBatches({ version: 9, expires, head: encodeHead(authority.head) });
  await refuses("ERR_METADATA_REFUSED", () => signer.metadata({ role: "revocations", signed: batches }));
  await refuses("ERR_METADATA", () => signer.metadata({ role: "snapshot", signed: batches }));
});

test("the socket: whatever is no request ends the connection, and the signer serves on", async () => {
  const memory = await authority.stateBytes();
  for (const bytes of [
    u32(0),
    u32(2 ** 32 - 1),
    concat(u32(3), utf8("abc")),
    concat(u32(1), new Uint8Array([0x80])),
    framed(encodeCbor([1, "shutdown", new Map()])),
    framed(encodeCbor([1, "state", new Map(), 1])),
  ]) {
    await new Promise<void>((resolve) => {
      const socket = connectSocket(process.socket, () => socket.write(bytes));
      socket.on("close", () => resolve());
      socket.on("error", () => {});
    });
  }
  await assert.rejects(signer.append({ from: -1, entries: [] }), (error) => error instanceof CodedError);
  assert.ok(memory.equals(await authority.stateBytes()));
  assert.equal((await signer.state()).log.size, size);
});

test("tokens: a manifest proven under an older head than the one in force", async () => {
  const older = await authority.proofOf(second.manifest.seq);
  await authority.approve(signer, authority.draft(2));
  const asked = await authority.tokensRequest(second);
  await refuses("ERR_UNAPPROVED", () => signer.tokens({ ...asked, proof: older }));
  assert.equal((await signer.tokens(asked)).length, 6 * SIGNATURE_BYTES);
});

test("a repeated id, or a subject without a key, is refused even when trustees approved it", async () => {
  const twin = (change: (own: OwnClaims) => Partial<OwnClaims>): Batch => {
    const draft = authority.draft(2);
    const batch = batchOf(
      draft.manifest,
      draft.tokens.map((own) => ({ ...own, ...change(own) })),
    );
    authority.include(batch);
    return batch;
  };
  const repeated = twin(() => ({ rctId: new Uint8Array(16) }));
  const keyless = twin(() => ({ subject: "did:web:example.org" }));
  await authority.signHead();
  await signer.trust(await authority.trustRequest());
  authority.accepted();
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(repeated), /two tokens have one id/);
  await refuses("ERR_TOKEN_MISMATCH", () => tokens(keyless), /neither key nor thumbprint/);
});

function framed(body: Uint8Array): Uint8Array {
  return concat(u32(body.length), body);
}
