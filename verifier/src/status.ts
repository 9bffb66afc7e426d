/**
 * Taking in a status statement: what a node believes about revoked, suspended and unreleased tokens.
 *
 * The status key is online, so it is believed about additions and not about removals. A node keeps the union of what
 * it has seen in planes 0 and 1, and of the floor in the quorum-signed head; an index leaves only through a logged
 * `reinstate` event with its full threshold. A thief of the status key can hide a revocation from a newcomer until the
 * next floor, and can free nobody whom a node has seen revoked.
 */
import {
  type EpochSet,
  IndexSet,
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
import type { Trust } from "./trust.ts";
import { Refusal } from "./verdict.ts";

/** The sets as signed, in the order of their planes. */
export type SignedSets = readonly [EpochSet, EpochSet, EpochSet];

export interface StatusState {
  readonly verified: VerifiedStatement;
  readonly sets: SignedSets;
  /** Planes 0 and 1: what the node holds beyond the signed sets. */
  readonly kept: readonly [Kept, Kept];
  /** What counts: the signed sets with what is kept. */
  readonly revoked: IndexSet;
  readonly suspended: IndexSet;
  readonly unreleased: IndexSet;
}

/** Indices that a newer statement dropped without a reinstatement that the node could verify. */
export interface Kept {
  readonly set: IndexSet;
  /** Log size of the newest statement or floor that held any of them: only a later reinstatement frees. */
  readonly logSize: number;
}

export const NOTHING_KEPT: Kept = { set: IndexSet.EMPTY, logSize: 0 };

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
  const keep = (plane: 0 | 1): Kept => {
    const held: Kept[] = floor ? [{ set: floor[plane], logSize: trust.head.floor.logSize }] : [];
    if (previous) {
      held.push(previous.kept[plane]);
      held.push({ set: previous.sets[plane].set, logSize: previous.verified.statement.log.size });
    }
    const signed = evidence.sets[plane].set;
    return joinKept(held.map(({ set, logSize }) => ({ set: free(set.minus(signed), freed, logSize), logSize })));
  };
  return statusState(verified, evidence.sets, [keep(0), keep(1)]);
}

/** The state that these parts make: also how a node that stored them begins again. */
export function statusState(verified: VerifiedStatement, sets: SignedSets, kept: StatusState["kept"]): StatusState {
  const [revoked, suspended] = [sets[0].set.union(kept[0].set), sets[1].set.union(kept[1].set)];
  return { verified, sets, kept, revoked, suspended, unreleased: sets[2].set };
}

function joinKept(parts: readonly Kept[]): Kept {
  const left = parts.filter(({ set }) => set.count > 0);
  return {
    set: IndexSet.unionOf(left.map(({ set }) => set)),
    logSize: Math.max(0, ...left.map((kept) => kept.logSize)),
  };
}

/** Each statement must follow the one before, without a gap. A first statement has nothing to follow. */
function readChain(trust: Trust, previous: StatusState | undefined, evidence: StatusEvidence): VerifiedStatement {
  let last = previous?.verified;
  for (const note of [...evidence.between, evidence.note]) {
    const next = verifyStatement(note, trust);
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

interface Reinstatement {
  readonly leafIndex: number;
  readonly ranges: IndexSet;
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
  return { leafIndex: verifyProof(trust.policy, entry!, proof).index, ranges: IndexSet.fromRuns(body.ranges) };
}

/** A reinstatement frees only what was held before it was logged: an old one must not undo a new revocation. */
function free(held: IndexSet, reinstatements: readonly Reinstatement[], logSize: number): IndexSet {
  return reinstatements
    .filter(({ leafIndex }) => leafIndex >= logSize)
    .reduce((rest, { ranges }) => rest.minus(ranges), held);
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
