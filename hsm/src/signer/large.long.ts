/** The largest batch there may be, through the signer's socket: its memory does not grow with the bodies. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import {
  BATCH_TOKENS_MAX,
  formatDidKey,
  isValidSignature,
  type OwnClaims,
  SIGNATURE_BYTES,
  sha256,
  signatureInput,
  u32,
} from "@viafabric/schemas";
import { connect, startSigner } from "../signer-client.ts";
import { batchOf, TestAuthority } from "./testkit.test.ts";

/**
 * What 100,000 tokens may add: their claims once (about 11 MB), their ids while they are compared, and what is not yet
 * collected; twice what was seen (55 MB), because when V8 collects is its own affair.
 */
const GROWTH_BYTES_MAX = 120 * 1024 * 1024;

test("100,000 tokens stream through the signer in bounded memory", async (t) => {
  const authority = await TestAuthority.create();
  const process = await startSigner(authority.configFile);
  const signer = await connect(process.socket);
  try {
    await authority.found(signer);
    const tokens: OwnClaims[] = Array.from({ length: BATCH_TOKENS_MAX }, (_, index) => {
      const rctId = sha256(u32(index)).slice(0, 16);
      return { rctId, subject: formatDidKey(sha256(rctId)), index };
    });
    const batch = batchOf({ ...authority.draft(1).manifest, count: BATCH_TOKENS_MAX, stations: [] }, tokens);
    authority.include(batch);
    await authority.signHead();
    await signer.trust(await authority.trustRequest());
    const before = await peakBytes(process.pid);
    const start = performance.now();
    const signatures = await signer.tokens(await authority.tokensRequest(batch));
    const seconds = (performance.now() - start) / 1000;
    const peak = await peakBytes(process.pid);
    assert.equal(signatures.length, BATCH_TOKENS_MAX * SIGNATURE_BYTES);
    const issuer = authority.config.keys.issuer[0]!.publicKey;
    for (let i = 0; i < BATCH_TOKENS_MAX; i += 997) {
      const signature = signatures.slice(i * SIGNATURE_BYTES, (i + 1) * SIGNATURE_BYTES);
      assert.ok(isValidSignature(issuer, signatureInput("ed25519", batch.payloads[i]!), signature), `token ${i}`);
    }
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
    t.diagnostic(`peak ${megabytes(before)} MB before, ${megabytes(peak)} MB after; ${seconds.toFixed(1)} s`);
    assert.ok(peak - before < GROWTH_BYTES_MAX, `it grew by ${megabytes(peak - before)} MB`);
  } finally {
    await signer.close();
    await process.stop();
    await authority.remove();
  }
});

async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) * 1024;
}
