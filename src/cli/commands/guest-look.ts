/** `guest list`, `guest show`, `guest explain` */
import type { Command } from 'commander';
import { usualPriority } from '../../api/recovery.ts';
import type { GuestView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { listAll } from '../lists.ts';
import { readNames, type Names } from '../names.ts';
import type { Column } from '../ui/table.ts';
import { ago, counted, labelText, mib } from '../units.ts';
import { haWhy, haWord, recoveryFacts } from './guest-recovery.ts';

/** State and, in short, why. */
export const stateText = (guest: GuestView): string =>
  guest.status.stateReason ? `${guest.status.state} (${guest.status.stateReason})` : guest.status.state;

/** The address a person would use: the assigned one, else what the guest agent reports. */
export function addressOf(guest: GuestView): string {
  const assigned = guest.spec.nics.map((nic) => nic.ipv4 ?? nic.ipv6).find((each) => each !== undefined);
  if (assigned !== undefined) return assigned;
  const reported = guest.status.observed?.addresses ?? [];
  return (reported.find((each) => each.family === 4) ?? reported[0])?.address ?? '-';
}

export function guestColumns(names: Names): Column<GuestView>[] {
  return [
    { title: 'NAME', value: (guest) => guest.name, tone: 'bold' },
    { title: 'STATE', value: stateText, tone: 'state' },
    { title: 'HOST', value: (guest) => names.host(guest.status.placement?.hostId) },
    { title: 'ADDRESS', value: addressOf },
    { title: 'CPUS', value: (guest) => String(guest.spec.cpus), right: true },
    { title: 'MEMORY', value: (guest) => mib(guest.spec.memoryMiB), right: true },
    { title: 'IMAGE', value: (guest) => (guest.spec.adopted ? '(adopted)' : names.image(guest.spec.image?.id)) },
    { title: 'HA', value: haWord },
    { title: 'AGE', value: (guest) => ago(guest.createdAt).replace(/ ago$/, ''), right: true },
    { title: 'DISK', value: (guest) => mib(guest.spec.diskMiB), right: true, wide: true },
    { title: 'CPU', value: (guest) => percent(guest.status.observed?.cpuPercent), right: true, wide: true },
    { title: 'RESTARTS', value: (guest) => String(guest.status.observed?.restarts ?? 0), right: true, wide: true },
    { title: 'NOT HA', value: haWhy, wide: true },
    { title: 'PRIORITY', value: (guest) => String(guest.spec.priority ?? usualPriority), right: true, wide: true },
    { title: 'HELD', value: (guest) => guest.spec.held?.reason ?? '-', wide: true },
    { title: 'LABELS', value: (guest) => labelText(guest.labels), wide: true },
    { title: 'OWNER', value: (guest) => guest.owner, wide: true },
    { title: 'ID', value: (guest) => guest.id, tone: 'dim', wide: true },
  ];
}

export const percent = (value: number | undefined): string => (value === undefined ? '-' : `${value.toFixed(0)} %`);

interface ListOptions {
  readonly label?: string;
  readonly state?: string;
  readonly host?: string;
  readonly image?: string;
  readonly network?: string;
}

async function list(call: Call<ListOptions>): Promise<void> {
  const { label, state, host, image, network } = call.options;
  const query = { label, state, host, image, network, name: call.args[0] };
  const signal = call.io.interrupted;
  // Ids are turned into names for people only.
  const bare = call.out.json || call.out.quiet;
  const [guests, names] = await Promise.all([
    listAll(call.client, 'guest.list', query, signal),
    bare ? undefined : readNames(call.client, signal),
  ]);
  const none = { host: () => '-', image: () => '-', network: () => '-' };
  call.out.list(guests.items, guestColumns(names ?? none), 'No guests. Run one: virga guest run IMAGE');
}

function nicText(guest: GuestView, names: Names): string {
  return guest.spec.nics
    .map((nic) => [names.network(nic.networkId), nic.ipv4, nic.ipv6, nic.mac].filter(Boolean).join('  '))
    .join('\n');
}

/** Everything a person wants to know of one guest. */
function guestFacts(guest: GuestView, names: Names): (readonly [string, string | undefined])[] {
  const { spec, status } = guest;
  const seen = status.observed;
  const reported = seen?.addresses.filter((each) => each.source === 'agent') ?? [];
  const snapshots = spec.snapshots.map((each) => each.name).join(', ');
  const problem = seen?.error;
  return [
    ['Guest', guest.name],
    ['Id', guest.id],
    ['State', `${stateText(guest)}, since ${ago(status.stateAt)}`],
    ['Seen', seen ? `${seen.engine} ${ago(seen.observedAt)}` : 'not yet'],
    [
      'Problem',
      problem && `${problem.message} (${ago(problem.errorAt)}${problem.gaveUp ? ', gave up' : ', trying again'})`,
    ],
    ['Host', names.host(status.placement?.hostId) + (spec.hostId === undefined ? '' : ' (asked for)')],
    ['Why nowhere', status.placement ? undefined : status.unplaced?.join('\n')],
    ['Held', spec.held && `${spec.held.reason} (${ago(spec.held.heldAt)})`],
    ['Image', spec.adopted ? 'none (adopted domain)' : names.image(spec.image?.id)],
    [
      'CPUs',
      `${spec.cpus} (up to ${spec.maxCpus} while running)${seen?.cpuPercent === undefined ? '' : `, ${percent(seen.cpuPercent)} busy`}`,
    ],
    ['Memory', `${mib(spec.memoryMiB)} (up to ${mib(spec.maxMemoryMiB)} while running)`],
    ['Disk', `${mib(spec.diskMiB)}, ${spec.diskMode === 'keep' ? 'kept' : 'fresh at each start'}`],
    ['Networks', nicText(guest, names) || 'none'],
    [
      'Reported',
      reported.length === 0 ? undefined : reported.map((each) => `${each.address} ${each.interface ?? ''}`).join('\n'),
    ],
    ['Restart', `${spec.restart}${seen === undefined ? '' : `, ${counted(seen.restarts, 'restart')} so far`}`],
    ...recoveryFacts(guest, names),
    ['Started', seen?.since && `${ago(seen.since.startedAt)} (${seen.since.startedAt})`],
    ['Ended', seen?.exit && `${seen.exit.reason}, ${ago(seen.exit.exitAt)}`],
    ['Snapshots', snapshots === '' ? undefined : snapshots],
    ['Machine', `${spec.machine.arch} ${spec.machine.type} ${spec.machine.firmware} ${spec.machine.cpuModel}`],
    ['Labels', labelText(guest.labels)],
    ['Owner', `${guest.owner}, community ${guest.community}`],
    ['Site file', guest.origin],
    ['Created', `${ago(guest.createdAt)} (${guest.createdAt})`],
    ...guest.conditions
      .filter((each) => (each.type === 'ResizePending') === (each.status === 'true'))
      .map((each) => [each.type, `${each.reason}: ${each.message}`] as const),
  ];
}

async function show(call: Call): Promise<void> {
  const shown: GuestView[] = [];
  for (const guest of call.args) shown.push(await call.client.call('guest.show', { params: { guest }, ...call.look }));
  call.out.document(shown.length === 1 ? shown[0] : shown);
  if (call.out.json) return;
  const names = await readNames(call.client, call.io.interrupted);
  for (const [index, guest] of shown.entries()) {
    if (index > 0) call.out.line();
    call.out.facts(guestFacts(guest, names));
  }
}

async function explain(call: Call): Promise<void> {
  const answer = await call.client.call('guest.explain', { params: { guest: call.args[0] ?? '' }, ...call.look });
  call.out.document(answer);
  const reason = answer.stateReason ? ` (${answer.stateReason})` : '';
  call.out.line(`${answer.guest} is ${answer.state}${reason}${answer.host ? ` on ${answer.host}` : ', on no host'}.`);
  for (const each of answer.reasons) call.out.line(`  ${each}`);
  if (answer.ha)
    call.out.line(
      answer.ha.ha
        ? 'When its host is lost it starts elsewhere (highly available).'
        : `When its host is lost it stays down: ${answer.ha.why ?? 'it is not highly available'}.`,
    );
  if (answer.hosts.length > 0) call.out.line('\nHosts:');
  const { paint } = call.out;
  for (const each of answer.hosts) {
    const mark = each.chosen ? paint('good', '●') : each.fits ? paint('dim', '○') : paint('bad', '✗');
    const word = each.chosen ? 'here' : each.fits ? 'fits' : 'does not fit';
    const reasons = each.reasons.map((reason) => reason.replace(/^fits: /, ''));
    call.out.lines([`  ${mark} ${each.host}: ${word}${reasons.length > 0 ? `: ${reasons.join('; ')}` : ''}`]);
  }
}

export function lookCommands(guest: Command, shell: Shell): void {
  leaf<ListOptions>(guest, shell, {
    syntax: 'list [beginning]',
    summary: 'List guests',
    detail: 'With BEGINNING only those whose names begin so.',
    manner: 'list',
    options: (command) =>
      command
        .option('-l, --label <selector>', 'only with these labels: KEY=VALUE, KEY!=VALUE or KEY, joined by commas')
        .option('--state <state>', 'only in this state, e.g. running')
        .option('--host <name>', 'only on this host')
        .option('--image <name>', 'only from this image')
        .option('--network <name>', 'only on this network'),
    examples: ['guest list', 'guest list --state failed', 'guest list -l role=web -q', 'guest list web- -o wide'],
    run: list,
  });
  leaf(guest, shell, {
    syntax: 'show <name...>',
    summary: 'Show guests with everything known about them',
    manner: 'look',
    examples: ['guest show web-1', 'guest show web-1 web-2 --json'],
    run: show,
  });
  leaf(guest, shell, {
    syntax: 'explain <name>',
    summary: 'Say why a guest is where it is, or why it is nowhere',
    manner: 'look',
    examples: ['guest explain web-1'],
    run: explain,
  });
}
