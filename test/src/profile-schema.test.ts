/** The published JSON Schema of a capability profile says what `readProfile` does. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encodeProfile, FormatError, readProfile, utf8 } from "@viafabric/schemas";

const read = (name: string) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
const schema = read("../../schemas/json/capability-profile.schema.json");
const vectors = read("../vectors/formats/policy.json");

interface Keywords {
  readonly type: "object" | "string" | "integer";
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Keywords>>;
  readonly additionalProperties?: boolean | Keywords;
  readonly propertyNames?: { readonly pattern: string };
  readonly maxProperties?: number;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
}

/** The few keywords of JSON Schema 2020-12 that the file uses. */
function conforms(rule: Keywords, value: unknown): boolean {
  if (rule.type === "integer")
    return Number.isInteger(value) && (value as number) >= rule.minimum! && (value as number) <= rule.maximum!;
  if (rule.type === "string") {
    if (typeof value !== "string") return false;
    const length = [...value].length;
    const fits = length >= (rule.minLength ?? 0) && length <= (rule.maxLength ?? Number.POSITIVE_INFINITY);
    return fits && new RegExp(rule.pattern ?? "", "u").test(value);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const members = Object.entries(value);
  const { required = [], properties = {}, additionalProperties: more, propertyNames } = rule;
  return (
    members.length <= (rule.maxProperties ?? Number.POSITIVE_INFINITY) &&
    required.every((name) => Object.hasOwn(value, name)) &&
    members.every(([name, member]) => {
      if (propertyNames && !new RegExp(propertyNames.pattern, "u").test(name)) return false;
      const own = Object.hasOwn(properties, name) ? properties[name] : typeof more === "object" ? more : undefined;
      return own !== undefined && conforms(own, member);
    })
  );
}

function isRead(text: string): boolean {
  try {
    readProfile(utf8(text));
    return true;
  } catch (error) {
    assert.ok(error instanceof FormatError && error.code === "ERR_PROFILE", String(error));
    return false;
  }
}

test("the schema is closed, public, and of 2020-12", () => {
  assert.equal(schema.$schema, "https://json-schema.org/draft/2020-12/schema");
  assert.match(schema.$id, /^https:\/\/.*capability-profile\.schema\.json$/);
  assert.equal(schema.additionalProperties, false);
});

test("schema and reader agree on what a profile is", () => {
  const [good] = vectors.valid.filter(({ name }: { name: string }) => name === "profile");
  const profile = JSON.parse(Buffer.from(good.hex, "hex").toString("utf8"));
  const changed = (change: object) => ({ ...profile, ...change });
  const { version: _, ...unversioned } = profile;
  const many = Object.fromEntries(Array.from({ length: 17 }, (_value, i) => [`q${i}`, 1]));
  const cases: readonly unknown[] = [
    profile,
    changed({ title: "Karten für alle 🗺" }),
    changed({ quotas: {} }),
    changed({ version: 4294967295 }),
    unversioned,
    changed({ more: 1 }),
    changed({ version: 0 }),
    changed({ version: 1.5 }),
    changed({ version: 4294967296 }),
    changed({ version: "1" }),
    changed({ capability_profile_id: "" }),
    changed({ capability_profile_id: "Edge" }),
    changed({ capability_profile_id: "x".repeat(33) }),
    changed({ title: "" }),
    changed({ title: "x".repeat(129) }),
    changed({ title: "a\u001bb" }),
    changed({ title: 5 }),
    changed({ quotas: [] }),
    changed({ quotas: many }),
    changed({ quotas: { CPU: 1 } }),
    changed({ quotas: { cpu: -1 } }),
    changed({ quotas: { cpu: "1" } }),
    changed({ quotas: { cpu: 2 ** 48 + 1 } }),
    [],
    null,
    "profile",
  ];
  let accepted = 0;
  for (const value of cases) {
    const text = JSON.stringify(value);
    assert.equal(conforms(schema, value), isRead(text), text);
    if (isRead(text)) accepted++;
  }
  assert.equal(accepted, 4);
  assert.equal(Buffer.from(encodeProfile(readProfile(utf8(JSON.stringify(profile))))).toString("hex"), good.hex);
});
