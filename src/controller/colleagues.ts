/** The other controllers of the site: where they are, and which of them leads. */
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, Log } from '../ports.ts';
import { announce, knownControllers, type KnownController } from './store/controllers.ts';
import type { Database } from './store/database.ts';

export interface ColleaguesOptions {
  readonly id: Uuid;
  readonly name: string;
  /** Where agents and clients reach this controller. */
  readonly urls: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  /** Told when the addresses of the controllers changed. */
  readonly changed: () => void;
}

/** Milliseconds between two looks at the others, and between two words of our own. */
const lookEveryMs = 1000;
const sayEveryMs = 60_000;

export class Colleagues {
  readonly #options: ColleaguesOptions;
  #known: readonly KnownController[] = [];
  #said: { readonly urls: string; readonly at: number } | undefined;
  #failing = false;

  constructor(options: ColleaguesOptions) {
    this.#options = options;
  }

  /** Addresses of all controllers, this one's first. */
  get urls(): readonly string[] {
    return [...new Set([...this.#options.urls(), ...this.others.flatMap(({ urls }) => urls)])];
  }

  get others(): readonly KnownController[] {
    return this.#known.filter(({ id }) => id !== this.#options.id);
  }

  /** Where the controller is that leads; undefined when it is this one, or not known. */
  get leader(): string | undefined {
    return this.others.find(({ leads }) => leads)?.urls[0];
  }

  /** Looks and says until the signal. Never rejects: while the database is away, what was known last counts. */
  async run(database: Database, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.look(database);
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) log.warn('the other controllers are not known', { error: String(error) });
        this.#failing = true;
      }
      await clock.sleep(lookEveryMs, signal).catch(() => undefined);
    }
  }

  /** One look. @throws VirgaError store_unavailable */
  async look(database: Database): Promise<void> {
    await this.#say(database);
    const known = await knownControllers(database);
    const before = JSON.stringify([this.urls, this.leader]);
    this.#known = known;
    if (JSON.stringify([this.urls, this.leader]) !== before) this.#options.changed();
  }

  async #say(database: Database): Promise<void> {
    const { id, name, clock } = this.#options;
    const urls = this.#options.urls();
    const now = clock.monotonic();
    const text = JSON.stringify(urls);
    if (this.#said?.urls === text && now - this.#said.at < sayEveryMs) return;
    await announce(database, { id, name, urls });
    this.#said = { urls: text, at: now };
  }
}
