/** Refuses what was received before: a sliding window over the sender's counter (as in RFC 4303, 3.4.3). */
const windowBits = 256;

export class ReplayWindow {
  #highest = 0;
  /** Bit `n % 256` tells whether counter `n` was seen, for the last 256 counters. */
  readonly #seen = new Uint32Array(windowBits / 32);

  /** True for a counter that was not seen; remembers it. Counters begin with 1. */
  accept(counter: number): boolean {
    if (counter < 1 || counter + windowBits <= this.#highest) return false;
    if (counter > this.#highest) {
      const from = Math.max(this.#highest + 1, counter - windowBits + 1);
      for (let each = from; each <= counter; each += 1) this.#clear(each);
      this.#highest = counter;
    }
    const slot = (counter % windowBits) >>> 5;
    const bit = 1 << (counter % 32);
    const word = this.#seen[slot] ?? 0;
    if ((word & bit) !== 0) return false;
    this.#seen[slot] = word | bit;
    return true;
  }

  #clear(counter: number): void {
    const slot = (counter % windowBits) >>> 5;
    this.#seen[slot] = (this.#seen[slot] ?? 0) & ~(1 << (counter % 32));
  }
}
