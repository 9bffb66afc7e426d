/**
 * The audit of a whole log, from nothing but the key that signs it.
 *
 * Every entry is hashed and found at its place, every tile is one that the signed checkpoint covers, the order of the
 * entries breaks no rule, and the published files that entries name are those files. Memory stays the same at any
 * size, apart from 16 bytes a token for noticing a token id that is issued twice.
 */
import { CodedError, type ErrorCode, HASH_BYTES, OperationError, verifyConsistency } from "@viafabric/schemas";
import type { Checkpoint, LogPolicy, VerifiedCheckpoint } from "@viafabric/transparency-log";
import {
  type FetchFile,
  openTree,
  proveConsistency,
  readCheckpoint,
  readRuns,
} from "@viafabric/transparency-log/client";
import { checkBatch, checkTrustFile, type Evidence } from "./evidence.ts";
import { type Finding, type LeafType, LogRules } from "./log-rules.ts";

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
  readonly started?: (checkpoint: Checkpoint) => void;
  readonly advanced?: (entries: number) => void;
}

export interface AuditReport {
  /** Refused when there is a finding. */
  readonly verdict: "verified" | "refused";
  readonly checkpoint: VerifiedCheckpoint | undefined;
  readonly counts: Readonly<Record<LeafType, number>>;
  /** Batches and trust files whose published files were there and were checked, and those that were not there. */
  readonly batches: { readonly checked: number; readonly notHeld: number };
  readonly trustFiles: { readonly checked: number; readonly notHeld: number };
  /** At most FINDINGS_MAX of them. */
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
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
  readonly #rules: LogRules;
  readonly #batches = { checked: 0, notHeld: 0 };
  readonly #trustFiles = { checked: 0, notHeld: 0 };
  readonly #findings: Finding[] = [];
  #findingsTotal = 0;
  #checkpoint: VerifiedCheckpoint | undefined;
  /** Checks of published files that the entries taken so far ask for. */
  #due: (() => Promise<void>)[] = [];

  constructor(source: AuditSource, policy: LogPolicy) {
    this.#source = source;
    this.#policy = policy;
    const published = source.published;
    this.#rules = new LogRules({
      found: (finding) => this.found(finding),
      trust: (entry, leaf) => {
        if (published) this.#later(this.#trustFiles, () => checkTrustFile(published, entry, leaf));
        else this.#trustFiles.notHeld++;
      },
      ...(published && {
        batch: (batch) => this.#later(this.#batches, () => checkBatch(published, policy, batch)),
      }),
    });
  }

  async run({ earlier, started, advanced }: AuditOptions): Promise<void> {
    const { log } = this.#source;
    const { checkpoint } = await readCheckpoint(log, this.#policy);
    this.#checkpoint = checkpoint;
    started?.(checkpoint);
    if (earlier) await checkExtends(log, earlier, checkpoint);
    const tree = await openTree(log, checkpoint);
    for await (const { first, entries, hashes } of readRuns(tree, log, 0, checkpoint.size)) {
      for (let i = 0; i < entries.length; i++) {
        this.position = first + i;
        this.#rules.take(first + i, entries[i]!, hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
      }
      await this.#settle();
      advanced?.(entries.length);
    }
    this.position = checkpoint.size;
    this.#rules.close();
    await this.#settle();
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

  #later(tally: { checked: number; notHeld: number }, check: () => Promise<Evidence>): void {
    this.#due.push(async () => {
      const { held, findings } = await check();
      if (held) tally.checked++;
      else tally.notHeld++;
      for (const finding of findings) this.found(finding);
    });
  }
}

async function checkExtends(log: FetchFile, earlier: Checkpoint, now: Checkpoint): Promise<void> {
  const proof = earlier.size <= now.size ? await proveConsistency(log, earlier.size, now) : [];
  const { size: oldSize, root: oldRoot } = earlier;
  verifyConsistency({ oldSize, oldRoot, newSize: now.size, newRoot: now.root, proof });
}
