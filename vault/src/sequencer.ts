/**
 * The one loop: looks for work in the database, takes one step, looks again. There is no other caller of sign, append
 * and publish, and no other recovery: what a crash left undone is what the loop finds undone.
 *
 * The order of the looks is the order of what must not wait: a statement that was signed before a crash, an approved
 * batch, an approved status event, a publication that is due, proofs that waited for witnesses, and only then the end of
 * old proposals and new ones.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CodedError, formatHex, OperationError, type PublicKey } from "@viafabric/schemas";
import { PROPOSED_BATCHES_MAX, PROPOSED_TOKENS_MAX, type ProposalRole } from "@viafabric/tuf";
import { hasRoomForBatches, noRoomMessage, STATUS_EVENTS_OPEN_MAX } from "./admission.ts";
import { filesWithRotation, logRotation, readRotation } from "./adopt-rotation.ts";
import { filesWithTargets, logAdoption, readAdoption } from "./adopt-targets.ts";
import { type BatchRequest, tokensOf } from "./batch-request.ts";
import { Desk, type DeskDependencies } from "./desk.ts";
import { validateRequests } from "./issuance.ts";
import { filesWithHead, logIssue, readIssue, readyEvent } from "./issue.ts";
import { logStatusEvent } from "./log-events.ts";
import { whyDisallowed, whyOvertaken } from "./obsolete.ts";
import { provingRound } from "./proofs.ts";
import {
  isRenewalDue,
  isRenewalUnwanted,
  type ProposalBase,
  proposeBatches,
  proposeRenewal,
  renewedHead,
} from "./proposals.ts";
import type { QuorumFiles } from "./published.ts";
import { verifyReady } from "./ready.ts";
import type { EventRecord, PlannedEvent, RequestKind, RequestRecord } from "./records.ts";
import { parseRotationChange, proposeRotation, RENEWAL, type RotationChange } from "./rotation.ts";
import { epochOf, publicationRound } from "./round.ts";
import { floorFiles } from "./status-files.ts";
import { logTranscripts, unpublishedTranscripts } from "./transcripts.ts";
import { NO_CHANGE, parseTrustChange, proposeTargets, type TrustChange } from "./trust-change.ts";

export interface SequencerDependencies extends DeskDependencies {
  /** Seconds between two statements when nothing happens. */
  readonly statementSeconds: number;
  /** Told each step that was taken, and each failure. */
  readonly report: (line: string, details: Readonly<Record<string, unknown>>) => void;
}

/** How long to sleep when there is nothing to do and nobody calls. */
const IDLE_MILLISECONDS = 5000;
const FAILURE_MILLISECONDS_MIN = 500;
const FAILURE_MILLISECONDS_MAX = 60_000;
/** A statement is made a little before the next one is due, so that a punctual node never finds an old one. */
const PUNCTUAL_SECONDS = 60;
const NONCE_SECONDS = 3600;
const REQUEST_REFUSED = "request refused";
/** What requests for a role are called. */
const KIND_OF = { root: "root", targets: "targets", batches: "batch" } as const satisfies Record<
  ProposalRole,
  RequestKind
>;

export interface Health {
  readonly logSize: number;
  /** Why the last step failed. */
  readonly problem?: string;
  /** Which witnesses kits and proofs wait for. */
  readonly waiting?: string;
}

export class Sequencer {
  readonly #deps: SequencerDependencies;
  #desk: Desk;
  /** False after a failure that could not be recovered from yet. */
  #isOpen = true;
  #problem: string | undefined;
  /** Why an approved batch waits. */
  #shortage: string | undefined;
  #wake: () => void = () => {};
  #stopping = false;
  #loop: Promise<void> = Promise.resolve();
  #noncesForgotten = 0;
  #transcriptProblem: string | undefined;
  #joining: readonly PublicKey[] = [];

  private constructor(deps: SequencerDependencies, desk: Desk) {
    this.#deps = deps;
    this.#desk = desk;
  }

  /** @throws OperationError ERR_HOME before genesis; ERR_LOCKED */
  static async open(deps: SequencerDependencies): Promise<Sequencer> {
    const desk = await Desk.open(deps);
    try {
      desk.need();
    } catch (error) {
      await desk.close();
      throw error;
    }
    return new Sequencer(deps, desk);
  }

  get desk(): Desk {
    return this.#desk;
  }

  /** Keys of a proposed root: whoever joins by it must be able to answer it. */
  get joining(): readonly PublicKey[] {
    return this.#joining;
  }

  health(): Health {
    const { log, missingWitnesses: waiting } = this.#desk;
    const problem = this.#problem ?? this.#shortage;
    return { logSize: log.size, ...(problem !== undefined && { problem }), ...(waiting !== undefined && { waiting }) };
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** There is something to do. */
  wake(): void {
    this.#wake();
  }

  /** Lets the step in progress finish. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake();
    await this.#loop;
    if (this.#isOpen) await this.#desk.close();
  }

  /** Takes one step. @returns its name, or undefined when there is nothing to do */
  async step(): Promise<string | undefined> {
    const { signer, store } = this.#deps;
    const desk = this.#desk;
    const held = desk.need().statement.statement;
    const state = await signer.state();
    if (epochOf(state.statement) > held.epoch) return this.#round();
    const ready = await readyEvent(desk);
    if (ready && state.accepted[ready.proposal.role] < ready.proposal.version) {
      const overtaken = await this.#overtaken(ready);
      if (overtaken) return this.#supersede(ready, overtaken);
      const putAside = await this.#verifyOrPutAside(ready);
      if (putAside) return putAside;
    }
    const unlogged = ready && (await this.#isUnlogged(ready));
    const shortage = unlogged ? await this.#shortageFor(ready, state.accepted.batches) : undefined;
    if (shortage !== undefined && this.#shortage === undefined) this.#deps.report(shortage, {});
    this.#shortage = shortage;
    if (unlogged && shortage === undefined) return this.#issue(ready);
    if (await this.#logEvents()) return "status events logged";
    if (await this.#logTranscripts()) return "transcripts logged";
    const logged = await store.statusEvents("logged", 1);
    const goesOn = ready && shortage === undefined;
    const news = goesOn || logged.length > 0 || (await unpublishedTranscripts(desk)).length > 0;
    if (news || this.#deps.now() >= this.#nextStatement(held.issued)) return this.#round();
    if (await provingRound(desk)) return "proofs published that waited for witnesses";
    return (await this.#endOldEvents()) ?? (await this.#propose());
  }

  async #run(): Promise<void> {
    let pause = FAILURE_MILLISECONDS_MIN;
    let failed = false;
    while (!this.#stopping) {
      const idle = this.#called();
      try {
        if (failed) await this.#reopen();
        const step = await this.step();
        [failed, pause, this.#problem] = [false, FAILURE_MILLISECONDS_MIN, undefined];
        if (step) this.#deps.report(step, { log: this.#desk.log.size });
        else await idle(this.#idleMilliseconds());
      } catch (error) {
        failed = true;
        this.#problem = error instanceof Error ? error.message : String(error);
        this.#deps.report("a step failed", { code: error instanceof CodedError ? error.code : "ERR_INTERNAL", error });
        await idle(pause);
        pause = Math.min(2 * pause, FAILURE_MILLISECONDS_MAX);
      }
    }
  }

  /** After a failure nobody knows what took place: everything is read again, as after a crash. */
  async #reopen(): Promise<void> {
    if (this.#isOpen) await this.#desk.close().catch(() => {});
    this.#isOpen = false;
    this.#desk = await Desk.open(this.#deps);
    this.#isOpen = true;
  }

  /** A call that comes while a step runs must not be slept through. */
  #called(): (milliseconds: number) => Promise<void> {
    const calm = new AbortController();
    this.#wake = () => calm.abort();
    return async (milliseconds) => {
      if (this.#stopping) return;
      await sleep(milliseconds, undefined, { signal: calm.signal }).catch(() => {});
    };
  }

  async #round(): Promise<string> {
    await publicationRound(this.#desk);
    return `epoch ${this.#desk.history.held?.statement.epoch} published`;
  }

  async #isUnlogged(event: EventRecord): Promise<boolean> {
    const { logged } = await this.#deps.signer.state();
    for (const { proposal } of [event, ...Object.values(event.parts ?? {})])
      if (logged[proposal.role] < proposal.version) return true;
    const batches = await this.#deps.store.batchesOf(event.proposal.id);
    return batches.some(({ leafIndex }) => leafIndex === undefined);
  }

  /** A batch that was begun is finished: there was room for it then. @param accepted by the signer */
  async #shortageFor({ proposal }: EventRecord, accepted: number): Promise<string | undefined> {
    if (proposal.role !== "batches" || accepted >= proposal.version) return undefined;
    const free = await this.#deps.freeBytes();
    return hasRoomForBatches(free) ? undefined : noRoomMessage(free);
  }

  /** Nothing but what trustees signed goes to the signer; the rest must not stand in the way of others for ever. */
  async #verifyOrPutAside(event: EventRecord): Promise<string | undefined> {
    try {
      verifyReady(event, { file: this.#deps.pinnedRoot }, await this.#filesWith(event));
      return undefined;
    } catch (error) {
      if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
      const reason = `${error.code}: ${error.message}`;
      const id = formatHex(event.proposal.id);
      this.#deps.report("a proposal called ready is not what its quorum signed", { event: id, reason });
      return this.#supersede(event, reason);
    }
  }

  async #filesWith(event: EventRecord): Promise<QuorumFiles> {
    const { role } = event.proposal;
    if (role === "root") return filesWithRotation(this.#desk, await readRotation(this.#desk, event));
    if (role === "targets") return filesWithTargets(this.#desk, await readAdoption(this.#desk, event));
    return filesWithHead(this.#desk, await readIssue(this.#desk, event));
  }

  async #issue(event: EventRecord): Promise<string> {
    const { role, version } = event.proposal;
    if (role === "root") await logRotation(this.#desk, await readRotation(this.#desk, event));
    else if (role === "targets") await logAdoption(this.#desk, await readAdoption(this.#desk, event));
    else await logIssue(this.#desk, await readIssue(this.#desk, event));
    return `${role} ${version} logged`;
  }

  async #logEvents(): Promise<boolean> {
    let worked = false;
    for (const event of await this.#deps.store.statusEvents("open", STATUS_EVENTS_OPEN_MAX)) {
      const { outcome, reason } = await logStatusEvent(this.#desk, event);
      if (outcome === "refused") this.#deps.report("status event refused", { event: formatHex(event.id), reason });
      worked ||= outcome === "logged";
    }
    return worked;
  }

  /** A damaged file is told once and holds up nothing but what comes after it. */
  async #logTranscripts(): Promise<boolean> {
    try {
      return (await logTranscripts(this.#desk)) > 0;
    } catch (error) {
      if (!(error instanceof OperationError) || error.code !== "ERR_TRANSCRIPT_FILE") throw error;
      if (this.#transcriptProblem !== error.message) this.#deps.report("transcript refused", { reason: error.message });
      this.#transcriptProblem = error.message;
      return false;
    }
  }

  /** Until the next statement is due, and never long: a lifetime may run out, a proposal may expire. */
  #idleMilliseconds(): number {
    const due = this.#nextStatement(this.#desk.need().statement.statement.issued) - this.#deps.now();
    return Math.min(IDLE_MILLISECONDS, Math.max(100, due * 1000));
  }

  #nextStatement(issued: number): number {
    const { statementSeconds } = this.#deps;
    return issued + statementSeconds - Math.min(PUNCTUAL_SECONDS, Math.floor(statementSeconds / 2));
  }

  /** Proposals that nobody completed, and nonces that are too old to be sent again. */
  async #endOldEvents(): Promise<string | undefined> {
    const { store, now } = this.#deps;
    if (now() >= this.#noncesForgotten + NONCE_SECONDS) {
      await store.forgetNonces(now());
      this.#noncesForgotten = now();
    }
    for (const event of await store.events("open")) {
      const { id, role, version, expires } = event.proposal;
      if (now() >= expires) {
        if (await store.moveEvent(id, { state: "expired", at: now() })) return `proposal ${role} ${version} expired`;
        continue;
      }
      const reason = (await this.#overtaken(event)) ?? (await this.#unneeded(event));
      if (reason !== undefined) return this.#supersede(event, reason);
    }
    return undefined;
  }

  async #overtaken({ proposal, state }: EventRecord): Promise<string | undefined> {
    const { store, now } = this.#deps;
    const { trusted } = this.#desk.need();
    const batches = await store.batchesOf(proposal.id);
    const reason = whyOvertaken(proposal, batches, trusted);
    // What k trustees have approved needs nobody's leave any more.
    return reason ?? (state === "open" ? whyDisallowed(batches, trusted, now()) : undefined);
  }

  /** A renewal that nobody has signed yet makes room for a request: its head is newly signed as well. */
  async #unneeded({ proposal, approvals, requestedBy }: EventRecord): Promise<string | undefined> {
    if (approvals.length > 0 || requestedBy.length > 0) return undefined;
    const [waiting] = await this.#deps.store.waitingRequests(KIND_OF[proposal.role], 1);
    return waiting && "a renewal that a request makes unnecessary";
  }

  async #supersede({ proposal }: EventRecord, reason: string): Promise<string> {
    const { store, now } = this.#deps;
    await store.moveEvent(proposal.id, { state: "superseded", at: now(), reason });
    return `proposal ${proposal.role} ${proposal.version} superseded: ${reason}`;
  }

  /** One proposal of a role at a time: each version builds on the one before. */
  async #propose(): Promise<string | undefined> {
    const { store, now } = this.#deps;
    const { trusted } = this.#desk.need();
    const events = await store.events("open");
    this.#joining = events.flatMap(({ proposal }) => (proposal.role === "root" ? proposal.quorums[1]!.keys : []));
    const rotation = await this.#proposeRotation(events);
    if (rotation !== undefined) return rotation;
    const open = events.map(({ proposal }) => proposal.role);
    // A rotation signs targets and batches too: what was proposed beside it would be of an older root.
    if (open.includes("root")) return undefined;
    for (const role of ["targets", "batches"] as const) {
      if (open.includes(role)) continue;
      const waiting = await store.waitingRequests(KIND_OF[role], role === "batches" ? PROPOSED_BATCHES_MAX : 1);
      if (waiting.length > 0)
        return role === "batches" ? this.#proposeBatches(waiting) : this.#proposeTargets(waiting[0]!);
      if (!isRenewalDue(role, trusted.expires[role], now())) continue;
      const rejected = (await store.events("rejected")).find(({ proposal }) => proposal.role === role);
      if (isRenewalUnwanted(rejected, now())) continue;
      await store.addEvent(role === "batches" ? proposeRenewal(await this.#base()) : await this.#targets(NO_CHANGE));
      return `renewal of ${role} proposed`;
    }
    return undefined;
  }

  /** It goes before everything else, and takes the place of what is still open. */
  async #proposeRotation(events: readonly EventRecord[]): Promise<string | undefined> {
    const { store, now } = this.#deps;
    const { trusted } = this.#desk.need();
    if (events.some(({ proposal }) => proposal.role === "root")) return undefined;
    const [request] = await store.waitingRequests("root", 1);
    const [rejected] = (await store.events("rejected")).filter(({ proposal }) => proposal.role === "root");
    // With targets and batches both expired neither can be renewed alone: the other one is judged with it.
    const isDead = trusted.expires.targets <= now() && trusted.expires.batches <= now();
    const due = (isDead || isRenewalDue("root", trusted.expires.root, now())) && !isRenewalUnwanted(rejected, now());
    if (!request && !due) return undefined;
    const [open] = events;
    if (open) return this.#supersede(open, "a rotation goes before it");
    if (request) {
      const change = async () => this.#rotation(parseRotationChange(jsonOf(request.body)));
      const planned = await this.#answered(request.id, change);
      return planned ? this.#put(planned, [request]) : REQUEST_REFUSED;
    }
    return this.#put(await this.#rotation(RENEWAL), []);
  }

  async #rotation(change: RotationChange): Promise<PlannedEvent> {
    const { store, now } = this.#deps;
    const { trusted } = this.#desk.need();
    const former = await store.rootProposals(trusted.rootVersion + 1);
    return proposeRotation(change, {
      trusted,
      head: renewedHead(await this.#base()),
      last: { targets: await store.lastVersion("targets"), batches: await store.lastVersion("batches") },
      former: former.map(({ proposal, state }) => ({ signed: proposal.signed, rejected: state === "rejected" })),
      now: now(),
    });
  }

  /** As many of the waiting requests as go into one proposal, in the order in which they came. */
  async #proposeBatches(rows: readonly RequestRecord[]): Promise<string> {
    const { now } = this.#deps;
    const { trusted } = this.#desk.need();
    const chosen: { readonly id: Uint8Array; readonly batches: readonly BatchRequest[] }[] = [];
    for (const { id, body } of rows) {
      const batches = await this.#answered(id, async () => validateRequests(jsonOf(body), trusted, now()));
      if (!batches) return REQUEST_REFUSED;
      if (chosen.length > 0 && !fitOneProposal([...chosen.flatMap((other) => other.batches), ...batches])) break;
      chosen.push({ id, batches });
    }
    const base = await this.#base();
    const plan = (some: typeof chosen) =>
      proposeBatches(
        some.flatMap(({ batches }) => batches),
        base,
      );
    // Too much at once may well go one by one: only what does not go alone is refused.
    const together = chosen.length > 1 && attempt(() => plan(chosen));
    if (together) return this.#put(together, chosen);
    const [first] = chosen as [(typeof chosen)[0]];
    const alone = await this.#answered(first.id, async () => plan([first]));
    return alone ? this.#put(alone, [first]) : REQUEST_REFUSED;
  }

  async #proposeTargets({ id, body }: RequestRecord): Promise<string> {
    const planned = await this.#answered(id, async () => this.#targets(parseTrustChange(jsonOf(body))));
    return planned ? this.#put(planned, [{ id }]) : REQUEST_REFUSED;
  }

  async #put(planned: PlannedEvent, requests: readonly { readonly id: Uint8Array }[]): Promise<string> {
    await this.#deps.store.addEvent(
      planned,
      requests.map(({ id }) => id),
    );
    return `${planned.proposal.role} ${planned.proposal.version} proposed`;
  }

  /** What was allowed when it came may not be any more, or is simply too much: the operator reads why. */
  async #answered<Plan>(request: Uint8Array, plan: () => Promise<Plan>): Promise<Plan | undefined> {
    try {
      return await plan();
    } catch (error) {
      if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
      await this.#deps.store.refuseRequest(request, `${error.code}: ${error.message}`);
      return undefined;
    }
  }

  async #targets(change: TrustChange): Promise<PlannedEvent> {
    const { store, now } = this.#deps;
    return proposeTargets(change, this.#desk.need().trusted, await store.lastVersion("targets"), now());
  }

  async #base(): Promise<ProposalBase> {
    const { store, settings, secretKey, random, now } = this.#deps;
    const { trusted, statement } = this.#desk.need();
    // A fresh node must be able to fetch what the head will name as its floor, before trustees see the head.
    for (const { path, bytes } of floorFiles(this.#desk.history.previous))
      await this.#desk.storage.putImmutable(path, bytes);
    return {
      trusted,
      statement,
      log: this.#desk.log.head,
      manifests: await this.#desk.manifests(),
      settings,
      plannedEnd: await store.plannedEnd(),
      lastVersion: await store.lastVersion("batches"),
      secretKey,
      random,
      now: now(),
    };
  }
}

function fitOneProposal(requests: readonly BatchRequest[]): boolean {
  return requests.length <= PROPOSED_BATCHES_MAX && tokensOf(requests) <= PROPOSED_TOKENS_MAX;
}

function attempt<Plan>(plan: () => Plan): Plan | undefined {
  try {
    return plan();
  } catch (error) {
    if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
    return undefined;
  }
}

/** The exact bytes that somebody signed, and that were read when they came. */
function jsonOf(body: Uint8Array): unknown {
  return JSON.parse(Buffer.from(body).toString("utf8"));
}
