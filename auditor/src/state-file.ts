/**
 * Where a whole audit stopped, in a folder of the auditor's own: the next run goes on from there.
 *
 * The file is believed for what it remembers of the log, not about the log: the entries audited before must still be
 * the beginning of it. It is as good as the disk it is on; whoever may write there may also replace this program.
 */
import path from "node:path";
import { ensureFolder, readFileIfPresent, writeFileDurable } from "@viafabric/platform";
import {
  type CborValue,
  CodedError,
  decodeCbor,
  type ErrorCode,
  encodeCbor,
  type Hash,
  OperationError,
} from "@viafabric/schemas";
import type { AllState } from "./audit-all.ts";

const FILE = "audit.state";
const VERSION = 1;
/** Sixteen bytes a token, twice for room to grow, and a hundred million tokens. */
const STATE_BYTES_MAX = 4 * 1024 * 1024 * 1024;

export async function readState(folder: string): Promise<AllState | undefined> {
  const bytes = await readFileIfPresent(path.join(folder, FILE), STATE_BYTES_MAX);
  if (!bytes) return undefined;
  try {
    return decodeState(decodeCbor(bytes));
  } catch (cause) {
    if (!(cause instanceof CodedError) && !(cause instanceof TypeError)) throw cause;
    throw new OperationError("ERR_AUDIT_STATE", `${path.join(folder, FILE)} is not readable`, { cause });
  }
}

export async function writeState(folder: string, { authority, resume, decisions }: AllState): Promise<void> {
  await ensureFolder(folder);
  const { position, root, rules, batches, trustFiles, findings, findingsTotal } = resume;
  const tallies = [batches.checked, batches.notHeld, trustFiles.checked, trustFiles.notHeld];
  const found = findings.map(({ entry, code, message }) => [entry, code, message]);
  const value: CborValue = [VERSION, authority, position, root, rules, tallies, found, findingsTotal, decisions];
  await writeFileDurable(path.join(folder, FILE), encodeCbor(value));
}

function decodeState(value: CborValue): AllState {
  const [version, authority, position, root, rules, tallies, found, findingsTotal, decisions] = value as readonly [
    number,
    Uint8Array,
    number,
    Hash,
    CborValue,
    readonly [number, number, number, number],
    readonly (readonly [number, string, string])[],
    number,
    CborValue,
  ];
  if (version !== VERSION) throw new OperationError("ERR_AUDIT_STATE", `the state is of version ${version}`);
  const findings = found.map(([entry, code, message]) => ({ entry, code: code as ErrorCode, message }));
  const batches = { checked: tallies[0], notHeld: tallies[1] };
  const trustFiles = { checked: tallies[2], notHeld: tallies[3] };
  return { authority, resume: { position, root, rules, batches, trustFiles, findings, findingsTotal }, decisions };
}
