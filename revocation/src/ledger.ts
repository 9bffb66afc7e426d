/**
 * The status ledger: the log's batches and status events, replayed in order into three planes (FORMATS "Status").
 *
 * Signer, auditor and trustees each replay the log themselves, so that nobody signs a set that was handed to them.
 * The ledger is pure state: whether an event carries the signatures it needs is checked before it comes here
 * (`requiredThreshold` says which).
 *
 * - Plane 0, revoked, and plane 1, suspended: an index stays in while any event that covers it has not been undone,
 *   for that index, by a reinstatement that names the event's leaf.
 * - Plane 2, unreleased: every index below N that no release covers, gaps between batches included.
 */
import { concat, type EventBody, encodeEventBody, formatHex, sha256, VerificationError } from "@viafabric/schemas";
import type { Plane } from "./container.ts";
import { IndexSet, type Run, UNIVERSE_MAX } from "./index-set.ts";
import { decodeLedgerState, EVENT_ID_BYTES, encodeLedgerState, type LedgerState } from "./ledger-state.ts";

/** Revoked, suspended, unreleased. */
export type Planes = readonly [IndexSet, IndexSet, IndexSet];

/** What the ledger needs to know of an event. */
export interface LedgerEvent extends Pick<EventBody, "action" | "ranges" | "undoes"> {
  /** Names the body: a body counts once. */
  readonly id: Uint8Array;
}

/** One batch or event that was checked and can be applied. */
export type LedgerStep =
  | { readonly kind: "batch"; readonly first: number; readonly count: number }
  | { readonly kind: "event"; readonly leafIndex: number; readonly body: EventBody };

/** What the rules look at. */
interface View {
  readonly n: number;
  readonly leaves: number;
  seen(id: Uint8Array): boolean;
  holds(leafIndex: number): boolean;
}

export class StatusLedger {
  #state: LedgerState;
  /** Planes 0 and 1 as of the last question, with what was added since; undefined where they must be rebuilt. */
  #cached: [IndexSet | undefined, IndexSet | undefined];
  #added: [Run[], Run[]] = [[], []];
  #releases: Run[] = [];

  constructor(state: LedgerState = { n: 0, leaves: 0, seen: new Set(), released: IndexSet.EMPTY, holds: new Map() }) {
    this.#state = state;
    this.#cached = [undefined, undefined];
  }

  /** @throws FormatError ERR_LEDGER */
  static decode(bytes: Uint8Array): StatusLedger {
    return new StatusLedger(decodeLedgerState(bytes));
  }

  /** CBOR, the same for everyone who replayed the same entries. */
  encode(): Uint8Array {
    this.#settleReleases();
    return encodeLedgerState(this.#state);
  }

  clone(): StatusLedger {
    return StatusLedger.decode(this.encode());
  }

  /** N: one more than the highest index of any logged batch. */
  get n(): number {
    return this.#state.n;
  }

  /** All event leaves below this log index have been applied. */
  get leaves(): number {
    return this.#state.leaves;
  }

  /** A batch leaf was logged: its indices are known, and unreleased. @throws VerificationError ERR_EVENT_RANGE */
  applyBatch(first: number, count: number): void {
    checkBatch(this.n, first, count);
    this.#state.n = first + count;
  }

  /** Steps of a draft of this ledger, which it has checked: none of them is refused. */
  apply(steps: readonly LedgerStep[]): void {
    for (const step of steps) {
      if (step.kind === "batch") this.applyBatch(step.first, step.count);
      else this.applyEvent(step.leafIndex, step.body);
    }
  }

  /** @throws VerificationError as checkEvent; then nothing has changed */
  applyEvent(leafIndex: number, body: EventBody): void {
    this.#apply(leafIndex, eventOf(body));
  }

  /** A holder suspended their own token: logged without a body. */
  applyHolderEvent(leafIndex: number, leaf: { readonly evidenceHash: Uint8Array; readonly index: number }): void {
    this.#apply(leafIndex, holderEventOf(leaf));
  }

  /** Whether this event could be logged at `leafIndex`: what a sequencer asks first. @throws VerificationError */
  checkEvent(leafIndex: number, body: EventBody): void {
    this.#check(leafIndex, eventOf(body));
  }

  checkHolderEvent(leafIndex: number, leaf: { readonly evidenceHash: Uint8Array; readonly index: number }): void {
    this.#check(leafIndex, holderEventOf(leaf));
  }

  planes(): Planes {
    this.#settleReleases();
    return [this.#plane(0), this.#plane(1), IndexSet.below(this.n).minus(this.#state.released)];
  }

  /** Whether a body was logged. */
  seen(id: Uint8Array): boolean {
    return this.#state.seen.has(idText(id));
  }

  /** Whether the event in this leaf suspended or revoked something. */
  holds(leafIndex: number): boolean {
    return this.#state.holds.has(leafIndex);
  }

  /** Which logged events hold `index` in planes 0 or 1: what a reinstatement of it must name. */
  heldBy(index: number): readonly { readonly leafIndex: number; readonly plane: Plane }[] {
    const leaves: { leafIndex: number; plane: Plane }[] = [];
    for (const [leafIndex, { plane, runs }] of this.#state.holds) {
      if (runs.some((run) => run.first <= index && index < run.first + run.count)) leaves.push({ leafIndex, plane });
    }
    return leaves;
  }

  #check(leafIndex: number, event: LedgerEvent): void {
    checkEvent(this, leafIndex, event);
  }

  #apply(leafIndex: number, event: LedgerEvent): void {
    this.#check(leafIndex, event);
    this.#state.leaves = leafIndex + 1;
    this.#state.seen.add(idText(event.id));
    const { ranges } = event;
    switch (event.action) {
      case "revoke":
      case "suspend": {
        const plane = event.action === "revoke" ? 0 : 1;
        this.#state.holds.set(leafIndex, { plane, runs: ranges });
        this.#added[plane].push(...ranges);
        return;
      }
      case "reinstate":
        for (const undone of event.undoes) this.#undo(undone, IndexSet.fromRuns(ranges));
        return;
      case "release":
        this.#releases.push(...ranges);
    }
  }

  /** The hold stays, if need be without any index: a later reinstatement may name it again, to no effect. */
  #undo(leafIndex: number, freed: IndexSet): void {
    const hold = this.#state.holds.get(leafIndex)!;
    const runs = [...IndexSet.fromRuns(hold.runs).minus(freed).runs()];
    this.#state.holds.set(leafIndex, { plane: hold.plane, runs });
    // Other events may hold the same indices, so the plane is put together again from all of them.
    this.#cached[hold.plane] = undefined;
  }

  #plane(plane: 0 | 1): IndexSet {
    const cached = this.#cached[plane];
    const set = cached
      ? cached.union(IndexSet.fromRuns(this.#added[plane]))
      : IndexSet.fromRuns([...this.#state.holds.values()].flatMap((hold) => (hold.plane === plane ? hold.runs : [])));
    this.#cached[plane] = set;
    this.#added[plane] = [];
    return set;
  }

  #settleReleases(): void {
    if (this.#releases.length === 0) return;
    this.#state.released = this.#state.released.union(IndexSet.fromRuns(this.#releases));
    this.#releases = [];
  }
}

/**
 * Batches and events that may follow, each checked as if those before it had been applied. The ledger itself changes
 * only with `apply`, once it is settled that they follow: a ledger of years is too large to be copied for each try.
 */
export class LedgerDraft {
  readonly steps: LedgerStep[] = [];
  readonly #ledger: StatusLedger;
  readonly #seen = new Set<string>();
  readonly #holds = new Set<number>();
  #n: number;
  #leaves: number;

  constructor(ledger: StatusLedger) {
    this.#ledger = ledger;
    this.#n = ledger.n;
    this.#leaves = ledger.leaves;
  }

  get n(): number {
    return this.#n;
  }

  get leaves(): number {
    return this.#leaves;
  }

  seen(id: Uint8Array): boolean {
    return this.#seen.has(idText(id)) || this.#ledger.seen(id);
  }

  holds(leafIndex: number): boolean {
    return this.#holds.has(leafIndex) || this.#ledger.holds(leafIndex);
  }

  /** @throws VerificationError ERR_EVENT_RANGE */
  addBatch(first: number, count: number): void {
    checkBatch(this.#n, first, count);
    this.#n = first + count;
    this.steps.push({ kind: "batch", first, count });
  }

  /** @throws VerificationError as StatusLedger.checkEvent */
  addEvent(leafIndex: number, body: EventBody): void {
    const event = eventOf(body);
    checkEvent(this, leafIndex, event);
    this.#leaves = leafIndex + 1;
    this.#seen.add(idText(event.id));
    if (event.action === "revoke" || event.action === "suspend") this.#holds.add(leafIndex);
    this.steps.push({ kind: "event", leafIndex, body });
  }
}

function checkBatch(n: number, first: number, count: number): void {
  if (first < n || count < 1 || first + count > UNIVERSE_MAX)
    throw new VerificationError("ERR_EVENT_RANGE", `a batch of ${count} from ${first} on, while N is ${n}`);
}

function checkEvent(view: View, leafIndex: number, { id, action, ranges, undoes }: LedgerEvent): void {
  if (leafIndex < view.leaves)
    throw new VerificationError("ERR_EVENT_ORDER", `leaf ${leafIndex} comes after leaf ${view.leaves - 1}`);
  // Or a thief of the log key could log an old suspension again after its reinstatement.
  if (view.seen(id))
    throw new VerificationError("ERR_EVENT_REPEATED", `the event in leaf ${leafIndex} was logged before`);
  for (const { first, count } of ranges) {
    if (first + count > view.n)
      throw new VerificationError("ERR_EVENT_RANGE", `${count} from ${first} on, while N is ${view.n}`);
  }
  for (const undone of undoes) {
    if (action !== "reinstate" || !view.holds(undone))
      throw new VerificationError("ERR_EVENT_UNDOES", `leaf ${undone} suspended or revoked nothing`);
  }
}

function eventOf(body: EventBody): LedgerEvent {
  return { ...body, id: sha256(encodeEventBody(body)) };
}

function holderEventOf(leaf: { readonly evidenceHash: Uint8Array; readonly index: number }): LedgerEvent {
  const ranges = [{ first: leaf.index, count: 1 }];
  return { id: sha256(concat(new Uint8Array([0]), leaf.evidenceHash)), action: "suspend", ranges, undoes: [] };
}

/** 128 bits are enough to tell bodies apart, and a busy authority has a million of them. */
function idText(id: Uint8Array): string {
  return formatHex(id.subarray(0, EVENT_ID_BYTES));
}
