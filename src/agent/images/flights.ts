import { VirgaError } from '../../core/errors.ts';

export interface Passenger {
  readonly onProgress?: (fraction: number) => void;
  readonly signal?: AbortSignal;
}

export interface Trip {
  /** True: nothing is to be done. Needs no place. */
  readonly ready: (signal: AbortSignal) => Promise<boolean>;
  /** Needs one of the places. */
  readonly run: (signal: AbortSignal, tell: (fraction: number) => void) => Promise<void>;
}

interface Flight {
  readonly done: Promise<void>;
  readonly abort: AbortController;
  readonly listeners: Set<(fraction: number) => void>;
  passengers: number;
}

/** One run per key however many ask; `places` run at a time; a run that nobody waits for any more is ended. */
export class Flights {
  readonly #flights = new Map<string, Flight>();
  readonly #queue: (() => void)[] = [];
  #places: number;

  constructor(places: number) {
    this.#places = places;
  }

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /** @throws VirgaError `cancelled` when the passenger's own signal says so, and what the run throws */
  async join(key: string, passenger: Passenger, trip: Trip): Promise<void> {
    let flight = this.#flights.get(key);
    // One that was given up by all others is on its way down: wait for the next.
    while (flight?.abort.signal.aborted) {
      await flight.done.catch(() => undefined);
      flight = this.#flights.get(key);
    }
    if (passenger.signal?.aborted) throw givenUp();
    flight ??= this.#start(key, trip);
    flight.passengers++;
    if (passenger.onProgress) flight.listeners.add(passenger.onProgress);
    try {
      await (passenger.signal ? untilAborted(flight.done, passenger.signal) : flight.done);
    } finally {
      if (passenger.onProgress) flight.listeners.delete(passenger.onProgress);
      if (--flight.passengers === 0) flight.abort.abort(givenUp());
    }
  }

  async close(): Promise<void> {
    const flights = [...this.#flights.values()];
    for (const flight of flights) flight.abort.abort(givenUp());
    await Promise.allSettled(flights.map((flight) => flight.done));
  }

  #start(key: string, trip: Trip): Flight {
    const abort = new AbortController();
    const listeners = new Set<(fraction: number) => void>();
    let last = -1;
    const tell = (fraction: number): void => {
      const hundredths = Math.floor(fraction * 100);
      if (hundredths <= last) return;
      last = hundredths;
      for (const listener of listeners) listener(fraction);
    };
    const done = this.#run(trip, abort.signal, tell).finally(() => this.#flights.delete(key));
    const flight = { done, abort, listeners, passengers: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  async #run(trip: Trip, signal: AbortSignal, tell: (fraction: number) => void): Promise<void> {
    try {
      if (await trip.ready(signal)) return;
      await this.#place(signal);
      try {
        await trip.run(signal, tell);
      } finally {
        const next = this.#queue.shift();
        if (next) next();
        else this.#places++;
      }
    } catch (error) {
      throw signal.aborted ? givenUp(error) : error;
    }
  }

  /** Waits for a place; the queue is as long as there are images, since each waits once. */
  async #place(signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw givenUp();
    if (this.#places > 0) {
      this.#places--;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#queue.splice(this.#queue.indexOf(enter), 1);
        reject(givenUp());
      };
      const enter = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      this.#queue.push(enter);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}

function givenUp(cause?: unknown): VirgaError {
  return new VirgaError('cancelled', { detail: 'nobody waits for the image any more' }, { cause });
}

async function untilAborted(done: Promise<void>, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => reject(givenUp());
    signal.addEventListener('abort', abort, { once: true });
    done.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
