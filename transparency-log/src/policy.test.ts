import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, formatNote, formatVerifierKey, noteVerifier, signNote, utf8 } from "@viafabric/schemas";
import { formatCheckpoint } from "./checkpoint.ts";
import { logSigner, logVerifier, ORIGIN, signerOf } from "./fixtures.test.ts";
import { formatPolicy, type LogPolicy, parsePolicy, verifyCheckpoint, witnessQuorumTime } from "./policy.ts";

const witnesses = [1, 2, 3, 4].map((n) => {
  const name = `w${n}.example/key`;
  const signer = signerOf(100 + n);
  return { name, signer, vkey: formatVerifierKey(noteVerifier(name, signer.publicKey, 4)) };
});
const LOG = `log ${formatVerifierKey(logVerifier)} https://log.example/nfc`;
const WITNESSES = witnesses.map(({ vkey }, i) => `witness w${i + 1} ${vkey}\n`).join("");

const policy = (rest: string) => parsePolicy(utf8(`${LOG}\n${WITNESSES}${rest}`));

const TIME = 1_700_000_000;

/** @param times of the cosignatures, by witness number */
async function cosigned(times: ReadonlyMap<number, number>): Promise<Uint8Array> {
  const text = formatCheckpoint({ origin: ORIGIN, size: 7, root: new Uint8Array(32) });
  const signatures = [await signNote(text, ORIGIN, logSigner)];
  for (const [n, time] of times) {
    const { name, signer } = witnesses[n - 1]!;
    signatures.push(await signNote(text, name, signer, time));
  }
  return formatNote({ text, signatures });
}

async function isReached(rule: LogPolicy, signing: readonly number[]): Promise<boolean> {
  try {
    verifyCheckpoint(rule, await cosigned(new Map(signing.map((n) => [n, TIME]))));
    return true;
  } catch (error) {
    assert.ok(error instanceof CodedError && error.code === "ERR_WITNESS_QUORUM", String(error));
    return false;
  }
}

test("a quorum is reached when its witness, or enough members of its group, cosigned", async () => {
  const nested = "group a 2 w1 w2 w3\ngroup b all a w4\n";
  const table: readonly [rule: string, signing: readonly number[], reached: boolean][] = [
    ["quorum none\n", [], true],
    ["quorum w1\n", [1], true],
    ["quorum w1\n", [2, 3, 4], false],
    ["group g any w1 w2\nquorum g\n", [2], true],
    ["group g any w1 w2\nquorum g\n", [3], false],
    ["group g 2 w1 w2 w3\nquorum g\n", [1, 3], true],
    ["group g 2 w1 w2 w3\nquorum g\n", [3, 4], false],
    [`${nested}quorum b\n`, [1, 2, 4], true],
    [`${nested}quorum b\n`, [1, 2, 3], false],
    [`${nested}quorum b\n`, [1, 4], false],
  ];
  for (const [rule, signing, reached] of table) {
    assert.equal(await isReached(policy(rule), signing), reached, `${rule} with ${signing}`);
  }
});

test("the time of a checkpoint is one that a quorum of witnesses has seen come", async () => {
  const table: readonly [rule: string, times: readonly [number, number][], time: number | undefined][] = [
    ["quorum none\n", [[1, TIME]], undefined],
    ["quorum w1\n", [[1, TIME]], TIME],
    // One witness with a wrong clock, or bought, moves nothing.
    [
      "quorum w1\n",
      [
        [1, TIME],
        [2, 2 * TIME],
      ],
      TIME,
    ],
    [
      "group g 2 w1 w2 w3\nquorum g\n",
      [
        [1, 2 * TIME],
        [2, TIME],
        [3, TIME - 1],
      ],
      TIME,
    ],
    [
      "group g 2 w1 w2 w3\nquorum g\n",
      [
        [1, TIME],
        [3, 5],
      ],
      5,
    ],
    [
      "group a 2 w1 w2 w3\ngroup b all a w4\nquorum b\n",
      [
        [1, 9],
        [2, 8],
        [3, 7],
        [4, 6],
      ],
      6,
    ],
  ];
  for (const [rule, times, time] of table) {
    const checked = verifyCheckpoint(policy(rule), await cosigned(new Map(times)));
    assert.equal(witnessQuorumTime(policy(rule), checked), time, rule);
  }
});

test("a policy comes back from its text", () => {
  const rule = policy("# far apart\ngroup g 2 w1 w2 w3\n\n  group h any g w4\nquorum h\n");
  assert.equal(rule.logs[0]?.url, "https://log.example/nfc");
  assert.deepEqual(parsePolicy(utf8(formatPolicy(rule))), rule);
  const none = policy("quorum none\n");
  assert.equal(none.quorum, undefined);
  assert.deepEqual(parsePolicy(utf8(formatPolicy(none))), none);
});

test("a policy that is incomplete or ambiguous is refused", () => {
  for (const rest of [
    "",
    "quorum w5\n",
    "quorum w1\nquorum w2\n",
    "quorum\n",
    "quorum w1 w2\n",
    "group g 0 w1\nquorum g\n",
    "group g 3 w1 w2\nquorum g\n",
    "group g 1\nquorum g\n",
    "group g 2 w1 w1\nquorum g\n",
    "group g any w1\ngroup h any w1\nquorum g\n",
    "group g any h\ngroup h any w1\nquorum g\n",
    "group g any none\nquorum g\n",
    "group none any w1\nquorum none\n",
    "group w1 any w2\nquorum w1\n",
    "group g 01 w1\nquorum g\n",
    `witness again ${witnesses[0]!.vkey}\nquorum none\n`,
    `witness renamed ${formatVerifierKey(noteVerifier("x.example/y", witnesses[0]!.signer.publicKey, 4))}\nquorum none\n`,
    `witness wrong-type ${formatVerifierKey(noteVerifier("x.example/y", signerOf(50).publicKey))}\nquorum none\n`,
    `log ${witnesses[0]!.vkey}\nquorum none\n`,
    `${LOG}\nquorum none\n`,
    "unknown line\nquorum none\n",
  ]) {
    assert.throws(() => policy(rest), CodedError, rest);
  }
  assert.throws(() => parsePolicy(utf8(`${WITNESSES}quorum none\n`)), { code: "ERR_LOG_POLICY" }, "no log");
  assert.throws(() => parsePolicy(utf8("")), { code: "ERR_LOG_POLICY" });
});
