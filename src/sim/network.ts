import type { Random } from './random.ts';
import type { VirtualTime } from './time.ts';

export interface Weather {
  /** Milliseconds that a message takes: from, to. Messages may overtake each other. */
  readonly delayMs: readonly [number, number];
  /** Probability that a message comes twice. */
  readonly twice: number;
  /** Probability that a message breaks the connection instead of arriving; both sides connect again later. */
  readonly broken: number;
}

export const fair: Weather = { delayMs: [1, 3], twice: 0, broken: 0 };

/** The way between the controller and one host. */
export class SimLink {
  readonly #time: VirtualTime;
  readonly #random: Random;
  weather: Weather = fair;
  cut = false;
  /** A message was lost: whoever sends next finds the connection broken. */
  broken = false;
  /** Rises with each connection; a message of an earlier one is not delivered. */
  connection = 0;

  constructor(time: VirtualTime, random: Random) {
    this.#time = time;
    this.#random = random;
  }

  /** Carries a message as bytes would: a copy arrives, later, perhaps twice, or the connection breaks. */
  carry<T>(message: T, deliver: (message: T) => void): void {
    if (this.cut) return;
    if (this.#random.chance(this.weather.broken)) {
      this.broken = true;
      return;
    }
    const copies = this.#random.chance(this.weather.twice) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      const text = JSON.stringify(message);
      this.#time.after(this.#random.whole(...this.weather.delayMs), () => {
        if (!this.cut) deliver(JSON.parse(text) as T);
      });
    }
  }
}
