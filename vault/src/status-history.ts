/**
 * The vault's own replay of its log: what the planes must be, so that a statement is published only when signer and
 * vault came to the same sets.
 */
import { EPOCH_ZERO, type EpochPlanes, StatusLedger, type VerifiedStatement } from "@viafabric/revocation";
import { decodeEventBody, decodeLeaf, decodeManifest } from "@viafabric/schemas";
import type { TreeHead } from "@viafabric/transparency-log";
import { type FetchFile, readEntries } from "@viafabric/transparency-log/client";

/** The manifest of a logged batch by its hash. */
export type ReadManifest = (manifestHash: Uint8Array) => Promise<Uint8Array>;

/** First byte of a token leaf: most of a log, and nothing to the ledger. */
const TOKEN_LEAF = 1;

export class StatusHistory {
  readonly #fetch: FetchFile;
  readonly #manifest: ReadManifest;
  readonly #ledger = new StatusLedger();
  readonly #reinstatements: number[] = [];
  #size = 0;
  #held: VerifiedStatement | undefined;
  #previous: EpochPlanes = EPOCH_ZERO;

  /** @param fetch gives the files of the log */
  constructor(fetch: FetchFile, manifest: ReadManifest) {
    this.#fetch = fetch;
    this.#manifest = manifest;
  }

  /** The newest published statement, and the planes it signed. */
  get held(): VerifiedStatement | undefined {
    return this.#held;
  }

  get previous(): EpochPlanes {
    return this.#previous;
  }

  /** Leaf indices of every reinstatement replayed so far. */
  get reinstatements(): readonly number[] {
    return this.#reinstatements;
  }

  get ledger(): StatusLedger {
    return this.#ledger;
  }

  /** Replays the log up to `size`; entries replayed before are not read again. */
  async replayTo(head: TreeHead, size: number): Promise<void> {
    if (size <= this.#size) return;
    for await (const entry of readEntries(this.#fetch, head, this.#size, size)) await this.#apply(entry, this.#size++);
  }

  /** The planes of an epoch, once the log is replayed to the size its statement names. */
  planesAt(epoch: number): EpochPlanes {
    return { epoch, n: this.#ledger.n, planes: this.#ledger.planes() };
  }

  /** A statement was published. */
  hold(statement: VerifiedStatement, planes: EpochPlanes): void {
    this.#held = statement;
    this.#previous = planes;
  }

  async #apply(entry: Uint8Array, index: number): Promise<void> {
    if (entry[0] === TOKEN_LEAF) return;
    const leaf = decodeLeaf(entry);
    if (leaf.type === "batch") {
      const { first, count } = decodeManifest(await this.#manifest(leaf.manifestHash));
      this.#ledger.applyBatch(first, count);
    } else if (leaf.type === "event") {
      const body = decodeEventBody(leaf.event.body);
      this.#ledger.applyEvent(index, body);
      if (body.action === "reinstate") this.#reinstatements.push(index);
    } else if (leaf.type === "holder-event") this.#ledger.applyHolderEvent(index, leaf);
  }
}
