/** Bytes added one after the other in one array: a hundred thousand leaves without an object for each. Pure. */
export class FlatBytes {
  #memory = new Uint8Array(4096);
  #length = 0;

  add(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#memory.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#memory.length));
      larger.set(this.#memory.subarray(0, this.#length));
      this.#memory = larger;
    }
    this.#memory.set(bytes, this.#length);
    this.#length = length;
  }

  /** A view. */
  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.#length);
  }
}
