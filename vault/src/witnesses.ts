/**
 * Witnesses, as the vault meets them: who is asked, what they cosigned last, and what happens when one contradicts us.
 *
 * A witness that does not answer rests for a while, so that it delays nobody; what needs its cosignature waits. One
 * that has seen more of the log, or another log, stops everything that signs: what it said is kept in a file, and until
 * a person has looked and moved that file away, the vault does not open its log again.
 */
import { PRIVATE_FILE, putImmutable, readFileIfPresent } from "@viafabric/platform";
import { CodedError, type NoteVerifier, OperationError, parseUtf8, utf8, VerificationError } from "@viafabric/schemas";
import { type LogPolicy, verifyCheckpoint } from "@viafabric/transparency-log";
import {
  type Gathered,
  gatherCosignatures,
  openWitness,
  type Submission,
  type Witness,
  type WitnessEvidence,
  witnessesByAddress,
} from "@viafabric/transparency-log/witness";
import type { Store } from "./store.ts";

/** A round waits at most this long, a few times over, for one that hangs; then that one rests. */
const SECONDS_MAX = 5;
const ATTEMPTS_MAX = 2;
const REST_SECONDS_MIN = 5;
const REST_SECONDS_MAX = 300;
const SPLIT_BYTES_MAX = 1024 * 1024;

export interface WitnessesOptions {
  readonly policy: LogPolicy;
  readonly log: NoteVerifier;
  readonly store: Pick<Store, "witnessSizes" | "saveWitnessSize">;
  readonly splitFile: string;
  /** Unix seconds. */
  readonly now: () => number;
}

export class Witnesses {
  readonly policy: LogPolicy;
  readonly #options: WitnessesOptions;
  readonly #witnesses: readonly Witness[];
  readonly #resting = new Map<Witness, { readonly until: number; readonly seconds: number }>();
  #missing: string | undefined;

  private constructor(options: WitnessesOptions, witnesses: readonly Witness[]) {
    this.policy = options.policy;
    this.#options = options;
    this.#witnesses = witnesses;
  }

  static async open(options: WitnessesOptions): Promise<Witnesses> {
    const { policy, log, store } = options;
    const sizes = await store.witnessSizes();
    const limits = { secondsMax: SECONDS_MAX, attemptsMax: ATTEMPTS_MAX };
    const witnesses = [...witnessesByAddress(policy)].map(([url, members]) => {
      const size = sizes.get(url);
      return openWitness(log, members, { ...limits, ...(size !== undefined && { size }) });
    });
    return new Witnesses(options, witnesses);
  }

  /** Why the last checkpoint has too few cosignatures. */
  get missing(): string | undefined {
    return this.#missing;
  }

  /** Whether anybody would be asked now. */
  get ready(): boolean {
    return this.#awake().length > 0;
  }

  /**
   * The note with the cosignatures that can be had now.
   * @throws VerificationError ERR_WITNESS_SPLIT, once the evidence is on disk
   */
  async gather(submission: Submission): Promise<Gathered> {
    const asked = this.#awake();
    const gathered = await this.#guarded(async () => {
      const found = await gatherCosignatures(
        this.policy,
        asked.map((witness) => ({ cosign: (what: Submission) => this.#ask(witness, what) })),
        submission,
      );
      for (const witness of asked) await this.#options.store.saveWitnessSize(witness.url, witness.size);
      return found;
    });
    this.#missing = gathered.checkpoint ? undefined : this.#reasonOf(gathered);
    return gathered;
  }

  /**
   * Before anything is signed: no witness has seen more of the log than `note`. One that does not answer says nothing.
   * @throws VerificationError ERR_WITNESS_SPLIT, once the evidence is on disk
   */
  async confirm(note: Uint8Array): Promise<void> {
    await this.#guarded(async () => {
      const answers = await Promise.allSettled(this.#witnesses.map((witness) => witness.confirm(note)));
      for (const answer of answers) {
        if (answer.status === "rejected" && !(answer.reason instanceof OperationError)) throw answer.reason;
      }
    });
  }

  /** Whether a note has the cosignatures that the policy asks for. */
  accepts(note: Uint8Array): boolean {
    try {
      verifyCheckpoint(this.policy, note);
      return true;
    } catch (error) {
      if (error instanceof CodedError) return false;
      throw error;
    }
  }

  #awake(): readonly Witness[] {
    const now = this.#options.now();
    return this.#witnesses.filter((witness) => (this.#resting.get(witness)?.until ?? 0) <= now);
  }

  async #ask(witness: Witness, submission: Submission) {
    try {
      const lines = await witness.cosign(submission);
      this.#resting.delete(witness);
      return lines;
    } catch (error) {
      const before = this.#resting.get(witness)?.seconds ?? REST_SECONDS_MIN / 2;
      const seconds = Math.min(2 * before, REST_SECONDS_MAX);
      this.#resting.set(witness, { seconds, until: this.#options.now() + seconds });
      throw error;
    }
  }

  #reasonOf({ failures }: Gathered): string {
    const resting = this.#witnesses.filter((witness) => this.#resting.has(witness));
    const silent = resting.flatMap(({ names }) => names).join(", ") || "none of those that can be asked";
    return `too few witnesses have cosigned the log; missing: ${silent}${failures.map((f) => `; ${f.message}`).join("")}`;
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof VerificationError) || error.code !== "ERR_WITNESS_SPLIT") throw error;
      await keepSplit(this.#options, error);
      throw stoppedBy(this.#options.splitFile, error.message);
    }
  }
}

/** What a witness said when it contradicted the log. */
export interface Split {
  readonly time: number;
  readonly message: string;
  readonly evidence?: WitnessEvidence;
}

/** Undefined when nothing has ever contradicted the log, or a person has moved the file away. */
export async function readSplit(file: string): Promise<Split | undefined> {
  const bytes = await readFileIfPresent(file, SPLIT_BYTES_MAX);
  if (!bytes) return undefined;
  try {
    const { time, message, evidence } = JSON.parse(parseUtf8(bytes)) as Split;
    return { time: Number(time), message: String(message), ...(evidence && { evidence }) };
  } catch {
    // Whoever put it there: it stops us all the same.
    return { time: 0, message: "the file cannot be read" };
  }
}

/** @throws VerificationError ERR_WITNESS_SPLIT while the file is there */
export async function assertNoSplit(file: string): Promise<void> {
  const split = await readSplit(file);
  if (split) throw stoppedBy(file, split.message);
}

/** The first contradiction is kept; what follows is the same one, or another reason to look. */
async function keepSplit({ splitFile, now }: WitnessesOptions, error: VerificationError): Promise<void> {
  if (await readSplit(splitFile)) return;
  const split = { time: now(), message: error.message, evidence: error.cause };
  await putImmutable(splitFile, utf8(`${JSON.stringify(split, undefined, 2)}\n`), PRIVATE_FILE);
}

function stoppedBy(file: string, message: string): VerificationError {
  return new VerificationError(
    "ERR_WITNESS_SPLIT",
    `${message}. Nothing more is signed or issued. The evidence is in ${file}: follow the runbook, "When a witness has seen another log", and move the file to a safe place when you know what happened`,
  );
}
