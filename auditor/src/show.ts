/** The one page that a whole audit ends in, for a person and as JSON. */
import type { Output } from "@viafabric/platform";
import { formatBase64, formatHex, parseUtf8 } from "@viafabric/schemas";
import type { AllReport } from "./audit-all.ts";
import type { AuditReport } from "./audit-log.ts";
import type { Serial } from "./serial.ts";

export function asJson(report: AuditReport, seconds: number): Record<string, unknown> {
  const { checkpoint, ...rest } = report;
  const { origin, size, root, witnesses } = checkpoint ?? {};
  return { ...rest, origin, size, root: root && formatBase64(root), witnesses, seconds };
}

export function allAsJson(report: AllReport, seconds: number): Record<string, unknown> {
  const { authority, ...rest } = report;
  return { ...asJson(rest, seconds), authority: authority && formatHex(authority) };
}

export function showLog(out: Output, { checkpoint, counts }: AuditReport): void {
  if (!checkpoint) return;
  out.line(`log   ${checkpoint.origin}`);
  out.line(`size  ${checkpoint.size} entries`);
  out.line(`root  ${formatBase64(checkpoint.root)}`);
  for (const { name, time } of checkpoint.witnesses) out.line(`seen  by ${name} at ${timeOf(time)}`);
  const rows = Object.entries(counts).filter(([, count]) => count > 0);
  if (rows.length === 0) return;
  out.line();
  out.table(["type", "entries"], rows);
}

export function showFindings(out: Output, { findings, findingsTotal }: AuditReport): void {
  for (const { entry, code, message } of findings) out.line(`${out.style("red", code)} entry ${entry}: ${message}`);
  if (findingsTotal > findings.length) out.line(`… and ${findingsTotal - findings.length} more`);
}

export function showVerdict(out: Output, report: AuditReport, verified: string, seconds: number): void {
  const { findingsTotal } = report;
  const verdict =
    report.verdict === "verified"
      ? out.style("green", `VERIFIED: ${verified}`)
      : out.style("red", `REFUSED: ${findingsTotal === 1 ? "one finding" : `${findingsTotal} findings`}`);
  out.line(`${verdict} (${seconds} s)`);
}

export function showAll(out: Output, report: AllReport, seconds: number): void {
  const { authority, versions, status, batches, trustFiles, statusFiles, walk } = report;
  if (authority) out.line(`authority ${formatHex(authority)}`);
  showLog(out, report);
  if (report.checkpoint) {
    out.line();
    if (report.from > 0) out.line(`entries      from ${report.from} on; those before were audited in an earlier run`);
    out.line(`trust        root ${versions.root}, targets ${versions.targets}, batches ${versions.batches}`);
    out.line(`batches      ${batches.checked} checked against their bundles and their approval`);
    out.line(`trust files  ${trustFiles.checked} checked${heldText(trustFiles.notHeld)}`);
    out.line(`status files ${statusFiles.checked} checked${heldText(statusFiles.notHeld)}`);
    if (status) {
      const [revoked, suspended, unreleased] = status.counts;
      out.line(`status       epoch ${status.epoch} of ${timeOf(status.issued)}, ${status.n} indices:`);
      out.line(`             ${revoked} revoked, ${suspended} suspended, ${unreleased} unreleased`);
    }
    if (walk) {
      out.line(`files        ${walk.checked} checked, ${walk.unknownTotal} that no format knows`);
      if (walk.ahead > 0) out.line(`             ${walk.ahead} newer than the checkpoint: run it again`);
      for (const file of walk.unknown) out.line(`             ? ${file}`);
    }
    out.line();
  }
  showFindings(out, report);
  const size = report.checkpoint?.size ?? 0;
  showVerdict(out, report, `all ${size} entries, and every decision behind them`, seconds);
}

export function serialAsJson({ entry, leaf, size, proof, batch, approval }: Serial): Record<string, unknown> {
  const { seq, manifest } = batch;
  const hashes = { rctIdHash: formatHex(leaf.rctIdHash), payloadHash: formatHex(leaf.payloadHash) };
  const names = { profile: manifest.profile, creditClass: manifest.creditClass, first: manifest.first };
  const about = { seq, entry: batch.entry, ...names, count: manifest.count };
  return { index: leaf.index, entry, size, ...hashes, batch: about, approval, proof: parseUtf8(proof) };
}

export function showSerial(
  out: Output,
  { entry, leaf, size, batch, approval }: Serial,
  file: string | undefined,
): void {
  const { manifest } = batch;
  const last = manifest.first + manifest.count - 1;
  out.line(`token     ${leaf.index}, entry ${entry} of ${size}`);
  out.line(`id        SHA-256 ${formatHex(leaf.rctIdHash)}`);
  out.line(`payload   SHA-256 ${formatHex(leaf.payloadHash)}`);
  out.line(`batch     ${batch.seq}, entry ${batch.entry}: tokens ${manifest.first} to ${last}, ${manifest.profile}`);
  out.line(`valid     ${timeOf(manifest.nbf)} to ${timeOf(manifest.exp)}`);
  out.line(`approved  in batches ${approval.version} by ${approval.signers.length}, ${approval.threshold} needed:`);
  for (const signer of approval.signers) out.line(`          ${signer}`);
  if (file !== undefined) out.line(`proof     ${file}`);
}

function heldText(notHeld: number): string {
  return notHeld === 0 ? "" : `, ${notHeld} not held here`;
}

export function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}
