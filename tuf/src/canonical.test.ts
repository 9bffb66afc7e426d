import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { FormatError, parseUtf8, utf8 } from "@viafabric/schemas";
import fc from "fast-check";
import { canonicalJson, escapeControls, type Json, parseCanonicalJson } from "./index.ts";

/** The canonical JSON that tuf-js signs and verifies with; it comes with @tufjs/models. */
const { canonicalize } = createRequire(createRequire(import.meta.url).resolve("@tufjs/models"))(
  "@tufjs/canonical-json",
) as {
  canonicalize(value: unknown): string;
};

const key = fc.string({ unit: "grapheme-ascii", maxLength: 8 });
const leaf = fc.oneof(
  fc.maxSafeInteger().map((n) => n + 0),
  fc.boolean(),
  fc.constant(null),
  fc.string({ unit: "binary" }).filter((s) => !/\p{Surrogate}/u.test(s)),
);
const value = fc.letrec<{ json: Json }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie("json"), { maxLength: 4 }),
    fc.dictionary(key, tie("json"), { maxKeys: 4 }),
  ),
})).json;
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

test(`canonical JSON is what tuf-js computes, and comes back (seed ${seed})`, () => {
  fc.assert(
    fc.property(value, (json) => {
      const bytes = canonicalJson(json);
      assert.equal(parseUtf8(bytes), canonicalize(json));
      assert.deepEqual(canonicalJson(parseCanonicalJson(bytes)), bytes);
      assert.deepEqual(canonicalJson(JSON.parse(escapeControls(parseUtf8(bytes))) as Json), bytes);
    }),
    { seed, numRuns: 1000 },
  );
});

test("raw control characters are canonical, and JSON only when escaped", () => {
  const bytes = canonicalJson({ pem: "a\nb\u0000" });
  assert.equal(parseUtf8(bytes), '{"pem":"a\nb\u0000"}');
  assert.equal(escapeControls(parseUtf8(bytes)), '{"pem":"a\\nb\\u0000"}');
  assert.deepEqual(parseCanonicalJson(bytes), { pem: "a\nb\u0000" });
});

test("what others would spell otherwise is refused", () => {
  for (const wrong of [1.5, -0, 2 ** 53, Number.NaN, "\ud800", { "\u00e9": 1 }, { a: undefined as unknown as Json }])
    assert.throws(() => canonicalJson(wrong), FormatError);
  let deep: Json = 1;
  for (let i = 0; i < 20; i++) deep = [deep];
  assert.throws(() => canonicalJson(deep), FormatError);
  for (const text of [
    '{"b":1,"a":2}',
    '{"a":1,"a":1}',
    '{ "a":1}',
    "1.0",
    "1e2",
    '"\\n"',
    '"\\u0041"',
    "[1,]",
    "",
    "-0",
  ])
    assert.throws(() => parseCanonicalJson(utf8(text)), FormatError, text);
});
