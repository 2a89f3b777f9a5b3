/** The controller's parts on a store in memory and a clock that only tests move. */
import type { Clock, Commit, Ids, Log } from '../../../src/ports.ts';
import { MemoryStore, type StoreFault } from '../../../src/controller/store/memory.ts';
import { SiteState, type StateOptions } from '../../../src/controller/state.ts';
import type { Change } from '../../../src/core/model/snapshot.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { counter } from '../core/kit.ts';

export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

export class TestClock implements Clock {
  #now = 1_700_000_000_000;
  now(): number {
    return this.#now;
  }
  monotonic(): number {
    return this.#now;
  }
  async sleep(ms: number): Promise<void> {
    this.#now += ms;
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  pass(ms: number): void {
    this.#now += ms;
  }
}

const uuid = counter(0x9000);
export const ids: Ids = { uuid, secret: () => 's'.repeat(43) };
export const siteId = uuid();

export interface World {
  readonly clock: TestClock;
  readonly store: MemoryStore;
  readonly state: SiteState;
  /** Asked at every call of the store. */
  fault: (call: 'lead' | 'commit' | 'read', commit?: Commit) => StoreFault | undefined;
  /** A controller that takes the lead on the same store. */
  another(options?: Partial<StateOptions>): SiteState;
}

export function world(): World {
  const clock = new TestClock();
  const faults: Pick<World, 'fault'> = { fault: () => undefined };
  const store = new MemoryStore({
    newSite: { id: siteId, name: 'test' },
    now: () => clock.now(),
    fault: (call, commit) => faults.fault(call, commit),
  });
  let number = 0;
  const another = (options: Partial<StateOptions> = {}): SiteState => {
    const state = new SiteState({ store, clock, log: quiet, ...options });
    number += 1;
    void state.claim({ number, id: `epoch-${number}` });
    return state;
  };
  return Object.assign(faults, { clock, store, state: another(), another });
}

export function change(put: readonly AnyResource[], more: Partial<Change> = {}): { readonly change: Change } {
  return { change: { put, remove: [], events: [], ...more } };
}
