/**
 * What each parser of the log accepts it writes again byte for byte: a value has one spelling. Tried on good values with
 * a few bytes changed, because random ones never get past the first character.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CodedError,
  concat,
  formatBase64,
  formatNote,
  formatSignatureLine,
  formatVerifierKey,
  hashLeaf,
  parseNote,
  parseSignatureLine,
  parseUtf8,
  parseVerifierKey,
  utf8,
} from "@viafabric/schemas";
import fc from "fast-check";
import { formatCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import { decodeEntries, encodeEntries } from "./entry-bundle.ts";
import { decimals, freshSeed, logVerifier, signedCheckpoint, witnessVerifier } from "./fixtures.test.ts";
import { formatPolicy, parsePolicy } from "./policy.ts";
import { formatProof, parseProof } from "./proof.ts";
import { entriesOf, formatSegment, parseSegment, parseSegmentName, segmentName } from "./staging.ts";
import { parseTilePath, tilePath } from "./tile.ts";
import { formatAddCheckpoint, parseAddCheckpoint } from "./witness-protocol.ts";

const seed = freshSeed();
const RUNS = 3000;

const head = { size: 70_000, root: hashLeaf(utf8("root")) };
const note = await signedCheckpoint(head, { witnessed: true });
const hashes = [1, 2, 3].map((n) => hashLeaf(utf8(String(n))));
const cosignature = parseUtf8(note).trimEnd().split("\n").at(-1)!;
const segment = segmentName(250, 260);
const policy = utf8(
  `log ${formatVerifierKey(logVerifier)} https://log.example/\n` +
    `witness w1 ${formatVerifierKey(witnessVerifier)}\ngroup g any w1\nquorum g\n`,
);

/** By name: a good value, and what it becomes when it is read and written again. */
const FORMATS: Readonly<Record<string, readonly [good: Uint8Array, again: (bytes: Uint8Array) => Uint8Array]>> = {
  note: [note, (bytes) => formatNote(parseNote(bytes))],
  "verifier key": [
    utf8(formatVerifierKey(logVerifier)),
    (bytes) => utf8(formatVerifierKey(parseVerifierKey(parseUtf8(bytes)))),
  ],
  checkpoint: [
    utf8(formatCheckpoint({ origin: logVerifier.name, ...head })),
    (bytes) => utf8(formatCheckpoint(parseCheckpoint(parseUtf8(bytes)))),
  ],
  cosignature: [
    utf8(`${cosignature}\n`),
    (bytes) => {
      const line = parseUtf8(bytes);
      return utf8(formatSignatureLine(parseSignatureLine(line.endsWith("\n") ? line.slice(0, -1) : `${line}\n`)));
    },
  ],
  "proof file": [
    formatProof({ index: 69_999, hashes, checkpoint: note, extra: utf8("entry") }),
    (bytes) => formatProof(parseProof(bytes)),
  ],
  "request to a witness": [
    utf8(formatAddCheckpoint({ oldSize: 256, proof: hashes, note })),
    (bytes) => utf8(formatAddCheckpoint(parseAddCheckpoint(bytes))),
  ],
  "tile path": [utf8("tile/0/x001/x234/067.p/112"), (bytes) => utf8(tilePath(parseTilePath(parseUtf8(bytes))))],
  "bundle path": [utf8("tile/entries/x001/067"), (bytes) => utf8(tilePath(parseTilePath(parseUtf8(bytes))))],
  bundle: [encodeEntries(decimals(90, 110)), (bytes) => encodeEntries(decodeEntries(bytes, 20))],
  segment: [
    formatSegment(head.root, decimals(250, 260)).bytes,
    (bytes) => {
      const parsed = parseSegment(bytes);
      return formatSegment(parsed.oldRoot, entriesOf(segment, parsed)).bytes;
    },
  ],
  "segment name": [
    utf8(segment.name),
    (bytes) => {
      const parsed = parseSegmentName(parseUtf8(bytes));
      return parsed ? utf8(segmentName(parsed.oldSize, parsed.newSize).name) : bytes;
    },
  ],
};

/** Characters that parsers are generous about, beside any other byte. */
const TEMPTING = [..."0+-=/ \t\r\n\u0000.x9AZ", ""].map((text) => utf8(text));

interface Change {
  readonly at: number;
  readonly remove: number;
  readonly insert: Uint8Array;
}

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat(),
  remove: fc.constantFrom(0, 0, 1, 1, 2, 45),
  insert: fc.oneof(fc.constantFrom(...TEMPTING), fc.uint8Array({ maxLength: 2 })),
});

function changed(bytes: Uint8Array, changes: readonly Change[]): Uint8Array {
  return changes.reduce((now, { at, remove, insert }) => {
    const from = at % (now.length + 1);
    return concat(now.subarray(0, from), insert, now.subarray(from + remove));
  }, bytes);
}

for (const [name, [good, again]] of Object.entries(FORMATS)) {
  test(`a ${name} has one spelling (seed ${seed})`, () => {
    assert.deepEqual(again(good), good);
    const property = fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const bytes = changed(good, changes);
      let written: Uint8Array;
      try {
        written = again(bytes);
      } catch (error) {
        assert.ok(error instanceof CodedError, `${error}`);
        return;
      }
      assert.equal(formatBase64(written), formatBase64(bytes));
    });
    fc.assert(property, { seed, numRuns: RUNS });
  });
}

test(`a policy is what it says, however it is spaced (seed ${seed})`, () => {
  const property = fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
    try {
      const parsed = parsePolicy(changed(policy, changes));
      assert.deepEqual(parsePolicy(utf8(formatPolicy(parsed))), parsed);
    } catch (error) {
      if (!(error instanceof CodedError)) throw error;
    }
  });
  fc.assert(property, { seed, numRuns: RUNS });
});
