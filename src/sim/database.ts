/**
 * The site's database: one in memory, on a machine of its own, that outlives the controllers. It can be away, lose its
 * answers, and fail over to a replica that lacks the last rows.
 */
import { MemoryStore } from '../controller/store/memory.ts';
import { VirgaError } from '../core/errors.ts';
import type { Epoch } from '../core/ha/types.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { SiteEvent } from '../core/model/snapshot.ts';
import type { Commit, Store } from '../ports.ts';
import type { Network } from './network.ts';
import type { Life } from './process.ts';
import type { Random } from './random.ts';
import { epochAt, type VirtualTime } from './time.ts';

export type Written = { readonly lead: Epoch } | { readonly commit: Commit };

/** What a controller waits for an answer that does not come, milliseconds. */
const timeoutMs = 1500;

export class SimDatabase {
  readonly #time: VirtualTime;
  readonly #random: Random;
  readonly #siteId: Uuid;
  #store: MemoryStore;
  /** Everything that was written, so that a replica can be made of a part of it. */
  #log: Written[] = [];
  /** Events of rows that a failover lost: what people once saw. */
  #lost: SiteEvent[] = [];
  /** `before`: nothing is written · `after`: it is, and nobody is told · `random`: each with some probability. */
  fault: 'before' | 'after' | 'random' | undefined;

  #forgotten = 0;
  /** Writes that no failover loses. */
  #base = 0;
  /** Rows were lost: what was acknowledged may be gone. */
  failedOver = false;

  constructor(time: VirtualTime, random: Random, siteId: Uuid) {
    this.#time = time;
    this.#random = random;
    this.#siteId = siteId;
    this.#store = this.#fresh();
  }

  #fresh(): MemoryStore {
    return new MemoryStore({
      newSite: { id: this.#siteId, name: 'sim' },
      now: () => Math.round(epochAt + this.#time.now),
    });
  }

  #fault(): 'before' | 'after' | undefined {
    if (this.fault !== 'random') return this.fault;
    if (!this.#random.chance(0.2)) return undefined;
    return this.#random.chance(0.5) ? 'before' : 'after';
  }

  /** Becomes what these writes make. */
  async replay(log: readonly Written[]): Promise<void> {
    this.#store = this.#fresh();
    this.#log = [];
    for (const each of log) await this.#write(each);
  }

  /** Events up to now are of the past: `events` leaves them out. */
  async forget(): Promise<void> {
    this.#base = this.#log.length;
    this.#forgotten = (await this.events()).at(-1)?.seq ?? 0;
  }

  /** Writes that make the same state at once, without its past. */
  async compact(): Promise<readonly Written[]> {
    const epoch = await this.#store.epoch();
    const answer = await this.#store.lead(epoch);
    if (!answer.ok) throw new Error('the store refuses its own epoch');
    const { resources, site } = answer.state;
    return [{ lead: epoch }, { commit: { epoch, put: resources, remove: [], events: [], expect: [], site } }];
  }

  async #write(each: Written): Promise<unknown> {
    const result = 'lead' in each ? await this.#store.lead(each.lead) : await this.#store.commit(each.commit);
    if (result.ok) this.#log.push(each);
    return result;
  }

  /** A replica takes over that lacks the last `lost` writes. */
  async failover(lost: number): Promise<void> {
    this.failedOver = true;
    const before = await this.events();
    await this.replay(this.#log.slice(0, Math.max(this.#base, this.#log.length - lost)));
    const kept = (await this.events()).length;
    this.#lost.push(...before.slice(kept));
  }

  async events(): Promise<readonly SiteEvent[]> {
    const all: SiteEvent[] = [];
    for (;;) {
      const page = await this.#store.events({ afterSeq: all.at(-1)?.seq ?? this.#forgotten, limit: 1000 });
      all.push(...page);
      if (page.length === 0) return [...this.#lost, ...all].toSorted((a, b) => a.eventAt - b.eventAt);
    }
  }

  /** The database as one controller reaches it from its machine. */
  door(life: Life, machine: string, network: Network, at: string, mostMs: number): Store {
    const call = async <T>(work: () => Promise<T>): Promise<T> =>
      new Promise((resolve, refuse) => {
        const late = (detail: string): void =>
          void life.after(timeoutMs, () => refuse(new VirgaError('store_unavailable', { detail })));
        this.#time.after(this.#random.whole(0, mostMs), () => {
          if (!life.alive) return;
          const fault = this.#fault();
          if (fault === 'before') {
            life.enter(() => refuse(new VirgaError('store_unavailable', { detail: 'fault before the write' })));
            return;
          }
          if (!network.passes(machine, at)) return late('the database is not reached');
          work().then(
            (result) => {
              if (fault === 'after')
                life.enter(() => refuse(new VirgaError('store_unavailable', { detail: 'fault after the write' })));
              else if (network.passes(at, machine)) life.after(this.#random.whole(0, mostMs), () => resolve(result));
              else late('the database does not answer');
            },
            (error: unknown) => life.enter(() => refuse(error)),
          );
        });
      });
    return {
      lead: async (claim) =>
        call(async () => (await this.#write({ lead: claim })) as Awaited<ReturnType<Store['lead']>>),
      epoch: async () => call(async () => this.#store.epoch()),
      voters: async () => call(async () => this.#store.voters()),
      commit: async (commit) =>
        call(async () => (await this.#write({ commit })) as Awaited<ReturnType<Store['commit']>>),
      idempotent: async (who, key) => call(async () => this.#store.idempotent(who, key)),
      events: async (query) => call(async () => this.#store.events(query)),
      ping: async () => call(async () => this.#store.ping()),
    };
  }
}
