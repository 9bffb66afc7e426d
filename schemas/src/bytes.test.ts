import assert from "node:assert/strict";
import { test } from "node:test";
import {
  equalBytes,
  parseBase64,
  parseBase64Url,
  parseDecimal,
  parseHex,
  parseUtf8,
  quote,
  readU64,
  u64,
  utf8,
} from "./bytes.ts";
import { decodeCbor, decodeTagged, encodeCbor, encodeTagged } from "./cbor.ts";
import { formatDidKey, parseDidKey } from "./did.ts";
import { type ErrorCode, FormatError } from "./errors.ts";
import { formatRctId, parseRctId } from "./rct-id.ts";
import { formatWords, parseWords } from "./words.ts";

const code = (expected: ErrorCode) => (error: unknown) => error instanceof FormatError && error.code === expected;

test("base64 has one spelling", () => {
  assert.deepEqual(parseBase64("AAEC"), new Uint8Array([0, 1, 2]));
  for (const wrong of ["AAE", "AAE*", "AA==\n", "AB==", "AA-_", " AAEC"]) {
    assert.throws(() => parseBase64(wrong), code("ERR_BASE64"), wrong);
  }
  assert.throws(() => parseBase64("AAEC", 4), code("ERR_BASE64"));
  for (const wrong of ["AA==", "AB", "A+"]) assert.throws(() => parseBase64Url(wrong), code("ERR_BASE64"), wrong);
});

test("hexadecimal is lower case and whole", () => {
  for (const wrong of ["0", "0G", "AB", "ab "]) assert.throws(() => parseHex(wrong), code("ERR_HEX"), wrong);
  assert.deepEqual(parseHex("00ff", 2), new Uint8Array([0, 255]));
});

test("decimals are plain", () => {
  for (const wrong of ["", "01", "+1", "1e3", " 7", "0x10", "-1", "9007199254740993"]) {
    assert.throws(() => parseDecimal(wrong), code("ERR_INTEGER"), wrong);
  }
  assert.equal(parseDecimal("9007199254740991"), Number.MAX_SAFE_INTEGER);
  assert.throws(() => parseDecimal("11", 10), code("ERR_INTEGER"));
});

test("a byte order mark stays, broken UTF-8 does not pass", () => {
  assert.equal(parseUtf8(utf8("\ufeffx")), "\ufeffx");
  assert.throws(() => parseUtf8(new Uint8Array([0xc3, 0x28])), code("ERR_UTF8"));
});

test("64-bit values beyond 2^53 are refused, not rounded", () => {
  assert.equal(readU64(u64(2 ** 53 - 1), 0), 2 ** 53 - 1);
  assert.throws(() => readU64(new Uint8Array(8).fill(255), 0), code("ERR_INTEGER"));
});

test("equalBytes compares every byte", () => {
  assert.ok(equalBytes(new Uint8Array([1, 2]), new Uint8Array([1, 2])));
  assert.ok(!equalBytes(new Uint8Array([1, 2]), new Uint8Array([1, 3])));
  assert.ok(!equalBytes(new Uint8Array([1]), new Uint8Array([1, 0])));
});

test("outside text cannot steer a terminal from inside a message", () => {
  const shown = quote("\u001b[31mred\u009b\u202eabc");
  for (const control of ["\u001b", "\u009b", "\u202e"]) assert.ok(!shown.includes(control), shown);
  assert.ok(quote("x".repeat(1000)).length < 100);
});

test("CBOR has one spelling", () => {
  const good = encodeCbor(new Map([[1, [1, "a", new Uint8Array([1]), true, null, -70001]]]));
  assert.deepEqual(encodeCbor(decodeCbor(good)), good);
  const wrong = {
    "long integer": "1801",
    "long length": "5801ff",
    "indefinite array": "9f01ff",
    "indefinite bytes": "5f4101ff",
    "unsorted map": "a2020101 01".replaceAll(" ", ""),
    "duplicate key": "a201010102",
    float: "f93c00",
    "integral float64": "fb3ff0000000000000",
    undefined: "f7",
    tag: "c101",
    "64-bit integer": "1bffffffffffffffff",
    "negative beyond 2^53": "3bffffffffffffffff",
    trailing: "0101",
    empty: "",
    truncated: "8201",
    "byte-string key": "a1410101",
    "huge array": "9affffffff",
    "huge bytes": "5bffffffffffffffff",
    "broken text": "62c328",
  };
  for (const [name, hex] of Object.entries(wrong)) {
    assert.throws(() => decodeCbor(new Uint8Array(Buffer.from(hex, "hex"))), code("ERR_CBOR"), name);
  }
});

test("deep nesting is refused before it can exhaust the stack", () => {
  const deep = new Uint8Array(200_000).fill(0x81);
  assert.throws(() => decodeCbor(deep), code("ERR_CBOR"));
  assert.throws(() => decodeTagged(new Uint8Array(200_000).fill(0xd2), 18), code("ERR_CBOR"));
});

test("a tag is exactly the one asked for", () => {
  const bytes = encodeTagged(18, [1]);
  assert.deepEqual(decodeTagged(bytes, 18), [1]);
  assert.throws(() => decodeTagged(bytes, 17), code("ERR_CBOR"));
  assert.throws(() => decodeTagged(encodeCbor([1]), 18), code("ERR_CBOR"));
  assert.throws(
    () =>
      decodeTagged(
        encodeTagged(18, [1]).map((b, i) => (i === 0 ? 0xd8 : b)),
        18,
      ),
    code("ERR_CBOR"),
  );
});

test("identifiers come back from their text, and only from it", () => {
  const id = new Uint8Array(16).map((_, i) => 255 - i);
  const text = formatRctId(id);
  assert.match(text, /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
  assert.deepEqual(parseRctId(text), id);
  for (const wrong of [text.toLowerCase(), `8${text.slice(1)}`, text.slice(1), `${text}0`, `${text.slice(0, -1)}U`]) {
    assert.throws(() => parseRctId(wrong), code("ERR_RCT_ID"), wrong);
  }
  const root = new Uint8Array(32).map((_, i) => i);
  assert.equal(formatWords(root).split(" ").length, 24);
  assert.deepEqual(parseWords(`  ${formatWords(root).toUpperCase()} `), root);
  assert.throws(() => parseWords(formatWords(root).replace(/^\w+/, "zoo")), code("ERR_WORDS"));
  assert.throws(() => parseWords("abandon"), code("ERR_WORDS"));
});

test("did:key names Ed25519 keys and nothing else", () => {
  // RFC 8032 section 7.1, test 1.
  const key = parseHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const did = formatDidKey(key);
  assert.equal(did, "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw");
  assert.deepEqual(parseDidKey(did), key);
  const p256 = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169";
  for (const wrong of [
    did.replace("did:key:z", "did:key:m"),
    did.slice(0, -1),
    `${did}1`,
    p256,
    "did:web:example.org",
    "",
  ]) {
    assert.throws(() => parseDidKey(wrong), code("ERR_DID"), wrong);
  }
});
