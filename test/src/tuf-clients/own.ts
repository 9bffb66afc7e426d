/** Our trusted client, reading the files of a folder as a node reads a stick. */
import { readFile } from "node:fs/promises";
import { CodedError, formatHex, OperationError, sha256 } from "@viafabric/schemas";
import { refreshTrust } from "@viafabric/tuf/client";
import type { Outcome, Visit } from "./client.ts";

export async function visitWithOwn(visit: Visit): Promise<Outcome> {
  const file = new Uint8Array(await readFile(visit.root));
  try {
    const state = await refreshTrust({
      folder: visit.store,
      pinned: { file },
      // A vault publishes below `tuf/`; a golden repository is that folder.
      fetch: (name) => visit.read(name.replace(/^tuf\//, "")),
      // Golden heads grow from none to one batch, which takes no proof.
      prove: async () => [],
      now: visit.now,
    });
    const targets = [...state.files].map(([name, bytes]) => [name, formatHex(sha256(bytes))] as const);
    return { verdict: "accept", targets: Object.fromEntries(targets) };
  } catch (error) {
    if (!(error instanceof CodedError)) throw error;
    const verdict = error instanceof OperationError ? "error" : "refuse";
    return { verdict, error: `${error.code}: ${error.message}` };
  }
}
