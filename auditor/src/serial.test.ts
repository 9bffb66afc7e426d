import assert from "node:assert/strict";
import { test } from "node:test";
import { type CodedError, formatRctId, sha256, utf8 } from "@viafabric/schemas";
import { parseProof, verifyProof } from "@viafabric/transparency-log";
import { type Files, fetchFrom, KEYS, TestAuthority, TRUSTEES } from "./fixtures.test.ts";
import { findSerial } from "./serial.ts";
import { startTrust } from "./trust-start.ts";

async function published(): Promise<{ authority: TestAuthority; files: Files }> {
  const authority = await TestAuthority.active();
  // Bundles without any token between those that have some.
  for (let i = 0; i < 600; i++) await authority.event("release", [[0, 1]], [KEYS.release]);
  await authority.batch(3);
  await authority.state();
  return { authority, files: await authority.publish() };
}

test("a token is found by its index and by its id, with a proof that verifies", async () => {
  const { authority, files } = await published();
  const fetch = fetchFrom(files);
  const start = await startTrust(fetch, { file: authority.root });
  for (const [index, seq] of [
    [0, 0],
    [4, 0],
    [10, 1],
    [150, 1],
    [309, 1],
    [310, 2],
    [312, 2],
  ] as const) {
    const byIndex = await findSerial(fetch, start, index);
    const byId = await findSerial(fetch, start, formatRctId(sha256(utf8(`rct ${index}`)).slice(0, 16)));
    assert.deepEqual(byId, byIndex);
    assert.deepEqual([byIndex.leaf.index, byIndex.batch.seq], [index, seq]);
    assert.deepEqual([byIndex.approval.version, byIndex.approval.signers.length], [seq + 2, 3]);
    const entry = authority.entries[byIndex.entry]!;
    assert.equal(verifyProof(start.policy, entry, byIndex.proof).index, byIndex.entry);
    assert.deepEqual(parseProof(byIndex.proof).extra, entry);
  }
  for (const nowhere of [5, 9, 313, 4_000_000_000, formatRctId(new Uint8Array(16))]) {
    await assert.rejects(findSerial(fetch, start, nowhere), { code: "ERR_NOT_FOUND" } satisfies Partial<CodedError>);
  }
});

test("a token whose batch too few approved, or whose files are others, is refused", async () => {
  const authority = await TestAuthority.active();
  await authority.batch(2, { signers: TRUSTEES.slice(1, 3) });
  const files = await authority.publish();
  const start = await startTrust(fetchFrom(files), { file: authority.root });
  await assert.rejects(findSerial(fetchFrom(files), start, 311), {
    code: "ERR_THRESHOLD",
  } satisfies Partial<CodedError>);
  for (const file of ["batch/1/manifest.cbor", "tuf/metadata/3.batches.json"]) {
    const other = new Map(files).set(file, utf8("another"));
    await assert.rejects(findSerial(fetchFrom(other), start, 20), { code: "ERR_LOG_EVIDENCE" }, file);
  }
});
