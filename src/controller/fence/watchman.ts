/**
 * Tests devices. One that says "off" of a host that goes on being heard is wired to another machine: its word would be
 * worth nothing on the day it counts, and its deed would hit a stranger.
 */
import { deviceKey, deviceProblem } from '../../core/ha/fencing.ts';
import type { FenceDevice, Host } from '../../core/model/host.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { Clock, Fencer } from '../../ports.ts';
import type { HostLeaseSight } from '../lease/view.ts';
import type { FenceAttempt } from './door.ts';
import { plain } from './round.ts';

const hourMs = 3600_000;
/** Hosts whose devices are tested at one moment. */
const parallel = 2;

export interface WatchmanWorld {
  readonly clock: Clock;
  readonly fencer: Fencer;
  readonly testEveryMs?: number;
  readonly signal: AbortSignal;
  /** A voter hears the host now. */
  heard(hostId: Uuid): boolean;
  /** Milliseconds after which a host without power is heard no more. */
  patienceMs(): number;
  note(hostId: Uuid, attempt: FenceAttempt): void;
}

export interface TestOrder {
  readonly who: string;
  readonly reason: string;
}

/** When a device was last tested (monotonic milliseconds), and what is wrong with its word. */
interface Known {
  readonly at: number;
  readonly why?: string;
}

export class Watchman {
  readonly #world: WatchmanWorld;
  readonly #known = new Map<string, Known>();
  readonly #running = new Map<Uuid, Promise<void>>();

  constructor(world: WatchmanWorld) {
    this.#world = world;
  }

  /** Why the device's word is worth nothing; nothing: no doubt is known. */
  suspect(hostId: Uuid, key: string): string | undefined {
    return this.#known.get(`${hostId} ${key}`)?.why;
  }

  /** Begins the tests that are due, of hosts that hold their lease. */
  look(hosts: readonly Host[], seen: ReadonlyMap<Uuid, HostLeaseSight>): void {
    const there = new Set(hosts.flatMap((host) => (host.spec.fence ?? []).map((each) => keyOf(host.id, each))));
    for (const key of this.#known.keys()) if (!there.has(key)) this.#known.delete(key);
    for (const host of hosts) {
      if (this.#running.size >= parallel) return;
      if (seen.get(host.id)?.state !== 'held' || this.#running.has(host.id)) continue;
      if ((host.spec.fence ?? []).some((device) => this.#due(host.id, device))) this.#begin(host);
    }
  }

  /** Asks every device; one after the other, since they may share a management board. */
  async test(host: Host, order: TestOrder): Promise<readonly FenceAttempt[]> {
    const attempts: FenceAttempt[] = [];
    for (const [index, device] of (host.spec.fence ?? []).entries())
      attempts.push(await this.#testOne(host, device, index + 1, order));
    return attempts;
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  async #testOne(host: Host, device: FenceDevice, level: number, order: TestOrder): Promise<FenceAttempt> {
    const { clock, fencer, signal } = this.#world;
    const at = clock.now();
    const problem = deviceProblem(device);
    const said =
      problem === undefined
        ? await fencer.status(device, signal)
        : ({ power: 'unknown', failure: 'refused', detail: problem, ms: 0 } as const);
    const ms = Math.round(said.ms);
    const base = { at, what: 'test', level, agent: device.agent, ms, ...order } as const;
    const doubt = said.power === 'off' ? await this.#doubt(host.id) : undefined;
    this.#learn(keyOf(host.id, device), said.power, doubt);
    return doubt === undefined ? { ...base, ...plain(said) } : { ...base, outcome: 'disbelieved', detail: doubt };
  }

  /** The host may have died right before the device was asked: it is listened to for as long as its grants last. */
  async #doubt(hostId: Uuid): Promise<string | undefined> {
    if (!this.#world.heard(hostId)) return undefined;
    await this.#world.clock.sleep(this.#world.patienceMs(), this.#world.signal).catch(() => undefined);
    return this.#world.heard(hostId)
      ? 'it says off although voters hear the host: it is wired to another machine'
      : undefined;
  }

  #learn(key: string, power: 'off' | 'on' | 'unknown', doubt: string | undefined): void {
    const at = this.#world.clock.monotonic();
    // Only a clear "on" clears a doubt.
    const why = doubt ?? (power === 'on' ? undefined : this.#known.get(key)?.why);
    this.#known.set(key, { at, ...(why === undefined ? {} : { why }) });
  }

  #due(hostId: Uuid, device: FenceDevice): boolean {
    const known = this.#known.get(keyOf(hostId, device));
    return !known || this.#world.clock.monotonic() - known.at >= (this.#world.testEveryMs ?? hourMs);
  }

  #begin(host: Host): void {
    const work = this.test(host, { who: 'virga', reason: 'regular test' })
      .then((attempts) => {
        // What is well is no news: the history is for what was done and for what is wrong.
        for (const attempt of attempts) if (attempt.outcome !== 'on') this.#world.note(host.id, attempt);
      })
      .finally(() => this.#running.delete(host.id));
    this.#running.set(host.id, work);
  }
}

function keyOf(hostId: Uuid, device: FenceDevice): string {
  return `${hostId} ${deviceKey(device)}`;
}
