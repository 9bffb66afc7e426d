/**
 * The verdict of a whole audit as one HTML file: no scripts, nothing fetched, plots drawn inline (SVG). Pure.
 *
 * It is read by people who were not there, so it says whose authority, which checkpoint, what was checked, and every
 * finding as it stands in the report. Whatever comes from the audited source is escaped.
 */
import { formatBase64, formatHex } from "@viafabric/schemas";
import type { AllReport } from "./audit-all.ts";
import { grouped, type Line, plot } from "./plot.ts";
import { timeOf } from "./show.ts";

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { padding: .75rem 1rem; border-radius: .4rem; color: #fff; font-weight: 600; }
.verified { background: #17663a; } .refused { background: #a11d1d; }
table { border-collapse: collapse; } td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top; }
code { font-size: .85em; overflow-wrap: anywhere; } small { color: #555; } td:first-child code { white-space: nowrap; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #555; }
@media print { body { margin: 0; } .verdict { print-color-adjust: exact; } }
`;

/** @param source what was audited, as the command line named it. @param now unix seconds */
export function htmlReport(report: AllReport, source: string, now: number): string {
  const { verdict, findingsTotal } = report;
  const outcome =
    verdict === "verified"
      ? `Verified: all ${grouped(report.checkpoint?.size ?? 0)} entries, and every decision behind them`
      : `Refused: ${findingsTotal === 1 ? "one finding" : `${grouped(findingsTotal)} findings`}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Audit: ${escapeHtml(outcome)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Audit of an authority</h1>
<p class="verdict ${verdict}">${escapeHtml(outcome)}</p>
${table(facts(report, source, now))}
${findings(report)}
<h2>What was checked</h2>
${table(checks(report))}
${plots(report)}
</body>
</html>
`;
}

type Row = readonly [name: string, value: string];

function facts({ authority, checkpoint, from, status }: AllReport, source: string, now: number): readonly Row[] {
  const rows: Row[] = [
    ["Source", escapeHtml(source)],
    ["Audited", timeOf(now)],
  ];
  if (authority) rows.push(["Authority", code(formatHex(authority))]);
  if (checkpoint) {
    rows.push(["Log", code(checkpoint.origin)], ["Checkpoint", `${grouped(checkpoint.size)} entries`]);
    rows.push(["Root", code(formatBase64(checkpoint.root))]);
    for (const { name, time } of checkpoint.witnesses) rows.push(["Witness", `${escapeHtml(name)} at ${timeOf(time)}`]);
  }
  if (from > 0) rows.push(["Earlier run", `entries below ${grouped(from)} were audited before`]);
  if (status) {
    const [revoked, suspended, unreleased] = status.counts;
    rows.push(["Status", `epoch ${status.epoch} of ${timeOf(status.issued)}, ${grouped(status.n)} indices`]);
    rows.push([
      "",
      `${grouped(revoked!)} revoked, ${grouped(suspended!)} suspended, ${grouped(unreleased!)} unreleased`,
    ]);
  }
  return rows;
}

/** What was counted, and which rule it was held to. */
function checks({ counts, versions, batches, trustFiles, statusFiles, walk }: AllReport): readonly Row[] {
  const tally = ({ checked, notHeld }: { checked: number; notHeld: number }) => {
    return notHeld === 0
      ? grouped(checked)
      : `${grouped(checked)}, and ${grouped(notHeld)} that the source does not hold`;
  };
  const entries = Object.entries(counts).filter(([, count]) => count > 0);
  const rule = (text: string) => `<br><small>${text}</small>`;
  const rows: Row[] = [
    [
      "Entries",
      entries.map(([type, count]) => `${grouped(count)} ${escapeHtml(type)}`).join(", ") +
        rule("each hashed and found in the signed tree; no token id twice, no index twice, no token outside a batch"),
    ],
    [
      "Trust",
      `root ${versions.root}, targets ${versions.targets}, batches ${versions.batches}` +
        rule("each version logged, and signed by its threshold under what was logged before it"),
    ],
    ["Batches", tally(batches) + rule("each approved by the trustees, and followed by exactly its tokens")],
    ["Events", grouped(counts.event + counts["holder-event"]) + rule("each signed by the threshold of what it does")],
    ["Trust files", tally(trustFiles) + rule("each the one that was logged")],
    ["Status files", tally(statusFiles) + rule("each statement and set computed again from the log, and the same")],
  ];
  if (!walk) return rows;
  rows.push(["Files", `${grouped(walk.checked)}, and ${grouped(walk.unknownTotal)} that no format knows`]);
  for (const file of walk.unknown) rows.push(["", code(file)]);
  return rows;
}

function findings({ findings: found, findingsTotal }: AllReport): string {
  if (found.length === 0) return "";
  const rows = found.map(({ entry, code: name, message }) => {
    return `<tr><td><code>${escapeHtml(name)}</code></td><td>${grouped(entry)}</td><td>${escapeHtml(message)}</td></tr>`;
  });
  const more = findingsTotal > found.length ? `<p>… and ${grouped(findingsTotal - found.length)} more.</p>` : "";
  return `<h2>Findings</h2>
<table><tr><th>Code</th><th>Entry</th><th>What</th></tr>
${rows.join("\n")}
</table>${more}`;
}

function plots({ series: { batches, epochs } }: AllReport): string {
  const column = (rows: readonly (readonly number[])[], at: number) => rows.map((row) => [row[0]!, row[at]!] as const);
  const [revoked, suspended, unreleased] = ["revoked", "suspended", "unreleased"].map((name, i): Line => {
    return { name, points: column(epochs, i + 1) };
  });
  return [
    plot({ title: "Log entries over batches", x: "batch", lines: [{ name: "entries", points: column(batches, 1) }] }),
    plot({
      title: "Tokens per batch",
      x: "batch",
      lines: [{ name: "tokens", points: column(batches, 2) }],
      bars: true,
    }),
    // Apart, because a few revoked tokens are a flat line beside all that wait to be released.
    plot({ title: "Revoked and suspended tokens", x: "epoch", lines: [revoked!, suspended!] }),
    plot({ title: "Tokens not yet released", x: "epoch", lines: [unreleased!] }),
  ].join("\n");
}

function table(rows: readonly Row[]): string {
  return `<table>\n${rows.map(([name, value]) => `<tr><th>${name}</th><td>${value}</td></tr>`).join("\n")}\n</table>`;
}

function code(text: string): string {
  return `<code>${escapeHtml(text)}</code>`;
}

export function escapeHtml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}
