/** The words of a scenario: what happens to the site, and what people ask of it. */
import type { Uuid } from '../core/model/resource.ts';
import type { RequestContext, Snapshot } from '../core/model/snapshot.ts';
import * as actions from '../core/requests/actions.ts';
import { runGuests } from '../core/requests/guests.ts';
import { cordonHost, uncordonHost } from '../core/requests/hosts.ts';
import { removeHost } from '../core/requests/remove-host.ts';
import { startGuest } from '../core/requests/start.ts';
import type { RequestResult } from '../core/requests/result.ts';
import type { RestartPolicy } from '../core/model/guest.ts';
import type { SimDisk, SimDomain } from './machine.ts';
import { fair, type Weather } from './network.ts';
import { VirgaError } from '../core/errors.ts';
import { unsettled } from './converged.ts';
import type { ProcessName, World } from './world.ts';

type Ask = (snapshot: Snapshot, context: RequestContext) => RequestResult;

/** Asks and writes down the answer: acknowledged, refused (with why), or none because the controller died. */
function ask(world: World, text: string, decide: Ask, then?: (result: RequestResult) => void): void {
  world.note(`ask    ${text}`);
  world.ask(decide).then(
    (result) => {
      then?.(result);
      world.note(`answer ${text}: acknowledged`);
    },
    (error: unknown) =>
      world.note(`answer ${text}: ${error instanceof VirgaError ? `${error.code}: ${error.message}` : String(error)}`),
  );
}

function run(world: World, name: string, options: readonly string[]): void {
  const value = (flag: string): string | undefined => {
    const at = options.indexOf(flag);
    return at < 0 ? undefined : options[at + 1];
  };
  const count = value('--count');
  const restart = value('--restart') as RestartPolicy | undefined;
  const input = {
    image: 'tiny',
    name,
    memoryMiB: Number(value('--memory') ?? 128),
    ...(count === undefined ? {} : { count: Number(count) }),
    ...(restart === undefined ? {} : { restart }),
    ...(options.includes('--fresh') ? { diskMode: 'fresh' as const } : {}),
    ...(options.includes('--partial') ? { partial: true } : {}),
  };
  ask(
    world,
    `run ${name}`,
    (snapshot, context) => runGuests(snapshot, input, context),
    (result) => {
      for (const { id } of result.created) world.acknowledged.set(id, name);
    },
  );
}

const asks: Readonly<Record<string, (guest: string) => Ask>> = {
  start: (guest) => (snapshot, context) => startGuest(snapshot, guest, context),
  stop: (guest) => (snapshot, context) => actions.stopGuest(snapshot, guest, {}, context),
  reboot: (guest) => (snapshot, context) => actions.rebootGuest(snapshot, guest, context),
  pause: (guest) => (snapshot, context) => actions.pauseGuest(snapshot, guest, context),
  resume: (guest) => (snapshot, context) => actions.resumeGuest(snapshot, guest, context),
  rebuild: (guest) => (snapshot, context) => actions.rebuildGuest(snapshot, guest, context),
  keep: (guest) => (snapshot, context) => actions.holdGuest(snapshot, guest, { reason: 'scenario' }, context),
  unkeep: (guest) => (snapshot, context) => actions.unholdGuest(snapshot, guest, context),
  cordon: (host) => (snapshot, context) => cordonHost(snapshot, host, context),
  uncordon: (host) => (snapshot, context) => uncordonHost(snapshot, host, context),
  'remove-lost': (host) => (snapshot, context) => removeHost(snapshot, host, { lost: true, confirm: host }, context),
};

type Fault = (world: World, ...words: readonly string[]) => void;
const ms = (seconds: string | undefined): number => Number(seconds ?? 'NaN') * 1000;
const process = (word: string | undefined): ProcessName => {
  if (word === 'keeper' || word === 'guard' || word === 'agent' || word === 'controller') return word;
  throw new Error(`"${word ?? ''}" is no process`);
};
/** Milliseconds that a keeper has to end in order. */
const goodbyeMs = 800;
const begin: Fault = (world, what, name = '') => {
  const which = process(what);
  if (which === 'controller') world.startController(name);
  else world.start(which, name);
};
const kill: Fault = (world, what, name = '') => {
  const which = process(what);
  if (which === 'controller') world.killController(name);
  else world.kill(which, name);
};
/** All controllers where none is named. */
const each = (world: World, name: string): readonly string[] => (name === '' ? [...world.homes.keys()] : [name]);
const disk = (world: World, host: string): SimDisk => world.place(host).machine.keeperDisk;
const both = (world: World, host: string): readonly SimDisk[] => [world.place(host).machine.disk, disk(world, host)];
const engine = (world: World, host: string, up: boolean): void => void (world.place(host).machine.engineUp = up);

function wish(world: World, change: { readonly add?: Uuid; readonly remove?: Uuid }): void {
  try {
    world.leader()?.lease.wishVoters(change);
  } catch (error) {
    world.note(`answer ${String(error)}`);
  }
}

function declareDead(world: World, name: string): void {
  const word = { who: 'local:root', reason: 'scenario', kind: 'person' } as const;
  const leader = world.leader();
  leader?.life.of(leader.lease.declareDead(world.place(name).machine.id, word)).then(
    () => world.note(`answer ${name} is declared dead`),
    (error: unknown) => world.note(`answer ${name} is not declared dead: ${String(error)}`),
  );
}

/** What must be so at this moment. */
const expectations: Readonly<Record<string, (world: World, ...words: readonly string[]) => readonly string[]>> = {
  converged: (world) => unsettled(world),
  /** No guest ended or froze since the beginning of the scenario. */
  untouched: (world) =>
    world.laws.happenings
      .filter(({ at, what }) => at >= world.zero && (what === 'ended' || what === 'froze'))
      .map(({ what, copy }) => `a guest ${what} on ${copy.machine}`),
  /** No guest ended; it may have been frozen for a while. */
  'not-restarted': (world) =>
    world.laws.happenings
      .filter(({ at, what }) => at >= world.zero && what === 'ended')
      .map(({ copy }) => `a guest ended on ${copy.machine}`),
  running: (world, ...names) =>
    names.flatMap((name) => {
      const id = world.guestId(name);
      const copies = id === undefined ? 0 : world.laws.executing(id).length;
      return copies === 1 ? [] : [`${name}: ${copies} copies execute`];
    }),
  /** The guest executes on that host. */
  on: (world, name = '', host = '') => {
    const where = world.laws.executing(world.guestId(name) ?? '');
    return where.length === 1 && where[0] === host ? [] : [`${name} executes on ${where.join(', ') || 'no host'}`];
  },
  leader: (world) => (world.leader() ? [] : ['nobody leads']),
};

const weathers: Readonly<Record<string, Weather>> = {
  'bad-weather': { delayMs: [1, 1500], twice: 0.2, broken: 0.05 },
  /** 200 ms there, 5 % lost, tails of 400 ms: nothing may be declared lost. */
  'slow-weather': { delayMs: [80, 120], twice: 0.01, broken: 0.05, tail: [0.02, 400] },
  'wild-weather': { delayMs: [1, 300], twice: 0.3, broken: 0.2, tail: [0.1, 3000] },
  'fair-weather': fair,
};

const faults: Readonly<Record<string, Fault>> = {
  'power-cut': (world, name = '') => world.powerCut(name),
  'power-on': (world, name = '') => world.powerOn(name),
  // As `poweroff` does: the keeper ends its session and says so, then the power goes.
  leave: (world, name = '') => {
    const keeper = world.place(name).keeper;
    keeper?.life.of(keeper.loop.leave('scenario')).then(
      () => world.powerCut(name),
      (error: unknown) => world.note(`answer ${String(error)}`),
    );
  },
  'kill-agent': (world, name = '') => world.kill('agent', name),
  'start-agent': (world, name = '') => world.start('agent', name),
  'kill-controller': (world, name = '') => each(world, name).forEach((one) => world.killController(one)),
  'start-controller': (world, name = '') => each(world, name).forEach((one) => world.startController(one)),
  begin,
  kill,
  'bounce-guard': (world, name = '', seconds) => {
    world.kill('guard', name);
    world.time.after(ms(seconds), () => world.start('guard', name));
  },
  'bounce-keeper': (world, name = '', seconds) => {
    world.kill('keeper', name);
    world.time.after(ms(seconds), () => world.start('keeper', name));
  },
  // The worst that the rules allow: cut off, and around the deadline its keeper hangs and its guard is late by nearly k.
  'cut-off-late': (world, name = '') => {
    const { boundMs } = world.surroundings;
    world.network.pull(name);
    world.time.after(3.4 * boundMs, () => {
      world.life('keeper', name)?.stall(8 * boundMs);
      world.life('guard', name)?.stall(boundMs * (0.9 + 0.08 * world.random.next()));
    });
  },
  // A planned restart: it asks for a longer lease, ends, and comes back.
  'restart-keeper': (world, name = '', seconds) => {
    world.place(name).keeper?.stop();
    world.time.after(goodbyeMs, () => world.kill('keeper', name));
    world.time.after(goodbyeMs + ms(seconds), () => world.start('keeper', name));
  },
  // Its disk is lost while it is down: it comes back as another one.
  'rebuild-keeper': (world, name = '', seconds) => {
    world.kill('keeper', name);
    disk(world, name).wipe();
    world.time.after(ms(seconds), () => world.start('keeper', name));
  },
  'reboot-host': (world, name = '', seconds) => {
    world.powerCut(name);
    world.time.after(ms(seconds), () => world.powerOn(name));
  },
  // SIGSTOP and SIGCONT; with seconds it goes on by itself.
  stall: (world, what, name = '', seconds) =>
    world.life(process(what), name)?.stall(seconds === undefined ? Infinity : ms(seconds)),
  cont: (world, what, name = '') => world.life(process(what), name)?.resume(),
  // With one machine its cable; with two both directions between them.
  cut: (world, one = '', other) => {
    if (other === undefined) return world.network.pull(one);
    world.network.cut(one, other);
    world.network.cut(other, one);
  },
  mend: (world, one = '', other) => {
    if (other === undefined) return world.network.plug(one);
    world.network.mend(one, other);
    world.network.mend(other, one);
  },
  'cut-one-way': (world, from = '', to = '') => world.network.cut(from, to),
  'mend-one-way': (world, from = '', to = '') => world.network.mend(from, to),
  'switch-down': (world) => void (world.network.down = true),
  'switch-up': (world) => void (world.network.down = false),
  'mend-all': (world) => world.network.mendAll(),
  // Datagrams of one type from one machine to another wait until they are let go; `*`: any machine.
  hold: (world, type = '', from = '*', to = '*') => world.network.hold(type, from, to),
  'let-go': (world) => world.network.letGo(),
  slow: (world, from = '', to = '', seconds) =>
    void world.network.local.set(`${from}>${to}`, { delayMs: [ms(seconds), ms(seconds)], twice: 0, broken: 0 }),
  'libvirtd-down': (world, name = '') => engine(world, name, false),
  'libvirtd-up': (world, name = '') => engine(world, name, true),
  'disk-full': (world, name = '') => both(world, name).forEach((one) => void (one.full = true)),
  'disk-free': (world, name = '') => both(world, name).forEach((one) => void (one.full = false)),
  'disk-hangs': (world, name = '') => both(world, name).forEach((one) => one.hang()),
  'disk-answers': (world, name = '') => both(world, name).forEach((one) => one.unhang()),
  'voters-add': (world, name = '') => wish(world, { add: world.place(name).machine.id }),
  'voters-remove': (world, name = '') => wish(world, { remove: world.place(name).machine.id }),
  'declare-dead': (world, name = '') => declareDead(world, name),
  'wipe-keeper': (world, name = '') => disk(world, name).wipe(),
  'copy-keeper': (world, name = '') => disk(world, name).keep(),
  'restore-keeper': (world, name = '') => disk(world, name).restore(),
  'database-down': (world) => void (world.database.fault = 'before'),
  'database-up': (world) => void (world.database.fault = undefined),
  'database-flaky': (world) => void (world.database.fault = 'random'),
  'database-failover': (world, lost) => void world.database.failover(Number(lost ?? 0)),
  ...Object.fromEntries(
    Object.entries(weathers).map(([name, weather]) => [
      name,
      (world: World) => {
        world.network.weather = weather;
      },
    ]),
  ),
};

/** What happens inside a guest, or to its process behind everybody's back. */
const inside: Readonly<Record<string, (world: World, guest: string) => void>> = {
  'kill-qemu': (world, guest) => endGuest(world, guest, 'failed'),
  'power-off-inside': (world, guest) => endGuest(world, guest, 'shutdown'),
  'ignore-power-button': (world, guest) => {
    for (const domain of domainsOf(world, guest)) domain.stubborn = true;
  },
  // Its process hangs in the kernel: no signal ends it.
  'hang-qemu': (world, guest) => {
    for (const domain of domainsOf(world, guest)) domain.undying = true;
  },
  'unhang-qemu': (world, guest) => {
    for (const domain of domainsOf(world, guest)) domain.undying = false;
  },
};

function domainsOf(world: World, name: string): readonly SimDomain[] {
  return [...world.places.values()].flatMap(({ machine }) =>
    [...machine.domains.values()].filter(({ spec }) => spec.name === name),
  );
}

function endGuest(world: World, name: string, reason: 'failed' | 'shutdown'): void {
  for (const { machine } of world.places.values())
    for (const [id, domain] of machine.domains) if (domain.spec.name === name) machine.end(id, reason);
}

/** Carries out one line of a scenario. An unknown word is an error of the scenario. */
export function carryOut(world: World, line: string): void {
  const [word = '', subject = '', ...options] = line.split(/\s+/);
  const fault = word in faults || word in inside;
  const request = asks[word];
  if (word === 'expect') {
    for (const each of expectations[subject]?.(world, ...options) ?? [`"${subject}" is no expectation`])
      world.laws.violated(0, `${line}: ${each}`);
  } else if (word === 'run') run(world, subject, options);
  else if (word === 'delete')
    ask(
      world,
      line,
      (snapshot, context) => {
        const guest = snapshot.byName('guest', subject);
        if (guest) world.deletionAsked.add(guest.id);
        return actions.deleteGuest(snapshot, subject, context);
      },
      (result) => {
        for (const each of result.change.put) if (each.kind === 'guest') world.deleted.add(each.id);
      },
    );
  else if (request) ask(world, line, request(subject));
  else if (fault) {
    world.note(`FAULT  ${line}`);
    const words = subject === '' ? [] : [subject, ...options];
    if (inside[word]) inside[word](world, subject);
    else faults[word]?.(world, ...words);
  } else throw new Error(`the scenario says "${line}", and "${word}" is no word of it`);
}
