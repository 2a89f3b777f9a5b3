/** The words of a scenario: what happens to the site, and what people ask of it. */
import type { RequestContext, Snapshot } from '../core/model/snapshot.ts';
import * as actions from '../core/requests/actions.ts';
import { runGuests } from '../core/requests/guests.ts';
import { cordonHost, uncordonHost } from '../core/requests/hosts.ts';
import { removeHost } from '../core/requests/remove-host.ts';
import { startGuest } from '../core/requests/start.ts';
import type { RequestResult } from '../core/requests/result.ts';
import type { RestartPolicy } from '../core/model/guest.ts';
import { fair } from './network.ts';
import { VirgaError } from '../core/errors.ts';
import type { World } from './world.ts';

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
  hold: (guest) => (snapshot, context) => actions.holdGuest(snapshot, guest, { reason: 'scenario' }, context),
  unhold: (guest) => (snapshot, context) => actions.unholdGuest(snapshot, guest, context),
  cordon: (host) => (snapshot, context) => cordonHost(snapshot, host, context),
  uncordon: (host) => (snapshot, context) => uncordonHost(snapshot, host, context),
  'remove-lost': (host) => (snapshot, context) => removeHost(snapshot, host, { lost: true, confirm: host }, context),
};

const faults: Readonly<Record<string, (world: World, host: string) => void>> = {
  'power-cut': (world, host) => world.powerCut(host),
  'power-on': (world, host) => world.powerOn(host),
  'kill-agent': (world, host) => world.killAgent(host),
  'start-agent': (world, host) => world.startAgent(host),
  'kill-controller': (world) => world.killController(),
  'start-controller': (world) => world.startController(),
  cut: (world, host) => void (world.site(host).link.cut = true),
  mend: (world, host) => void (world.site(host).link.cut = false),
  'libvirtd-down': (world, host) => void (world.site(host).machine.engineUp = false),
  'libvirtd-up': (world, host) => void (world.site(host).machine.engineUp = true),
  'database-down': (world) => void (world.storeFault = 'before'),
  'database-up': (world) => void (world.storeFault = undefined),
  'bad-weather': (world) => world.setWeather({ delayMs: [1, 1500], twice: 0.2, broken: 0.05 }),
  'fair-weather': (world) => world.setWeather(fair),
};

/** What happens inside a guest, or to its process behind everybody's back. */
const inside: Readonly<Record<string, (world: World, guest: string) => void>> = {
  'kill-qemu': (world, guest) => endGuest(world, guest, 'failed'),
  'power-off-inside': (world, guest) => endGuest(world, guest, 'shutdown'),
  'ignore-power-button': (world, guest) => {
    for (const { machine } of world.sites.values())
      for (const domain of machine.domains.values()) if (domain.spec.name === guest) domain.stubborn = true;
  },
};

function endGuest(world: World, name: string, reason: 'failed' | 'shutdown'): void {
  for (const { machine } of world.sites.values())
    for (const [id, domain] of machine.domains) if (domain.spec.name === name) machine.end(id, reason, world.time.now);
}

/** Carries out one line of a scenario. An unknown word is an error of the scenario. */
export function carryOut(world: World, line: string): void {
  const [word = '', subject = '', ...options] = line.split(/\s+/);
  const fault = faults[word] ?? inside[word];
  const request = asks[word];
  if (word === 'run') run(world, subject, options);
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
    fault(world, subject);
  } else throw new Error(`the scenario says "${line}", and "${word}" is no word of it`);
}
