/**
 * Asking witnesses to cosign a checkpoint (C2SP tlog-witness v1.0.0, the log's side).
 *
 *     200                                 cosignature lines
 *     409  text/x.tlog.size               another old size, namely this one: prove again from there
 *     422, or 409 without a size          the tree does not extend the one that the witness saw
 *
 * A witness that has seen another tree, or a longer one than we have, is evidence that the log has forked or was
 * restored from a backup. That is never answered by trying again: the client stops, and whoever runs the log keeps
 * what the error carries.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  concat,
  equalBytes,
  FormatError,
  formatNote,
  formatSignatureLine,
  type Hash,
  type NoteSignature,
  type NoteVerifier,
  OperationError,
  openNote,
  parseDecimal,
  parseNote,
  parseUtf8,
  quote,
  utf8,
  VerificationError,
} from "@viafabric/schemas";
import {
  type LogPolicy,
  type PolicyWitness,
  policyOfLog,
  type VerifiedCheckpoint,
  verifyCheckpoint,
} from "./policy.ts";
import { ADD_CHECKPOINT_PATH, formatAddCheckpoint, SIZE_TYPE } from "./witness-protocol.ts";

export interface Submission {
  /** The signed note. Cosignatures in it are not sent on: a witness wants the log's word, and limits its requests. */
  readonly note: Uint8Array;
  /** That the tree of the note extends the one of `oldSize`; proveConsistency of the client gives it. */
  prove(oldSize: number): Promise<readonly Hash[]>;
}

export interface WitnessOptions {
  /** The size that this witness cosigned last, from an earlier run. It saves a request, and shows a lost log. */
  readonly size?: number;
  readonly secondsMax?: number;
  readonly attemptsMax?: number;
}

/** One address, and whoever of the policy signs there. */
export interface Witness {
  /** As the policy has it. */
  readonly url: string;
  readonly names: readonly string[];
  /** What it cosigned last, as far as we know. To be kept for the next run. */
  readonly size: number;
  /**
   * Its verified cosignatures, one at least. Requests run one after the other.
   * @throws VerificationError ERR_WITNESS_SPLIT, and again at every later call; its cause is the WitnessEvidence
   * @throws OperationError ERR_WITNESS when it refuses or cannot be reached
   */
  cosign(submission: Submission): Promise<readonly NoteSignature[]>;
  /**
   * Shows it a checkpoint that is known to be the newest, before anything newer is signed. It answers that it has
   * seen no more, or it throws as `cosign` does.
   */
  confirm(note: Uint8Array): Promise<void>;
}

/** What a witness was asked and answered when it contradicted us. */
export interface WitnessEvidence {
  readonly url: string;
  readonly request: string;
  readonly status: number;
  readonly answer: string;
}

/** Longer than any witness should take; an append must not wait for a dead one for ever. */
const WITNESS_SECONDS_MAX = 10;
/** The first guess of a size, the right one, and two for a busy witness or a lost packet. */
const WITNESS_ATTEMPTS_MAX = 4;
const RETRY_MS = 50;
/** Room for a line of every kind of key there is; the largest, ML-DSA, has 3.3 kB. */
export const WITNESS_ANSWER_BYTES_MAX = 16 * 1024;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/**
 * @param log the key that signs the checkpoints
 * @param witnesses who sign at one address
 * @throws OperationError ERR_USAGE for a witness without an address
 */
export function openWitness(
  log: NoteVerifier,
  witnesses: readonly [PolicyWitness, ...PolicyWitness[]],
  options: WitnessOptions = {},
): Witness {
  return new WitnessClient(log, witnesses, options);
}

/** The witnesses that can be asked, by address: each is asked once, whatever number of keys it signs with. */
export function witnessesByAddress({
  witnesses,
}: LogPolicy): ReadonlyMap<string, readonly [PolicyWitness, ...PolicyWitness[]]> {
  const found = new Map<string, [PolicyWitness, ...PolicyWitness[]]>();
  for (const witness of witnesses) {
    if (witness.url === undefined) continue;
    const others = found.get(witness.url);
    if (others) others.push(witness);
    else found.set(witness.url, [witness]);
  }
  return found;
}

export interface Gathered {
  /**
   * The note with the cosignatures that were had; with no more than the policy asks for, once there are enough. In a
   * line too many a flipped bit would go unseen, because readers skip the lines of keys that they do not know.
   */
  readonly note: Uint8Array;
  /** What the policy accepts; undefined while too few have cosigned. */
  readonly checkpoint: VerifiedCheckpoint | undefined;
  /** Why some of those who were asked did not cosign. */
  readonly failures: readonly OperationError[];
}

/**
 * Asks all witnesses at once.
 * @throws VerificationError ERR_WITNESS_SPLIT: one that contradicts us ends it, whatever the others say
 */
export async function gatherCosignatures(
  policy: LogPolicy,
  witnesses: readonly Pick<Witness, "cosign">[],
  submission: Submission,
): Promise<Gathered> {
  const answers = await Promise.allSettled(witnesses.map((witness) => witness.cosign(submission)));
  const failures = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason] : []));
  const split = failures.find((failure) => !(failure instanceof OperationError));
  if (split) throw split;
  const lines = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  const verified = (some: readonly NoteSignature[]) => {
    const note = concat(submission.note, ...some.map((line) => utf8(formatSignatureLine(line))));
    return { note, checkpoint: verifiedIfEnough(policy, note), failures };
  };
  let kept = lines;
  let gathered = verified(kept);
  for (const line of gathered.checkpoint ? lines : []) {
    const fewer = kept.filter((other) => other !== line);
    const without = verified(fewer);
    if (without.checkpoint) [kept, gathered] = [fewer, without];
  }
  return gathered;
}

function verifiedIfEnough(policy: LogPolicy, note: Uint8Array): VerifiedCheckpoint | undefined {
  try {
    return verifyCheckpoint(policy, note);
  } catch (error) {
    if (error instanceof VerificationError && error.code === "ERR_WITNESS_QUORUM") return undefined;
    throw error;
  }
}

class WitnessClient implements Witness {
  readonly url: string;
  readonly names: readonly string[];
  readonly #log: NoteVerifier;
  readonly #verifiers: readonly NoteVerifier[];
  readonly #endpoint: URL;
  readonly #attemptsMax: number;
  readonly #ms: number;
  #size: number;
  #split: VerificationError | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(log: NoteVerifier, witnesses: readonly [PolicyWitness, ...PolicyWitness[]], options: WitnessOptions) {
    this.names = witnesses.map(({ name }) => name);
    this.url = witnesses[0].url ?? "";
    this.#log = log;
    this.#verifiers = witnesses.map(({ verifier }) => verifier);
    this.#endpoint = endpointOf(witnesses[0]);
    this.#size = options.size ?? 0;
    this.#attemptsMax = options.attemptsMax ?? WITNESS_ATTEMPTS_MAX;
    this.#ms = 1000 * (options.secondsMax ?? WITNESS_SECONDS_MAX);
  }

  get size(): number {
    return this.#size;
  }

  cosign(submission: Submission): Promise<readonly NoteSignature[]> {
    return this.#inTurn(() => this.#cosign(submission));
  }

  confirm(note: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#split) throw this.#split;
      const { size } = verifyCheckpoint(policyOfLog(this.#log), note);
      if (this.#size > size) this.#stop(`it has cosigned ${this.#size} entries, and this log has ${size}`);
      // From the same size on there is nothing to prove. A witness that is behind says so, and that is all we ask.
      const request = formatAddCheckpoint({ oldSize: size, proof: [], note: logNote(note, this.#log) });
      const answer = await this.#post(request);
      const seen = answer.status === 200 ? size : sizeIn(answer);
      if (seen === undefined || seen > size) this.#refused(request, answer, seen);
      this.#size = seen;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  async #cosign(submission: Submission): Promise<readonly NoteSignature[]> {
    if (this.#split) throw this.#split;
    const { size } = verifyCheckpoint(policyOfLog(this.#log), submission.note);
    const note = logNote(submission.note, this.#log);
    for (let attempt = 1; ; attempt++) {
      if (this.#size > size) this.#stop(`it has cosigned ${this.#size} entries, and this log has ${size}`);
      const proof = await submission.prove(this.#size);
      const request = formatAddCheckpoint({ oldSize: this.#size, proof, note });
      let answer: Answer;
      try {
        answer = await this.#post(request);
      } catch (error) {
        if (!(error instanceof OperationError) || !error.retryable || attempt >= this.#attemptsMax) throw error;
        await sleep(RETRY_MS * 2 ** attempt);
        continue;
      }
      if (answer.status === 200) {
        const lines = this.#read(answer.body, note);
        this.#size = size;
        return lines;
      }
      const seen = sizeIn(answer);
      if (seen === undefined || seen > size) this.#refused(request, answer, seen);
      if (attempt >= this.#attemptsMax) throw this.#failed(`does not keep to one size, at last ${seen}`, true);
      this.#size = seen;
    }
  }

  /** Anything but a cosignature or a size that a proof can start from. */
  #refused(request: string, { status, body }: Answer, seen: number | undefined): never {
    const evidence: WitnessEvidence = { url: this.#endpoint.href, request, status, answer: body };
    if (seen !== undefined) {
      this.#size = seen;
      this.#stop(`it has cosigned ${seen} entries, more than this log has`, evidence);
    }
    if (status === 409 || status === 422)
      this.#stop("it has seen another tree, which this one does not extend", evidence);
    throw this.#failed(`answered ${status}: ${quote(body.trim())}`, false);
  }

  #stop(reason: string, cause?: WitnessEvidence): never {
    this.#split = new VerificationError("ERR_WITNESS_SPLIT", `${this.#called()}: ${reason}`, { cause });
    throw this.#split;
  }

  /** Its own lines; those of other keys are dropped, and a wrong one of its own keys is no cosignature. */
  #read(body: string, note: Uint8Array): readonly NoteSignature[] {
    try {
      const cosigned = concat(note, utf8(body));
      const own = openNote(cosigned, this.#verifiers).signatures.map(({ verifier }) => verifier);
      return parseNote(cosigned).signatures.filter(({ name, keyId }) => {
        return own.some((verifier) => verifier.name === name && equalBytes(verifier.keyId, keyId));
      });
    } catch (cause) {
      throw this.#failed("answered with no cosignature of its key", false, cause);
    }
  }

  async #post(request: string): Promise<Answer> {
    let response: Response;
    let body: string;
    try {
      const signal = AbortSignal.timeout(this.#ms);
      response = await fetch(this.#endpoint, { method: "POST", body: request, redirect: "manual", signal });
      body = parseUtf8(await readBounded(response));
    } catch (cause) {
      if (cause instanceof FormatError) throw this.#failed("answered with something else than text", false, cause);
      throw this.#failed(`could not be reached: ${reasonOf(cause)}`, true, cause);
    }
    const { status } = response;
    if (status === 429 || status >= 500) throw this.#failed(`answered ${status}`, true);
    return { status, type: response.headers.get("content-type") ?? "", body };
  }

  #failed(reason: string, retryable: boolean, cause?: unknown): OperationError {
    return new OperationError("ERR_WITNESS", `${this.#called()} ${reason}`, { cause, retryable });
  }

  #called(): string {
    return `witness ${this.names.map(quote).join(", ")}`;
  }
}

function endpointOf({ name, url }: PolicyWitness): URL {
  const base = url !== undefined && URL.canParse(url) ? new URL(url.endsWith("/") ? url : `${url}/`) : undefined;
  if (base?.protocol !== "http:" && base?.protocol !== "https:") {
    throw new OperationError("ERR_USAGE", `the policy gives witness ${quote(name)} no http or https address`);
  }
  return new URL(ADD_CHECKPOINT_PATH, base);
}

/** The note with the log's own lines only. */
function logNote(bytes: Uint8Array, log: NoteVerifier): Uint8Array {
  const { text, signatures } = parseNote(bytes);
  const own = signatures.filter(({ name, keyId }) => name === log.name && equalBytes(keyId, log.keyId));
  return formatNote({ text, signatures: own });
}

/** The size of a 409 that states one. */
function sizeIn({ status, type, body }: Answer): number | undefined {
  if (status !== 409 || type.split(";")[0]!.trim().toLowerCase() !== SIZE_TYPE || !body.endsWith("\n"))
    return undefined;
  try {
    return parseDecimal(body.slice(0, -1));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return undefined;
  }
}

/** Counts what arrives; an answer that is too long is no answer. */
async function readBounded(response: Response): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += part.length;
    if (length > WITNESS_ANSWER_BYTES_MAX)
      throw new FormatError("ERR_LENGTH", `more than ${WITNESS_ANSWER_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return concat(...parts);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
