/**
 * Fetching: the sealed kit, then the newest trust, then the proof of every held kit under the head of that trust, so
 * that the station can go where there is no network and still check what it writes.
 */
import { buildConsistencyProof, buildInclusionProof, OperationError } from "@viafabric/schemas";
import { type FetchFile, type Mirror, openTree, subFolder, tryMirrors } from "@viafabric/transparency-log/client";
import { assertClock, refreshTrust } from "@viafabric/tuf/client";
import type { Trust } from "@viafabric/verifier";
import { type Enrolment, type Home, trustOf } from "./home.ts";
import { type KitSummary, listKits, storeKit, storeManifestProof } from "./kits.ts";
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
 * The newest trust, and the proofs of all held kits under its head.
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
  const kits = await listKits(home);
  if (kits.length > 0) {
    const { subtree } = await openTree(manifests, head);
    for (const kit of kits) {
      if (kit.batch >= head.size) throw new OperationError("ERR_NOT_FOUND", `batch ${kit.batch} is not under the head`);
      await storeManifestProof(home, kit, await buildInclusionProof(kit.batch, head.size, subtree));
    }
  }
  return trustOf(state);
}
