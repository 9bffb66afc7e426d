/**
 * A witness: it cosigns a checkpoint of a log it knows when the tree extends the one that it cosigned before, and
 * nothing else. That is all its promise, so its memory is all it has to protect.
 *
 * `checkSubmission` and `decide` are pure and hold every rule. The Cosigner around them keeps one order: decide, sign,
 * make the new memory durable, and only then answer. A crash before the last step leaves a memory that is ahead of
 * what anybody was told, which the next 409 tells; one that is behind an answer would be a fork in the making.
 */
import {
  CodedError,
  EMPTY_ROOT,
  equalBytes,
  formatNote,
  formatSignatureLine,
  type Hash,
  type NoteSignature,
  type NoteVerifier,
  noteVerifier,
  openNote,
  parseNote,
  type Signer,
  signNote,
  VerificationError,
  verifyConsistency,
} from "@viafabric/schemas";
import { type Checkpoint, parseCheckpoint, type TreeHead } from "./checkpoint.ts";
import { monitoringPath, parseAddCheckpoint, SIZE_TYPE } from "./witness-protocol.ts";

/** A log that is witnessed. Two keys of one origin are two ways to sign for it. */
export interface KnownLog {
  readonly origin: string;
  readonly verifiers: readonly NoteVerifier[];
}

/** A head that was cosigned, and the note that shows it: the log's own lines and the witness's. */
export interface CosignedHead extends TreeHead {
  readonly note: Uint8Array;
}

/** The memory of a witness: for each origin the last head that it cosigned. */
export interface WitnessStore {
  /** Undefined before the first. Never an older one than it answered or accepted before. */
  read(log: KnownLog): Promise<CosignedHead | undefined>;
  /**
   * Compare-and-set: durable on return, atomic, and only while `old` is what is held.
   * @returns false when somebody else was faster
   */
  replace(log: KnownLog, old: TreeHead | undefined, next: CosignedHead): Promise<boolean>;
}

export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly type: string;
  readonly body: string;
}

/** A submission of a known log, signed by it. checkSubmission is its only source. */
export interface Submitted {
  readonly log: KnownLog;
  readonly oldSize: number;
  readonly proof: readonly Hash[];
  readonly checkpoint: Checkpoint;
  readonly text: string;
  /** Verified lines of the log's own keys. */
  readonly lines: readonly NoteSignature[];
}

type Refusal = { readonly refused: WitnessAnswer };

/** What can be said without looking at the memory. */
export function checkSubmission(logs: readonly KnownLog[], body: Uint8Array): Submitted | Refusal {
  let oldSize: number;
  let proof: readonly Hash[];
  let note: Uint8Array;
  let checkpoint: Checkpoint;
  try {
    ({ oldSize, proof, note } = parseAddCheckpoint(body));
    checkpoint = parseCheckpoint(parseNote(note).text);
  } catch (error) {
    return refuse(400, error);
  }
  if (oldSize > checkpoint.size) return refuse(400, `old ${oldSize} is beyond the checkpoint's ${checkpoint.size}`);
  const log = logs.find(({ origin }) => origin === checkpoint.origin);
  if (!log) return refuse(404, "this log is not witnessed here");
  try {
    openNote(note, log.verifiers);
  } catch (error) {
    return refuse(403, error);
  }
  const { text, signatures } = parseNote(note);
  const lines = signatures.filter(({ name, keyId }) => {
    return log.verifiers.some((verifier) => verifier.name === name && equalBytes(verifier.keyId, keyId));
  });
  return { log, oldSize, proof, checkpoint, text, lines };
}

/** Whether the tree extends `held`. @returns the refusal, or undefined for yes */
export function decide(held: TreeHead | undefined, submitted: Submitted): WitnessAnswer | undefined {
  const { oldSize, proof, checkpoint } = submitted;
  const size = held?.size ?? 0;
  if (oldSize !== size) return { status: 409, type: SIZE_TYPE, body: `${size}\n` };
  try {
    const { size: newSize, root: newRoot } = checkpoint;
    // The same size again is the same tree again: a log that lost the answer asks for it once more.
    verifyConsistency({ oldSize, oldRoot: held?.root ?? EMPTY_ROOT, newSize, newRoot, proof });
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    return refuse(422, error).refused;
  }
  return undefined;
}

export interface CosignerOptions {
  /** Of the witness and its key. */
  readonly name: string;
  readonly signer: Signer;
  readonly logs: readonly KnownLog[];
  readonly store: WitnessStore;
  /** Unix seconds. */
  readonly now: () => number;
}

export class Cosigner {
  readonly verifier: NoteVerifier;
  readonly #options: CosignerOptions;
  readonly #byPath: ReadonlyMap<string, KnownLog>;

  /** @throws FormatError ERR_VKEY for a name that no key can have */
  constructor(options: CosignerOptions) {
    this.verifier = noteVerifier(options.name, options.signer.publicKey, 4);
    this.#options = options;
    this.#byPath = new Map(options.logs.map((log) => [monitoringPath(log.origin), log]));
  }

  /** @throws OperationError when the memory fails: then nothing was promised */
  async addCheckpoint(body: Uint8Array): Promise<WitnessAnswer> {
    const { name, signer, logs, store, now } = this.#options;
    const submitted = checkSubmission(logs, body);
    if ("refused" in submitted) return submitted.refused;
    const { log, text, lines, checkpoint } = submitted;
    const held = await store.read(log);
    const refused = decide(held, submitted);
    if (refused) return refused;
    const line = await signNote(text, name, signer, now());
    const note = formatNote({ text, signatures: [...lines, line] });
    const { size, root } = checkpoint;
    if (await store.replace(log, held, { size, root, note })) {
      return { status: 200, type: "text/plain; charset=utf-8", body: formatSignatureLine(line) };
    }
    // The line that was just made is forgotten: another request has moved the memory on.
    const moved = await store.read(log);
    return { status: 409, type: SIZE_TYPE, body: `${moved?.size ?? 0}\n` };
  }

  /** @param path below the address, as monitoringPath makes it */
  async latest(path: string): Promise<Uint8Array | undefined> {
    const log = this.#byPath.get(path);
    return log && (await this.#options.store.read(log))?.note;
  }
}

function refuse(status: WitnessAnswer["status"], reason: unknown): Refusal {
  const text = reason instanceof CodedError ? reason.message : String(reason);
  return { refused: { status, type: "text/plain; charset=utf-8", body: `${text}\n` } };
}
