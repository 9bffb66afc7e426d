/** Frames and messages: any cut of a stream gives the same messages, and whatever is none is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CborMap, concat, encodeCbor, FormatError, u32, VerificationError } from "@viafabric/schemas";
import {
  type Answer,
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeFrame,
  encodeRequest,
  errorOf,
  FRAME_BYTES_MAX,
  FrameReader,
  refusalOf,
} from "./protocol.ts";

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

/** mulberry32 */
function seeded(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("however a stream is cut, the same frames come out", (context) => {
  context.diagnostic(`SEED=${seed}`);
  const random = seeded(seed);
  const bodies = Array.from({ length: 200 }, () => new Uint8Array(1 + Math.floor(random() ** 3 * 5000)).fill(7));
  const stream = concat(...bodies.map(encodeFrame));
  const reader = new FrameReader();
  const read: Uint8Array[] = [];
  for (let at = 0; at < stream.length; ) {
    const length = 1 + Math.floor(random() ** 4 * 20_000);
    read.push(...reader.push(stream.slice(at, at + length)));
    at += length;
  }
  assert.deepEqual(read, bodies);
});

test("a frame that is empty or beyond the limit is refused at its header", () => {
  for (const length of [0, FRAME_BYTES_MAX + 1, 2 ** 32 - 1])
    assert.throws(() => new FrameReader().push(u32(length)), FormatError);
  assert.deepEqual(new FrameReader().push(u32(FRAME_BYTES_MAX)), []);
});

test("requests and answers come back as they went", () => {
  const params: CborMap = new Map([["reissue", true]]);
  const request = { id: 7, method: "statement", params } as const;
  assert.deepEqual(decodeRequest(encodeRequest(request)), request);
  for (const answer of [
    { id: 1, ok: true, result: [new Uint8Array(64)] },
    { id: 2, ok: false, code: "ERR_UNAPPROVED", message: "why" },
  ] as const satisfies readonly Answer[])
    assert.deepEqual(decodeAnswer(encodeAnswer(answer)), answer);
});

test("anything else is neither", () => {
  const none = new Map();
  for (const value of [1, [], [1], [1, "state"], [1, "state", 2], [-1, "state", none], [1, "__proto__", none]])
    assert.throws(() => decodeRequest(encodeCbor(value)), FormatError);
  for (const value of [[1, true], [1, true, 2, 3], [1, false, "x"], [1, false, 2, "x"], ["1", true, 2], null])
    assert.throws(() => decodeAnswer(encodeCbor(value)), FormatError);
});

test("a refusal is the same error on both sides; an unknown one is the signer's failure", () => {
  const refusal = errorOf(refusalOf(new VerificationError("ERR_UNAPPROVED", "not under the head")));
  assert.ok(refusal instanceof VerificationError);
  assert.deepEqual([refusal.code, refusal.message], ["ERR_UNAPPROVED", "not under the head"]);
  for (const code of ["ERR_NEVER_HEARD_OF", "constructor", ""])
    assert.equal(errorOf({ code, message: "x" }).code, "ERR_SIGNER");
  assert.equal(refusalOf(new RangeError("a bug")).code, "ERR_SIGNER");
});
