import type { GuestJournal } from '../core/host/journal.ts';
import type { AssignedNetwork, Assignment } from '../core/model/assignment.ts';
import type { EngineFacts } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { AgentPorts, HostMeter } from './ports.ts';

/** Milliseconds (monotonic) between two runs of each chore. */
const networksEveryMs = 10_000;
const meterEveryMs = 2000;
const logsEveryMs = 5000;
const evictEveryMs = 60_000;
const factsEveryMs = 3_600_000;

type Measured = Awaited<ReturnType<HostMeter['measure']>>;

/** What the host as a whole needs, apart from any guest: networks, figures, bounded logs and cache. */
export class Upkeep {
  readonly #ports: AgentPorts;
  readonly #changed: () => void;
  readonly #last = new Map<string, number>();
  #networks: ReadonlyMap<Uuid, string | undefined> = new Map();
  #networksFor = '';
  #measured: Measured | undefined;
  #facts: EngineFacts | undefined;
  #asking = false;

  constructor(ports: AgentPorts, changed: () => void) {
    this.#ports = ports;
    this.#changed = changed;
  }

  get readyNetworks(): readonly Uuid[] {
    return [...this.#networks].flatMap(([id, problem]) => (problem === undefined ? [id] : []));
  }

  get networkProblems(): readonly { readonly networkId: Uuid; readonly message: string }[] {
    return [...this.#networks].flatMap(([networkId, message]) =>
      message === undefined ? [] : [{ networkId, message }],
    );
  }

  get measured(): Measured | undefined {
    return this.#measured;
  }

  get engineFacts(): EngineFacts | undefined {
    return this.#facts;
  }

  /** Converges the networks when they changed, and now and then, since others may take a bridge away. */
  async networks(assigned: readonly AssignedNetwork[]): Promise<void> {
    const key = JSON.stringify(assigned);
    if (!this.#due('networks', networksEveryMs) && key === this.#networksFor) return;
    this.#networksFor = key;
    try {
      this.#networks = await this.#ports.networks.converge(assigned);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#networks = new Map(assigned.map((network) => [network.id, message]));
      this.#ports.log.warn('the networks cannot be made', { detail: message });
    }
  }

  /** Chores that no guest waits for. Their failures are logged, and they come again. */
  async often(journals: readonly GuestJournal[], assignment: Assignment | undefined): Promise<void> {
    const { meter, disks, images } = this.#ports;
    const listed = journals.filter((journal) => !journal.gone).map((journal) => journal.id);
    if (this.#due('meter', meterEveryMs))
      await this.#try('measuring', async () => {
        this.#measured = await meter.measure();
      });
    if (this.#due('logs', logsEveryMs)) await this.#try('bounding the logs', () => disks.boundLogs(listed));
    if (assignment && this.#due('evict', evictEveryMs))
      await this.#try('tidying the image cache', async () => {
        const layers = journals.flatMap((journal) => journal.layers.map((layer) => layer.image));
        await images.evict(new Set([...layers, ...assignment.images.map((image) => image.sha512)]));
      });
  }

  /** Asks the engine what it is, beside the loop: trying KVM takes seconds. */
  facts(): void {
    if (this.#asking || (this.#facts && !this.#due('facts', factsEveryMs))) return;
    this.#asking = true;
    void this.#try('asking the engine what it can', async () => {
      this.#facts = await this.#ports.engine.facts();
      this.#due('facts', factsEveryMs);
      this.#changed();
    }).finally(() => {
      this.#asking = false;
    });
  }

  #due(what: string, everyMs: number): boolean {
    const now = this.#ports.clock.monotonic();
    const last = this.#last.get(what);
    if (last !== undefined && now - last < everyMs) return false;
    this.#last.set(what, now);
    return true;
  }

  async #try(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#ports.log.warn(`${what} failed`, { detail: error instanceof Error ? error.message : String(error) });
    }
  }
}
