import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CapabilityProfile,
  CodedError,
  encodePolicyManifest,
  type PolicyManifest,
  policyManifestOf,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { POLICY_FILES, POLICY_MANIFEST_PATH } from "@viafabric/tuf";
import { type Content, policyChanges, profileChanges } from "./review-policy.ts";

const AUTHORITY = sha256(utf8("authority"));
const LINEAGE = sha256(utf8("lineage"));

function contentOf(
  texts: Readonly<Record<string, string | Uint8Array>> | undefined,
  previous?: Content,
  changes: Partial<PolicyManifest> = {},
): Content {
  const profiles = new Map<string, CapabilityProfile>();
  if (!texts) return { policy: { lineage: LINEAGE, bundle: undefined }, profiles, files: new Map() };
  const files = new Map(
    Object.entries(texts).map(([name, text]) => [name, typeof text === "string" ? utf8(text) : text]),
  );
  const before = previous?.files.get(POLICY_MANIFEST_PATH);
  const manifest = { ...policyManifestOf(AUTHORITY, LINEAGE, before, files), ...changes };
  const bytes = encodePolicyManifest(manifest);
  const own = [...files].map(([name, file]) => [POLICY_FILES + name, file] as const);
  return {
    policy: { lineage: LINEAGE, bundle: { manifest, hash: sha256(bytes) } },
    profiles,
    files: new Map([[POLICY_MANIFEST_PATH, bytes], ...own]),
  };
}

const refusedWith = (code: string) => (error: unknown) => error instanceof CodedError && error.code === code;
const NONE = contentOf(undefined);
const ONE = contentOf({ "limits.rego": "package limits\nmax := 10\nallow\n", "old.json": "{}" });

test("a trustee sees each file that changes, line by line", () => {
  assert.deepEqual(policyChanges(ONE, ONE), []);
  assert.deepEqual(policyChanges(NONE, NONE), []);
  const first = policyChanges(NONE, ONE);
  assert.match(first[0]!, /first policy bundle/);
  assert.ok(first.includes("new policy file limits.rego: 31 bytes"), first.join("\n"));
  const two = contentOf({ "limits.rego": "package limits\nmax := 20\nallow\n", "new.bin": new Uint8Array([255]) }, ONE);
  const [what, root, ...files] = policyChanges(ONE, two);
  assert.match(what!, /bundle 2 follows bundle 1/);
  assert.match(root!, /[0-9a-f]{64}$/);
  assert.deepEqual(files, [
    "policy file limits.rego changes: 31 bytes become 31",
    '    - "max := 10"',
    '    + "max := 20"',
    "new policy file new.bin: 1 bytes",
    "    (not text)",
    "policy file old.json goes (2 bytes)",
  ]);
});

test("a policy cannot write on the trustee's screen, nor fill it", () => {
  const evil = contentOf({ "limits.rego": `\u001b[2J\u001b[H${"approved\n".repeat(1000)}`, "old.json": "{}" }, ONE);
  const lines = policyChanges(ONE, evil);
  assert.ok(lines.length < 60, String(lines.length));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not get through
  assert.doesNotMatch(lines.join(""), /[\u0000-\u001f\u007f]/);
  assert.ok(lines.some((line) => /more lines/.test(line)));
});

test("a bundle that does not directly follow the accepted one is refused", () => {
  const [two, other] = [contentOf({ a: "2" }, ONE), contentOf({ a: "another" })];
  const refused: readonly (readonly [string, Content, Content])[] = [
    ["a step too many", ONE, contentOf({ a: "3" }, two)],
    ["a step back", two, ONE],
    ["another version 1", ONE, other],
    ["a follower of another bundle", ONE, contentOf({ a: "2" }, other)],
    ["a first bundle that says 2", NONE, two],
    ["no bundle any more", ONE, NONE],
    ["another lineage", ONE, { ...two, policy: { ...two.policy!, lineage: sha256(utf8("another")) } }],
    ["no lineage any more", ONE, { ...two, policy: undefined }],
  ];
  for (const [what, accepted, next] of refused)
    assert.throws(() => policyChanges(accepted, next), refusedWith("ERR_POLICY_LINEAGE"), what);
});

test("files that did not come along, or are others, are refused", () => {
  const two = contentOf({ a: "2", b: "2" }, ONE);
  const without = new Map([...two.files].filter(([name]) => name !== `${POLICY_FILES}b`));
  const altered = new Map([...two.files, [`${POLICY_FILES}b`, utf8("3")]]);
  for (const files of [without, altered])
    assert.throws(() => policyChanges(ONE, { ...two, files }), refusedWith("ERR_POLICY_BUNDLE"));
});

test("a profile changes in words, and only upwards", () => {
  const basic: CapabilityProfile = { id: "edge", version: 1, title: "Edge", quotas: new Map([["cpu_hours", 10]]) };
  const of = (...profiles: readonly CapabilityProfile[]) => new Map(profiles.map((profile) => [profile.id, profile]));
  assert.deepEqual(profileChanges(of(basic), of(basic)), []);
  assert.deepEqual(profileChanges(of(), of(basic)), [
    'new profile edge, version 1: "Edge"',
    "profile edge grants 10 cpu_hours",
  ]);
  const more = { ...basic, version: 2, title: "Edge+", quotas: new Map([["gpu_minutes", 60]]) };
  assert.deepEqual(profileChanges(of(basic), of(more)), [
    "profile edge: version 1 becomes 2",
    'profile edge: its title becomes "Edge+"',
    "profile edge: cpu_hours 10 becomes none",
    "profile edge: gpu_minutes none becomes 60",
  ]);
  assert.match(profileChanges(of(basic), of())[0]!, /goes/);
  for (const bad of [
    { ...more, version: 1 },
    { ...basic, version: 0 },
  ])
    assert.throws(() => profileChanges(of(basic), of(bad)), refusedWith("ERR_PROPOSAL_POLICY"));
});
