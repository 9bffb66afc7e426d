/** Known answers of other logs, from `test/vectors/log`: what they read and refuse is read and refused here. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  CodedError,
  concat,
  formatHex,
  formatNote,
  formatVerifierKey,
  hashLeaf,
  noteVerifier,
  openNote,
  parseBase64,
  parseHex,
  parseNote,
  parseSignatureLine,
  parseUtf8,
  parseVerifierKey,
  rootOf,
  sha256,
  signNote,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import {
  EMPTY_EDGE,
  formatCheckpoint,
  formatProof,
  growEdge,
  parseCheckpoint,
  parseProof,
  parseTilePath,
  TILE_WIDTH,
  tileOf,
  tilePath,
} from "@viafabric/transparency-log";
import { formatAddCheckpoint, monitoringPath, parseAddCheckpoint } from "@viafabric/transparency-log/witness";
import { signerOfSeed } from "./authority.ts";

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../vectors/log/${name}.json`, import.meta.url), "utf8"));

type Text = readonly (string | readonly [string, number])[];
const joined = (parts: Text) =>
  utf8(parts.map((part) => (typeof part === "string" ? part : part[0].repeat(part[1]))).join(""));

test("x/mod's keys are told good from bad, and so is every part and neighbour of a good one", () => {
  const { valid, invalid } = read("notes").keys as { valid: string[]; invalid: string[] };
  for (const key of valid) assert.equal(formatVerifierKey(parseVerifierKey(key)), key);
  for (const key of invalid) assert.throws(() => parseVerifierKey(key), { name: "FormatError" }, key);
  const [key] = valid;
  for (let from = 0; from <= key!.length; from++) {
    for (let to = from + 1; to <= key!.length; to++) {
      const part = key!.slice(from, to);
      if (part !== key) assert.throws(() => parseVerifierKey(part), { name: "FormatError" }, part);
    }
    if (from === key!.length) break;
    const next = key!.slice(0, from) + String.fromCharCode(key!.charCodeAt(from) + 1) + key!.slice(from + 1);
    assert.throws(() => parseVerifierKey(next), CodedError, next);
  }
});

test("notes are signed as x/mod and sigsum sign them, byte for byte", async () => {
  const { signed, checkpoint } = read("notes");
  for (const { seed, name, key, note } of signed) {
    const signer = signerOfSeed(parseHex(seed));
    assert.equal(formatVerifierKey(noteVerifier(name, signer.publicKey)), key);
    const { text } = parseNote(utf8(note));
    assert.equal(parseUtf8(formatNote({ text, signatures: [await signNote(text, name, signer)] })), note);
  }
  const { seed, origin, size, root, signature } = checkpoint;
  const signer = signerOfSeed(parseHex(seed));
  assert.ok(origin.endsWith(formatHex(sha256(signer.publicKey.raw))), "the origin names the key");
  const made = await signNote(formatCheckpoint({ origin, size, root: parseBase64(root) }), origin, signer);
  assert.deepEqual(parseSignatureLine(`— ${origin} ${signature}`), made);
});

interface NoteCase {
  readonly case: string;
  readonly keys: readonly string[];
  readonly note: Text;
  readonly hex?: string;
  readonly signers: readonly string[];
  readonly code: string;
}

/** A key that is listed twice is one key. */
function open({ keys, note, hex }: NoteCase) {
  const verifiers = new Map(keys.map((key) => [key, parseVerifierKey(key)]));
  return openNote(
    hex === undefined ? joined(note) : parseHex(hex),
    keys.map((key) => verifiers.get(key)!),
  );
}

test("x/mod's notes are opened and refused as there, and a line twice is not a second signature", () => {
  const { opened, refused, refused_bytes, stricter } = read("notes") as Record<string, NoteCase[]>;
  for (const one of opened!) {
    const { signatures } = open(one);
    assert.deepEqual(
      signatures.map(({ verifier }) => verifier.name),
      one.signers,
      one.case,
    );
  }
  for (const one of [...refused!, ...refused_bytes!, ...stricter!])
    assert.throws(() => open(one), { code: one.code }, one.case);
});

test("proof files of transparency-dev/formats", () => {
  const { valid, invalid } = read("proofs");
  for (const { index, hashes, extra, checkpoint, file } of valid) {
    const proof = {
      ...(extra !== undefined && { extra: parseBase64(extra) }),
      index,
      hashes: hashes.map((hash: string) => parseBase64(hash)),
      checkpoint: utf8(checkpoint),
    };
    assert.equal(parseUtf8(formatProof(proof)), file);
    assert.deepEqual(parseProof(utf8(file)), proof);
  }
  for (const { case: name, file } of invalid)
    assert.throws(() => parseProof(joined(file)), { code: "ERR_LOG_PROOF" }, name);
});

test("paths of Tessera's layout", () => {
  const { bundles, tiles, invalid, stricter } = read("paths");
  for (const { seq, size, path } of bundles)
    assert.equal(tilePath(tileOf(size, "entries", Math.floor(seq / TILE_WIDTH))!), path);
  for (const { path, ...tile } of tiles) {
    assert.equal(tilePath(tile), path);
    assert.deepEqual(parseTilePath(path), tile);
  }
  for (const path of [...invalid, ...stricter])
    assert.throws(() => parseTilePath(path), { code: "ERR_TILE_PATH" }, path);
});

test("requests to a witness of azul", () => {
  const { valid, invalid } = read("requests");
  for (const { old, proof, note, body } of valid) {
    const request = { oldSize: old, proof: proof.map((hash: string) => parseBase64(hash)), note: utf8(note) };
    assert.equal(formatAddCheckpoint(request), body);
    assert.deepEqual(parseAddCheckpoint(utf8(body)), request);
  }
  for (const { case: name, body } of invalid)
    assert.throws(() => parseAddCheckpoint(joined(body)), { code: "ERR_WITNESS_REQUEST" }, name);
});

test("the tiles of Sunlight's mirror are made again, and its cosignatures and a witness's verify", () => {
  const { entries, key, checkpoint, sha256: hashes, witness } = read("mirror");
  const leaves = Array.from({ length: entries.count }, (_, i) => hashLeaf(utf8(`${entries.prefix}${i}`)));
  const { origin, size, root } = parseCheckpoint(openNote(utf8(checkpoint), [parseVerifierKey(key)]).text);
  assert.deepEqual([size, root], [leaves.length, rootOf(leaves)]);
  const made = growEdge(EMPTY_EDGE, concat(...leaves)).tiles.map(({ tile, bytes }) => [
    tilePath(tile),
    formatHex(sha256(bytes)),
  ]);
  assert.deepEqual(Object.fromEntries(made), hashes);
  const { text, signatures } = openNote(utf8(witness.checkpoint), [parseVerifierKey(witness.key)]);
  assert.deepEqual([parseCheckpoint(text).origin, signatures.length], [origin, 1]);
  assert.equal(monitoringPath(origin), witness.monitoring_path);
  const other = utf8(witness.checkpoint.replace("\n300\n", "\n301\n"));
  assert.throws(() => openNote(other, [parseVerifierKey(witness.key)]), VerificationError);
});
