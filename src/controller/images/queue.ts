import { VirgaError } from '../../core/errors.ts';

/** Runs jobs one after the other; at most `maxWaiting` wait. */
export class OneAtATime {
  readonly #maxWaiting: number;
  readonly #what: string;
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(what: string, maxWaiting: number) {
    this.#what = what;
    this.#maxWaiting = maxWaiting;
  }

  /** @throws VirgaError `overloaded` at once when too many wait; otherwise what the job gives or throws */
  async run<T>(job: () => Promise<T>): Promise<T> {
    // The one that runs does not wait.
    if (this.#waiting > this.#maxWaiting)
      throw new VirgaError('overloaded', { what: this.#what, limit: this.#maxWaiting });
    this.#waiting++;
    const mine = this.#last.then(job);
    this.#last = mine.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await mine;
    } finally {
      this.#waiting--;
    }
  }
}
