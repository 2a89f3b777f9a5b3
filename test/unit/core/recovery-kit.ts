/** Sites whose hosts are heard, and some of which were proved over: for the tests of recovery. */
import assert from 'node:assert/strict';
import type { DecideSettings } from '../../../src/core/converge.ts';
import { decide } from '../../../src/core/converge.ts';
import type { Guest, GuestObservation } from '../../../src/core/model/guest.ts';
import type { Host, HostLoss } from '../../../src/core/model/host.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { aGuest, anImage, aReport, sight, t0, TestSite } from './kit.ts';
import type { GuestWish } from './kit.ts';

export const image = anImage('debian');

/** A highly available guest that its host reported running inside its session's group. */
export function running(name: string, on: Host, { spec, status, ...more }: GuestWish = {}): Guest {
  const guest = aGuest(name, { on, image, ...more, spec: { diskMode: 'fresh', ...spec } });
  const { placement } = guest.status;
  const { id: _id, ...observed } = sight(guest, { inside: true });
  return {
    ...guest,
    status: {
      ...guest.status,
      state: 'running',
      observed,
      ...(placement && spec?.ha !== 'off' ? { placement: { ...placement, ha: true } } : {}),
      ...status,
    },
  };
}

export function lossOf(host: Host, how: HostLoss['how'] = 'lease'): HostLoss {
  const { session } = host.status;
  assert.ok(session);
  return { session, lostAt: t0, how, evidence: { votes: '2 of 3' } };
}

/** A site whose hosts are heard, and some of which were proved over. */
export class World {
  readonly site: TestSite;
  readonly losses = new Map<string, HostLoss>();
  barrier = true;

  constructor(...resources: readonly AnyResource[]) {
    this.site = new TestSite([image, ...resources]);
  }

  get settings(): DecideSettings {
    return { silentAfterMs: 10_000, listeningSinceAt: t0, losses: this.losses, barrier: () => this.barrier };
  }

  lose(name: string, how: HostLoss['how'] = 'lease'): string[] {
    const host = this.site.host(name);
    this.losses.set(host.id, lossOf(host, how));
    return this.step();
  }

  /** Decides until nothing is left to do (which must be at once), and returns the events. */
  step(): string[] {
    const { site } = this;
    const heard = new Map([...site.all('host')].map((host) => [host.id, site.now] as const));
    const { change } = site.commit(decide(site, site.now, heard, this.settings));
    assert.deepEqual(decide(site, site.now, heard, this.settings).change, { put: [], remove: [], events: [] });
    return change.events.map((each) => each.type);
  }

  /** The host reports its guests as ordered, or as `look` says; then it is decided. */
  hear(name: string, look: Partial<GuestObservation> = {}, more: Parameters<typeof aReport>[2] = {}): string[] {
    const { site } = this;
    const host = site.host(name);
    const guests = [...site.guestsOn(host.id)].map((guest) => sight(guest, { inside: true, ...look }));
    const { ignored } = site.commit(receiveReport(site, host.id, aReport(host, guests, more), site.now));
    assert.equal(ignored, undefined);
    return this.step();
  }

  on(name: string): string | undefined {
    const { placement } = this.site.guest(name).status;
    return placement && this.site.get('host', placement.hostId)?.name;
  }

  state(name: string): string {
    const { state, stateReason } = this.site.guest(name).status;
    return stateReason === undefined ? state : `${state}: ${stateReason}`;
  }
}
