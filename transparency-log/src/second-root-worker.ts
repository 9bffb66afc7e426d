/** The thread behind second-root.ts: reads a segment from the disk and grows the right edge by it. */
import { readFile } from "node:fs/promises";
import { parentPort } from "node:worker_threads";
import { MerkleFrontier } from "@viafabric/schemas";
import { growFrontier, type RootAnswer, type RootQuestion } from "./second-root.ts";

async function answer({ file, size, peaks }: RootQuestion): Promise<RootAnswer> {
  try {
    const grown = growFrontier(new MerkleFrontier(size, peaks), await readFile(file));
    return { size: grown.size, peaks: grown.peaks };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on("message", (question: RootQuestion) => {
  void answer(question).then((reply) => parentPort?.postMessage(reply));
});
