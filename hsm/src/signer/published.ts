/**
 * What the world has already seen, held against what the signer remembers, before it signs anything.
 *
 * A signer whose memory was rolled back would sign a second history. The public folder is not trusted: whoever can
 * write to it can keep the signer from starting, and nothing else.
 */

import path from "node:path";
import { readFileIfPresent } from "@viafabric/platform";
import { parseStatement } from "@viafabric/revocation";
import { equalBytes, formatHex, NOTE_BYTES_MAX, OperationError, parseNote } from "@viafabric/schemas";
import { parseCheckpoint } from "@viafabric/transparency-log";
import { METADATA_BYTES_MAX, parseMetadata } from "@viafabric/tuf";
import { frontierOf, type SignerState } from "./state.ts";
import { lastStatement } from "./trust.ts";

/** @throws OperationError ERR_SIGNER_BEHIND; FormatError for published pointers that are not what they must be */
export async function assertNotBehind(state: SignerState, publicFolder: string): Promise<void> {
  const read = (name: string, bytesMax: number) => readFileIfPresent(path.join(publicFolder, name), bytesMax);
  const checkpoint = await read("log/checkpoint", NOTE_BYTES_MAX);
  if (checkpoint) assertCheckpoint(state, checkpoint);
  const statement = await read("revocation/latest", NOTE_BYTES_MAX);
  if (statement) assertStatement(state, statement);
  const timestamp = await read("tuf/metadata/timestamp.json", METADATA_BYTES_MAX.timestamp);
  if (timestamp) assertTimestamp(state, timestamp);
}

function assertCheckpoint(state: SignerState, note: Uint8Array): void {
  const { size, root } = parseCheckpoint(parseNote(note).text);
  if (size > state.log.size)
    throw behind(`the published log has ${size} entries, and ${state.log.size} are known here`);
  if (size === state.log.size && !equalBytes(root, frontierOf(state).root()))
    throw behind(`the published log of ${size} entries has root ${formatHex(root)}, another than the one signed here`);
}

function assertStatement(state: SignerState, note: Uint8Array): void {
  const { text } = parseNote(note);
  const { epoch } = parseStatement(text);
  const last = lastStatement(state)?.epoch ?? 0;
  if (epoch > last) throw behind(`the published statement is of epoch ${epoch}; the last signed here of ${last}`);
  if (epoch === last && text !== parseNote(state.statement).text)
    throw behind(`another statement of epoch ${epoch} is published than the one signed here`);
}

function assertTimestamp(state: SignerState, file: Uint8Array): void {
  const { signed } = parseMetadata("timestamp", file);
  const timestamp = state.metadata.get("timestamp")?.version ?? 0;
  const snapshot = state.metadata.get("snapshot")?.version ?? 0;
  if (signed.version > timestamp || signed.snapshot.version > snapshot) {
    throw behind(
      `timestamp ${signed.version} and snapshot ${signed.snapshot.version} are published; ` +
        `the last ones signed here are ${timestamp} and ${snapshot}`,
    );
  }
}

function behind(reason: string): OperationError {
  return new OperationError(
    "ERR_SIGNER_BEHIND",
    `${reason}. The signer's memory is older than what the world has seen: do not start it; follow the runbook.`,
  );
}
