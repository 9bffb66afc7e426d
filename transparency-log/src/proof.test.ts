import assert from "node:assert/strict";
import { test } from "node:test";
import { buildInclusionProof, CodedError, hashLeaf, parseUtf8, rootOf, subtreeOf, utf8 } from "@viafabric/schemas";
import { decimals, logVerifier, signedCheckpoint, witnessVerifier } from "./fixtures.test.ts";
import { policyOfLog } from "./policy.ts";
import { formatProof, parseProof, verifyProof } from "./proof.ts";

const entries = decimals(0, 1000);
const leafHashes = entries.map(hashLeaf);
const policy = { ...policyOfLog(logVerifier), witnesses: [{ name: "w1", verifier: witnessVerifier }], quorum: "w1" };

async function proofOf(index: number, extra?: Uint8Array): Promise<Uint8Array> {
  const hashes = await buildInclusionProof(index, 1000, subtreeOf(leafHashes));
  const checkpoint = await signedCheckpoint({ size: 1000, root: rootOf(leafHashes) }, { witnessed: true });
  return formatProof({ ...(extra && { extra }), index, hashes, checkpoint });
}

test("a proof file says which entry it is, and comes back from its bytes", async () => {
  for (const extra of [undefined, entries[333]!, new Uint8Array(65_535)]) {
    const bytes = await proofOf(333, extra);
    const { index, checkpoint } = verifyProof(policy, entries[333]!, bytes);
    assert.deepEqual([index, checkpoint.size, checkpoint.witnesses.length], [333, 1000, 1]);
    const proof = parseProof(bytes);
    assert.deepEqual(proof.extra, extra);
    assert.deepEqual(formatProof(proof), bytes);
  }
});

test("every byte of a proof matters, and it is for one entry only", async () => {
  const bytes = await proofOf(333);
  for (let at = 0; at < bytes.length; at++) {
    const wrong = bytes.slice();
    wrong[at]! += 1;
    assert.throws(() => verifyProof(policy, entries[333]!, wrong), CodedError, `byte ${at}`);
    assert.throws(() => verifyProof(policy, entries[333]!, bytes.subarray(0, at)), CodedError, `cut at ${at}`);
  }
  assert.throws(() => verifyProof(policy, entries[334]!, bytes), { code: "ERR_PROOF" });
});

test("a proof with lines of another kind is refused", async () => {
  const good = parseUtf8(await proofOf(5, utf8("extra")));
  const [header, extra, index, first] = good.split("\n");
  for (const wrong of [
    good.replace(`${header}\n`, ""),
    good.replace("@v1", "@v2"),
    good.replace(`${extra}\n${index}`, `${index}\n${extra}`),
    good.replace(extra!, `${extra}\n${extra}`),
    good.replace(extra!, "extra"),
    good.replace("index 5", "index 05"),
    good.replace("index 5", "index 1e3"),
    good.replace(`${index}\n`, ""),
    good.replace(first!, first!.slice(4)),
    good.replace(first!, Array(65).fill(first).join("\n")),
    good.replace("\n\n", "\n"),
    good.replaceAll("\n", "\r\n"),
    "",
  ]) {
    assert.throws(() => parseProof(utf8(wrong)), { code: "ERR_LOG_PROOF" }, wrong.slice(0, 80));
  }
});
