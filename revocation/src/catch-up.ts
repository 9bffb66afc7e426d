/** From the set a node holds to the one a statement signs, with whatever files it can get. */
import { CodedError, VerificationError } from "@viafabric/schemas";
import { applyDelta, type EpochSet, type SignedSet, verifySet } from "./container.ts";
import type { ReadPublished } from "./epoch-files.ts";
import { type CatchUp, catchUpPlans, deltaPath, snapshotPath } from "./files.ts";
import { IndexSet } from "./index-set.ts";

/**
 * Tries each plan in turn; nothing on the way is trusted but the last set, which must have the signed root.
 * @param held the set of an older epoch, verified then; undefined for a node that holds nothing
 * @param read any mirror, folder or courier; undefined for a file that is not there
 * @throws VerificationError of the last plan; ERR_SET_MISSING when its files are not there
 */
export async function catchUp(held: EpochSet | undefined, signed: SignedSet, read: ReadPublished): Promise<EpochSet> {
  if (held?.epoch === signed.epoch) return verifySet(held, signed);
  let failure: unknown;
  for (const plan of catchUpPlans(held?.epoch ?? 0, signed.epoch)) {
    try {
      return verifySet(await follow(plan, held, signed, read), signed);
    } catch (error) {
      // Bad or missing files of one plan say nothing about the other; anything else is not ours to hide.
      if (!(error instanceof CodedError)) throw error;
      failure = error;
    }
  }
  throw failure;
}

async function follow(
  plan: CatchUp,
  held: EpochSet | undefined,
  { plane }: SignedSet,
  read: ReadPublished,
): Promise<EpochSet> {
  const empty: EpochSet = { plane, epoch: 0, n: 0, set: IndexSet.EMPTY };
  const paths = plan.deltas.map((step) => deltaPath(plane, step));
  if (plan.snapshot !== undefined) paths.unshift(snapshotPath(plane, plan.snapshot));
  let state = plan.snapshot === undefined ? (held ?? empty) : empty;
  for (const path of paths) {
    const bytes = await read(path);
    if (!bytes) throw new VerificationError("ERR_SET_MISSING", `${path} is not there`);
    state = applyDelta(state, bytes);
  }
  return state;
}
