/** `host list`, `host show` */
import type { Command } from 'commander';
import type { FenceHistoryView, HostLeaseView, HostView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { readLeases, type Seen } from '../leases.ts';
import { listAll } from '../lists.ts';
import { leaseFacts, leaseText, shortMs } from '../ui/lease.ts';
import type { Column } from '../ui/table.ts';
import { ago, counted, labelText, mib } from '../units.ts';
import { percent } from './guest-look.ts';

const stateOf = (host: HostView): string =>
  `${host.status.state}${host.spec.role === 'witness' ? ' (witness)' : ''}${host.spec.cordoned ? ' (cordoned)' : ''}${host.status.problems.length > 0 ? ' (problems)' : ''}`;

/** What the host may give to guests: measured or set, less what is kept for itself, times overcommit. */
export function capacityOf(host: HostView): { cpus: number; memoryMiB: number; diskMiB: number } | undefined {
  const { spec, status } = host;
  if (!status.measured) return undefined;
  const whole = { ...status.measured, ...spec.capacity };
  return {
    cpus: Math.max(0, whole.cpus - spec.reserved.cpus) * spec.overcommit.cpu,
    memoryMiB: Math.max(0, whole.memoryMiB - spec.reserved.memoryMiB) * spec.overcommit.memory,
    diskMiB: Math.max(0, whole.diskMiB - spec.reserved.diskMiB),
  };
}

const columnsWith = (leases: Seen): readonly Column<HostView>[] => [
  { title: 'NAME', value: (host) => host.name, tone: 'bold' },
  { title: 'STATE', value: stateOf, tone: 'state' },
  { title: 'LEASE', value: (host) => leaseText(leases.of(host.id)), tone: 'state' },
  { title: 'CPUS', value: (host) => capacityOf(host)?.cpus.toString() ?? '-', right: true },
  { title: 'BUSY', value: (host) => percent(host.status.used?.cpuPercent), right: true },
  { title: 'MEMORY', value: (host) => mibOf(capacityOf(host)?.memoryMiB), right: true },
  { title: 'USED', value: (host) => mibOf(host.status.used?.memoryMiB), right: true },
  { title: 'ENGINE', value: (host) => engineOf(host) },
  { title: 'HEARD', value: (host) => ago(host.status.lastHeardAt) },
  { title: 'ROLE', value: (host) => host.spec.role ?? 'host', wide: true },
  { title: 'VOTER', value: (host) => voterText(leases.of(host.id)), wide: true },
  { title: 'SESSION', value: (host) => host.status.session?.number.toString() ?? '-', right: true, wide: true },
  { title: 'SILENT', value: (host) => ago(leases.of(host.id)?.silentSinceAt), wide: true },
  { title: 'AGENT', value: (host) => host.status.agentVersion ?? '-', wide: true },
  { title: 'ADDRESS', value: (host) => host.status.address ?? '-', wide: true },
  { title: 'FOREIGN', value: (host) => String(host.status.foreign.length), right: true, wide: true },
  { title: 'LABELS', value: (host) => labelText(host.labels), wide: true },
  { title: 'ID', value: (host) => host.id, tone: 'dim', wide: true },
];
const voterText = (lease: HostLeaseView | undefined): string => (lease ? (lease.voter ? 'yes' : 'no') : '-');
const mibOf = (value: number | undefined): string => (value === undefined ? '-' : mib(value));
const engineOf = ({ status: { engine } }: HostView): string =>
  engine ? `${engine.type} ${engine.emulatorVersion}${engine.kvm ? ' kvm' : ' no kvm'}` : '-';

/** How the host can be powered off from outside. */
const fenceText = ({ spec }: HostView): string | undefined =>
  spec.fence
    ?.map((device, index) => {
      const delay = device.delayMs === undefined ? '' : `, after ${device.delayMs / 1000} s`;
      return `${index + 1}. ${device.agent} ${labelText(device.parameters)}${delay}`;
    })
    .join('\n') || undefined;

const ends: Readonly<Record<NonNullable<HostView['status']['loss']>['how'], string>> = {
  lease: 'sealed by a majority of the voters, and every grant had run out',
  fence: 'a fence device confirmed that its power was off',
  word: 'a person said so',
  ended: 'it said so itself as it went down',
};

function lossText({ status: { loss } }: HostView): string | undefined {
  if (!loss) return undefined;
  const evidence = Object.entries(loss.evidence).map(([key, value]) => `${key}: ${String(value)}`);
  const why = evidence.length > 0 ? ` (${evidence.join(', ')})` : '';
  return `session ${loss.session.number}, ${ago(loss.lostAt)}: ${ends[loss.how]}${why}`;
}

const keeperText = ({ status: { keeper } }: HostView): string | undefined =>
  keeper && `${keeper.version ?? 'of an unknown version'}, beats at ${keeper.addresses.join(' and ') || 'no address'}`;

export function hostFacts(
  host: HostView,
  lease: HostLeaseView | undefined,
  observedAt: string | undefined,
): (readonly [string, string | undefined])[] {
  const { spec, status } = host;
  const can = capacityOf(host);
  const { measured } = status;
  const carries = spec.role !== 'witness';
  const amount = (of: { cpus?: number; memoryMiB?: number; diskMiB?: number }): string =>
    [
      of.cpus === undefined ? undefined : `${of.cpus} CPUs`,
      of.memoryMiB === undefined ? undefined : `${mib(of.memoryMiB)} memory`,
      of.diskMiB === undefined ? undefined : `${mib(of.diskMiB)} disk`,
    ]
      .filter(Boolean)
      .join(', ');
  return [
    ['Host', host.name],
    ['Id', host.id],
    [
      'State',
      `${status.state}, since ${ago(status.stateAt)}${status.lastHeardAt ? `, heard ${ago(status.lastHeardAt)}` : ''}`,
    ],
    ['Role', spec.role === 'witness' ? 'witness: it votes on leases and carries no guests' : undefined],
    ...leaseFacts(lease, observedAt),
    ['Last lost', lossText(host)],
    ['Keeper', keeperText(host)],
    ['Fence devices', fenceText(host)],
    ['Cordoned', spec.cordoned ? (spec.cordonReason ?? 'yes') : undefined],
    ['Problems', status.problems.join('\n') || undefined],
    ['Address', status.address],
    ['Agent', status.agentVersion && `${status.agentVersion}, protocol ${status.protocol ?? '?'}`],
    [
      'Engine',
      status.engine &&
        `${engineOf(host)}, libvirt ${status.engine.libvirtVersion}, ${status.engine.arch}, ${status.engine.firmwares.join(' and ')}`,
    ],
    ['Has', measured && amount(measured)],
    ['Counts as', spec.capacity && amount(spec.capacity)],
    ['Kept for itself', carries ? amount(spec.reserved) : undefined],
    ['Overcommit', carries ? `CPU ${spec.overcommit.cpu}, memory ${spec.overcommit.memory}` : undefined],
    ['For guests', can && amount(can)],
    [
      'Used',
      status.used &&
        `${percent(status.used.cpuPercent)} CPU, ${mib(status.used.memoryMiB)} memory, ${mib(status.used.diskMiB)} disk`,
    ],
    ['Bridges', status.network?.bridges.join(', ')],
    ['Images', carries ? `${counted(status.images.length, 'image')} in its cache` : undefined],
    [
      'Foreign domains',
      status.foreign
        .map((one) => `${one.name}: ${one.running ? 'running' : 'off'}, ${one.cpus} CPUs, ${mib(one.memoryMiB)}`)
        .join('\n') || undefined,
    ],
    [
      'Strays',
      status.strays.map((one) => `${one.name} (${one.id}): ${one.running ? 'running' : 'off'}`).join('\n') || undefined,
    ],
    [
      'Certificate',
      status.certificate && `ends ${ago(status.certificate.expiresAt)} (${status.certificate.expiresAt})`,
    ],
    ['Labels', labelText(host.labels)],
    ['Owner', `${host.owner}, community ${host.community}`],
    ...host.conditions
      .filter((each) => each.status !== 'true')
      .map((each) => [each.type, `${each.reason}: ${each.message}`] as const),
  ];
}

const fenced = (fencing: FenceHistoryView | undefined): object => (fencing ? { fencing } : {});

/** What its fence devices did lately, newest first. */
function fencingFacts(fencing: FenceHistoryView | undefined): (readonly [string, string | undefined])[] {
  if (!fencing) return [];
  const lines = fencing.attempts
    .toReversed()
    .map(
      (each) =>
        `${ago(each.attemptAt)}: ${each.agent} (level ${each.level}, ${each.what}): ${each.outcome}, ${each.detail} (${shortMs(each.ms)}; ${each.who}${each.reason === '' ? '' : `, "${each.reason}"`})`,
    );
  return [
    ['Fencing waits', fencing.waits],
    ['Fenced', lines.join('\n') || 'never'],
  ];
}

/** For programs: the host with its lease, where the site can tell it. */
function withLease(host: HostView, leases: Seen): HostView & { readonly lease?: HostLeaseView } {
  const lease = leases.of(host.id);
  return lease ? { ...host, lease } : host;
}

async function show(call: Call): Promise<void> {
  const shown: HostView[] = [];
  for (const host of call.args) shown.push(await call.client.call('host.show', { params: { host }, ...call.look }));
  const leases = await readLeases(call);
  const fencing = new Map<string, FenceHistoryView>();
  for (const { id, spec } of shown)
    if (spec.fence) fencing.set(id, await call.client.call('host.fencing', { params: { host: id }, ...call.look }));
  const documents = shown.map((host) => ({ ...withLease(host, leases), ...fenced(fencing.get(host.id)) }));
  call.out.document(documents.length === 1 ? documents[0] : documents);
  for (const [index, host] of shown.entries()) {
    if (index > 0) call.out.line();
    call.out.facts([
      ...hostFacts(host, leases.of(host.id), leases.leases?.observedAt),
      ...fencingFacts(fencing.get(host.id)),
    ]);
  }
}

export function hostLookCommands(host: Command, shell: Shell): void {
  leaf<{ readonly label?: string; readonly state?: string }>(host, shell, {
    syntax: 'list [beginning]',
    summary: 'List hosts',
    manner: 'list',
    options: (command) =>
      command
        .option('-l, --label <selector>', 'only with these labels')
        .option('--state <state>', 'only in this state, e.g. silent'),
    examples: ['host list', 'host list --state silent -q', 'host list -o wide'],
    run: async (call) => {
      const { label, state } = call.options;
      const signal = call.io.interrupted;
      const query = { label, state, name: call.args[0] };
      const [{ items }, leases] = await Promise.all([
        listAll(call.client, 'host.list', query, signal),
        call.out.quiet ? { of: () => undefined } : readLeases(call),
      ]);
      const rows = call.out.json ? items.map((host) => withLease(host, leases)) : items;
      call.out.list(rows, columnsWith(leases), 'No hosts. Invite one: virga host invite');
      return undefined;
    },
  });
  leaf(host, shell, {
    syntax: 'show <name...>',
    summary: 'Show hosts with everything known about them',
    manner: 'look',
    examples: ['host show h1'],
    run: show,
  });
}
