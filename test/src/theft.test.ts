/**
 * What a thief of the server gains: every online key in clear, the signer's socket, and k − 1 trustees. New tokens: none
 * that a verifier accepts. The rest is the table of the threat model, line by line, and no more.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { StatusLedger, setRoot } from "@viafabric/revocation";
import {
  buildInclusionProof,
  CodedError,
  decodeCompact,
  decodeEventBody,
  decodeLeaf,
  encodeCompact,
  encodeHead,
  formatVerifierKey,
  type Head,
  type Manifest,
  noteVerifier,
  parsePublicKey,
  rootOf,
  subtreeOf,
  utf8,
} from "@viafabric/schemas";
import { parsePolicy, verifyCheckpoint } from "@viafabric/transparency-log";
import { buildBatches, HEAD_PATH } from "@viafabric/tuf";
import {
  advanceStatus,
  checkToken,
  type NodeState,
  Refusal,
  type StatusState,
  type Trust,
  verifyBundle,
} from "@viafabric/verifier";
import { type Planes, seededSigner, setsOf } from "./authority.ts";
import {
  type Bundle,
  COUNT,
  DAY,
  entry,
  leafOf,
  type Metadata,
  NOW,
  type OnlineSigning,
  ORIGIN,
  type StatementOptions,
  StolenAuthority,
  signBy,
} from "./theft-testkit.ts";

let world: StolenAuthority;
let trust: Trust;
let node: NodeState;
const HONEST: Planes = { revoked: [1], unreleased: [6, 7] };

before(async () => {
  world = await StolenAuthority.create();
  trust = await world.refresh(world.honest, [world.bundle]);
  node = await nodeOf(trust, [world.bundle]);
});

after(() => world.remove());

async function statusOf(planes: Planes, options: StatementOptions = {}, of = trust): Promise<StatusState> {
  const { note, sets } = await world.forgeStatement(planes, options);
  const evidence = { note, sets, between: [], floor: undefined, reinstatements: [] };
  return advanceStatus(of, options.previous, evidence);
}

/** A node that was served these bundles, each proven in a log that holds it, and a status in which all are released. */
async function nodeOf(of: Trust, bundles: readonly Bundle[], planes = HONEST, n = COUNT): Promise<NodeState> {
  const batches = await Promise.all(
    bundles.map(async (bundle, i) => {
      const honest = world.log.includes(bundle.batchLeaf);
      const entries = honest ? world.log : [...world.log, bundle.batchLeaf, ...bundle.leaves];
      const files = await world.filesOf(bundle, entries, await world.forgeCheckpoint(entries));
      return verifyBundle(of, files, await buildInclusionProof(i, bundles.length, subtreeOf(bundles.map(leafOf))));
    }),
  );
  const status = await statusOf(planes, { n, batches: of.batchesVersion }, of);
  return { authority: world.authority, trust: of, batches, status, clockFloor: 0 };
}

const verdict = (token: Uint8Array, state: NodeState = node, now = NOW) => checkToken(token, state, now).code;

test("the honest world: a released token is accepted, a revoked and an unreleased one are not", async () => {
  const codes = [0, 1, 6].map((index) => verdict(world.bundle.compact[index]!));
  assert.deepEqual(codes, ["accept", "revoked", "not-released"]);
});

/** A head that commits to one more batch, of the thief's making. */
async function forgedHead(change: Partial<Manifest> = {}, issuer = world.keys.issuer) {
  const next = world.manifest({ seq: 1, first: COUNT, ...change });
  const draft = await world.makeBatch(next, issuer, new Uint8Array(0), "mallory");
  const bundles = [world.bundle, draft];
  const head: Head = { ...world.head, size: 2, root: rootOf(bundles.map(leafOf)), next: 2 * COUNT, issued: NOW };
  const signed = buildBatches({ version: 3, expires: NOW + 100 * DAY, head: encodeHead(head) });
  const targetFiles = new Map([...world.honest.targetFiles, [HEAD_PATH, encodeHead(head)]]);
  return { draft, bundles, signed, targetFiles };
}

/** The verdict on a token of the forged batch by a node that refreshed from the thief's server. */
async function served(metadata: Metadata, bundles: readonly Bundle[], folder?: string): Promise<string> {
  const taken = await world.refresh(metadata, bundles, folder);
  return verdict(bundles.at(-1)!.compact[0]!, await nodeOf(taken, bundles, {}, 2 * COUNT));
}

/** Every way to a token that trustees never saw. Each gives a verdict, or throws where a node would refuse. */
const FORGERIES: Readonly<Record<string, () => Promise<string>>> = {
  async "another holder under an approved leaf"() {
    const token = decodeCompact(world.bundle.compact[0]!);
    const subjectKey = seededSigner("mallory").publicKey.raw;
    const forged = await world.makeBatch(world.bundle.manifest, world.keys.issuer, new Uint8Array(0), "mallory");
    const { signature } = decodeCompact(forged.compact[0]!);
    assert.notEqual(verdict(forged.compact[0]!), "accept");
    return verdict(encodeCompact({ ...token, subjectKey, signature }));
  },
  async "an index beyond the head"() {
    const forged = await world.makeBatch(
      world.manifest({ seq: 1, first: COUNT }),
      world.keys.issuer,
      new Uint8Array(0),
      "mallory",
    );
    return verdict(forged.compact[0]!);
  },
  async "more quota on the same leaf"() {
    const richer = world.manifest({ ...world.bundle.manifest, quota: 1_000_000 });
    const forged = await world.makeBatch(richer, world.keys.issuer, world.honest.batches);
    return verdict(forged.compact[0]!);
  },
  async "a bundle in a forked log, not under the head"() {
    const { draft, bundles } = await forgedHead();
    return verdict(draft.compact[0]!, await nodeOf(trust, bundles));
  },
  async "a bundle in place of the approved one"() {
    const draft = await world.makeBatch(world.bundle.manifest, world.keys.issuer, world.honest.batches, "mallory");
    return verdict(draft.compact[0]!, await nodeOf(trust, [draft]));
  },
  async "a head signed by k - 1 trustees"() {
    const { signed, bundles, targetFiles } = await forgedHead();
    return served({ ...world.honest, batches: await signBy(world.corrupt, signed), targetFiles }, bundles);
  },
  async "a head signed by k - 1 trustees, for a node that knows the true one"() {
    await world.refresh(world.honest, [world.bundle], "informed");
    const { signed, bundles, targetFiles } = await forgedHead();
    return served({ ...world.honest, batches: await signBy(world.corrupt, signed), targetFiles }, bundles, "informed");
  },
  async "a head signed by k - 1 trustees and every online key"() {
    const { signed, bundles, targetFiles } = await forgedHead();
    const hands = [...world.corrupt, ...Object.values(world.keys)];
    return served({ ...world.honest, batches: await signBy(hands, signed), targetFiles }, bundles);
  },
  async "a head that one trustee signed twice"() {
    const { signed, bundles, targetFiles } = await forgedHead();
    const file = JSON.parse(Buffer.from(await signBy(world.corrupt, signed)).toString());
    file.signatures.push({ ...file.signatures[0], keyid: "f".repeat(64) });
    return served({ ...world.honest, batches: utf8(JSON.stringify(file)), targetFiles }, bundles);
  },
  async "a key list with the thief's own issuer, signed by k - 1"() {
    const mallory = seededSigner("mallory issuer");
    const files = world.targetFiles(world.keyEntries(entry(mallory, "issuer")));
    const targets = await signBy(world.corrupt, world.buildTargets(2, files));
    const { signed, bundles, targetFiles } = await forgedHead({ issuer: mallory.publicKey.kid }, mallory);
    const all = new Map([...targetFiles, ...files]);
    return served({ roots: [], targets, batches: await signBy(world.corrupt, signed), targetFiles: all }, bundles);
  },
  async "a root with the thief as the only trustee, signed by k - 1"() {
    const mallory = seededSigner("mallory trustee");
    const quorum = { keys: [mallory.publicKey], threshold: 1 };
    const root = await signBy([...world.corrupt, mallory], world.buildRoot(2, quorum));
    const files = world.targetFiles(world.keyEntries());
    const targets = await signBy([mallory], world.buildTargets(2, files, quorum));
    const { signed, bundles, targetFiles } = await forgedHead();
    return served({ roots: [root], targets, batches: await signBy([mallory], signed), targetFiles }, bundles);
  },
  async "a key list with the thief's own issuer, signed by every online key"() {
    const mallory = seededSigner("mallory issuer");
    const files = world.targetFiles(world.keyEntries(entry(mallory, "issuer")));
    const targets = await signBy(Object.values(world.keys), world.buildTargets(2, files));
    const { signed, bundles, targetFiles } = await forgedHead({ issuer: mallory.publicKey.kid }, mallory);
    const all = new Map([...targetFiles, ...files]);
    const batches = await signBy(Object.values(world.keys), signed);
    return served({ roots: [], targets, batches, targetFiles: all }, bundles);
  },
  async "a root that makes the online keys trustees, signed by all of them and k - 1"() {
    const hands = [...world.corrupt, ...Object.values(world.keys)];
    const quorum = { keys: hands.map(({ publicKey }) => publicKey), threshold: 3 };
    const root = await signBy(hands, world.buildRoot(2, quorum));
    const files = world.targetFiles(world.keyEntries());
    const targets = await signBy(hands, world.buildTargets(2, files, quorum));
    const { signed, bundles, targetFiles } = await forgedHead();
    return served({ roots: [root], targets, batches: await signBy(hands, signed), targetFiles }, bundles);
  },
  async "asking the signer for a root that k - 1 signed"() {
    const root = await signBy(world.corrupt, world.buildRoot(2, world.quorum));
    await world.signer.trust({ ...world.honest, roots: [root], headProof: [] });
    return "accept";
  },
  async "asking the signer for tokens of a batch nobody approved"() {
    const { draft, bundles } = await forgedHead();
    const proof = await buildInclusionProof(1, 2, subtreeOf(bundles.map(leafOf)));
    await world.signer.tokens({ manifest: draft.manifestBytes, proof, bodies: [draft.tokens] });
    return "accept";
  },
  async "asking the signer to take a head signed by k - 1"() {
    const { signed, targetFiles } = await forgedHead();
    const batches = await signBy(world.corrupt, signed);
    await world.signer.trust({ ...world.honest, batches, targetFiles, headProof: [] });
    return "accept";
  },
  async "asking the signer to log a batch nobody approved"() {
    const { draft } = await forgedHead();
    await world.append(draft.batchLeaf, ...draft.leaves);
    return "accept";
  },
  async "asking the signer to log a release by another key"() {
    const ranges = [{ first: 6, count: 1 }];
    await world.append(await world.eventLeaf({ action: "release", ranges }, [world.keys.issuer, ...world.corrupt]));
    return "accept";
  },
};

/** Of DESIGN's table and the threat model: what a thief gains, shown to be no more than that. */
const TABLE: (readonly [gains: string, bound: string])[] = [];

test("new tokens: none is accepted, whatever is signed and served", async (t) => {
  const refusals: string[] = [];
  for (const [name, forge] of Object.entries(FORGERIES)) {
    const outcome = await forge().catch((error: unknown) => {
      // Anything else would be an attack that broke before it was refused.
      if (error instanceof CodedError || error instanceof Refusal) return error.code;
      throw new Error(name, { cause: error });
    });
    assert.notEqual(outcome, "accept", name);
    refusals.push(`${name}: ${outcome}`);
  }
  t.diagnostic(`0 of ${refusals.length} accepted\n${refusals.join("\n")}`);
  assert.equal((await world.signer.state()).log.size, world.log.length, "nor is anything in the signer's log");
  TABLE.push([`new tokens: none, in ${refusals.length} ways`, "a manifest root under a head that a quorum signed"]);
});

test("with the key of one trustee more, the same head is taken: the attacks lack nothing else", async () => {
  const { signed, bundles, targetFiles } = await forgedHead();
  const batches = await signBy(world.trustees.slice(0, 3), signed);
  assert.equal(await served({ ...world.honest, batches, targetFiles }, bundles), "accept");
});

test("gained: hiding batches, until the metadata expires; a statement that names a newer version ends it", async () => {
  const hidden = await world.refresh(world.honest, [world.bundle]);
  const end = Math.min(hidden.expires.root, hidden.expires.targets, hidden.expires.batches);
  const on = async (now: number) => {
    const status = await statusOf(HONEST, { issued: now }, hidden);
    return verdict(world.bundle.compact[0]!, { ...node, trust: hidden, status }, now);
  };
  // The token itself ends ten days before the metadata does.
  assert.deepEqual([await on(NOW + 80 * DAY), await on(end)], ["accept", "trust-expired"]);
  const newer = await statusOf(HONEST, { batches: 3 }, hidden);
  assert.equal(verdict(world.bundle.compact[0]!, { ...node, status: newer }), "head-too-old");
  TABLE.push(["hiding batches, an old head", "quorum-signed expiry; a statement that names the version"]);
});

test("gained: early release of tokens that were approved; whoever replays the log sees it", async () => {
  const early = await statusOf({ ...HONEST, unreleased: [] });
  assert.equal(verdict(world.bundle.compact[6]!, { ...node, status: early }), "accept");
  const ledger = new StatusLedger();
  world.log.forEach((bytes, index) => {
    const leaf = decodeLeaf(bytes);
    if (leaf.type === "batch") ledger.applyBatch(0, COUNT);
    if (leaf.type === "event") ledger.applyEvent(index, decodeEventBody(leaf.event.body));
  });
  const replayed = ledger.planes().map((set) => Buffer.from(setRoot(set, COUNT)).toString("hex"));
  const signedRoots = (status: StatusState) =>
    status.sets.map(({ set }) => Buffer.from(setRoot(set, COUNT)).toString("hex"));
  assert.deepEqual(signedRoots(node.status!), replayed, "the honest statement is the replay");
  assert.notDeepEqual(signedRoots(early), replayed);
  TABLE.push(["early release of approved tokens", "whoever replays the log sees it"]);
});

test("gained: un-revoking and un-suspending, for who saw nothing newer than the floor", async () => {
  const before = await statusOf({ revoked: [1], suspended: [2], unreleased: [6, 7] });
  const freed = { unreleased: [6, 7] };
  const verdicts = (status: StatusState, now = NOW) =>
    [1, 2].map((index) => verdict(world.bundle.compact[index]!, { ...node, status }, now));
  assert.deepEqual(verdicts(await statusOf(freed)), ["accept", "accept"], "a newcomer, and a head without a floor");
  const informed = await statusOf(freed, { previous: before, issued: NOW + 60 });
  assert.deepEqual(verdicts(informed, NOW + 60), ["revoked", "suspended"], "who has seen it keeps it");
  // A head that trustees signed since names what was revoked and suspended then: a newcomer may not fall below it.
  const [revoked, suspended] = [before.sets[0].set, before.sets[1].set];
  const floor = {
    epoch: 1,
    n: COUNT,
    logSize: world.log.length,
    revokedRoot: setRoot(revoked, COUNT),
    suspendedRoot: setRoot(suspended, COUNT),
  };
  const floored: Trust = { ...trust, head: { ...trust.head, floor } };
  const { note, sets } = await world.forgeStatement(freed);
  const evidence = { note, sets, between: [], reinstatements: [] };
  const newcomer = advanceStatus(floored, undefined, { ...evidence, floor: [revoked, suspended] });
  assert.deepEqual(verdicts(newcomer), ["revoked", "suspended"]);
  const emptied = setsOf({}, 1, COUNT);
  for (const held of [undefined, [emptied[0].set, emptied[1].set] as const])
    assert.throws(
      () => advanceStatus(floored, undefined, { ...evidence, floor: held }),
      (error) => error instanceof Refusal && error.code === "floor-missing",
      "the floor cannot be left out or emptied",
    );
  TABLE.push([
    "un-revoke, un-suspend, for who saw nothing newer than the floor",
    "the union rule; the floor in the head",
  ]);
});

test("gained: a fast-forward, for the nodes it reached; a root with other online keys ends it", async () => {
  const bundles = [world.bundle];
  await world.refresh(world.honest, bundles, "victim", { version: 2 ** 31 });
  const refresh = (metadata: Metadata, online: Partial<OnlineSigning> = {}) =>
    world.refresh(metadata, bundles, "victim", online);
  const refused = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;
  await assert.rejects(refresh(world.honest), refused("ERR_ROLLBACK"), "every true version is older now");
  const keys = { snapshot: seededSigner("next snapshot"), timestamp: seededSigner("next timestamp") };
  const signed = world.buildRoot(2, world.quorum, keys);
  const roots = [await signBy(world.trustees.slice(0, 3), signed)];
  const rotated = { ...world.honest, roots };
  const healed = await refresh(rotated, { keys });
  assert.equal(healed.batchesVersion, 2);
  assert.equal(verdict(world.bundle.compact[0]!, { ...node, trust: healed }), "accept");
  await assert.rejects(
    refresh(rotated, { version: 2 ** 32 - 1 }),
    refused("ERR_THRESHOLD"),
    "the stolen keys are nobody's",
  );
  const later = await refresh(rotated, { keys });
  assert.equal(later.batchesVersion, 2);
  // The signer itself goes up one by one, so whoever has its socket cannot use the versions up.
  TABLE.push(["a fast-forward of snapshot and timestamp", "a root with other keys; the signer counts by one"]);
});

test("gained: a fork of the log, where no witness is required", async () => {
  const fork = await world.forgeCheckpoint([...world.log.slice(0, -1), utf8("another past")]);
  assert.equal(verifyCheckpoint(trust.policy, fork).size, world.log.length);
  const witness = seededSigner("witness");
  const key = (name: string, of: { readonly spki: Uint8Array }) =>
    formatVerifierKey(noteVerifier(name, parsePublicKey(of.spki)));
  const text = `log ${key(ORIGIN, world.keys.log.publicKey)}\nwitness w ${key("w.example", witness.publicKey)}\nquorum w\n`;
  assert.throws(() => verifyCheckpoint(parsePolicy(utf8(text)), fork), CodedError);
  TABLE.push(["a fork of the log, where no witness quorum is required", "witnesses; heads name a log size and root"]);
});

test("what a thief of server, PIN and every online key gains, and what bounds it", (t) => {
  assert.equal(TABLE.length, 6, "every row was shown above");
  const width = Math.max(...TABLE.map(([gains]) => gains.length));
  t.diagnostic(["", ...TABLE.map(([gains, bound]) => `${gains.padEnd(width)}  |  ${bound}`)].join("\n"));
});
