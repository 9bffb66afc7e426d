/** All format vectors, by file name below `test/vectors/formats/`. */
import { headVectors, manifestVectors } from "./approval.ts";
import type { VectorFile } from "./common.ts";
import { eventVectors, leafVectors } from "./log.ts";
import { policyVectors } from "./policy.ts";
import { requestVectors } from "./request.ts";
import { kitVectors, receiptVectors } from "./station.ts";
import { tagVectors } from "./tag.ts";
import { tokenVectors } from "./token.ts";
import { transcriptVectors } from "./transcript.ts";
import { trustVectors } from "./trust.ts";

export async function formatVectors(): Promise<ReadonlyMap<string, VectorFile>> {
  return new Map([
    ["event.json", await eventVectors()],
    ["head.json", headVectors()],
    ["kit.json", kitVectors()],
    ["leaf.json", await leafVectors()],
    ["manifest.json", manifestVectors()],
    ["policy.json", policyVectors()],
    ["rct.json", await tokenVectors()],
    ["receipt.json", await receiptVectors()],
    ["request.json", await requestVectors()],
    ["tag.json", tagVectors()],
    ["transcript.json", await transcriptVectors()],
    ["trust.json", trustVectors()],
  ]);
}

/** One file as it is written: a person can read it, and a change shows as the line it is. */
export function formatVectorFile(file: VectorFile): string {
  return `${JSON.stringify(file, undefined, 2)}\n`;
}
