/** The keeper as a voter: its answers leave when what they rest on is on disk. */
import type { HaMessage } from '../core/ha/types.ts';
import type { Reply, Voter } from '../core/ha/voter.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { BootClock } from '../ports.ts';
import type { Durable } from './durable.ts';
import { paths } from './memory.ts';

export interface VotesWorld {
  readonly clock: BootClock;
  readonly durable: Durable;
  /** For how long this keeper has had answers of a majority (host-lease, rule 4), milliseconds. */
  readonly contactMs: (now: number) => number;
  /** Its list may have become a higher one. */
  readonly listed: () => void;
  readonly send: (to: Uuid, answer: HaMessage) => void;
}

export class Votes {
  readonly #voter: Voter;
  readonly #world: VotesWorld;
  /** Revision of each record when it was last given to the disk. */
  readonly #put = new Map<string, number>();

  constructor(voter: Voter, world: VotesWorld) {
    this.#voter = voter;
    this.#world = world;
  }

  /** Answers what is asked of voters; anything else is not for us. */
  hear(from: Uuid, message: HaMessage): void {
    const voter = this.#voter;
    const now = this.#world.clock.now();
    switch (message.type) {
      case 'beat':
        if (message.hostId === from) this.#reply(from, voter.beat(message, now));
        return;
      case 'poll':
        return this.#reply(from, voter.poll(message, now, this.#world.contactMs(now)));
      case 'census':
        return this.#reply(from, voter.census(message, now));
      case 'seal':
        return this.#reply(from, voter.seal(message, now, this.#world.contactMs(now)));
      case 'withdraw':
        return this.#reply(from, voter.withdraw(message));
      case 'over':
        return this.#reply(from, voter.over(message));
      case 'list': {
        const reply = voter.storeList(message, now);
        this.#world.listed();
        return this.#reply(from, reply);
      }
      case 'beat-answer':
      case 'poll-answer':
      case 'census-answer':
      case 'seal-answer':
      case 'withdraw-answer':
      case 'over-answer':
      case 'list-answer':
      case 'register':
      case 'register-answer':
      case 'bar':
      case 'bar-answer':
      // Not for a voter.
    }
  }

  /** What is on the voter's mind goes to disk, e.g. after it took a list from another voter's answer. */
  keep(): void {
    this.#put.set('self', this.#voter.revision('self'));
    void this.#world.durable.put(paths.voter, JSON.stringify(this.#voter.self));
  }

  #reply(to: Uuid, { answer, rests }: Reply<HaMessage>): void {
    const { durable, send } = this.#world;
    const writes: Promise<void>[] = [];
    for (const key of rests) {
      const path = key === 'self' ? paths.voter : paths.host(key);
      const revision = this.#voter.revision(key);
      // Almost every beat changes nothing: then nothing is made into text only to find it the same.
      const same = this.#put.get(key) === revision;
      const record = (): string => JSON.stringify(key === 'self' ? this.#voter.self : this.#voter.record(key));
      this.#put.set(key, revision);
      const write = same ? durable.pending(path) : durable.put(path, record());
      if (write) writes.push(write);
    }
    if (writes.length === 0) send(to, answer);
    else void Promise.all(writes).then(() => send(to, answer));
  }
}
