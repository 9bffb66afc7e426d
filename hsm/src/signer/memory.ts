/**
 * The bounded signer's memory on disk: a journal whose first record is a whole state and whose others are changes.
 *
 * A change is durable before the answer leaves. The file is never restored from a backup: an older one would let the
 * signer sign two different things in one place (a fork of the log, a second statement of an epoch). What a request
 * costs does not depend on how much is remembered: once the changes outweigh the state they are put together in one
 * write, which takes the place of the file or does nothing.
 */
import { createJournal, type Journal, openJournal, sizeIfPresent } from "@viafabric/platform";
import type { LedgerStep } from "@viafabric/revocation";
import { OperationError, VerificationError } from "@viafabric/schemas";
import type { TrustedState } from "@viafabric/tuf";
import { applyChange, decodeState, emptyState, encodeChange, encodeState, type SignerState } from "./state.ts";

/** Changes below it are never put together: rewriting a small state all the time would gain nothing. */
const CHANGES_BYTES_MIN = 4 * 1024 * 1024;

export class Memory {
  readonly #file: string;
  #journal: Journal | undefined;
  #state: SignerState;
  #trusted: TrustedState | undefined;
  #changesBytes: number;
  #stateBytes: number;
  #failed: unknown;

  private constructor(file: string, journal: Journal | undefined, state: SignerState) {
    this.#file = file;
    this.#journal = journal;
    this.#state = state;
    const lengths = journal?.records.map(({ length }) => length) ?? [];
    this.#stateBytes = lengths[0] ?? 0;
    this.#changesBytes = lengths.slice(1).reduce((sum, length) => sum + length, 0);
  }

  /** Writes nothing: a memory that turns out to be behind the world must not leave a fresh file. @throws OperationError ERR_SIGNER_STATE */
  static async open(file: string, authority: Uint8Array): Promise<Memory> {
    if ((await sizeIfPresent(file)) === undefined) return new Memory(file, undefined, emptyState(authority));
    const journal = await openJournal(file).catch((cause: unknown) => {
      throw new OperationError("ERR_SIGNER_STATE", `the signer's state file ${file} cannot be read`, { cause });
    });
    try {
      const [first, ...changes] = journal.records;
      // The first record is never written in place, so that no crash tears it.
      if (!first) throw new OperationError("ERR_SIGNER_STATE", `the signer's state file ${file} is damaged`);
      return new Memory(file, journal, changes.reduce(applyChange, decodeState(first)));
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  get state(): SignerState {
    return this.#state;
  }

  get trusted(): TrustedState | undefined {
    return this.#trusted;
  }

  /** What the stored files were found to say. */
  trust(trusted: TrustedState | undefined): void {
    this.#trusted = trusted;
  }

  /** @throws VerificationError ERR_SIGNER_ORDER before the first trust files */
  need(): TrustedState {
    if (!this.#trusted) throw new VerificationError("ERR_SIGNER_ORDER", "no trust files were accepted yet");
    return this.#trusted;
  }

  /** Durable on return. @param steps of the ledger, which it applies then */
  async keep(next: SignerState, steps: readonly LedgerStep[] = []): Promise<void> {
    // After a failed write nobody knows what the disk holds. Only a start, which reads it, may go on.
    if (this.#failed)
      throw new OperationError("ERR_SIGNER_STATE", "the memory could not be written; restart", { cause: this.#failed });
    const change = encodeChange(this.#state, next, steps);
    try {
      if (change) await this.#write(change);
      this.#state.ledger.apply(steps);
      this.#state = next;
      if (this.#changesBytes > Math.max(CHANGES_BYTES_MIN, this.#stateBytes)) await this.#putTogether();
    } catch (error) {
      this.#failed = error;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#journal?.close();
  }

  async #write(change: Uint8Array): Promise<void> {
    this.#journal ??= await createJournal(this.#file, encodeState(this.#state));
    await this.#journal.append(change);
    this.#changesBytes += change.length;
  }

  async #putTogether(): Promise<void> {
    const whole = encodeState(this.#state);
    await this.#journal!.replace(whole);
    this.#stateBytes = whole.length;
    this.#changesBytes = 0;
  }
}
