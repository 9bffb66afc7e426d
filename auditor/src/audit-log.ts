/**
 * The audit of a whole log, from nothing but the key that signs it.
 *
 * Every entry is hashed and found at its place, every tile is one that the signed checkpoint covers, the order of the
 * entries breaks no rule, and the published files that entries name are those files. Memory stays the same at any
 * size, apart from 16 bytes a token for noticing a token id that is issued twice.
 */
import {
  type CborValue,
  CodedError,
  type ErrorCode,
  type EventLeaf,
  equalBytes,
  HASH_BYTES,
  type Hash,
  type HolderEventLeaf,
  OperationError,
  type TrustLeaf,
  VerificationError,
  verifyConsistency,
} from "@viafabric/schemas";
import type { Checkpoint, LogPolicy, VerifiedCheckpoint } from "@viafabric/transparency-log";
import {
  type FetchFile,
  openTree,
  proveConsistency,
  readCheckpoint,
  readRuns,
} from "@viafabric/transparency-log/client";
import { checkBatch, checkTrustFile, type Evidence, type RootAt } from "./evidence.ts";
import { type Finding, type LeafType, type LoggedBatch, LogRules, type RulePorts } from "./log-rules.ts";

/** Enough to see a pattern. One is enough to refuse. */
export const FINDINGS_MAX = 20;

export interface AuditSource {
  /** The folder with `checkpoint` and `tile/`. */
  readonly log: FetchFile;
  /** The published tree around it; undefined when the source is a log alone. */
  readonly published: FetchFile | undefined;
}

export interface AuditOptions {
  readonly policy: LogPolicy;
  /** A checkpoint kept from an earlier time, which the log must extend. */
  readonly earlier?: Checkpoint;
  /** Needs the published tree. */
  readonly judge?: (tools: JudgeTools) => Promise<Judge>;
  /** Where an earlier audit of this log stopped. */
  readonly resume?: Resume;
  /** Called between two batches, now and then and at the end. */
  readonly pause?: (resume: Resume) => Promise<void>;
  /** After the last entry: what is left to check. */
  readonly close?: (found: (finding: Finding) => void) => Promise<void>;
  readonly started?: (checkpoint: Checkpoint) => void;
  readonly advanced?: (entries: number) => void;
}

/** Where an audit stands: everything before `position` was judged. */
export interface Resume {
  readonly position: number;
  /** Of the tree at `position`: the log must extend it. */
  readonly root: Hash;
  readonly rules: CborValue;
  readonly batches: Tally;
  readonly trustFiles: Tally;
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
}

export interface Tally {
  readonly checked: number;
  readonly notHeld: number;
}

/** Entries between two pauses: some seconds of work. */
const PAUSE_ENTRIES = 250_000;

export interface AuditReport {
  /** Refused when there is a finding. */
  readonly verdict: "verified" | "refused";
  readonly checkpoint: VerifiedCheckpoint | undefined;
  readonly counts: Readonly<Record<LeafType, number>>;
  /** Batches and trust files whose published files were there and were checked, and those that were not there. */
  readonly batches: Tally;
  readonly trustFiles: Tally;
  /** At most FINDINGS_MAX of them. */
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
}

/**
 * Judges what the order of entries alone cannot tell: signatures and thresholds, statements. Asked about each batch,
 * event and trust file in the order of the log, after its published files were compared with the log.
 */
export interface Judge {
  takeTrust(entry: number, leaf: TrustLeaf): Promise<void>;
  takeBatch(batch: LoggedBatch): Promise<void>;
  takeEvent(entry: number, leaf: EventLeaf | HolderEventLeaf, bytes: Uint8Array): Promise<void>;
  /** All policies that were in force so far. */
  readonly policies: readonly LogPolicy[];
}

export interface JudgeTools {
  readonly published: FetchFile;
  /** The root at any size of the audited tree; undefined beyond it. */
  readonly rootAt: RootAt;
  readonly checkpoint: VerifiedCheckpoint;
  /** The one in force today. */
  readonly policy: LogPolicy;
  readonly found: (finding: Finding) => void;
}

/** @throws OperationError when the source fails; what does not verify is a finding, never an exception */
export async function auditLog(source: AuditSource, options: AuditOptions): Promise<AuditReport> {
  const audit = new Audit(source, options.policy);
  try {
    await audit.run(options);
  } catch (error) {
    if (!(error instanceof CodedError) || error instanceof OperationError) throw error;
    audit.found({ entry: audit.position, code: error.code as ErrorCode, message: error.message });
  }
  return audit.report();
}

class Audit {
  /** Log index of the next entry. */
  position = 0;
  readonly #source: AuditSource;
  readonly #policy: LogPolicy;
  #rules: LogRules;
  #batches = { checked: 0, notHeld: 0 };
  #trustFiles = { checked: 0, notHeld: 0 };
  readonly #findings: Finding[] = [];
  #findingsTotal = 0;
  #checkpoint: VerifiedCheckpoint | undefined;
  #judge: Judge | undefined;
  #rootAt: RootAt | undefined;
  /** Checks of published files that the entries taken so far ask for. */
  #due: (() => Promise<void>)[] = [];

  constructor(source: AuditSource, policy: LogPolicy) {
    this.#source = source;
    this.#policy = policy;
    this.#rules = new LogRules(this.#ports());
  }

  async run({ earlier, started, advanced, judge, resume, pause, close }: AuditOptions): Promise<void> {
    const { log, published } = this.#source;
    const { checkpoint } = await readCheckpoint(log, this.#policy);
    this.#checkpoint = checkpoint;
    started?.(checkpoint);
    if (earlier) await checkExtends(log, earlier, checkpoint);
    const tree = await openTree(log, checkpoint);
    const rootAt = async (size: number) => {
      return size <= checkpoint.size ? (await tree.frontierAt(size)).root() : undefined;
    };
    if (resume) await this.#goOnFrom(resume, rootAt);
    if (judge && published) {
      this.#rootAt = rootAt;
      this.#judge = await judge({
        published,
        rootAt,
        checkpoint,
        policy: this.#policy,
        found: (finding) => this.found(finding),
      });
    }
    let paused = this.position;
    for await (const { first, entries, hashes } of readRuns(tree, log, this.position, checkpoint.size)) {
      for (let i = 0; i < entries.length; i++) {
        this.position = first + i;
        this.#rules.take(first + i, entries[i]!, hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
      }
      await this.#settle();
      this.position = first + entries.length;
      advanced?.(entries.length);
      if (pause && this.position - paused >= PAUSE_ENTRIES && !this.#rules.insideBatch) {
        await pause(await this.#resume(rootAt));
        paused = this.position;
      }
    }
    this.#rules.close();
    await this.#settle();
    await pause?.(await this.#resume(rootAt));
    // Findings about what is published now are not kept: the next run looks again.
    await close?.((finding) => this.found(finding));
  }

  /** An entry that was refused stays refused: findings of earlier runs come along. */
  async #goOnFrom(resume: Resume, rootAt: RootAt): Promise<void> {
    const root = await rootAt(resume.position);
    if (!root || !equalBytes(root, resume.root)) {
      const reason = `this log does not extend the ${resume.position} entries that were audited before`;
      throw new VerificationError("ERR_LOG_SPLIT", reason);
    }
    const rules = LogRules.decode(resume.rules, this.#ports());
    if (!rules) throw new OperationError("ERR_AUDIT_STATE", "the rules' state is not readable");
    this.#rules = rules;
    this.position = resume.position;
    this.#batches = { ...resume.batches };
    this.#trustFiles = { ...resume.trustFiles };
    this.#findings.push(...resume.findings);
    this.#findingsTotal = resume.findingsTotal;
  }

  async #resume(rootAt: RootAt): Promise<Resume> {
    const { position } = this;
    const tallies = { batches: { ...this.#batches }, trustFiles: { ...this.#trustFiles } };
    const findings = { findings: [...this.#findings], findingsTotal: this.#findingsTotal };
    return { position, root: (await rootAt(position))!, rules: this.#rules.encode(), ...tallies, ...findings };
  }

  #ports(): RulePorts {
    const { published } = this.#source;
    const judge = (ask: (judge: Judge) => Promise<void>) => {
      this.#due.push(async () => {
        if (this.#judge) await ask(this.#judge);
      });
    };
    return {
      found: (finding) => this.found(finding),
      trust: (entry, leaf) => {
        if (published)
          this.#later(
            () => this.#trustFiles,
            () => checkTrustFile(published, entry, leaf),
          );
        else this.#trustFiles.notHeld++;
        judge((asked) => asked.takeTrust(entry, leaf));
      },
      event: (entry, leaf, bytes) => judge((asked) => asked.takeEvent(entry, leaf, bytes)),
      ...(published && {
        batch: (batch) => {
          this.#later(
            () => this.#batches,
            () => checkBatch(published, this.#judge?.policies ?? [this.#policy], batch, this.#rootAt),
          );
          judge((asked) => asked.takeBatch(batch));
        },
      }),
    };
  }

  found(finding: Finding): void {
    this.#findingsTotal++;
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push(finding);
  }

  report(): AuditReport {
    return {
      verdict: this.#findingsTotal === 0 ? "verified" : "refused",
      checkpoint: this.#checkpoint,
      counts: this.#rules.counts,
      batches: this.#source.published ? this.#batches : { checked: 0, notHeld: this.#rules.counts.batch },
      trustFiles: this.#trustFiles,
      findings: this.#findings,
      findingsTotal: this.#findingsTotal,
    };
  }

  async #settle(): Promise<void> {
    const due = this.#due;
    this.#due = [];
    for (const check of due) await check();
  }

  #later(tally: () => { checked: number; notHeld: number }, check: () => Promise<Evidence>): void {
    this.#due.push(async () => {
      const { held, findings } = await check();
      if (held) tally().checked++;
      else tally().notHeld++;
      for (const finding of findings) this.found(finding);
    });
  }
}

async function checkExtends(log: FetchFile, earlier: Checkpoint, now: Checkpoint): Promise<void> {
  const proof = earlier.size <= now.size ? await proveConsistency(log, earlier.size, now) : [];
  const { size: oldSize, root: oldRoot } = earlier;
  verifyConsistency({ oldSize, oldRoot, newSize: now.size, newRoot: now.root, proof });
}
