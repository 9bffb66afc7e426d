/** How reviews look: first what must be compared by voice, then who gets what, then what changes. */
import type { Output } from "@viafabric/platform";
import { type EventBody, formatHex, formatWords, kidText, quote } from "@viafabric/schemas";
import { type Alarm, REJECTION_REASON_LENGTH_MAX, type Rejection } from "@viafabric/tuf";
import type { StatusReport } from "./commands.ts";
import type { GenesisReview } from "./genesis.ts";
import { dayOf } from "./policy.ts";
import type { Review } from "./review.ts";
import type { ReviewedBatch } from "./review-batches.ts";
import { formatRanges } from "./status-event.ts";

const WORDS_PER_LINE = 6;
/** More holders than this are counted, not listed; `--json` lists all. */
const SUBJECTS_SHOWN_MAX = 5;
const DAY = 86_400;
/** Hex digits of a key id beside a trustee's words: to tell one from another, not to identify. */
const KEYID_SHOWN = 16;

/** The 24 words, numbered, in four lines: made to be read aloud. */
export function showWords(out: Output, words: string): void {
  const list = words.split(" ");
  for (let at = 0; at < list.length; at += WORDS_PER_LINE) {
    const line = list
      .slice(at, at + WORDS_PER_LINE)
      .map((word, i) => `${String(at + i + 1).padStart(2)} ${word.padEnd(9)}`);
    out.line(`  ${out.style("bold", line.join(" ").trimEnd())}`);
  }
}

export function genesisJson(review: GenesisReview): unknown {
  return {
    authority: formatHex(review.authority),
    words: review.words,
    threshold: review.authorityCard.threshold,
    cards: review.cards.map(({ name, role, key }) => ({ name, role, kid: formatHex(key.kid) })),
    expires: review.expires,
  };
}

export function showGenesis(out: Output, review: GenesisReview): void {
  const { cards, keys, rules, authorityCard, expires } = review;
  out.line("You are about to found this authority. Compare these words by voice with every other trustee:");
  out.line();
  showWords(out, review.words);
  out.line();
  const trustees = cards.filter(({ role }) => role === "trustee");
  out.line(`${authorityCard.threshold} of ${trustees.length} trustees decide.`);
  out.table(
    ["role", "name", "key"],
    cards.map(({ role, name, key }) => [role, name, formatHex(key.kid)]),
  );
  out.line();
  out.table(
    ["service key", "class", "valid until", "key"],
    keys
      .filter(({ purpose }) => purpose !== "station" && purpose !== "release")
      .map((e) => [e.purpose, e.class, dayOf(e.until), formatHex(e.key.kid)]),
  );
  const { suspend, revokeKit, revoke, reinstate } = rules.thresholds;
  out.line();
  out.line(
    `Trustees needed to suspend: ${suspend}, revoke a kit: ${revokeKit}, revoke more: ${revoke}, reinstate: ${reinstate}.`,
  );
  out.line(
    `root until ${dayOf(expires.root)}, targets until ${dayOf(expires.targets)}, batches until ${dayOf(expires.batches)}.`,
  );
  out.line("Log policy:");
  for (const line of review.policyText.trimEnd().split("\n")) out.line(`  ${quote(line).slice(1, -1)}`);
}

export function reviewJson(review: Review): unknown {
  const { proposal, batches } = review;
  return {
    id: formatHex(proposal.id),
    words: review.words,
    role: proposal.role,
    version: proposal.version,
    state: review.told.state,
    approvals: review.approvals,
    threshold: proposal.quorums[0]!.threshold,
    proposalExpires: proposal.expires,
    expires: review.expires,
    changes: review.changes,
    rejections: review.rejections.map(rejectionJson),
    requestedBy: review.told.requestedBy.map(formatHex),
    ownApprovals: review.told.ownApprovals,
    ...(batches && {
      head: {
        size: batches.head.size,
        next: batches.head.next,
        log: batches.head.log.size,
        epoch: batches.head.floor.epoch,
      },
      batches: batches.batches.map(({ manifest, subjects }) => ({
        seq: manifest.seq,
        first: manifest.first,
        count: manifest.count,
        profile: manifest.profile,
        creditClass: manifest.creditClass,
        quota: manifest.quota,
        unit: manifest.unit,
        iss: manifest.iss,
        nbf: manifest.nbf,
        claimBy: manifest.claimBy,
        exp: manifest.exp,
        claim: manifest.claim,
        layout: manifest.layout,
        tagClass: manifest.tagClass,
        offline: manifest.offline,
        stations: manifest.stations.map(({ kid, first, count }) => ({ kid: formatHex(kid), first, count })),
        releaseKeys: manifest.releaseKeys.map(formatHex),
        statusUri: manifest.statusUri,
        subjects,
      })),
    }),
  };
}

export function showReview(out: Output, review: Review): void {
  const { proposal, batches } = review;
  const { threshold } = proposal.quorums[0]!;
  const what = review.parts ? "A rotation: root" : proposal.role;
  out.line(
    `${what} ${proposal.version}, ${review.approvals} of ${threshold} approvals, open until ${dayOf(proposal.expires)}`,
  );
  out.line();
  showWords(out, review.words);
  out.line();
  showTold(out, review);
  showRejections(out, review.rejections);
  if (batches && batches.batches.length > 1) {
    const tokens = batches.batches.reduce((sum, { manifest }) => sum + manifest.count, 0);
    out.line(
      out.style("bold", `${batches.batches.length} batches, ${tokens} tokens; approved together or not at all:`),
    );
    out.line();
  }
  for (const batch of batches?.batches ?? []) showBatch(out, batch);
  if (batches?.batches.length === 0 && !review.parts)
    out.line("No new batch: the accepted ones, signed for another while.");
  // Whole, however long: the end of a line is where a key's last day stands.
  for (const change of review.changes) out.line(`  ${quote(change, Number.POSITIVE_INFINITY).slice(1, -1)}`);
  if (!batches && review.changes.length === 0) out.line("Nothing changes but the date.");
  out.line(`Signed, it is good until ${dayOf(review.expires)}.`);
  out.line(out.style("green", "Everything was computed again here and agrees with what this tool accepted before."));
}

function showTold(out: Output, { told, proposal }: Review): void {
  const { state, requestedBy, ownApprovals } = told;
  if (state !== "open")
    out.line(out.style("yellow", `The vault says that this proposal is ${quote(state).slice(1, -1)}.`));
  const trustees = proposal.quorums.flatMap(({ keys }) => keys).map(kidText);
  for (const kid of requestedBy.map(formatHex)) {
    const voice = ownApprovals ? "whose own approval counts here" : "who may not approve it";
    out.line(`Asked for by ${kid}${trustees.includes(kid) ? `, a trustee ${voice}` : ""} (as the vault tells).`);
  }
  if (requestedBy.length === 0) out.line("Nobody asked for it: the vault proposed it by itself (as it tells).");
  out.line();
}

/** Signed words, and quoted all the same: they are other people's. */
function showRejections(out: Output, rejections: readonly Rejection[]): void {
  for (const { keyid, reason } of rejections)
    out.line(
      out.style("red", `  rejected by ${keyid.slice(0, KEYID_SHOWN)}…: ${quote(reason, REJECTION_REASON_LENGTH_MAX)}`),
    );
}

function rejectionJson({ keyid, reason, signature }: Rejection): unknown {
  return { keyid, reason, signature: formatHex(signature) };
}

function showBatch(out: Output, { manifest: m, subjects }: ReviewedBatch): void {
  const text = (value: string) => quote(value).slice(1, -1);
  out.line(`Batch ${m.seq}: ${m.count} tokens, indices ${formatRanges([m])}`);
  out.table(
    ["", ""],
    [
      ["profile", text(m.profile)],
      ["credit", `${m.quota} ${text(m.unit)} of ${text(m.creditClass)}`],
      ["valid", `${dayOf(m.nbf)} to ${dayOf(m.exp)}, to be claimed by ${dayOf(m.claimBy)}`],
      ["claim", `${text(m.claim)}, offline ${text(m.offline)}`],
      ["tag", `${text(m.layout)} on ${text(m.tagClass)}`],
      ["issuer", text(m.iss)],
      ["status", text(m.statusUri)],
      ...m.stations.map((s) => ["written by", `${formatHex(s.kid)} (${formatRanges([s])})`]),
      ...m.releaseKeys.map((kid) => ["released by", formatHex(kid)]),
      ["holders", String(subjects.length)],
      ...subjects.slice(0, SUBJECTS_SHOWN_MAX).map((subject) => ["", text(subject)]),
      ...(subjects.length > SUBJECTS_SHOWN_MAX
        ? [["", `and ${subjects.length - SUBJECTS_SHOWN_MAX} more (--json lists them)`]]
        : []),
    ],
  );
  out.line();
}

export function statusJson(report: StatusReport): unknown {
  const { trust, before } = report.accepted;
  return {
    authority: formatHex(trust.authority),
    accepted: {
      root: trust.rootVersion,
      targets: trust.targetsVersion,
      batches: trust.batchesVersion,
      size: trust.head.size,
    },
    newBatches: trust.head.size - (before?.head.size ?? 0),
    proposals: report.proposals.map((p) => ({
      id: formatHex(p.id),
      words: formatWords(p.id),
      role: p.role,
      version: p.version,
      expires: p.expires,
      mine: p.mine,
      needsMe: p.needsMe,
      rejections: p.rejections.map(rejectionJson),
    })),
    rejected: report.rejected.map((p) => ({
      id: formatHex(p.id),
      words: formatWords(p.id),
      role: p.role,
      version: p.version,
      rejections: p.rejections.map(rejectionJson),
    })),
    events: report.events.map((e) => ({
      id: formatHex(e.id),
      signatures: e.signatures.length,
      threshold: e.threshold,
      needsMe: e.needsMe,
    })),
    expiries: report.expiries,
  };
}

export function showStatus(out: Output, report: StatusReport, now: number): void {
  const { trust, before } = report.accepted;
  out.line(`Authority ${formatHex(trust.authority)}`);
  out.line(
    `Accepted: root ${trust.rootVersion}, targets ${trust.targetsVersion}, batches ${trust.batchesVersion}; ${counted(trust.head.size, "batch", "batches")}, log of ${report.accepted.log.size}`,
  );
  const fresh = trust.head.size - (before?.head.size ?? 0);
  if (fresh > 0) out.line(`Approved and published since this tool last looked: ${counted(fresh, "batch", "batches")}.`);
  out.line();
  if (report.proposals.length === 0) out.line("No open proposals.");
  for (const p of report.proposals) {
    const state = p.needsMe
      ? out.style("yellow", "needs you")
      : p.mine === "sign"
        ? "signed by you"
        : "rejected by you";
    out.line(`${p.role} ${p.version}  ${state}  open until ${dayOf(p.expires)}`);
    out.line(`  ${formatHex(p.id)}`);
    showRejections(out, p.rejections);
  }
  for (const p of report.rejected) {
    out.line(`${p.role} ${p.version}  rejected`);
    out.line(`  ${formatHex(p.id)}`);
    showRejections(out, p.rejections);
  }
  if (report.events.length === 0) out.line("No open status events.");
  for (const e of report.events) {
    const state = e.needsMe ? out.style("yellow", "needs you") : "does not need you";
    out.line(`status event  ${state}  ${e.signatures.length} of ${e.threshold}`);
    out.line(`  ${formatHex(e.id)}`);
  }
  out.line();
  out.table(
    ["expires", "what", "days left", "half", "80 %", "alarm"],
    report.expiries.map((e) => [
      dayOf(e.expires),
      e.what,
      String(Math.floor((e.expires - now) / DAY)),
      dayOf(e.half),
      dayOf(e.late),
      alarmText(out, e.alarm),
    ]),
  );
}

function alarmText(out: Output, alarm: Alarm): string {
  switch (alarm) {
    case "none":
      return "";
    case "50%":
      return out.style("yellow", "half gone: plan the next signing");
    case "80%":
      return out.style("red", "80 % gone: sign now");
    case "expired":
      return out.style("red", "expired");
  }
}

export function eventJson(id: Uint8Array, body: EventBody): unknown {
  return {
    id: formatHex(id),
    words: formatWords(id),
    action: body.action,
    ranges: body.ranges,
    reason: body.reason,
    notAfter: body.notAfter,
    undoes: body.undoes,
  };
}

export function showEvent(out: Output, id: Uint8Array, body: EventBody): void {
  const count = body.ranges.reduce((sum, range) => sum + range.count, 0);
  out.line(out.style("bold", `${body.action} ${counted(count, "token", "tokens")}: ${formatRanges(body.ranges)}`));
  out.line(`reason: ${quote(body.reason)}`);
  if (body.undoes.length > 0) out.line(`undoes the log entries ${body.undoes.join(", ")}`);
  out.line(`to be logged by ${dayOf(body.notAfter)}`);
  out.line();
  showWords(out, formatWords(id));
  out.line(`  ${formatHex(id)}`);
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
