import assert from "node:assert/strict";
import { test } from "node:test";
import { CodedError, formatVerifierKey, parseBase64, parseUtf8, parseVerifierKey, utf8 } from "@viafabric/schemas";
import { parseCheckpoint } from "./checkpoint.ts";
import { logVerifier, signedCheckpoint, signerOf, witnessVerifier } from "./fixtures.test.ts";
import { policyOfLog, verifyCheckpoint } from "./policy.ts";

const LOG_VKEY = "log.example/nfc+5b22172d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const WITNESS_VKEY = "witness.example/w1+df1c0a35+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";

const EMPTY = `log.example/nfc
0
47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=

— log.example/nfc WyIXLUF5VNWvx9PL7sLzSH/o8weQzFISNHZLWVSN5fbKWGT1A4XB6J16nz9lTlVxMYW5A5YuOR7A3LuK4Z9TSQTwIQQ=
— witness.example/w1 3xwKNQAAAABlU/EAmfmt18WVdGWVl0WND4FRNC1EmEESpjdzedjJYv2uSYuBqwmnlyVu3d8KLUpeW/CVw2GueObr9sGl4GYlXVX6Dg==
`;
const LARGE = `log.example/nfc
70000
Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34=

— log.example/nfc WyIXLbsaar2ncFbw4UbW+gs+Y60KqbS2cAiAawND0cUwkAmLmf0jGActtQjuGFEKxBLMaW/hGNalS9ag/zOPVYa+pQg=
— witness.example/w1 3xwKNQAAAABlU/EATC8EzmXEoIhczToFdueSOhYZvLITyyf6IcO0dmh4pRhUR3HSoqmZlPao1eQ8tyJlctU4WYtocLJsZXlzFw3cBA==
`;

const witnessed = {
  ...policyOfLog(logVerifier),
  witnesses: [{ name: "w1", verifier: witnessVerifier }],
  quorum: "w1",
};

test("verifier keys and signed checkpoints are the published ones, byte for byte", async () => {
  assert.equal(formatVerifierKey(logVerifier), LOG_VKEY);
  assert.equal(formatVerifierKey(witnessVerifier), WITNESS_VKEY);
  for (const note of [EMPTY, LARGE]) {
    const checkpoint = verifyCheckpoint(witnessed, utf8(note));
    assert.equal(parseUtf8(await signedCheckpoint(checkpoint, { witnessed: true })), note);
    assert.deepEqual(checkpoint.witnesses, [{ name: "w1", time: 1_700_000_000 }]);
  }
  assert.deepEqual(parseCheckpoint(LARGE.slice(0, LARGE.indexOf("\n\n") + 1)), {
    origin: "log.example/nfc",
    size: 70_000,
    root: parseBase64("Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34="),
  });
});

test("every part of a verifier key, and every wrong neighbour, is refused", () => {
  for (const vkey of [LOG_VKEY, WITNESS_VKEY]) {
    for (let from = 0; from < vkey.length; from++) {
      for (let to = from; to < vkey.length + (from > 0 ? 1 : 0); to++) {
        assert.throws(() => parseVerifierKey(vkey.slice(from, to)), CodedError, vkey.slice(from, to));
      }
      const next = String.fromCharCode(vkey.charCodeAt(from) + 1);
      const wrong = vkey.slice(0, from) + next + vkey.slice(from + 1);
      assert.throws(() => parseVerifierKey(wrong), CodedError, wrong);
    }
  }
});

test("every byte of a cosigned checkpoint matters", () => {
  const note = utf8(LARGE);
  for (let at = 0; at < note.length; at++) {
    for (const change of [1, 255, 32]) {
      const wrong = note.slice();
      wrong[at]! += change;
      assert.throws(() => verifyCheckpoint(witnessed, wrong), CodedError, `byte ${at}`);
    }
    const shorter = [...note.subarray(0, at), ...note.subarray(at + 1)];
    assert.throws(() => verifyCheckpoint(witnessed, Uint8Array.from(shorter)), CodedError, `without byte ${at}`);
  }
});

test("a size or root has one spelling, and there are no extension lines", () => {
  const root = "Gkzfy2Y3SgwNy+9JrL1JdtE+6GT7PLJB/JQ8rQTwL34=";
  for (const text of [
    `o\n01\n${root}\n`,
    `o\n1e3\n${root}\n`,
    `o\n-1\n${root}\n`,
    `o\n\n${root}\n`,
    `o\n9007199254740992\n${root}\n`,
    `o\n1\n${root.slice(0, -1)}\n`,
    `o\n1\n${root}`,
    `o\n1\n${root}\nextension\n`,
    `\n1\n${root}\n`,
    "o\n1\n",
    "",
    `o\n1\n${root.replace("34=", "35=")}\n`,
  ]) {
    assert.throws(() => parseCheckpoint(text), { code: "ERR_CHECKPOINT" }, text);
  }
});

test("a checkpoint without the log's own signature is nobody's", async () => {
  const head = { size: 1, root: new Uint8Array(32) };
  const other = await signedCheckpoint(head, { signer: signerOf(9) });
  assert.throws(() => verifyCheckpoint(policyOfLog(logVerifier), other), { code: "ERR_NOTE_UNSIGNED" });
  const foreign = await signedCheckpoint(head, { origin: "other.example/log" });
  assert.throws(() => verifyCheckpoint(policyOfLog(logVerifier), foreign), { code: "ERR_NOTE_UNSIGNED" });
  // The witness alone has signed: the quorum is there, the log is not.
  const lines = LARGE.split("\n");
  lines.splice(4, 1);
  assert.throws(() => verifyCheckpoint(witnessed, utf8(lines.join("\n"))), { code: "ERR_LOG_ORIGIN" });
  lines.splice(4, 1);
  assert.throws(() => verifyCheckpoint(witnessed, utf8(lines.join("\n"))), { code: "ERR_NOTE" });
  const alone = await signedCheckpoint(head);
  assert.throws(() => verifyCheckpoint(witnessed, alone), { code: "ERR_WITNESS_QUORUM" });
  assert.throws(() => verifyCheckpoint({ ...witnessed, logs: [] }, utf8(LARGE)), { code: "ERR_LOG_ORIGIN" });
});
