/**
 * Taking in a status statement: what a node believes about revoked, suspended and unreleased tokens.
 *
 * The status key is online, so it is believed about additions and not about removals. A node keeps the union of what
 * it has seen in planes 0 and 1, and of the floor in the quorum-signed head; an index leaves only through a logged
 * `reinstate` event with its full threshold. A thief of the status key can hide a revocation from a newcomer until the
 * next floor, and can free nobody whom a node has seen revoked.
 */
import {
  carryOver,
  type EpochSet,
  type Held,
  heldUnion,
  type IndexSet,
  type Reinstatement,
  setRoot,
  signedSet,
  type VerifiedStatement,
  verifySet,
  verifyStatement,
  verifySuccessor,
} from "@viafabric/revocation";
import {
  CodedError,
  decodeEventBody,
  decodeLeaf,
  EVENT_CONTEXT,
  equalBytes,
  verifyThreshold,
} from "@viafabric/schemas";
import { parseProof, verifyProof } from "@viafabric/transparency-log";
import { isSufficientClass, type Trust } from "./trust.ts";
import { Refusal } from "./verdict.ts";

/** The sets as signed, in the order of their planes. */
export type SignedSets = readonly [EpochSet, EpochSet, EpochSet];

export interface StatusState {
  readonly verified: VerifiedStatement;
  readonly sets: SignedSets;
  /** Planes 0 and 1 as the union rule keeps them; the newest layer is the signed set. */
  readonly held: readonly [Held, Held];
  /** What counts: every layer. */
  readonly revoked: IndexSet;
  readonly suspended: IndexSet;
  readonly unreleased: IndexSet;
}

export interface StatusEvidence {
  /** The newest statement, a signed note. */
  readonly note: Uint8Array;
  /** The statements between the held one and this, oldest first: `revocation/e/<epoch>.txt`. */
  readonly between: readonly Uint8Array[];
  readonly sets: SignedSets;
  /** Planes 0 and 1 at the head's floor; undefined when the floor is epoch 0. */
  readonly floor: readonly [IndexSet, IndexSet] | undefined;
  /** `revocation/event/<leaf>` of reinstatements: tlog-proofs with the entry as `extra`. */
  readonly reinstatements: readonly Uint8Array[];
}

/** @throws Refusal status-invalid, status-rollback, status-chain-broken, floor-missing */
export function advanceStatus(trust: Trust, previous: StatusState | undefined, evidence: StatusEvidence): StatusState {
  const verified = refuseAs(() => readChain(trust, previous, evidence));
  const { statement } = verified;
  refuseAs(() => {
    for (const set of evidence.sets) verifySet(set, signedSet(statement, set.plane));
  });
  if (evidence.sets.some((set, plane) => set.plane !== plane))
    throw new Refusal("status-invalid", "planes out of order");
  const floor = checkFloor(trust, evidence.floor);
  const freed = evidence.reinstatements.map((proof) => refuseAs(() => readReinstatement(trust, proof)));
  const hold = (plane: 0 | 1): Held => {
    const next = { logSize: statement.log.size, set: evidence.sets[plane].set };
    return carryOver(withFloor(trust, previous?.held[plane] ?? [], floor?.[plane]), next, freed);
  };
  return statusState(verified, evidence.sets, [hold(0), hold(1)]);
}

/** The state that these parts make: also how a node that stored them begins again. */
export function statusState(verified: VerifiedStatement, sets: SignedSets, held: StatusState["held"]): StatusState {
  return { verified, sets, held, revoked: heldUnion(held[0]), suspended: heldUnion(held[1]), unreleased: sets[2].set };
}

/** The floor adds what was never seen; what is held already keeps its own, newer, log size. */
function withFloor(trust: Trust, held: Held, floor: IndexSet | undefined): Held {
  const unseen = floor?.minus(heldUnion(held));
  return unseen?.count ? [{ logSize: trust.head.floor.logSize, set: unseen }, ...held] : held;
}

/** Each statement must follow the one before, without a gap. A first statement has nothing to follow. */
function readChain(trust: Trust, previous: StatusState | undefined, evidence: StatusEvidence): VerifiedStatement {
  let last = previous?.verified;
  for (const note of [...evidence.between, evidence.note]) {
    const next = verifyStatement(note, trust);
    // A thief who can only make software keys must not speak for an authority whose keys are in hardware.
    if (!isSufficientClass(next.signer.class, trust.rules.classes.get("status")))
      throw new Refusal("status-invalid", `a ${next.signer.class} status key`);
    if (last) {
      verifySuccessor(last, next);
      if (next.statement.epoch > last.statement.epoch + 1) {
        throw new Refusal(
          "status-chain-broken",
          `no statement between epochs ${last.statement.epoch} and ${next.statement.epoch}`,
        );
      }
    }
    last = next;
  }
  return last!;
}

function checkFloor(trust: Trust, sets: StatusEvidence["floor"]): StatusEvidence["floor"] {
  const { floor } = trust.head;
  if (floor.epoch === 0) return undefined;
  if (!sets) throw new Refusal("floor-missing", `the sets of floor epoch ${floor.epoch} are missing`);
  const roots = [floor.revokedRoot, floor.suspendedRoot];
  sets.forEach((set, plane) => {
    if (!equalBytes(setRoot(set, floor.n), roots[plane]!)) {
      throw new Refusal("floor-missing", `plane ${plane} is not the floor that the trustees signed`);
    }
  });
  return sets;
}

/** Logged, and signed by as many trustees as a reinstatement takes. */
function readReinstatement(trust: Trust, proof: Uint8Array): Reinstatement {
  const entry = parseProof(proof).extra;
  const leaf = entry && decodeLeaf(entry);
  if (leaf?.type !== "event") throw new Refusal("status-invalid", "a reinstatement that is not a status event");
  const body = decodeEventBody(leaf.event.body);
  if (body.action !== "reinstate" || !equalBytes(body.authority, trust.authority)) {
    throw new Refusal("status-invalid", "an event that reinstates nothing here");
  }
  const role = { keys: trust.trustees.keys, threshold: trust.rules.thresholds.reinstate };
  verifyThreshold(role, EVENT_CONTEXT, trust.authority, leaf.event.body, leaf.event.signatures);
  return { leafIndex: verifyProof(trust.policy, entry!, proof).index, ranges: body.ranges };
}

function refuseAs<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Refusal || !(error instanceof CodedError)) throw error;
    const { code, message } = error as CodedError;
    if (code === "ERR_STATUS_ROLLBACK") throw new Refusal("status-rollback", message, { cause: error });
    const broken = code === "ERR_STATUS_FORK" || code === "ERR_STATUS_CHAIN";
    throw new Refusal(broken ? "status-chain-broken" : "status-invalid", message, { cause: error });
  }
}
