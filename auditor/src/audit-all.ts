/**
 * The whole audit of an authority from its pinned root: its log, and everything that the log says was decided.
 *
 * What `auditLog` checks of the entries, plus what `Authority` judges of the decisions behind them, plus what clients
 * are pointed at, plus, where the source is a folder, each file in it.
 */
import {
  type CborValue,
  CodedError,
  type ErrorCode,
  formatHex,
  OperationError,
  VerificationError,
} from "@viafabric/schemas";
import type { Checkpoint } from "@viafabric/transparency-log";
import { type FetchFile, openTree, subFolder } from "@viafabric/transparency-log/client";
import type { PinnedRoot } from "@viafabric/tuf";
import { type AuditReport, auditLog, FINDINGS_MAX, type Resume } from "./audit-log.ts";
import { Authority } from "./authority.ts";
import type { Finding } from "./log-rules.ts";
import { checkPointers, startTrust, type TrustStart } from "./trust-start.ts";
import { type Walk, walkFiles } from "./walk.ts";

/** Where a whole audit stands. */
export interface AllState {
  readonly authority: Uint8Array;
  readonly resume: Resume;
  readonly decisions: CborValue;
}

export interface AllOptions {
  readonly pinned: PinnedRoot;
  /** Every file of the source, where it can be listed; each is checked then. */
  readonly files?: readonly string[];
  readonly state?: AllState;
  readonly pause?: (state: AllState) => Promise<void>;
  readonly started?: (checkpoint: Checkpoint) => void;
  readonly advanced?: (entries: number) => void;
}

export interface AllReport extends AuditReport {
  readonly authority: Uint8Array | undefined;
  /** Entries that an earlier run had audited. */
  readonly from: number;
  readonly versions: { readonly root: number; readonly targets: number; readonly batches: number };
  readonly status: LastStatus | undefined;
  readonly statusFiles: { readonly checked: number; readonly notHeld: number };
  readonly walk: Walk | undefined;
  /** For plots: [seq, entry, tokens] and [epoch, revoked, suspended, unreleased]. */
  readonly series: {
    readonly batches: readonly (readonly number[])[];
    readonly epochs: readonly (readonly number[])[];
  };
}

export interface LastStatus {
  readonly epoch: number;
  readonly n: number;
  /** Unix seconds. */
  readonly issued: number;
  readonly next: number;
  /** Revoked, suspended, unreleased. */
  readonly counts: readonly number[];
}

/** @throws OperationError when the source fails; what does not verify is a finding */
export async function auditAll(source: FetchFile, options: AllOptions): Promise<AllReport> {
  const seen = new Set<string>();
  const published = remembering(source, seen);
  let start: TrustStart;
  try {
    start = await startTrust(published, options.pinned);
  } catch (error) {
    return refusedAtOnce(findingOf(error, 0));
  }
  const { state } = options;
  if (state && formatHex(state.authority) !== formatHex(start.pin.authority)) {
    throw new OperationError("ERR_AUDIT_STATE", `the state is of authority ${formatHex(state.authority)}`);
  }
  let decisions: Authority | undefined;
  /** Whether the log was read to its end: else nobody can tell what belongs to it. */
  let complete = false;
  const { pause, started, advanced } = options;
  const report = await auditLog(
    { log: subFolder(published, "log"), published },
    {
      policy: start.policy,
      judge: async (tools) => {
        decisions = new Authority(tools, start.pin);
        if (state) await restore(decisions, state.decisions);
        return decisions;
      },
      ...(state && { resume: state.resume }),
      ...(pause && {
        pause: (resume) => pause({ authority: start.pin.authority, resume, decisions: decisions!.encode() }),
      }),
      close: async (found) => {
        complete = true;
        await decisions!.close();
        await checkEnd(published, start, decisions!, found);
      },
      ...(started && { started }),
      ...(advanced && { advanced }),
    },
  );
  // What an earlier run asked for is not known to this one, so only a run from the start can tell what is left over.
  const walk =
    options.files && complete && report.checkpoint && !state
      ? await walkFiles({ files: options.files, published, seen, log: report.checkpoint, authority: decisions! })
      : undefined;
  return summary(report, walk, start, decisions, state?.resume.position ?? 0);
}

async function checkEnd(
  published: FetchFile,
  start: TrustStart,
  decisions: Authority,
  found: (finding: Finding) => void,
): Promise<void> {
  const manifests = async () => {
    const { size, root } = decisions.manifests;
    if (size === 0) return;
    // Reading every tile of it: nodes prove with them that their head grew.
    const tree = await openTree(subFolder(published, "batches"), { size, root });
    for (let index = 0; index * 256 < size; index++) await tree.tile(0, index);
  };
  const checks = await checkPointers(published, start, decisions.trust, decisions.status.stated);
  for (const check of [manifests, ...checks]) {
    try {
      await check();
    } catch (error) {
      found(findingOf(error, 0));
    }
  }
}

/** A file that is missing here is one that clients need. */
const MISSING: readonly string[] = ["ERR_LOG_FILE", "ERR_FETCH"];

/** @throws what is no refusal */
function findingOf(error: unknown, entry: number): Finding {
  if (!(error instanceof CodedError)) throw error;
  if (error instanceof OperationError && (error.retryable || !MISSING.includes(error.code))) throw error;
  return { entry, code: error.code as ErrorCode, message: error.message };
}

async function restore(decisions: Authority, value: CborValue): Promise<void> {
  try {
    await decisions.restore(value);
  } catch (cause) {
    if (cause instanceof OperationError) throw cause;
    if (cause instanceof VerificationError) throw cause;
    throw new OperationError("ERR_AUDIT_STATE", "the state is not readable", { cause });
  }
}

function summary(
  report: AuditReport,
  walk: Walk | undefined,
  start: TrustStart,
  decisions: Authority | undefined,
  from: number,
): AllReport {
  const findings = [...report.findings, ...(walk?.findings ?? [])];
  const findingsTotal = report.findingsTotal + (walk?.findings.length ?? 0);
  const version = (kind: "root" | "targets" | "batches") => {
    return Math.max(0, ...(decisions ? decisions.trust.logged[kind].keys() : []));
  };
  const last = decisions?.status.last?.statement;
  return {
    ...report,
    verdict: findingsTotal === 0 ? "verified" : "refused",
    findings: findings.slice(0, FINDINGS_MAX),
    findingsTotal,
    authority: start.pin.authority,
    from,
    versions: { root: version("root"), targets: version("targets"), batches: version("batches") },
    status: last && {
      epoch: last.epoch,
      n: last.n,
      issued: last.issued,
      next: last.next,
      counts: last.planes.map(({ count }) => count),
    },
    statusFiles: decisions?.status.files ?? { checked: 0, notHeld: 0 },
    walk,
    series: { batches: decisions?.series.rows ?? [], epochs: decisions?.status.series.rows ?? [] },
  };
}

function refusedAtOnce(finding: Finding): AllReport {
  const none = { checked: 0, notHeld: 0 };
  return {
    verdict: "refused",
    checkpoint: undefined,
    counts: { token: 0, batch: 0, event: 0, "holder-event": 0, binding: 0, trust: 0 },
    batches: none,
    trustFiles: none,
    findings: [finding],
    findingsTotal: 1,
    authority: undefined,
    from: 0,
    versions: { root: 0, targets: 0, batches: 0 },
    status: undefined,
    statusFiles: none,
    walk: undefined,
    series: { batches: [], epochs: [] },
  };
}

/** Files that one check after the other asks for, such as a manifest. */
const KEPT_FILES_MAX = 8;
const KEPT_BYTES_MAX = 1024 * 1024;

/** Notes which files were there, and keeps the last few small ones. */
function remembering(source: FetchFile, seen: Set<string>): FetchFile {
  const kept = new Map<string, Uint8Array>();
  return async (path) => {
    const known = kept.get(path);
    if (known) return known;
    const bytes = await source(path);
    if (!bytes) return undefined;
    seen.add(path);
    if (bytes.length <= KEPT_BYTES_MAX) kept.set(path, bytes);
    if (kept.size > KEPT_FILES_MAX) kept.delete(kept.keys().next().value!);
    return bytes;
  };
}
