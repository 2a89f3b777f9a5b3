/** State laws of the core: for every history of requests, reports and decisions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { decide } from '../../../src/core/converge.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { GuestReport } from '../../../src/core/model/assignment.ts';
import type { Host } from '../../../src/core/model/host.ts';
import { promisable, promised } from '../../../src/core/place/capacity.ts';
import { receiveReport } from '../../../src/core/report.ts';
import * as actions from '../../../src/core/requests/actions.ts';
import { runGuests } from '../../../src/core/requests/guests.ts';
import { changeHost } from '../../../src/core/requests/hosts.ts';
import { removeHost } from '../../../src/core/requests/remove-host.ts';
import { resizeGuest } from '../../../src/core/requests/resize.ts';
import type { RequestResult } from '../../../src/core/requests/result.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aHost, aNetwork, anImage, aReport, sight, t0, TestSite } from './kit.ts';

type Step =
  | {
      readonly do: 'run';
      readonly count: number;
      readonly partial: boolean;
      readonly cpus: number;
      readonly fresh: boolean;
    }
  | { readonly do: 'guest'; readonly action: GuestVerb; readonly which: number; readonly size: number }
  | { readonly do: 'cordon'; readonly which: number; readonly cordoned: boolean }
  | { readonly do: 'lose'; readonly which: number }
  | { readonly do: 'report'; readonly which: number; readonly look: Look }
  | { readonly do: 'wait'; readonly ms: number };

const verbs = [
  'start',
  'stop',
  'force',
  'reboot',
  'pause',
  'resume',
  'rebuild',
  'delete',
  'hold',
  'unhold',
  'resize',
  'label',
] as const;
type GuestVerb = (typeof verbs)[number];
const looks = ['as ordered', 'down', 'shutdown', 'failed', 'nothing', 'stale'] as const;
type Look = (typeof looks)[number];

const which = fc.nat(20);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('run' as const),
    count: fc.integer({ min: 1, max: 6 }),
    partial: fc.boolean(),
    cpus: fc.integer({ min: 1, max: 3 }),
    fresh: fc.boolean(),
  }),
  fc.record({
    do: fc.constant('guest' as const),
    action: fc.constantFrom(...verbs),
    which,
    size: fc.integer({ min: 1, max: 6 }),
  }),
  fc.record({ do: fc.constant('cordon' as const), which, cordoned: fc.boolean() }),
  fc.record({ do: fc.constant('lose' as const), which }),
  fc.record({ do: fc.constant('report' as const), which, look: fc.constantFrom(...looks) }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
);

class History {
  readonly site: TestSite;
  readonly heard = new Map<string, number>();
  /** Highest generation that was ever ordered, per guest id. */
  readonly #ordered = new Map<string, number>();
  #runs = 0;

  constructor() {
    const measured = { cpus: 4, memoryMiB: 3000, diskMiB: 2000 };
    const hosts = ['h1', 'h2', 'h3'].map((name, index) =>
      aHost(name, {
        spec: { overcommit: { cpu: 1 + index, memory: 1 }, reserved: { cpus: index, memoryMiB: 256, diskMiB: 0 } },
        status: { measured },
      }),
    );
    const lan = aNetwork('lan', {
      ipv4: { cidr: '10.0.0.0/27', from: '10.0.0.2', to: '10.0.0.12' },
      ipv6: { cidr: 'fd00::/64', from: 'fd00::2', to: 'fd00::ff' },
    });
    this.site = new TestSite([...hosts, lan, anImage('debian')]);
    for (const host of hosts) this.heard.set(host.id, t0);
  }

  do(next: Step): void {
    const { site } = this;
    if (next.do === 'wait') site.now += next.ms;
    else if (next.do === 'report') this.#report(next);
    else this.#request(next);
    this.#decide();
    this.check();
  }

  /** A refusal is an answer; anything else that is thrown is a bug. */
  #request(next: Exclude<Step, { do: 'wait' | 'report' }>): void {
    let result: RequestResult | undefined;
    try {
      result = this.#ask(next);
    } catch (error) {
      if (!(error instanceof VirgaError) || error.code === 'internal') throw error;
    }
    if (!result) return;
    this.site.commit(result);
    if (next.do === 'run' && !next.partial) assert.equal(result.created.length, next.count, 'all or nothing');
  }

  #ask(next: Exclude<Step, { do: 'wait' | 'report' }>): RequestResult | undefined {
    const { site } = this;
    if (next.do === 'run') {
      this.#runs += 1;
      const { count, partial, cpus } = next;
      const diskMode = next.fresh ? 'fresh' : 'keep';
      return runGuests(site, { name: `r${this.#runs}`, image: 'debian', count, partial, cpus, diskMode }, site.context);
    }
    if (next.do === 'guest') return this.#verb(next);
    const host = this.#host(next.which);
    if (!host) return undefined;
    if (next.do === 'cordon') return changeHost(site, host.name, { cordoned: next.cordoned }, site.context);
    return removeHost(site, host.name, { lost: true, confirm: host.name }, site.context);
  }

  #verb({ action, which: number, size }: Extract<Step, { do: 'guest' }>): RequestResult | undefined {
    const { site } = this;
    const guests = [...site.all('guest')];
    const name = guests[number % Math.max(1, guests.length)]?.name;
    if (name === undefined) return undefined;
    const { context } = site;
    const calls: Record<GuestVerb, () => RequestResult> = {
      start: () => startGuest(site, name, context),
      stop: () => actions.stopGuest(site, name, {}, context),
      force: () => actions.stopGuest(site, name, { force: true }, context),
      reboot: () => actions.rebootGuest(site, name, context),
      pause: () => actions.pauseGuest(site, name, context),
      resume: () => actions.resumeGuest(site, name, context),
      rebuild: () => actions.rebuildGuest(site, name, context),
      delete: () => actions.deleteGuest(site, name, context),
      hold: () => actions.holdGuest(site, name, { reason: 'test' }, context),
      unhold: () => actions.unholdGuest(site, name, context),
      resize: () => resizeGuest(site, name, { cpus: size, memoryMiB: size * 300, diskMiB: 64 * size }, context),
      label: () => actions.changeGuest(site, name, { labels: { size: String(size) } }, context),
    };
    return calls[action]();
  }

  #host(number: number): Host | undefined {
    const hosts = [...this.site.all('host')].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    return hosts[number % Math.max(1, hosts.length)];
  }

  #report({ which: number, look }: Extract<Step, { do: 'report' }>): void {
    const host = this.#host(number);
    if (host) this.report(host, look);
  }

  /** What an agent would say that has (or has not yet) done what it was told. */
  report(host: Host, look: Look): void {
    const { site } = this;
    const content = assignmentFor(site, host.id);
    const orders = content?.guests ?? [];
    const gone = look === 'stale' ? [] : orders.filter((each) => each.want !== 'keep');
    const seen = orders.filter((each) => each.want === 'keep' && look !== 'nothing');
    const guests = seen.flatMap((each) => {
      const guest = site.get('guest', each.id);
      return guest ? [sight(guest, lookOf(look, each.generation))] : [];
    });
    this.heard.set(host.id, site.now);
    site.commit(
      receiveReport(
        site,
        host.id,
        aReport(host, guests, { gone: gone.map(({ id, generation }) => ({ id, generation })) }),
        site.now,
      ),
    );
  }

  #decide(): void {
    const { site, heard } = this;
    const settings = { silentAfterMs: 10_000, listeningSinceAt: t0 };
    site.commit(decide(site, site.now, heard, settings));
    const again = decide(site, site.now, heard, settings);
    assert.deepEqual(again.change, { put: [], remove: [], events: [] }, 'a decision leaves nothing to decide');
  }

  check(): void {
    this.#capacities();
    this.#unique();
    this.#generations();
  }

  #capacities(): void {
    for (const host of this.site.all('host')) {
      const total = promisable(host);
      assert.ok(total);
      const used = promised(this.site, host);
      for (const what of ['cpus', 'memoryMiB', 'diskMiB'] as const)
        assert.ok(used[what] <= total[what], `${host.name}: ${used[what]} of ${total[what]} ${what}`);
    }
  }

  #unique(): void {
    const taken = new Set<string>();
    for (const guest of this.site.all('guest'))
      for (const nic of guest.spec.nics)
        for (const address of [nic.mac, nic.ipv4, nic.ipv6]) {
          assert.ok(address !== undefined && !taken.has(address), `${address} twice`);
          taken.add(address);
        }
  }

  /** No guest's orders ever go down, and no host ever has two orders for one guest. */
  #generations(): void {
    for (const guest of this.site.all('guest')) {
      const { placement, lastGeneration } = guest.status;
      assert.ok(lastGeneration >= (this.#ordered.get(guest.id) ?? 0), `${guest.name} went back to ${lastGeneration}`);
      if (placement) assert.equal(placement.generation, lastGeneration);
      this.#ordered.set(guest.id, lastGeneration);
    }
    for (const host of this.site.all('host')) {
      const ids = assignmentFor(this.site, host.id)?.guests.map((each) => each.id) ?? [];
      assert.equal(new Set(ids).size, ids.length, `two orders for one guest on ${host.name}`);
    }
  }
}

function lookOf(look: Look, generation: number): Partial<GuestReport> {
  if (look === 'down') return { engine: 'absent' };
  if (look === 'shutdown') return { engine: 'shutoff', exit: { reason: 'shutdown', exitAt: t0 + generation } };
  if (look === 'failed')
    return { engine: 'absent', error: { code: 'engine', message: 'no', errorAt: t0, gaveUp: true } };
  if (look === 'stale') return { generation: generation - 1 };
  return {};
}

test('capacity is never exceeded, addresses are unique, orders only rise, decisions are final', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
      const history = new History();
      for (const each of steps) history.do(each);
    }),
    { numRuns: 300 },
  );
});

test('from any history, deletion of everything ends with nothing left', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const history = new History();
      const { site } = history;
      for (const each of steps) history.do(each);
      for (const { name } of Array.from(site.all('guest'))) {
        const free = site.guest(name).deletionAt === undefined;
        if (free) site.commit(actions.unholdGuest(site, name, site.context));
        site.commit(actions.deleteGuest(site, name, site.context));
      }
      // Two rounds: a silent host comes back with the first, and acknowledges then or with the second.
      for (let round = 0; round < 2; round += 1)
        for (const host of Array.from(site.all('host'))) history.report(site.host(host.name), 'as ordered');
      assert.equal(site.count('guest'), 0);
      for (const host of site.all('host')) assert.deepEqual(assignmentFor(site, host.id)?.guests, []);
    }),
    { numRuns: 100 },
  );
});
