/**
 * Proof files, witness policies and cosignatures as two libraries of other people read them: transparency-dev/formats
 * and torchwood. What they make, ours reads as well.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import {
  buildInclusionProof,
  concat,
  formatHex,
  formatNote,
  formatVerifierKey,
  hashLeaf,
  type NoteVerifier,
  noteVerifier,
  parseVerifierKey,
  rootOf,
  type Signer,
  sha256,
  signNote,
  subtreeOf,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import {
  formatCheckpoint,
  formatPolicy,
  formatProof,
  type LogPolicy,
  parsePolicy,
  verifyCheckpoint,
  verifyProof,
} from "@viafabric/transparency-log";
import { signerOfSeed } from "./authority.ts";
import { type GoAnswer, goPeer, runGo, skipReason } from "./peers-go.ts";

const peer = await goPeer();
const skip = skipReason(peer);
if (skip) console.log(skip);

/** The keys, names and time of the published vectors; a second witness beside them. */
const ORIGIN = "log.example/nfc";
const log = signerOfSeed(new Uint8Array(32).fill(1));
const witnesses = [
  { name: "witness.example/w1", signer: signerOfSeed(new Uint8Array(32).fill(2)), time: 1_700_000_000 },
  { name: "witness.example/w2", signer: signerOfSeed(new Uint8Array(32).fill(4)), time: 1_700_000_060 },
] as const;
const SIZE = 70_000;

const logVerifier = noteVerifier(ORIGIN, log.publicKey);
const vkey = formatVerifierKey(logVerifier);
const hashes = Array.from({ length: SIZE }, (_, i) => hashLeaf(utf8(String(i))));
const text = formatCheckpoint({ origin: ORIGIN, size: SIZE, root: rootOf(hashes) });

/** @param url the formats library asks for one, in the place where C2SP makes it optional */
function policyOf(quorum: number, verifiers: readonly NoteVerifier[] = witnesses.map(cosigner)): LogPolicy {
  const members = verifiers.map((verifier, i) => ({ name: `w${i}`, verifier, url: `https://w${i}.example/` }));
  return {
    logs: [{ verifier: logVerifier }],
    witnesses: members,
    groups: [{ name: "some", threshold: quorum, members: members.map(({ name }) => name) }],
    quorum: "some",
  };
}

function cosigner({ name, signer }: { readonly name: string; readonly signer: Signer }): NoteVerifier {
  return noteVerifier(name, signer.publicKey, 4);
}

async function checkpointBy(count: number): Promise<Uint8Array> {
  const cosigned = witnesses.slice(0, count).map(({ name, signer, time }) => signNote(text, name, signer, time));
  return formatNote({ text, signatures: [await signNote(text, ORIGIN, log), ...(await Promise.all(cosigned))] });
}

async function proofOf(index: number, cosigners = 1, extra?: Uint8Array): Promise<Uint8Array> {
  const proof = await buildInclusionProof(index, SIZE, subtreeOf(hashes));
  return formatProof({ ...(extra && { extra }), index, hashes: proof, checkpoint: await checkpointBy(cosigners) });
}

let home: string;
before(async () => {
  home = await mkdtemp(path.join(tmpdir(), "viafabric-proof-peers-"));
});
after(() => rm(home, { recursive: true, force: true }));

async function judge(command: "proof" | "mangle", policy: LogPolicy, entry: Uint8Array, proof: Uint8Array) {
  const files = { policy: utf8(formatPolicy(policy)), entry, proof };
  for (const [name, bytes] of Object.entries(files)) await writeFile(path.join(home, name), bytes);
  const at = (name: string) => path.join(home, name);
  return runGo(peer, command, at("policy"), vkey, at("entry"), at("proof"));
}

/** Neither library alone would have let it through. */
function assertBothRefuse(answer: GoAnswer): void {
  assert.equal(answer.ok, false);
  assert.notEqual(answer.torchwood, "");
  assert.notEqual(answer.formats, "");
}

test("both libraries verify our proof files under our policy", { skip }, async () => {
  const vector = await proofOf(69_999);
  assert.equal(vector.length, 750);
  assert.equal(formatHex(sha256(vector)), "cafde0dcef35ccd167498fa904f6366e35839fcbee494b13492dae8fb96de10d");
  assert.deepEqual(await judge("proof", policyOf(1), utf8("69999"), vector), { ok: true, torchwood: "", formats: "" });

  const extra = concat(new Uint8Array([0x02]), new Uint8Array(100).fill(0xab));
  for (const [index, quorum, bytes] of [
    [0, 1, undefined],
    [65_535, 2, extra],
    [65_536, 2, new Uint8Array(1)],
    [69_999, 1, extra],
  ] as const) {
    const proof = await proofOf(index, quorum, bytes);
    const answer = await judge("proof", policyOf(quorum), utf8(String(index)), proof);
    assert.equal(answer.ok, true, `${index}: ${answer.error}`);
    assert.equal(verifyProof(policyOf(quorum), utf8(String(index)), proof).index, index);
  }
});

test("both refuse another entry, a missing witness, another witness and another log", { skip }, async () => {
  const proof = await proofOf(1_234);
  assertBothRefuse(await judge("proof", policyOf(1), utf8("1235"), proof));
  assertBothRefuse(await judge("proof", policyOf(2), utf8("1234"), proof));
  const stranger = { name: witnesses[0].name, signer: signerOfSeed(new Uint8Array(32).fill(5)) };
  assertBothRefuse(await judge("proof", policyOf(1, [cosigner(stranger)]), utf8("1234"), proof));
  const { logs, ...rest } = policyOf(1);
  const other = noteVerifier("log.example/other", log.publicKey);
  assert.notEqual((await judge("proof", { ...rest, logs: [{ verifier: other }] }, utf8("1234"), proof)).torchwood, "");
  assert.equal(logs.length, 1);
});

test("one flipped bit anywhere in a proof file is refused by all three readers", { skip }, async () => {
  const entry = utf8("69999");
  const proof = await proofOf(69_999, 1, utf8("unsigned"));
  const answer = await judge("mangle", policyOf(1), entry, proof);
  assert.equal(answer.tried, proof.length * 8);

  const source = new TextDecoder().decode(proof);
  const signed = { from: source.indexOf("index "), to: proof.length };
  const accepted = answer.accepted as Readonly<Record<string, readonly number[]>>;
  for (const [library, places] of Object.entries(accepted)) {
    for (const at of places) {
      // `extra` is signed by nobody, and says so. Besides, Go's decoder ignores the unused bits of a last digit.
      const isExtra = at < signed.from;
      const isLastDigit = /^[A-Za-z0-9+/]=/.test(new TextDecoder().decode(proof.subarray(at, at + 2)));
      assert.ok(isExtra || isLastDigit, `${library} accepted a flipped bit in byte ${at}`);
    }
  }
  // Ours has no such leniency: outside of `extra` there is not one bit.
  for (let at = 0; at < proof.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const spoiled = proof.slice();
      spoiled[at]! ^= 1 << bit;
      const refused = () => verifyProof(policyOf(1), entry, spoiled);
      if (at >= signed.from) assert.throws(refused, { name: /^(Format|Verification)Error$/ }, `byte ${at} bit ${bit}`);
    }
  }
});

test("both read the time of our cosignatures", { skip }, async () => {
  const file = path.join(home, "checkpoint");
  const signed = await checkpointBy(2);
  await writeFile(file, signed);
  const vkeys = witnesses.map((witness) => formatVerifierKey(cosigner(witness)));
  const { ok, times } = await runGo(peer, "cosigners", file, ...vkeys);
  assert.equal(ok, true);
  // Two libraries, and two readers of the time for each.
  assert.deepEqual(times, Object.fromEntries(witnesses.map(({ name, time }) => [name, [time, time, time, time]])));

  // The time is signed: one second later is another message.
  const line = new TextDecoder().decode(signed).split("\n").at(-2)!;
  const later = Buffer.from(line.split(" ")[2]!, "base64");
  later[4 + 7]! ^= 1;
  const changed = new TextDecoder().decode(signed).replace(line.split(" ")[2]!, later.toString("base64"));
  await writeFile(file, changed);
  assert.equal((await runGo(peer, "cosigners", file, ...vkeys)).ok, false);
});

test("we read the cosignatures that both make", { skip }, async () => {
  const file = path.join(home, "checkpoint");
  const signed = await checkpointBy(0);
  await writeFile(file, signed);
  const [witness] = witnesses;
  const answer = await runGo(peer, "cosign", file, witness.name, formatHex(new Uint8Array(32).fill(2)));
  assert.equal(answer.ok, true);
  assert.equal(answer.vkey, formatVerifierKey(cosigner(witness)));
  const policy = parsePolicy(utf8(formatPolicy(policyOf(1, [parseVerifierKey(String(answer.vkey))]))));
  for (const library of ["torchwood", "formats"]) {
    const lines = String(answer[library]);
    const checkpoint = verifyCheckpoint(policy, concat(signed, utf8(lines)));
    assert.equal(checkpoint.witnesses.length, 1, library);
    assert.ok(Math.abs(checkpoint.witnesses[0]!.time - Date.now() / 1000) < 600);
    const otherText = utf8(formatCheckpoint({ origin: ORIGIN, size: SIZE, root: sha256(utf8("another tree")) }));
    const forged = await signNote(new TextDecoder().decode(otherText), ORIGIN, log);
    const moved = concat(formatNote({ text: new TextDecoder().decode(otherText), signatures: [forged] }), utf8(lines));
    assert.throws(() => verifyCheckpoint(policy, moved), VerificationError);
  }
});
