/**
 * Law: no guest ever runs twice, whatever is lost, late, rebooted or asked for; and when all is calm again every guest
 * that should be on and can be is on. The hosts here do what the lease's rules let an agent do, and no more: an order of
 * another session starts nothing, an order runs at most once, what runs in the group of a session ends with it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { AssignmentContent } from '../../../src/core/assignment.ts';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { decide } from '../../../src/core/converge.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import { isHa } from '../../../src/core/ha/eligible.ts';
import type { GuestOrder, GuestReport } from '../../../src/core/model/assignment.ts';
import type { HostLoss, HostSession } from '../../../src/core/model/host.ts';
import type { Uuid } from '../../../src/core/model/resource.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { changeGuest, deleteGuest, holdGuest, stopGuest, unholdGuest } from '../../../src/core/requests/actions.ts';
import { cleanupGuest } from '../../../src/core/requests/cleanup.ts';
import { runGuests } from '../../../src/core/requests/guests.ts';
import { changeHost } from '../../../src/core/requests/hosts.ts';
import type { RequestResult } from '../../../src/core/requests/result.ts';
import { holdSite, releaseSite } from '../../../src/core/requests/site.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aHost, anImage, aReport, sight, t0, TestSite } from './kit.ts';

interface Copy {
  /** In the group of the session: frozen and killed with it. */
  readonly inside: boolean;
}

/** A physical host with its keeper and agent. */
class Machine {
  readonly id: Uuid;
  readonly name: string;
  session: HostSession;
  readonly running = new Map<Uuid, Copy>();
  readonly gone = new Map<Uuid, number>();
  /** Highest order that was carried out, per guest. */
  readonly #done = new Map<Uuid, number>();
  #assignment: (AssignmentContent & { readonly generation: number }) | undefined;

  constructor(id: Uuid, name: string, session: HostSession) {
    this.id = id;
    this.name = name;
    this.session = session;
  }

  /** What ran in the session's group ends, and the session's entries with it. `power`: all else ends as well. */
  end(power: boolean): void {
    for (const [id, copy] of this.running) if (power || copy.inside) this.running.delete(id);
    for (const [id, generation] of this.#done) this.gone.set(id, generation);
    this.session = { number: this.session.number + 1, id: `${this.name}-${this.session.number + 1}` };
  }

  /** A late assignment is ignored, as by the agent. */
  obey(assignment: AssignmentContent & { readonly generation: number }): void {
    if (assignment.generation < (this.#assignment?.generation ?? 0)) return;
    this.#assignment = assignment;
    for (const order of assignment.guests) this.#obey(order, assignment.session);
  }

  #obey(order: GuestOrder, session: HostSession | undefined): void {
    const { id, generation } = order;
    if (order.held) return;
    if (order.want === 'remove') {
      this.running.delete(id);
      this.gone.set(id, Math.max(generation, this.gone.get(id) ?? 0));
      return;
    }
    if (generation < (this.#done.get(id) ?? 0)) return;
    const copy = this.running.get(id);
    if (order.power === 'off') {
      this.running.delete(id);
      this.#done.set(id, generation);
      return;
    }
    if (copy) {
      this.#done.set(id, generation);
      // One that became highly available enters the group; nobody leaves it while running.
      if (order.ha && !copy.inside && session?.id === this.session.id) this.running.set(id, { inside: true });
      return;
    }
    this.#start(order, session);
  }

  #start({ id, generation, ha, barred }: GuestOrder, session: HostSession | undefined): void {
    if (ha && (barred || session?.id !== this.session.id || generation <= (this.gone.get(id) ?? -1))) return;
    this.#done.set(id, generation);
    this.running.set(id, { inside: ha === true });
  }

  report(site: TestSite): GuestReport[] {
    const known = this.#assignment?.guests.filter((each) => each.want === 'keep') ?? [];
    return known.flatMap(({ id, generation }) => {
      const guest = site.get('guest', id);
      if (!guest || guest.status.placement?.hostId !== this.id) return [];
      const copy = this.running.get(id);
      const done = Math.min(this.#done.get(id) ?? 0, generation);
      const look = { engine: copy ? 'running' : 'absent', generation: done } as const;
      return [sight(guest, copy?.inside === true ? { ...look, inside: true } : look)];
    });
  }
}

type Step =
  | { readonly do: 'guest'; readonly verb: Verb; readonly which: number }
  | { readonly do: 'host'; readonly what: What; readonly which: number }
  | { readonly do: 'site'; readonly what: 'hold' | 'release' | 'barrier' | 'free' | 'epoch' | 'decide' };
const verbs = [
  'run',
  'stop',
  'start',
  'delete',
  'ha off',
  'ha on',
  'hold',
  'unhold',
  'cleanup',
  'prefer',
  'stay',
] as const;
type Verb = (typeof verbs)[number];
/** `serve`: it gets its orders, obeys, and says so · `lose`: proved over, while what runs outside the group runs on · `cut`: its power is gone, nobody knows yet. */
const whats = ['serve', 'send', 'deliver', 'report', 'lose', 'cut', 'end', 'cordon', 'open'] as const;
type What = (typeof whats)[number];

const which = fc.nat(11);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('guest' as const), verb: fc.constantFrom(...verbs), which }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('host' as const), what: fc.constant('serve' as const), which }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('host' as const), what: fc.constantFrom(...whats), which }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('site' as const),
      what: fc.constantFrom('hold', 'release', 'barrier', 'free', 'epoch', 'decide'),
    }),
  },
);

class History {
  readonly site: TestSite;
  readonly machines: readonly Machine[];
  readonly #losses = new Map<Uuid, HostLoss>();
  readonly #posts = new Map<Uuid, (AssignmentContent & { readonly generation: number })[]>();
  #free = true;
  #runs = 0;

  constructor() {
    const hosts = ['h1', 'h2', 'h3'].map((name) => aHost(name));
    this.site = new TestSite([...hosts, anImage('debian')]);
    this.machines = hosts.map(
      ({ id, name, status }) => new Machine(id, name, status.session ?? { number: 1, id: name }),
    );
    for (let count = 0; count < 3; count += 1) this.#ask('run', 0);
    this.#decide();
  }

  do(next: Step): void {
    this.site.now += 20_000;
    if (next.do === 'guest') this.#ask(next.verb, next.which);
    else if (next.do === 'host') this.#happen(next.what, this.machines[next.which % this.machines.length]);
    else this.#govern(next.what);
    this.once();
  }

  /** A refusal is an answer. */
  #ask(verb: Verb, number: number): void {
    const { site } = this;
    const guests = [...site.all('guest')];
    const name = guests[number % Math.max(1, guests.length)]?.name ?? '';
    const { context } = site;
    const preferredHosts = [this.machines[number % this.machines.length]?.name ?? ''];
    const requests: Record<Verb, () => RequestResult> = {
      run: () => runGuests(site, { name: `g${(this.#runs += 1)}`, image: 'debian', diskMode: 'fresh' }, context),
      stop: () => stopGuest(site, name, {}, context),
      start: () => startGuest(site, name, context),
      delete: () => deleteGuest(site, name, context),
      'ha off': () => changeGuest(site, name, { ha: 'off' }, context),
      'ha on': () => changeGuest(site, name, { ha: 'on' }, context),
      hold: () => holdGuest(site, name, { reason: 'test' }, context),
      unhold: () => unholdGuest(site, name, context),
      cleanup: () => cleanupGuest(site, name, context),
      prefer: () => changeGuest(site, name, { preferredHosts, failBack: true }, context),
      stay: () => changeGuest(site, name, { preferredHosts: [], failBack: false }, context),
    };
    try {
      site.commit(requests[verb]());
    } catch (error) {
      if (!(error instanceof VirgaError) || error.code === 'internal') throw error;
    }
  }

  #happen(what: What, machine: Machine | undefined): void {
    if (!machine) return;
    const { site } = this;
    const posts = this.#posts.get(machine.id) ?? [];
    if (what === 'send') this.#posts.set(machine.id, [...posts, this.#assignment(machine)]);
    else if (what === 'deliver') {
      const post = posts.shift();
      if (post) machine.obey(post);
    } else if (what === 'report') this.report(machine);
    else if (what === 'serve') {
      machine.obey(this.#assignment(machine));
      this.once();
      this.report(machine);
    } else if (what === 'cut') machine.end(true);
    else if (what === 'end') machine.end(false);
    else if (what === 'cordon' || what === 'open')
      site.commit(changeHost(site, machine.name, { cordoned: what === 'cordon' }, site.context));
    else {
      // Proved over: the session has ended at the host as well, at the latest by its own clock.
      const { session } = machine;
      machine.end(false);
      this.#losses.set(machine.id, { session, lostAt: site.now, how: 'lease', evidence: {} });
      this.#decide();
    }
  }

  #govern(what: Extract<Step, { do: 'site' }>['what']): void {
    const { site } = this;
    if (what === 'hold') site.commit(holdSite(site, { reason: 'test' }, site.context));
    else if (what === 'release') site.commit(releaseSite(site, site.context));
    else if (what === 'epoch') site.site = { ...site.site, epoch: site.site.epoch + 1 };
    else if (what === 'decide') this.#decide();
    else this.#free = what === 'free';
  }

  #assignment(machine: Machine): AssignmentContent & { readonly generation: number } {
    const content = assignmentFor(this.site, machine.id, () => !this.#free);
    assert.ok(content);
    return { ...content, generation: this.site.revision };
  }

  report(machine: Machine): void {
    const { site } = this;
    const gone = [...machine.gone].map(([id, generation]) => ({ id, generation }));
    const said = aReport(site.host(machine.name), machine.report(site), { session: machine.session, gone });
    site.commit(receiveReport(site, machine.id, said, site.now));
    this.#decide();
  }

  #decide(): void {
    const { site } = this;
    const heard = new Map(this.machines.map((each) => [each.id, site.now] as const));
    const settings = { silentAfterMs: 10_000, listeningSinceAt: t0, losses: this.#losses, barrier: () => this.#free };
    site.commit(decide(site, site.now, heard, settings));
    const again = decide(site, site.now, heard, settings);
    assert.deepEqual(again.change, { put: [], remove: [], events: [] }, 'a decision leaves nothing to decide');
  }

  /** The law. */
  once(): void {
    for (const { id, name } of this.site.all('guest')) {
      const on = this.machines.filter((each) => each.running.has(id)).map((each) => each.name);
      assert.ok(on.length <= 1, `${name} runs on ${on.join(' and ')}`);
    }
  }

  /** No more faults: messages arrive, hosts report, nothing is held. */
  calm(): void {
    this.#free = true;
    this.#govern('release');
    for (const machine of this.machines) this.#happen('open', machine);
    for (const { name } of Array.from(this.site.all('guest')))
      for (const request of [unholdGuest, cleanupGuest]) {
        const guest = this.site.byName('guest', name);
        if (guest && guest.deletionAt === undefined) this.site.commit(request(this.site, name, this.site.context));
      }
    this.#posts.clear();
    for (let round = 0; round < 8; round += 1) {
      this.site.now += 130_000;
      for (const machine of this.machines) {
        machine.obey(this.#assignment(machine));
        this.once();
        this.report(machine);
        this.once();
      }
    }
  }
}

test('no guest runs twice in any history, and all that should run do when it is calm again', () => {
  let moved = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 80 }), (steps) => {
      const history = new History();
      for (const each of steps) history.do(each);
      history.calm();
      const { site, machines } = history;
      for (const guest of site.all('guest')) {
        assert.equal(guest.deletionAt, undefined, `${guest.name} should be gone`);
        const runs = machines.some((each) => each.running.has(guest.id));
        assert.equal(
          runs,
          guest.spec.power === 'on',
          `${guest.name} is ${guest.status.state}: ${guest.status.stateReason}`,
        );
        assert.equal(guest.status.state, runs ? 'running' : 'stopped', guest.name);
        if (isHa(guest)) moved += guest.status.movedAt?.length ?? 0;
      }
    }),
    { numRuns: 400 },
  );
  assert.ok(moved > 50, `guests were recovered (${moved})`);
});
