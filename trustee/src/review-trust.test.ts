import assert from "node:assert/strict";
import { test } from "node:test";
import { Output } from "@viafabric/platform";
import {
  CodedError,
  encodeHead,
  encodeProfile,
  encodeRules,
  encodeTrustKeys,
  genesisHead,
  type KeyEntry,
  noteVerifier,
  type Purpose,
  parseUtf8,
  type Role,
  type Rules,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { formatPolicy, witnessPolicy } from "@viafabric/transparency-log";
import {
  assemble,
  attachTargets,
  buildBatches,
  buildRoot,
  buildTargets,
  HEAD_PATH,
  KEYS_PATH,
  POLICY_PATH,
  profilePath,
  RULES_PATH,
  signMetadata,
  type TrustedState,
  verifyTrust,
} from "@viafabric/tuf";
import { DAY, NOW, namedSigner } from "./fixtures.test.ts";
import type { Review } from "./review.ts";
import { reviewRoot, reviewTargets } from "./review-trust.ts";
import { witnessChanges } from "./review-witnesses.ts";
import { showReview } from "./show.ts";

const TRUSTEES = [1, 2, 3, 4, 5].map((i) => namedSigner(`trustee ${i}`));
const roleOf = (names: readonly string[], threshold: number): Role => {
  return { keys: names.map((name) => namedSigner(name).publicKey), threshold };
};
const PEOPLE = [1, 2, 3, 4, 5].map((i) => `trustee ${i}`);
const QUORUM = roleOf(PEOPLE, 3);

const rootOf = (
  change: Partial<Parameters<typeof buildRoot>[0]["roles"]> = {},
  version = 1,
  expires = NOW + 700 * DAY,
) =>
  buildRoot({
    version,
    expires,
    roles: {
      root: QUORUM,
      targets: QUORUM,
      snapshot: roleOf(["snapshot"], 1),
      timestamp: roleOf(["timestamp"], 1),
      ...change,
    },
  });

const AUTHORITY = sha256(rootOf());
const entry = (purpose: Purpose, name: string = purpose): KeyEntry => {
  return { key: namedSigner(name).publicKey, purpose, class: "hardware", from: NOW, until: NOW + 700 * DAY };
};
const ENTRIES = (["issuer", "status", "station", "release", "operator"] as const).map((purpose) => entry(purpose));
const RULES: Rules = {
  authority: AUTHORITY,
  thresholds: { suspend: 1, revokeKit: 2, revoke: 3, reinstate: 3 },
  ages: new Map([["edge-basic", { soft: DAY, hard: 7 * DAY }]]),
  classes: new Map([["issuer", "hardware"]]),
};
const policyOf = (name: string, witnesses: readonly string[] = [], quorum = 0) => {
  const log = { verifier: noteVerifier("vault.example/log", namedSigner(name).publicKey) };
  const listed = witnesses.map((witness, i) => {
    const verifier = noteVerifier(`witness.example/${witness}`, namedSigner(witness).publicKey, 4);
    return { name: `w${i + 1}`, verifier, url: `https://${witness}.example/` };
  });
  return utf8(formatPolicy(witnessPolicy(log, { witnesses: listed, quorum })));
};
const FILES: ReadonlyMap<string, Uint8Array> = new Map([
  [KEYS_PATH, encodeTrustKeys(ENTRIES)],
  [RULES_PATH, encodeRules(RULES)],
  [POLICY_PATH, policyOf("log")],
  ["policy/lineage.json", utf8("{}")],
]);
const REVOCATIONS = roleOf(["revocations"], 1);

async function acceptedState(): Promise<TrustedState> {
  const sign = async (bytes: Uint8Array) =>
    assemble(bytes, await Promise.all(TRUSTEES.slice(0, 3).map((t) => signMetadata(t, bytes))));
  const head = encodeHead(genesisHead(AUTHORITY, NOW));
  const targets = buildTargets({
    version: 1,
    expires: NOW + 300 * DAY,
    targets: FILES,
    batches: QUORUM,
    revocations: REVOCATIONS,
  });
  return verifyTrust({
    pinned: { file: await sign(rootOf()) },
    roots: [],
    targets: await sign(targets),
    batches: await sign(buildBatches({ version: 1, expires: NOW + 100 * DAY, head })),
    targetFiles: new Map([...FILES, [HEAD_PATH, head]]),
  });
}

const coded = (code: string, what: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError, `${what}: ${error}`);
  assert.equal(error.code, code, `${what}: ${error.message}`);
  return true;
};

test("keys of the HSM that follow others: who ends, who begins, and what a missing issuer key costs", async () => {
  const accepted = await acceptedState();
  const until = NOW + 14 * DAY;
  const review = (entries: readonly KeyEntry[], revocations: Role) => {
    const files = new Map([...FILES, [KEYS_PATH, encodeTrustKeys(entries)]]);
    const content = { version: 2, expires: NOW + 300 * DAY, targets: files, batches: QUORUM, revocations };
    return reviewTargets(buildTargets(content), attachTargets(files), accepted, NOW).changes.join("\n");
  };
  const [issuer, ...others] = ENTRIES as [KeyEntry, ...KeyEntry[]];
  const followed = review([{ ...issuer, until }, ...others, entry("issuer", "next")], roleOf(["next revocations"], 1));
  assert.match(followed, /issuer key [0-9a-f]{64} \(hardware\) was valid .* and would be .* to \d{4}-\d\d-\d\d/);
  assert.match(followed, /new: issuer key/);
  assert.match(followed, /revocations: new key/);
  assert.match(followed, /revocations: key .* goes/);
  assert.doesNotMatch(followed, /refused/);
  assert.match(review([...others, entry("issuer", "next")], REVOCATIONS), /every token that it signed is refused/);
  for (const name of ["trustee 1", "snapshot", "issuer"])
    assert.throws(() => review(ENTRIES, roleOf([name], 1)), coded("ERR_PROPOSAL_POLICY", name));
});

test("new targets are shown as what they change", async () => {
  const accepted = await acceptedState();
  const files = new Map([
    ...FILES,
    [KEYS_PATH, encodeTrustKeys([...ENTRIES.slice(1), entry("issuer", "new issuer")])],
    [RULES_PATH, encodeRules({ ...RULES, thresholds: { ...RULES.thresholds, suspend: 2 } })],
    [POLICY_PATH, policyOf("log", ["one", "two", "three"], 2)],
    [
      profilePath("edge"),
      encodeProfile({ id: "edge", version: 1, title: "Edge", quotas: new Map([["cpu_hours", 5]]) }),
    ],
  ]);
  const batches = roleOf([...PEOPLE.slice(1), "trustee 6"], 3);
  const signed = buildTargets({
    version: 2,
    expires: NOW + 300 * DAY,
    targets: files,
    batches,
    revocations: REVOCATIONS,
  });
  const { changes, quorums } = reviewTargets(signed, attachTargets(files), accepted, NOW);
  assert.deepEqual(quorums, [accepted.trustees]);
  for (const expected of [
    /^batches: new key/,
    /^batches: key .* goes$/,
    /^new: issuer key/,
    /^goes: issuer key/,
    /^new rule: suspend takes 2$/,
    /^rule goes: suspend takes 1$/,
    /^witness "w3", key "witness.example\/three\+.*" joins, asked at "https:\/\/three.example\/"$/,
    /^witnesses: 0 of 0 had to see the log, and 2 of 3 would have to$/,
    /^new profile edge, version 1: "Edge"$/,
    /^profile edge grants 5 cpu_hours$/,
  ])
    assert.equal(changes.filter((change) => expected.test(change)).length, 1, `${expected} in ${changes.join("\n")}`);
  const idle = buildTargets({
    version: 2,
    expires: NOW + 300 * DAY,
    targets: FILES,
    batches: QUORUM,
    revocations: REVOCATIONS,
  });
  assert.deepEqual(reviewTargets(idle, attachTargets(FILES), accepted, NOW).changes, []);
});

test("witnesses that come and go are told by their keys, and a weaker quorum is refused", () => {
  const review = (old: Uint8Array, next: Uint8Array) => witnessChanges(parseUtf8(old), parseUtf8(next)).join("\n");
  const three = policyOf("log", ["one", "two", "three"], 2);
  assert.equal(review(three, three), "");
  const replaced = review(three, policyOf("log", ["one", "two", "four"], 2));
  assert.match(replaced, /^witness "w3", key "witness.example\/four\+.*" joins/m);
  assert.match(replaced, /^witness "w3", key "witness.example\/three\+.*" goes$/m);
  assert.match(replaced, /2 of 3 had to see the log, and 2 of 3 would have to$/m);
  assert.match(review(three, policyOf("log", ["one", "three", "two"], 2)), /"w3".* would be called "w2"/);
  const nested = `${parseUtf8(three).split("\n").slice(0, 4).join("\n")}\ngroup a 1 w1 w2\ngroup b 1 a w3\nquorum b\n`;
  const weaker: readonly (readonly [string, Uint8Array, string])[] = [
    ["none", policyOf("log"), "ERR_PROPOSAL_POLICY"],
    ["one of three", policyOf("log", ["one", "two", "three"], 1), "ERR_PROPOSAL_POLICY"],
    ["no majority", policyOf("log", ["one", "two", "three", "four"], 2), "ERR_PROPOSAL_POLICY"],
    ["another log", policyOf("new log", ["one", "two", "three"], 2), "ERR_PROPOSAL_POLICY"],
    ["groups of groups", utf8(nested), "ERR_LOG_POLICY"],
  ];
  for (const [what, next, code] of weaker) assert.throws(() => review(three, next), coded(code, what));
  const all = policyOf("log", ["one", "two", "three"], 3);
  assert.throws(() => review(all, three), coded("ERR_PROPOSAL_POLICY", "a majority, and fewer than before"));
  // What was never a majority need not become one.
  assert.match(review(policyOf("log", ["one", "two"], 1), policyOf("log", ["one", "two", "three"], 1)), /joins/);
});

test("targets that weaken the authority are refused", async () => {
  const accepted = await acceptedState();
  const build = (change: Partial<Parameters<typeof buildTargets>[0]>) =>
    buildTargets({
      version: 2,
      expires: NOW + 300 * DAY,
      targets: FILES,
      batches: QUORUM,
      revocations: REVOCATIONS,
      ...change,
    });
  const foreign = new Map([...FILES, [RULES_PATH, encodeRules({ ...RULES, authority: new Uint8Array(32) })]]);
  const attempts: readonly (readonly [string, string, Uint8Array, ReadonlyMap<string, Uint8Array>])[] = [
    ["the accepted version", "ERR_PROPOSAL_BASE", build({ version: 1 }), FILES],
    ["ten years", "ERR_PROPOSAL_POLICY", build({ expires: NOW + 3650 * DAY }), FILES],
    ["a lower threshold", "ERR_PROPOSAL_POLICY", build({ batches: { ...QUORUM, threshold: 2 } }), FILES],
    [
      "a threshold that falls with its keys",
      "ERR_PROPOSAL_POLICY",
      build({ batches: roleOf(PEOPLE.slice(0, 3), 2) }),
      FILES,
    ],
    ["one person", "ERR_PROPOSAL_POLICY", build({ batches: roleOf(PEOPLE.slice(0, 1), 1) }), FILES],
    ["rules of another authority", "ERR_AUTHORITY", build({ targets: foreign }), foreign],
    ["a file that did not come", "ERR_PROPOSAL_MISMATCH", build({}), new Map([...FILES].slice(1))],
    [
      "another file than listed",
      "ERR_METADATA_MISMATCH",
      build({}),
      new Map([...FILES, ["policy/lineage.json", utf8("{ }")]]),
    ],
    [
      "a file that is not listed",
      "ERR_METADATA_MISMATCH",
      build({}),
      new Map([...FILES, ["policy/other.json", utf8("{}")]]),
    ],
  ];
  for (const [what, code, signed, files] of attempts)
    assert.throws(() => reviewTargets(signed, attachTargets(files), accepted, NOW), coded(code, what), what);
});

test("a root rotates slowly, keeps its majority and needs old and new trustees", async () => {
  const accepted = await acceptedState();
  const rotated = roleOf([...PEOPLE.slice(2), "trustee 6", "trustee 7"], 3);
  const { changes, quorums } = reviewRoot(rootOf({ root: rotated, targets: rotated }, 2), accepted, NOW);
  assert.equal(changes.length, 4);
  assert.deepEqual(
    quorums.map(({ keys }) => keys.length),
    [5, 5],
  );
  const taken = roleOf([...PEOPLE.slice(3), "trustee 6", "trustee 7", "trustee 8"], 3);
  const attempts: readonly (readonly [string, string, Uint8Array])[] = [
    ["a gap", "ERR_PROPOSAL_BASE", rootOf({}, 3)],
    ["the accepted version", "ERR_PROPOSAL_BASE", rootOf({}, 1)],
    ["three new of five", "ERR_PROPOSAL_POLICY", rootOf({ root: taken }, 2)],
    ["three new for targets", "ERR_PROPOSAL_POLICY", rootOf({ targets: taken }, 2)],
    ["a lower threshold", "ERR_PROPOSAL_POLICY", rootOf({ root: roleOf(PEOPLE.slice(0, 3), 2) }, 2)],
    ["no majority", "ERR_PROPOSAL_POLICY", rootOf({ root: roleOf(PEOPLE, 2) }, 2)],
    ["other trustees for targets than for root", "ERR_PROPOSAL_POLICY", rootOf({ root: rotated }, 2)],
    ["two keys for the timestamp", "ERR_PROPOSAL_POLICY", rootOf({ timestamp: roleOf(["t1", "t2"], 1) }, 2)],
    ["a trustee's key for the timestamp", "ERR_PROPOSAL_POLICY", rootOf({ timestamp: roleOf(["trustee 1"], 1) }, 2)],
    ["ten years", "ERR_PROPOSAL_POLICY", rootOf({}, 2, NOW + 3650 * DAY)],
  ];
  for (const [what, code, signed] of attempts)
    assert.throws(() => reviewRoot(signed, accepted, NOW), coded(code, what), what);
});

test("a change is shown whole, to its last day, and obeyed by no terminal", async () => {
  const accepted = await acceptedState();
  const files = new Map([...FILES, [KEYS_PATH, encodeTrustKeys([...ENTRIES, entry("issuer", "next")])]]);
  const content = { version: 2, expires: NOW + 300 * DAY, targets: files, batches: QUORUM, revocations: REVOCATIONS };
  const { changes, expires } = reviewTargets(buildTargets(content), attachTargets(files), accepted, NOW);
  const lines: string[] = [];
  const out = new (class extends Output {
    override line(text = ""): void {
      lines.push(text);
    }
  })(false);
  const proposal = { role: "targets", version: 2, expires, quorums: [accepted.trustees] };
  const told = { state: "open", requestedBy: [], ownApprovals: false };
  const review = {
    proposal,
    words: "w",
    told,
    rejections: [],
    approvals: 0,
    changes: [...changes, "\u001b[2Jx"],
    expires,
  };
  showReview(out, review as unknown as Review);
  const shown = lines.join("\n");
  assert.ok(changes[0]!.length > 80 && shown.includes(changes[0]!), shown);
  assert.ok(!shown.includes("\u001b[2J"));
});
