/** What the person at the reader sees while tags are written. */
import type { Output, Progress } from "@viafabric/platform";
import { formatHex } from "@viafabric/schemas";
import type { KitSummary } from "./kits.ts";
import type { Ledger } from "./ledger.ts";
import type { WriteEvent } from "./write-tags.ts";

/** With `--json` one line for each event; on a terminal a bar and what needs a hand. */
export function showEvents(
  out: Output,
  ledger: Ledger,
  kit: KitSummary,
): { show(event: WriteEvent): void; stop(): void } {
  let bar: Progress | undefined;
  if (!out.json) {
    bar = out.progress("tags", kit.count);
    bar.advance(kit.count - ledger.counts.free - ledger.counts.reserved);
  }
  return {
    show(event) {
      if (out.json) process.stdout.write(`${JSON.stringify(event)}\n`);
      else if (event.kind === "written") bar?.advance();
      else out.note(sentenceOf(event));
    },
    stop: () => bar?.stop(),
  };
}

function sentenceOf(event: WriteEvent): string {
  switch (event.kind) {
    case "written":
      return `serial ${event.index} is on tag ${event.uid}`;
    case "void":
      return `tag ${event.uid} does not hold what is written: put it aside; serial ${event.index} is void`;
    case "already":
      return `tag ${event.uid} carries serial ${event.index} already`;
    case "refused":
      return `${event.code}: ${event.message}; put this tag aside`;
    case "interrupted":
      return `${event.code}: ${event.message}; lay the same tag down again`;
    case "reader-missing":
      return `${event.message}; plug the reader in`;
  }
}

export function showRest(out: Output, ledger: Ledger, kit: KitSummary): void {
  const { counts, unfinished } = ledger;
  if (out.json) {
    process.stdout.write(`${JSON.stringify({ kind: "end", batch: kit.batch, ...counts })}\n`);
    return;
  }
  out.line(`batch ${kit.batch}: ${counts.written} written, ${counts.void} void, ${counts.free} free`);
  for (const { index, reservation } of unfinished) {
    out.line(
      `serial ${index} is begun on tag ${formatHex(reservation!.uid)}: lay it down again, or via writer void --index ${index}`,
    );
  }
  if (counts.free === 0 && counts.reserved === 0) out.line("next: via writer upload --vault URL");
}
