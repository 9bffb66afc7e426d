/**
 * Rows of numbers over the length of a log, for a plot: at any length a few hundred of them are kept. Pure.
 */
import type { CborValue } from "@viafabric/schemas";

/** A plot is a few hundred pixels wide. */
const ROWS_MAX = 512;

export class Series {
  #rows: (readonly number[])[] = [];
  /** Each how manieth row is kept. */
  #step = 1;
  #seen = 0;
  #last: readonly number[] | undefined;

  add(row: readonly number[]): void {
    this.#last = row;
    if (this.#seen++ % this.#step !== 0) return;
    this.#rows.push(row);
    if (this.#rows.length < ROWS_MAX) return;
    this.#rows = this.#rows.filter((_, i) => i % 2 === 0);
    this.#step *= 2;
  }

  /** The rows kept, and the last one in any case. */
  get rows(): readonly (readonly number[])[] {
    return this.#last && this.#rows.at(-1) !== this.#last ? [...this.#rows, this.#last] : this.#rows;
  }

  /** How many were added. */
  get count(): number {
    return this.#seen;
  }

  encode(): CborValue {
    return [this.#rows.map((row) => [...row]), this.#step, this.#seen, [...(this.#last ?? [])]];
  }

  restore(value: CborValue): void {
    const [rows, step, seen, last] = value as readonly [
      readonly (readonly number[])[],
      number,
      number,
      readonly number[],
    ];
    [this.#rows, this.#step, this.#seen] = [[...rows], step, seen];
    this.#last = last.length > 0 ? last : undefined;
  }
}
