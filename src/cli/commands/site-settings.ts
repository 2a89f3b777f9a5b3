/** `virga site show|set|hold|release` */
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import type { SiteSettingsView } from '../../api/schemas.ts';
import { group, leaf, oneOf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import { repeating } from '../lists.ts';
import { shortMs } from '../ui/lease.ts';
import { ago, parseNumber, parseSeconds } from '../units.ts';

const profiles = ['default', 'fast'] as const;
const leaves: Readonly<Record<SiteSettingsView['onHostLeave'], string>> = {
  stop: 'its highly available guests are stopped, and start elsewhere at once',
  migrate: 'its highly available guests move to other hosts',
  wait: 'its guests wait for it to come back',
};

/**
 * `default`, `fast`, or own figures over the present ones: `length=3s,bound=600ms,drift=0.01`. Durations need their
 * unit, since a bare figure could be taken for seconds or for milliseconds.
 */
export function parseLease(text: string): NonNullable<Body<'site.set'>['lease']> {
  const named = profiles.find((each) => each === text);
  if (named) return named;
  const lease: { lengthMs?: number; boundMs?: number; drift?: number } = {};
  for (const part of text.split(',')) {
    const [key = '', value = ''] = part.split('=', 2);
    if (key === 'drift') lease.drift = parseNumber(value);
    else if (key === 'length') lease.lengthMs = milliseconds(value);
    else if (key === 'bound') lease.boundMs = milliseconds(value);
    else
      throw usage(`"${part}" is no part of a lease profile; write default, fast, or length=2s,bound=500ms,drift=0.01`);
  }
  return lease;
}

function milliseconds(text: string): number {
  if (/^[0-9.]+$/.test(text)) throw usage(`"${text}": say the unit; write 2s or 500ms`);
  return Math.round(parseSeconds(text) * 1000);
}

function settingFacts(site: SiteSettingsView): (readonly [string, string | undefined])[] {
  const { lease, leaseProfile, marginMs, hold } = site;
  return [
    ['Site', site.name],
    ['Id', site.id],
    [
      'Held',
      hold && `${hold.reason} (${hold.who}, ${ago(hold.heldAt)}): no guest is recovered until "virga site release"`,
    ],
    [
      'Lease',
      `${leaseProfile}: length ${shortMs(lease.lengthMs)}, bound ${shortMs(lease.boundMs)}, drift ${lease.drift * 100} %, margin ${shortMs(marginMs)}`,
    ],
    ['When a host leaves', `${site.onHostLeave}: ${leaves[site.onHostLeave]}`],
    [
      'After a lapse',
      site.lapseGraceSeconds === 0
        ? 'guests with locks on shared storage are killed at once'
        : `guests with locks on shared storage are killed after ${site.lapseGraceSeconds} s`,
    ],
    ['Voters', site.votersBegunAt && `since ${ago(site.votersBegunAt)}; see: virga voters`],
  ];
}

async function show(call: Call): Promise<void> {
  const site = await call.client.call('site.settings', call.look);
  call.out.document(site);
  call.out.facts(settingFacts(site));
}

interface SetOptions {
  readonly lease?: Body<'site.set'>['lease'];
  readonly onHostLeave?: 'stop' | 'migrate' | 'wait';
  readonly lapseGrace?: number;
}

async function set(call: Call<SetOptions>): Promise<void> {
  const { lease, onHostLeave, lapseGrace } = call.options;
  const body: Body<'site.set'> = {
    ...(lease === undefined ? {} : { lease }),
    ...(onHostLeave === undefined ? {} : { onHostLeave }),
    ...(lapseGrace === undefined ? {} : { lapseGraceSeconds: Math.round(lapseGrace) }),
  };
  if (Object.keys(body).length === 0) throw usage('say what to change: --lease, --on-host-leave or --lapse-grace');
  const site = await repeating(call.io.interrupted, () => call.client.call('site.set', { body, ...call.change }));
  call.out.document(site);
  if (!call.out.quiet) call.out.facts(settingFacts(site));
}

async function hold(call: Call): Promise<void> {
  const { reason } = call.options;
  if (reason === undefined) throw usage('say why: --reason "…"; it is shown to everybody who looks at the site');
  const site = await repeating(call.io.interrupted, () =>
    call.client.call('site.hold', { body: { reason }, ...call.change }),
  );
  call.out.document(site);
  call.out.line(`${site.name} is held: no guest is recovered until "virga site release"`);
}

async function release(call: Call): Promise<void> {
  const before = await call.client.call('site.settings', call.look);
  if (!before.hold) {
    call.out.document(before);
    return call.out.line(`${before.name} is not held`);
  }
  const status = await call.client.call('site.status', call.look);
  const lost = (status.hosts['lost'] ?? 0) + (status.hosts['fenced'] ?? 0);
  if (lost > 0) await confirm(call, `Guests of ${lost} lost or fenced hosts start elsewhere at once`);
  const site = await repeating(call.io.interrupted, () =>
    call.client.call('site.release', { body: {}, ...call.change }),
  );
  call.out.document(site);
  call.out.line(`${site.name} is released: guests are recovered again`);
}

export function settingsCommands(program: Command, shell: Shell): void {
  const site = group(program, 'site', 'The site as a whole: settings, hold');
  leaf(site, shell, {
    syntax: 'show',
    summary: 'Show the settings of the site',
    manner: 'look',
    examples: ['site show', 'site show --json'],
    run: show,
  });
  leaf<SetOptions>(site, shell, {
    syntax: 'set',
    summary: 'Change settings of the site',
    detail:
      'A lease profile is default (2 s), fast (1 s), or figures of its own; hosts take it over one after the other. ' +
      'A shorter lease finds dead hosts faster and freezes guests at shorter breaks of the network.',
    manner: 'act',
    options: (command) =>
      command
        .option('--lease <profile>', 'default, fast, or length=2s,bound=500ms,drift=0.01', parseLease)
        .option(
          '--on-host-leave <stop|migrate|wait>',
          'what happens to the guests of a host that is powered off or rebooted in order',
          (text) => oneOf(text, ['stop', 'migrate', 'wait']),
        )
        .option(
          '--lapse-grace <duration>',
          'guests with locks on shared storage are killed so long after the lease lapsed; 0: at once',
          parseSeconds,
        ),
    examples: ['site set --lease fast', 'site set --lease length=3s,bound=600ms', 'site set --on-host-leave stop'],
    run: set,
  });
  leaf(site, shell, {
    syntax: 'hold',
    summary: 'Recover no guests until "release" (work on the network)',
    detail: 'Leases go on: hosts that hear no majority freeze their guests, and nothing starts elsewhere.',
    manner: 'act',
    examples: ['site hold --reason "new switch in rack 2"'],
    run: hold,
  });
  leaf(site, shell, {
    syntax: 'release',
    summary: 'Recover guests again',
    manner: 'destroy',
    examples: ['site release'],
    run: release,
  });
}
