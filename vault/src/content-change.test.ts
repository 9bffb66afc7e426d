import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import {
  CodedError,
  decodeRules,
  encodeProfile,
  formatBase64,
  POLICY_BYTES_MAX,
  parseUtf8,
  sha256,
  utf8,
} from "@viafabric/schemas";
import { type PolicyState, profilePath, RULES_PATH, type TrustedState } from "@viafabric/tuf";
import { nextFiles, parseContentChange } from "./content-change.ts";
import { RULES, TRUST } from "./fixtures.test.ts";
import { readPolicyFolder } from "./policy-folder.ts";
import { parseTrustChange } from "./trust-change.ts";

const folder = await mkdtemp(path.join(tmpdir(), "vault-policy-"));
after(() => rm(folder, { recursive: true }));

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError && error.code === code, String(error));
  return true;
};
const policy: PolicyState = { lineage: sha256(utf8("lineage")), bundle: undefined };
/** As much of the trusted state as a change looks at. */
const trusted = { ...TRUST, authority: RULES.authority, policy, files: new Map() } as unknown as TrustedState;
const gpu = { id: "geo-gpu", version: 1, title: "Maps on a GPU", quotas: new Map([["gpu_minutes", 600]]) };
const asked = (profile = gpu, soft = 3600, hard = 7200) => [{ file: formatBase64(encodeProfile(profile)), soft, hard }];

test("a profile that is asked for stands in the catalogue and in the rules", () => {
  const files = nextFiles(parseContentChange(asked()), trusted);
  assert.deepEqual(files.get(profilePath("geo-gpu")), encodeProfile(gpu));
  const { ages } = decodeRules(files.get(RULES_PATH)!);
  assert.deepEqual(ages.get("geo-gpu"), { soft: 3600, hard: 7200 });
  assert.ok(ages.has("edge-basic"), "the others stay");
});

test("a change that is malformed or changes nothing is refused", () => {
  for (const profiles of [{}, [1], [{ file: "" }], [...asked(), ...asked()], [{ ...asked()[0], more: 1 }]])
    assert.throws(() => parseContentChange(profiles), CodedError, JSON.stringify(profiles));
  for (const files of [[], "x", { a: 1 }, { a: "not base64!" }])
    assert.throws(() => parseContentChange([], files), CodedError, JSON.stringify(files));
  const edge = { ...gpu, id: "edge-basic" };
  assert.throws(() => nextFiles(parseContentChange(asked(edge)), trusted), refusedWith("ERR_TRUST_CHANGE"));
  assert.throws(() => nextFiles(parseContentChange(asked(gpu, 2, 1)), trusted), CodedError);
  assert.throws(() => parseTrustChange({ add: [], remove: [] }), refusedWith("ERR_TRUST_REQUEST"));
  assert.throws(() => parseTrustChange({ add: [], remove: [], policies: {} }), refusedWith("ERR_TRUST_REQUEST"));
  const escaping = parseContentChange([], { "../x": formatBase64(utf8("x")) });
  assert.throws(() => nextFiles(escaping, trusted), refusedWith("ERR_POLICY_BUNDLE"));
});

test("a folder becomes a bundle, the same one every time", async () => {
  const bundle = path.join(folder, "bundle");
  await mkdir(path.join(bundle, "rego"), { recursive: true });
  await writeFile(path.join(bundle, "rego/z.rego"), "z");
  await writeFile(path.join(bundle, "a.json"), "{}");
  const files = await readPolicyFolder(bundle);
  assert.deepEqual(
    [...files].map(([name, bytes]) => [name, parseUtf8(bytes)]),
    [
      ["a.json", "{}"],
      ["rego/z.rego", "z"],
    ],
  );
});

test("links, hidden files, odd names and folders that are too big are refused", async () => {
  const refuse = async (name: string, make: (bundle: string) => Promise<void>) => {
    const bundle = path.join(folder, name);
    await mkdir(bundle);
    await writeFile(path.join(bundle, "good"), "good");
    await make(bundle);
    await assert.rejects(readPolicyFolder(bundle), refusedWith("ERR_POLICY_BUNDLE"), name);
  };
  await refuse("link", (bundle) => symlink("/etc/passwd", path.join(bundle, "passwd")));
  await refuse("linked folder", (bundle) => symlink("/etc", path.join(bundle, "etc")));
  await refuse("hidden", (bundle) => writeFile(path.join(bundle, ".env"), "SECRET"));
  await refuse("space", (bundle) => writeFile(path.join(bundle, "a b"), ""));
  await refuse("too big", async (bundle) => {
    await writeFile(path.join(bundle, "big"), "");
    await truncate(path.join(bundle, "big"), POLICY_BYTES_MAX);
  });
  await refuse("too many", async (bundle) => {
    for (let i = 0; i < 256; i++) await writeFile(path.join(bundle, `f${i}`), "");
  });
  await mkdir(path.join(folder, "empty"));
  await assert.rejects(readPolicyFolder(path.join(folder, "empty")), refusedWith("ERR_POLICY_BUNDLE"));
  await assert.rejects(readPolicyFolder(path.join(folder, "missing")), refusedWith("ERR_FILE"));
});
