/** What the agent knows of its host's lease: asked of the keeper at every look, kept while the keeper is silent. */
import type { KeeperSight } from '../core/host/view.ts';
import type { LeaseReport } from '../core/model/assignment.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { DoorView } from '../core/ha/door.ts';
import type { AgentPorts } from './ports.ts';

const file = 'session.json';
/** Of a host whose keeper never answered: below every real one. */
const noSession: HostSession = { number: 0, id: '00000000-0000-4000-8000-000000000000' };
/** Milliseconds after which a keeper that had no lease for a guest is asked again, if it says nothing before. */
const retryMs = 500;

export class LeaseWatch {
  readonly #ports: Pick<AgentPorts, 'keeper' | 'files' | 'clock' | 'log'>;
  readonly #changed: () => void;
  readonly #retryAt = new Map<Uuid, Instant>();
  #session = noSession;
  #view: DoorView | undefined;
  #sight: KeeperSight | undefined;
  #problem: string | undefined = 'the keeper of this host was not asked yet';
  #asked = false;
  #asking: Promise<void> | undefined;

  constructor(ports: Pick<AgentPorts, 'keeper' | 'files' | 'clock' | 'log'>, changed: () => void) {
    this.#ports = ports;
    this.#changed = changed;
  }

  /** Reads the last known session. Returns the way to stop listening to the keeper. */
  async load(): Promise<() => void> {
    const text = await this.#ports.files.read(file);
    if (text !== undefined) this.#session = sessionOf(text) ?? noSession;
    return this.#ports.keeper.onChange(() => {
      this.#retryAt.clear();
      this.#changed();
    });
  }

  /** The last that is known. */
  get session(): HostSession {
    return this.#session;
  }

  /** Absent: the keeper does not answer. */
  get sight(): KeeperSight | undefined {
    return this.#sight;
  }

  get report(): LeaseReport | undefined {
    return this.#view?.lease;
  }

  /** Generations that the keeper will never register. */
  get gone(): DoorView['gone'] {
    return this.#view?.gone ?? [];
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  get retryAt(): ReadonlyMap<Uuid, Instant> {
    return this.#retryAt;
  }

  /** It had no lease for this guest. */
  await(id: Uuid): void {
    this.#retryAt.set(id, this.#ports.clock.now() + retryMs);
  }

  /** Asks the keeper. One that was silent is asked beside everything else, so that nobody waits for it again. */
  async look(): Promise<void> {
    const silent = this.#asked && this.#view === undefined;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    if (!silent) await this.#asking;
  }
  async #ask(): Promise<void> {
    const wasSilent = this.#asked && this.#view === undefined;
    try {
      const view = await this.#ports.keeper.state();
      if (view.session.id !== this.#session.id || view.session.number !== this.#session.number) {
        this.#ports.log.info('session', { ...view.session, before: this.#session.number });
        await this.#keep(view.session);
      }
      this.#session = view.session;
      this.#view = view;
      this.#sight = sightOf(view);
      this.#problem = undefined;
      if (wasSilent) this.#changed();
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      if (this.#view || !this.#asked) this.#ports.log.warn('the keeper does not answer', { detail });
      this.#view = undefined;
      this.#sight = undefined;
      this.#problem = detail;
    } finally {
      this.#asked = true;
    }
  }

  /** Only for the time when the keeper does not answer: it keeps its session itself. */
  async #keep({ number, id }: HostSession): Promise<void> {
    try {
      await this.#ports.files.write(file, JSON.stringify({ number, id }));
    } catch (error) {
      this.#ports.log.warn('the session cannot be written', { detail: String(error) });
    }
  }
}

function sightOf({ lease, entries, gone }: DoorView): KeeperSight {
  return {
    lease: lease.state,
    entries: new Map(entries.map(({ guestId, generation, epoch }) => [guestId, { generation, epoch }] as const)),
    gone: new Map(gone.map(({ guestId, generation }) => [guestId, generation] as const)),
  };
}

function sessionOf(text: string): HostSession | undefined {
  try {
    const value = JSON.parse(text) as Partial<HostSession> | null;
    return typeof value?.number === 'number' && typeof value.id === 'string'
      ? { number: value.number, id: value.id }
      : undefined;
  } catch {
    return undefined;
  }
}
