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
  /** The result, when the work came to its end. */
  finish(): void;
  /** Takes the bar away, and says what is left to do by hand. */
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
    finish() {
      bar.stop();
      const { counts } = ledger;
      out.result({ batch: kit.batch, ...counts, tags: done }, () => {
        out.line(`batch ${kit.batch}: ${counts.written} written, ${counts.void} void, ${counts.free} free`);
        if (ledger.isComplete) out.line("next: via writer upload --vault URL");
      });
    },
    close() {
      bar.stop();
      for (const { index, reservation } of ledger.unfinished) {
        const uid = formatHex(reservation?.uid ?? new Uint8Array(0));
        out.note(`serial ${index} is begun on tag ${uid}: lay it down again, or via writer void --index ${index}`);
      }
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
