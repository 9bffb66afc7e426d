import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, formatVerifierKey, noteVerifier, utf8 } from "@viafabric/schemas";
import { formatPolicy, type LogPolicy, parsePolicy, witnessPolicy, witnessQuorumOf } from "@viafabric/transparency-log";
import { namedSigner } from "./fixtures.test.ts";
import { namedWitness, nextPolicy, parseWitnessChange } from "./witness-change.ts";

const listed = (n: number) => {
  const name = `witness.example/${n}`;
  return {
    vkey: formatVerifierKey(noteVerifier(name, namedSigner(name).publicKey, 4)),
    url: `https://w${n}.example/`,
  };
};
const log = { verifier: noteVerifier("vault.example/log", namedSigner("log").publicKey) };
const policyOf = (numbers: readonly number[], quorum: number): LogPolicy =>
  witnessPolicy(log, { witnesses: numbers.map((n) => namedWitness(`w${n}`, listed(n))), quorum });
const coded = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CodedError && error.code === code, String(error));
  return true;
};
const changed = (policy: LogPolicy, add: readonly number[], remove: readonly string[], quorum?: number) => {
  const next = parsePolicy(
    nextPolicy({ add: add.map(listed), remove, ...(quorum !== undefined && { quorum }) }, policy),
  );
  assert.deepEqual(next.logs, policy.logs);
  const { witnesses, quorum: wanted } = witnessQuorumOf(next);
  return `${wanted} of ${witnesses.map(({ name, url }) => `${name} ${url}`).join(", ")}`;
};

test("witnesses come and go, and the quorum stays or grows to a majority", () => {
  const three = policyOf([1, 2, 3], 2);
  assert.equal(
    changed(three, [4], ["w2"]),
    "2 of w1 https://w1.example/, w3 https://w3.example/, w4 https://w4.example/",
  );
  assert.match(changed(three, [4, 5], []), /^3 of w1 .*w5 /);
  assert.match(changed(three, [], ["w3"]), /^2 of w1 \S+ w2 \S+$/);
  assert.match(changed(three, [], [], 3), /^3 of /);
  assert.match(changed(policyOf([], 0), [1, 2, 3], []), /^2 of w1 /);
});

test("a quorum that falls, loses its majority or cannot be reached is refused", () => {
  const three = policyOf([1, 2, 3], 2);
  assert.throws(() => changed(three, [], [], 1), coded("ERR_TRUST_CHANGE"));
  const all = policyOf([1, 2, 3], 3);
  assert.throws(() => changed(all, [], [], 2), coded("ERR_TRUST_CHANGE"), "a majority, and fewer than before");
  assert.throws(() => changed(three, [], ["w1", "w2"]), coded("ERR_TRUST_CHANGE"));
  assert.throws(() => changed(three, [], ["w1", "w2", "w3"]), coded("ERR_TRUST_CHANGE"));
  assert.throws(() => changed(three, [4], [], 2), coded("ERR_TRUST_CHANGE"));
  assert.throws(() => changed(three, [], ["w9"]), coded("ERR_TRUST_CHANGE"));
  assert.throws(() => changed(three, [3], []), coded("ERR_LOG_POLICY"), "one key would count twice");
  const text = formatPolicy(three);
  const nested = text.replace(/group .*\nquorum .*/, "group a 1 w1 w2\ngroup b 1 a w3\nquorum b");
  assert.throws(() => changed(parsePolicy(utf8(nested)), [4], []), coded("ERR_LOG_POLICY"));
});

test("a malformed change is refused", () => {
  const good = { add: [listed(4)], remove: ["w1"], quorum: 2 };
  assert.deepEqual(parseWitnessChange(good), good);
  const many = Array.from({ length: 33 }, () => "w1");
  for (const bad of [null, [], {}, { add: [], remove: [] }, { ...good, more: 1 }, { ...good, quorum: 1.5 }])
    assert.throws(() => parseWitnessChange(bad), coded("ERR_TRUST_REQUEST"), JSON.stringify(bad));
  for (const bad of [
    { add: [1], remove: [] },
    { add: [], remove: [1] },
    { add: [], remove: many },
  ])
    assert.throws(() => parseWitnessChange(bad), coded("ERR_TRUST_REQUEST"), JSON.stringify(bad));
  const three = policyOf([1, 2, 3], 2);
  for (const url of ["ftp://w.example/", "https://w.example/ quorum none", "https://w.example/\nquorum none", "x"])
    assert.throws(() => nextPolicy({ add: [{ ...listed(4), url }], remove: [] }, three), coded("ERR_LOG_POLICY"));
});
