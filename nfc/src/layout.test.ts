import assert from "node:assert/strict";
import test from "node:test";
import { formatBase64Url, parseHex } from "@viafabric/schemas";
import { formatLink, formatPointer, formatRecord, parseTag } from "./layout.ts";
import { decodeNdef, encodeNdef, externalRecord, NDEF_RECORDS_MAX, uriOf, uriRecord } from "./ndef.ts";
import { NTAG213, NTAG215 } from "./tag-model.ts";
import { blankDump, bytes, isFormatError, random, seedOf } from "./testing.test.ts";
import { encodeNdefTlv, findNdefMessage } from "./tlv.ts";

const TOKEN = new Uint8Array([1, ...bytes(120, 7)]);
const SECRET = bytes(16, 9);

test("the compact layout takes 136 of the 144 bytes of an NTAG213", () => {
  const message = formatRecord(TOKEN);
  assert.equal(encodeNdefTlv(message, 144).length, 136);
  assert.deepEqual(parseTag(message), { layout: "compact", token: TOKEN });
});

test("the link layout carries token and claim secret in the fragment, about 205 bytes", () => {
  const message = formatLink("tap.example.org", TOKEN, SECRET);
  assert.ok(Math.abs(encodeNdefTlv(message, 496).length - 215) < 10);
  const uri = uriOf(decodeNdef(message)[0]!);
  assert.equal(uri, `https://tap.example.org/t#${formatBase64Url(TOKEN)}.${formatBase64Url(SECRET)}`);
  assert.deepEqual(parseTag(message), { layout: "link", token: TOKEN, claimSecret: SECRET });
  assert.deepEqual(parseTag(formatLink("www.example.org:8443", TOKEN)), { layout: "link", token: TOKEN });
});

test("the pointer layout names a token of the batch bundle", () => {
  const rctId = bytes(16, 3);
  const message = formatPointer("t.example", rctId, 4_000_000_000, SECRET);
  assert.ok(encodeNdefTlv(message, 144).length < 144);
  assert.deepEqual(parseTag(message), { layout: "pointer", rctId, index: 4_000_000_000, claimSecret: SECRET });
});

test("a COSE token uses the same record type", () => {
  const cose = new Uint8Array([0xd2, ...bytes(410, 5)]);
  assert.deepEqual(parseTag(formatRecord(cose)), { layout: "cose", token: cose });
});

test("a dump of a whole tag is read through its capability container and TLVs", () => {
  const message = formatRecord(TOKEN);
  const dump = blankDump(NTAG213);
  assert.throws(() => parseTag(dump), isFormatError("ERR_TAG_LAYOUT"));
  dump.set(encodeNdefTlv(message, 144), 16);
  assert.deepEqual(parseTag(dump), { layout: "compact", token: TOKEN });
  const behindTlv = blankDump(NTAG215);
  behindTlv.set([0x00, 0x01, 0x03, 0xa0, 0x0c, 0x34, ...encodeNdefTlv(message, 490)], 16);
  assert.deepEqual(parseTag(behindTlv), { layout: "compact", token: TOKEN });
});

test("links of other shapes are refused by code", () => {
  const link = (uri: string) => () => parseTag(encodeNdef([uriRecord(uri)]));
  const token = formatBase64Url(TOKEN);
  assert.throws(link(`http://tap.example/t#${token}`), isFormatError("ERR_TAG_LAYOUT"));
  assert.throws(link(`https://tap.example/x#${token}`), isFormatError("ERR_TAG_LAYOUT"));
  assert.throws(link(`https://TAP.example/t#${token}`), isFormatError("ERR_TAG_LAYOUT"));
  assert.throws(link(`https://tap.example/t#${token}=`), isFormatError("ERR_BASE64"));
  assert.throws(link(`https://tap.example/t#${token}.AAAA`), isFormatError("ERR_BASE64"));
  assert.throws(link(`https://tap.example/t#${token}.a.b.c`), isFormatError("ERR_TAG_LAYOUT"));
  assert.throws(() => parseTag(encodeNdef([externalRecord("other:r", TOKEN)])), isFormatError("ERR_TAG_LAYOUT"));
  const two = encodeNdef([externalRecord("vf.test:r", TOKEN), uriRecord("https://a.example")]);
  assert.throws(() => parseTag(two), isFormatError("ERR_TAG_LAYOUT"));
});

test("NDEF: malformed messages are refused, each for its own reason", () => {
  const cases: Record<string, string> = {
    "no bytes": "",
    "begin flag missing": "540101540a",
    "end flag missing": "94010154".concat("0a"),
    "chunk flag": "f4010154" + "0a",
    "type name format 6": "d6000101",
    "type name format 7": "d7000101",
    "payload beyond the end": "d401027831",
    "type beyond the end": "d4ff0178",
    "four-byte length with the top bit set": "c401ffffffff78",
    "id length without id": "dc01010578",
    "empty record with a payload": "d0000131",
    "unknown type with a type": "d501017831",
    "external type without a type": "d4000131",
    "bytes after the end": "d40101783100",
    "second begin flag": "94010178319401017831",
  };
  for (const [name, hex] of Object.entries(cases)) {
    assert.throws(() => decodeNdef(parseHex(hex)), isFormatError("ERR_NDEF"), name);
  }
  const many = Array.from({ length: NDEF_RECORDS_MAX + 1 }, () => externalRecord("a:b", new Uint8Array(1)));
  assert.throws(() => encodeNdef(many), isFormatError("ERR_NDEF"));
});

test("NDEF: a type longer than its length byte is refused instead of written wrong", () => {
  assert.throws(() => encodeNdef([externalRecord("x".repeat(300), TOKEN)]), isFormatError("ERR_NDEF"));
});

test("NDEF: ids, long payloads and several records come back as they were", () => {
  const records = [
    { tnf: 4, type: "a:b", id: bytes(3, 1), payload: bytes(300, 2) },
    { tnf: 4, type: "c:d", id: new Uint8Array(0), payload: bytes(255, 4) },
    { tnf: 5, type: "", id: new Uint8Array(0), payload: bytes(2, 5) },
    uriRecord("urn:nfc:x"),
  ];
  assert.deepEqual(decodeNdef(encodeNdef(records)), records);
});

test("TLV: lengths that leave the area are refused; nothing after the terminator counts", () => {
  assert.equal(findNdefMessage(parseHex("fe0301aa")), undefined);
  assert.equal(findNdefMessage(parseHex("0000")), undefined);
  assert.equal(findNdefMessage(parseHex("0300fe00"))?.length, 0);
  assert.equal(findNdefMessage(parseHex("03ff0000"))?.length, 0);
  for (const hex of ["03", "03ff", "03ff01", "0305aabb", "0103a0", "03ff0001aa", "03fffffe"]) {
    assert.throws(() => findNdefMessage(parseHex(hex)), isFormatError("ERR_TLV"), hex);
  }
});

test("mutated tags give a result or a coded refusal, and a result is written back byte for byte", () => {
  const seed = seedOf("layout mutations");
  const next = random(seed);
  const messages = [formatRecord(TOKEN), formatLink("tap.example", TOKEN, SECRET)];
  let results = 0;
  for (let i = 0; i < 20_000; i++) {
    const message = messages[i % 2]!.slice(0, next(8) === 0 ? next(200) : undefined);
    for (let k = next(3); k > 0 && message.length > 0; k--) message[next(Math.min(message.length, 40))] = next(256);
    try {
      const parsed = parseTag(message);
      results++;
      if (parsed.layout === "compact") assert.deepEqual(formatRecord(parsed.token), message);
    } catch (error) {
      assert.ok(isFormatError()(error), `seed ${seed}: ${String(error)}`);
    }
  }
  assert.ok(results > 1000);
});
