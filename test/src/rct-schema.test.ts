/** The published JSON Schema of the JSON spelling says what `parseTokenJson` does, as far as a schema can. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { INDEX_MAX, NAME_LENGTH_MAX, parseHex, parseUtf8, URI_LENGTH_MAX } from "@viafabric/schemas";

interface Property {
  readonly type: "string" | "integer";
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
}

interface Schema {
  readonly $schema: string;
  readonly $id: string;
  readonly type: "object";
  readonly additionalProperties: boolean;
  readonly required: readonly string[];
  readonly properties: Readonly<Record<string, Property>>;
}

const schema: Schema = JSON.parse(readFileSync(new URL("../../schemas/json/rct.schema.json", import.meta.url), "utf8"));
const vectors = JSON.parse(readFileSync(new URL("../vectors/formats/rct.json", import.meta.url), "utf8"));

/** The few keywords of JSON Schema 2020-12 that the file uses; another one would be caught by the first test. */
function conforms(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const members = Object.entries(value);
  return (
    schema.required.every((name) => Object.hasOwn(value, name)) &&
    members.every(([name, member]) => Object.hasOwn(schema.properties, name) && fits(schema.properties[name]!, member))
  );
}

function fits(property: Property, value: unknown): boolean {
  if (property.type === "integer") {
    return Number.isInteger(value) && (value as number) >= property.minimum! && (value as number) <= property.maximum!;
  }
  if (typeof value !== "string") return false;
  const { pattern = "", minLength = 0, maxLength = Number.POSITIVE_INFINITY } = property;
  return new RegExp(pattern, "u").test(value) && value.length >= minLength && value.length <= maxLength;
}

test("the schema is closed, public, and of 2020-12", () => {
  assert.equal(schema.$schema, "https://json-schema.org/draft/2020-12/schema");
  assert.match(schema.$id, /^https:\/\//);
  assert.equal(schema.additionalProperties, false);
  const known = ["description", "type", "pattern", "minLength", "maxLength", "minimum", "maximum"];
  for (const [name, property] of Object.entries(schema.properties)) {
    for (const keyword of Object.keys(property)) assert.ok(known.includes(keyword), `${name}: ${keyword}`);
    if (property.type === "integer") assert.ok(Number.isSafeInteger(property.maximum), `${name} has a limit`);
    else assert.ok(property.maxLength ?? /\{\d+\}/.test(property.pattern ?? ""), `${name} has a limit`);
  }
});

test("limits are those of the code", () => {
  const { index, unit, iss } = schema.properties;
  assert.equal(index!.maximum, INDEX_MAX);
  assert.equal(unit!.maxLength, NAME_LENGTH_MAX);
  assert.equal(iss!.maxLength, URI_LENGTH_MAX);
});

test("every valid token conforms, and has exactly the fields listed", () => {
  const seen = new Set<string>();
  for (const { name, json } of vectors.valid) {
    assert.ok(conforms(json), name);
    for (const field of Object.keys(json)) seen.add(field);
  }
  assert.deepEqual([...seen].sort(), Object.keys(schema.properties).sort());
  assert.deepEqual(
    Object.keys(schema.properties).filter((name) => !schema.required.includes(name)),
    ["cnf"],
  );
});

test("every invalid JSON spelling is refused by the schema too, but for what only the index decides", () => {
  const beyondSchemas = ["not JSON", "a pointer to another entry"];
  for (const { read, name, hex } of vectors.invalid) {
    if (read !== "parseTokenJson" || beyondSchemas.includes(name)) continue;
    assert.ok(!conforms(JSON.parse(parseUtf8(parseHex(hex)))), name);
  }
});
