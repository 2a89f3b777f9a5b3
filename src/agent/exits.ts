import type { GuestJournal } from '../core/host/journal.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Engine, GuestExit } from '../ports.ts';

/** How guests ended, as the engine told it or still knows it. */
export class Exits {
  readonly #engine: Pick<Engine, 'lastExit'>;
  readonly #bootId: string;
  readonly #told = new Map<Uuid, GuestExit>();

  constructor(engine: Pick<Engine, 'lastExit'>, bootId: string) {
    this.#engine = engine;
    this.#bootId = bootId;
  }

  /** The engine says so at once. */
  tell(exit: GuestExit): void {
    this.#told.set(exit.id, exit);
  }

  /** It is in the journal. */
  forget(id: Uuid): void {
    this.#told.delete(id);
  }

  /** Of a guest that ran when we last looked; asked once, since the answer is kept. */
  async of(journal: GuestJournal): Promise<GuestExit | undefined> {
    const since = journal.running?.startedAt ?? journal.starting?.at;
    if (since === undefined) return undefined;
    // An event of the run before may come when the next one has begun.
    const told = this.#told.get(journal.id);
    if (told && told.exitAt >= since) return told;
    if (journal.running && journal.running.bootId !== this.#bootId) return undefined;
    const exit = await this.#engine.lastExit(journal.id, journal.name).catch(() => undefined);
    // Clocks of the engine's log have whole seconds.
    return exit && exit.exitAt >= since - 1000 ? exit : undefined;
  }
}
