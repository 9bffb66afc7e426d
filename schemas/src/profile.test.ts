import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeProfile, encodeProfile, FormatError, parseUtf8, readProfile, utf8 } from "./index.ts";

const malformed = (error: unknown) => error instanceof FormatError && error.code === "ERR_PROFILE";
const profile = {
  id: "geo-gpu",
  version: 3,
  title: "Karten für alle",
  quotas: new Map([
    ["cpu_hours", 5],
    ["gpu_minutes", 600],
  ]),
};
const text =
  '{"capability_profile_id":"geo-gpu","quotas":{"cpu_hours":5,"gpu_minutes":600},"title":"Karten für alle","version":3}';

test("a profile has one signed spelling, and is read as a person writes it", () => {
  assert.equal(parseUtf8(encodeProfile(profile)), text);
  assert.deepEqual(decodeProfile(utf8(text)), profile);
  const written = JSON.stringify(
    {
      version: 3,
      title: "Karten für alle",
      capability_profile_id: "geo-gpu",
      quotas: { gpu_minutes: 600, cpu_hours: 5 },
    },
    undefined,
    2,
  );
  assert.deepEqual(encodeProfile(readProfile(utf8(written))), utf8(text));
  assert.throws(() => decodeProfile(utf8(written)), malformed);
});

test("a profile that says less, more or something else is refused", () => {
  const bad = [
    "",
    "[]",
    "null",
    text.replace("geo-gpu", "Geo GPU"),
    text.replace("geo-gpu", "../x"),
    text.replace("geo-gpu", ""),
    text.replace(":3}", ":0}"),
    text.replace(":3}", ":3.5}"),
    text.replace(":3}", ":4294967296}"),
    text.replace(":3}", ':"3"}'),
    text.replace(":5,", ":-1,"),
    text.replace(":5,", ":-0,"),
    text.replace(":5,", ":1e99,"),
    text.replace("cpu_hours", "CPU"),
    text.replace("cpu_hours", "__proto__"),
    text.replace("Karten für alle", ""),
    text.replace("Karten für alle", "x".repeat(129)),
    text.replace("Karten für alle", "\\u001b[2J"),
    text.replace("Karten für alle", "\\ud800"),
    text.replace(',"version":3', ""),
    text.replace("}", '},"note":1'),
    text.replace(/\{"cpu.*\},/, "[],"),
    text.replace(
      /\{"cpu[^}]*\}/,
      JSON.stringify(Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`q${i}`, 1]))),
    ),
  ];
  for (const each of bad) {
    assert.notEqual(each, text);
    assert.throws(() => readProfile(utf8(each)), malformed, each);
  }
});
