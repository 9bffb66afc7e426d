/**
 * How many threads sign. As many as there are processors, unless they spend their time waiting for the token: then twice
 * as many, and so on for as long as that helps and the token has sessions left.
 */

/** One call that all threads had their share of. */
export interface Work {
  readonly signatures: number;
  readonly seconds: number;
  /** Of the processors, in this process. */
  readonly cpuSeconds: number;
}

/** Below this share of their time on a processor, threads wait for the token; with more they wait for each other. */
const BUSY_SHARE = 0.25;
/** What twice the threads must bring. */
const GAIN = 1.05;
/** Calls to judge a number of threads by; the best counts, because the first has sessions to open. */
const CALLS = 3;

export class Tuning {
  readonly #max: number;
  #threads: number;
  #best = 0;
  #calls = 0;
  #before: { readonly threads: number; readonly rate: number } | undefined;
  #settled = false;

  /** @param first threads to begin with. @param max sessions that may be had */
  constructor(first: number, max: number) {
    this.#max = Math.max(1, max);
    this.#threads = Math.max(1, Math.min(first, max));
  }

  get threads(): number {
    return this.#threads;
  }

  /** Told of each call that was long enough for all threads. */
  measured({ signatures, seconds, cpuSeconds }: Work): void {
    const before = this.#before;
    const busy = cpuSeconds > BUSY_SHARE * seconds * this.#threads;
    if (this.#settled || (busy && !before)) return;
    this.#best = Math.max(this.#best, signatures / seconds);
    if (++this.#calls < CALLS) return;
    if (before && this.#best < GAIN * before.rate) {
      this.#threads = before.threads;
      this.#settled = true;
      return;
    }
    this.#before = { threads: this.#threads, rate: this.#best };
    this.#settled = this.#threads === this.#max;
    this.#threads = Math.min(2 * this.#threads, this.#max);
    this.#best = 0;
    this.#calls = 0;
  }
}
