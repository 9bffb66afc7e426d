/**
 * The ledger of a kit: which serial went onto which tag. Durable before anything happens to a tag, so that no power
 * cut, pulled tag or unplugged reader can put a serial onto two tags or lose one.
 *
 *     [0, authority, kit id, first, count]                      which kit it is of
 *     [1, index, uid, image hash, time]                         reserved: from here on this serial is this tag's
 *     [2, index, receipt]                                       written or void: the receipt says which
 *     [3, count]                                                that many receipts are with the vault
 *
 * A reserved serial is never given to another tag, whatever became of the first: its content may be on it.
 */
import { type Journal, openJournal } from "@viafabric/platform";
import {
  type CborValue,
  compareBytes,
  decodeCbor,
  decodeReceipt,
  encodeCbor,
  formatHex,
  type Kit,
  OperationError,
  type Receipt,
  sha256,
} from "@viafabric/schemas";

export interface Reservation {
  readonly index: number;
  readonly uid: Uint8Array;
  readonly imageHash: Uint8Array;
  /** Unix seconds. */
  readonly time: number;
}

export interface Serial {
  readonly state: "reserved" | Receipt["result"];
  readonly index: number;
  /** Missing for a serial that was voided before it met a tag. */
  readonly reservation?: Reservation;
}

export interface LedgerCounts {
  readonly written: number;
  readonly void: number;
  readonly reserved: number;
  readonly free: number;
  readonly uploaded: number;
}

/** Where the next receipt stands in the chain. */
export interface ChainPlace {
  readonly seq: number;
  readonly previous: Uint8Array;
}

const BOUND = 0;
const RESERVED = 1;
const DONE = 2;
const UPLOADED = 3;

export class Ledger {
  readonly #journal: Journal;
  readonly #kit: Pick<Kit, "first" | "count">;
  readonly #serials = new Map<number, Serial>();
  readonly #byUid = new Map<string, Serial>();
  /** Taken by a reader that has not reserved yet. Not durable: nothing has been written for them. */
  readonly #claimed = new Set<number>();
  readonly #receipts: Uint8Array[] = [];
  #uploaded = 0;
  /** Every serial below is taken. */
  #cursor: number;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(journal: Journal, kit: Pick<Kit, "first" | "count">) {
    this.#journal = journal;
    this.#kit = kit;
    this.#cursor = kit.first;
  }

  get receipts(): readonly Uint8Array[] {
    return this.#receipts;
  }

  get counts(): LedgerCounts {
    const of = (state: Serial["state"]) => [...this.#serials.values()].filter((each) => each.state === state).length;
    const free = this.#kit.count - this.#serials.size;
    return { written: of("written"), void: of("void"), reserved: of("reserved"), free, uploaded: this.#uploaded };
  }

  /** Nothing is left to write, and nothing is begun. */
  get isComplete(): boolean {
    const { free, reserved } = this.counts;
    return free === 0 && reserved === 0;
  }

  /** Serials whose tag was pulled away before it was done, ascending. */
  get unfinished(): readonly Serial[] {
    return [...this.#serials.values()].filter((each) => each.state === "reserved").sort((a, b) => a.index - b.index);
  }

  /** What this kit knows of a tag. */
  serialOf(uid: Uint8Array): Serial | undefined {
    return this.#byUid.get(formatHex(uid));
  }

  serialAt(index: number): Serial | undefined {
    return this.#serials.get(index);
  }

  /** The next free serial, kept from other readers until it is reserved or given back. */
  claim(): number | undefined {
    const end = this.#kit.first + this.#kit.count;
    while (this.#cursor < end && (this.#serials.has(this.#cursor) || this.#claimed.has(this.#cursor))) this.#cursor++;
    if (this.#cursor === end) return undefined;
    this.#claimed.add(this.#cursor);
    return this.#cursor;
  }

  giveBack(index: number): void {
    this.#claimed.delete(index);
    this.#cursor = Math.min(this.#cursor, index);
  }

  /** Durable on return. Only then may the tag be touched. */
  reserve(reservation: Reservation): Promise<void> {
    return this.#inOrder(async () => {
      const { index, uid, imageHash, time } = reservation;
      if (this.#serials.has(index) || this.#byUid.has(formatHex(uid))) {
        throw new OperationError("ERR_SERIAL", `serial ${index} or tag ${formatHex(uid)} is taken`);
      }
      await this.#journal.append(encodeCbor([RESERVED, index, uid, imageHash, time]));
      this.#setReserved(reservation);
    });
  }

  /**
   * A serial is done. Durable on return. Only a serial that was never reserved can be void without a tag.
   * @param sign makes the receipt for this place in the chain; calls never overlap
   */
  finish(
    index: number,
    result: Receipt["result"],
    sign: (place: ChainPlace) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    return this.#inOrder(async () => {
      const serial = this.#serials.get(index);
      if (serial ? serial.state !== "reserved" : result === "written") {
        throw new OperationError("ERR_SERIAL", `serial ${index} is ${serial?.state ?? "not reserved"}`);
      }
      const last = this.#receipts.at(-1);
      const receipt = await sign({ seq: this.#receipts.length, previous: last ? sha256(last) : new Uint8Array(32) });
      await this.#journal.append(encodeCbor([DONE, index, receipt]));
      this.#setDone(index, receipt);
      return receipt;
    });
  }

  markUploaded(count: number): Promise<void> {
    return this.#inOrder(async () => {
      if (count <= this.#uploaded) return;
      await this.#journal.append(encodeCbor([UPLOADED, count]));
      this.#uploaded = count;
    });
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  /** Takes one record of the journal in again. */
  replay(record: readonly CborValue[]): void {
    const [kind, a, b, c, d] = record;
    if (kind === RESERVED && typeof a === "number" && b instanceof Uint8Array && c instanceof Uint8Array) {
      this.#setReserved({ index: a, uid: b, imageHash: c, time: Number(d) });
    } else if (kind === DONE && typeof a === "number" && b instanceof Uint8Array) {
      this.#setDone(a, b);
    } else if (kind === UPLOADED && typeof a === "number") {
      this.#uploaded = a;
    } else {
      throw new OperationError("ERR_JOURNAL", "a ledger record of an unknown kind");
    }
  }

  #setReserved(reservation: Reservation): void {
    this.#claimed.delete(reservation.index);
    this.#set({ state: "reserved", index: reservation.index, reservation });
  }

  #setDone(index: number, receipt: Uint8Array): void {
    this.#claimed.delete(index);
    this.#receipts.push(receipt);
    const before = this.#serials.get(index);
    const reservation = before?.reservation ? { reservation: before.reservation } : {};
    this.#set({ state: decodeReceipt(receipt).receipt.result, index, ...reservation });
  }

  #set(serial: Serial): void {
    this.#serials.set(serial.index, serial);
    if (serial.reservation) this.#byUid.set(formatHex(serial.reservation.uid), serial);
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}

/** @throws OperationError ERR_JOURNAL when the file is damaged, or is the ledger of another kit */
export async function openLedger(
  file: string,
  kit: Pick<Kit, "authority" | "id" | "first" | "count">,
): Promise<Ledger> {
  const journal = await openJournal(file);
  try {
    const bound = encodeCbor([BOUND, kit.authority, kit.id, kit.first, kit.count]);
    const [first, ...rest] = journal.records;
    if (first === undefined) await journal.append(bound);
    else if (compareBytes(first, bound) !== 0) throw new OperationError("ERR_JOURNAL", `${file} is of another kit`);
    const ledger = new Ledger(journal, kit);
    for (const record of rest) {
      const value = decodeCbor(record);
      if (!Array.isArray(value)) throw new OperationError("ERR_JOURNAL", `${file} holds a record that is no list`);
      ledger.replay(value);
    }
    return ledger;
  } catch (error) {
    await journal.close();
    throw error;
  }
}
