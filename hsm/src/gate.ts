/** Many may pass, or one alone: signatures run side by side, and starting a module again waits until none is running. */

export class Gate {
  #passing = 0;
  #alone: Promise<void> | undefined;
  #emptied: (() => void) | undefined;

  async pass<T>(work: () => T | Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    this.#passing++;
    try {
      return await work();
    } finally {
      this.#passing--;
      if (this.#passing === 0) this.#emptied?.();
    }
  }

  /** Whoever comes from now on waits, so that this one's turn comes. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    let reopen = (): void => {};
    this.#alone = new Promise((resolve) => {
      reopen = resolve;
    });
    try {
      if (this.#passing > 0) {
        await new Promise<void>((emptied) => {
          this.#emptied = emptied;
        });
      }
      return await work();
    } finally {
      this.#emptied = undefined;
      this.#alone = undefined;
      reopen();
    }
  }
}
