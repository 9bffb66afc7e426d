/**
 * Fetching: the sealed kit, then the newest trust, then the proofs of every held kit under that trust, so that the
 * station can go where there is no network and still check what it writes.
 */
import { buildConsistencyProof, buildInclusionProof, CodedError, decodeLeaf, OperationError } from "@viafabric/schemas";
import { LOG_PROOF_BYTES_MAX, parseProof, verifyProof } from "@viafabric/transparency-log";
import { type FetchFile, type Mirror, openTree, subFolder, tryMirrors } from "@viafabric/transparency-log/client";
import { assertClock, refreshTrust } from "@viafabric/tuf/client";
import type { Trust } from "@viafabric/verifier";
import { type Enrolment, type Home, trustOf } from "./home.ts";
import { type KitSummary, listKits, storeKit, storeLogProof, storeManifestProof } from "./kits.ts";
import { generateSealKey } from "./unseal.ts";
import type { VaultClient } from "./vault-client.ts";

export interface FetchOptions {
  readonly home: Home;
  readonly enrolment: Enrolment;
  readonly vault: VaultClient;
  /** Of the published tree. */
  readonly mirrors: readonly Mirror[];
  /** Unix seconds. */
  readonly now: number;
}

/** @returns the kit, which may have been held already: a kit is fetched once */
export async function fetchKit(options: FetchOptions, batch: number): Promise<KitSummary> {
  const { home, vault } = options;
  let summary = (await listKits(home)).find((kit) => kit.batch === batch);
  if (!summary) {
    const key = generateSealKey();
    const { id, first, count, sealed } = await vault.fetchKit(batch, key.publicKey);
    summary = { id, batch, first, count };
    await storeKit(home, summary, sealed, key.privateKey);
  }
  await tryMirrors(options.mirrors, (published) => refreshStation(options, published));
  return summary;
}

/**
 * The newest trust, and the proofs of all held kits under it.
 * @throws OperationError ERR_CLOCK, for what is written is judged by this clock
 */
export async function refreshStation(
  { home, enrolment, now }: Pick<FetchOptions, "home" | "enrolment" | "now">,
  published: FetchFile,
): Promise<Trust> {
  await assertClock(home.trust, now);
  const manifests = subFolder(published, "batches");
  const state = await refreshTrust({
    folder: home.trust,
    pinned: enrolment.pinned,
    fetch: published,
    policyFiles: false,
    prove: async (oldSize, next) => {
      return buildConsistencyProof(oldSize, next.size, (await openTree(manifests, next)).subtree);
    },
    now,
  });
  const { head } = state;
  const trust = trustOf(state);
  const kits = await listKits(home);
  if (kits.length > 0) {
    const { subtree } = await openTree(manifests, head);
    for (const kit of kits) {
      if (kit.batch >= head.size) throw new OperationError("ERR_NOT_FOUND", `batch ${kit.batch} is not under the head`);
      await storeManifestProof(home, kit, await buildInclusionProof(kit.batch, head.size, subtree));
      const logProof = await published(`batch/${kit.batch}/log.proof`, LOG_PROOF_BYTES_MAX);
      if (logProof && provesBatch(trust, kit.batch, logProof)) await storeLogProof(home, kit, logProof);
    }
  }
  return trust;
}

/** Until the witnesses that the trust lists have cosigned, the proof that is held is as good as the published one. */
function provesBatch(trust: Trust, batch: number, proof: Uint8Array): boolean {
  try {
    const { extra } = parseProof(proof);
    const leaf = extra && decodeLeaf(extra);
    if (leaf?.type !== "batch" || leaf.seq !== batch) return false;
    verifyProof(trust.policy, extra!, proof);
    return true;
  } catch (error) {
    if (error instanceof CodedError) return false;
    throw error;
  }
}
