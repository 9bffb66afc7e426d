/**
 * What the person at the reader sees while tags are written: a bar, and a sentence where a hand is needed. With
 * `--json` the events go to standard error, one JSON object a line, and the result is one document like everybody's.
 */
import type { Output } from "@viafabric/platform";
import { formatHex } from "@viafabric/schemas";
import type { KitSummary } from "./kits.ts";
import type { Ledger } from "./ledger.ts";
import type { WriteEvent } from "./write-tags.ts";

export interface Screen {
  show(event: WriteEvent): void;
  /** Says what was done and what is left. */
  close(): void;
}

export function openScreen(out: Output, ledger: Ledger, kit: KitSummary): Screen {
  const done: { index: number; uid: string; result: "written" | "void" }[] = [];
  const bar = out.progress("tags", kit.count);
  bar.advance(kit.count - ledger.counts.free - ledger.counts.reserved);
  return {
    show(event) {
      if (event.kind === "written" || event.kind === "void") {
        done.push({ index: event.index, uid: event.uid, result: event.kind });
        bar.advance();
      }
      if (out.json) process.stderr.write(`${JSON.stringify(event)}\n`);
      else if (event.kind !== "written") out.note(sentenceOf(event));
    },
    close() {
      bar.stop();
      const unfinished = ledger.unfinished.map(({ index, reservation }) => {
        return { index, uid: formatHex(reservation?.uid ?? new Uint8Array(0)) };
      });
      const { counts } = ledger;
      out.result({ batch: kit.batch, ...counts, tags: done, unfinished }, () => {
        out.line(`batch ${kit.batch}: ${counts.written} written, ${counts.void} void, ${counts.free} free`);
        for (const { index, uid } of unfinished) {
          out.line(`serial ${index} is begun on tag ${uid}: lay it down again, or via writer void --index ${index}`);
        }
        if (counts.free === 0 && counts.reserved === 0) out.line("next: via writer upload --vault URL");
      });
    },
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
