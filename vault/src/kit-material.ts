/** From the database and the published files to the sealed kit of a station. */
import path from "node:path";
import { readFileBounded } from "@viafabric/platform";
import { concatAll, utf8 } from "@viafabric/schemas";
import { LOG_PROOF_BYTES_MAX, parsePolicy } from "@viafabric/transparency-log";
import { proveInclusion } from "@viafabric/transparency-log/client";
import { type NodeState, statusState } from "@viafabric/verifier";
import type { Desk } from "./desk.ts";
import { readIssuedBatch } from "./issue.ts";
import { buildKit, sealKit, verifyKit } from "./kits.ts";
import type { KitRecord } from "./records.ts";
import { openSecret } from "./secrets.ts";

/** @throws VerificationError ERR_KIT_REFUSED when the verifier does not accept what was published */
export async function sealedKit(desk: Desk, record: KitRecord, publicKey: Uint8Array): Promise<string> {
  const { store, settings, secretKey, now } = desk.deps;
  const batch = (await store.batch(record.manifestHash))!;
  const { signed, tokensBin } = await readIssuedBatch(desk, batch);
  const { head } = desk.need().trusted;
  const material = {
    batch: signed,
    leaves: concatAll(signed.entries),
    tokensBin,
    logProof: await readFileBounded(
      path.join(desk.deps.publicFolder, `batch/${batch.seq}/log.proof`),
      LOG_PROOF_BYTES_MAX,
    ),
    manifestProof: await proveInclusion(desk.manifestFiles, head, batch.seq),
    headSize: head.size,
    uidKey: openSecret(secretKey, record.manifestHash, batch.uidKey),
    settings,
  };
  const kit = buildKit(material, record.station, record.id, record.created);
  verifyKit(kit, nodeState(desk), now());
  return sealKit(kit, publicKey);
}

/** What a node would make of the published files, and of nothing else. */
export function nodeState(desk: Desk): NodeState {
  const { trusted, statement } = desk.need();
  const { epoch, n, planes } = desk.history.previous;
  const set = (plane: 0 | 1 | 2) => ({ plane, epoch, n, set: planes[plane] });
  const held = (plane: 0 | 1) => [{ logSize: statement.statement.log.size, set: planes[plane] }];
  return {
    authority: trusted.authority,
    trust: { ...trusted, policy: parsePolicy(utf8(trusted.policyText)) },
    batches: [],
    status: statusState(statement, [set(0), set(1), set(2)], [held(0), held(1)]),
    clockFloor: 0,
  };
}
