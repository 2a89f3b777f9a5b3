/** `virga network …` */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import type { NetworkView } from '../../api/schemas.ts';
import { group, leaf, oneOf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import { each, listAll, repeating, report } from '../lists.ts';
import type { Column } from '../ui/table.ts';
import { ago, collect, labelText, parseLabels, parseWhole } from '../units.ts';

const rangeText = (range: NetworkView['spec']['ipv4']): string =>
  range
    ? `${range.cidr}, ${range.from} to ${range.to}${range.gateway ? `, gateway ${range.gateway}` : ', no gateway'}`
    : 'none';

const columns: readonly Column<NetworkView>[] = [
  { title: 'NAME', value: (network) => network.name, tone: 'bold' },
  { title: 'MODE', value: (network) => network.spec.mode },
  { title: 'BRIDGE', value: (network) => network.spec.bridge },
  { title: 'IPV4', value: (network) => network.spec.ipv4?.cidr ?? '-' },
  { title: 'IPV6', value: (network) => network.spec.ipv6?.cidr ?? '-' },
  {
    title: 'PROBLEMS',
    value: (network) => network.status.problems.map((one) => `${one.host}: ${one.message}`).join('; ') || '-',
  },
  { title: 'MTU', value: (network) => String(network.spec.mtu ?? '-'), right: true, wide: true },
  { title: 'DNS', value: (network) => network.spec.dns.servers.join(',') || '-', wide: true },
  { title: 'LABELS', value: (network) => labelText(network.labels), wide: true },
  { title: 'ID', value: (network) => network.id, tone: 'dim', wide: true },
];

const networkFacts = (network: NetworkView): (readonly [string, string | undefined])[] => [
  ['Network', network.name],
  ['Id', network.id],
  [
    'Mode',
    network.spec.mode === 'nat' ? 'nat (bridge and NAT made by Virga)' : 'bridge (an existing one of the hosts)',
  ],
  ['Bridge', network.spec.bridge],
  ['IPv4', rangeText(network.spec.ipv4)],
  ['IPv6', rangeText(network.spec.ipv6)],
  ['MTU', network.spec.mtu?.toString() ?? "the bridge's own"],
  ['DNS', network.spec.dns.servers.join(', ') || 'none'],
  ['Search', network.spec.dns.search.join(', ') || undefined],
  ['Problems', network.status.problems.map((one) => `${one.host}: ${one.message}`).join('\n') || undefined],
  ['Labels', labelText(network.labels)],
  ['Owner', `${network.owner}, community ${network.community}`],
  ['Site file', network.origin],
  ['Created', `${ago(network.createdAt)} (${network.createdAt})`],
];

interface CreateOptions {
  readonly mode?: 'bridge' | 'nat';
  readonly bridge?: string;
  readonly ipv4?: string;
  readonly ipv4From?: string;
  readonly ipv4To?: string;
  readonly ipv4Gateway?: string;
  readonly ipv6?: string;
  readonly ipv6From?: string;
  readonly ipv6To?: string;
  readonly ipv6Gateway?: string;
  readonly mtu?: number;
  readonly dns?: string[];
  readonly search?: string[];
  readonly label?: string[];
}

function rangeOf(family: string, cidr?: string, from?: string, to?: string, gateway?: string) {
  const rest = {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(gateway === undefined ? {} : { gateway }),
  };
  if (cidr !== undefined) return { cidr, ...rest };
  if (Object.keys(rest).length > 0) throw usage(`--${family}-from, -to and -gateway belong to --${family} SUBNET`);
  return undefined;
}

async function create(call: Call<CreateOptions>): Promise<void> {
  const { options } = call;
  const mode = options.mode ?? (options.bridge === undefined ? undefined : 'bridge');
  if (mode === undefined) throw usage('say --bridge NAME for a bridge that the hosts have, or --mode nat');
  const ipv4 = rangeOf('ipv4', options.ipv4, options.ipv4From, options.ipv4To, options.ipv4Gateway);
  const ipv6 = rangeOf('ipv6', options.ipv6, options.ipv6From, options.ipv6To, options.ipv6Gateway);
  const dns = options.dns || options.search;
  const body: Body<'network.create'> = {
    name: call.args[0] ?? '',
    mode,
    ...(options.bridge === undefined ? {} : { bridge: options.bridge }),
    ...(ipv4 ? { ipv4 } : {}),
    ...(ipv6 ? { ipv6 } : {}),
    ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
    ...(dns ? { dns: { servers: options.dns ?? [], search: options.search ?? [] } } : {}),
    ...(options.label ? { labels: parseLabels(options.label) } : {}),
  };
  const idempotencyKey = randomUUID();
  const network = await repeating(call.io.interrupted, () =>
    call.client.call('network.create', { body, idempotencyKey, ...call.change }),
  );
  call.out.document(network);
  call.out.line(network.name);
}

async function remove(call: Call): Promise<number> {
  await confirm(call, `This deletes the ${call.args.length > 1 ? 'networks' : 'network'} ${call.args.join(', ')}`);
  const outcomes = await each(call.args, async (network) => {
    await call.client.call('network.delete', { params: { network }, ...call.change });
    return { removed: network };
  });
  return report(call, outcomes, { kind: 'network', done: 'deleted', say: (one) => `${one.name} is deleted` });
}

export function networkCommands(program: Command, shell: Shell): void {
  const network = group(program, 'network', 'Networks: bridges that the hosts have, and NAT networks');
  leaf<CreateOptions>(network, shell, {
    syntax: 'create <name>',
    summary: 'Create a network',
    detail:
      'Addresses are given from --ipv4-from to --ipv4-to; without them from the whole subnet but gateway and broadcast.',
    manner: 'act',
    options: (command) =>
      command
        .option('--bridge <interface>', 'an existing bridge of the hosts; with --mode nat the name of the one to make')
        .option('--mode <bridge|nat>', 'nat: a bridge and NAT that Virga makes on each host', (text) =>
          oneOf(text, ['bridge', 'nat']),
        )
        .option('--ipv4 <subnet>', 'e.g. 10.77.0.0/24')
        .option('--ipv4-from <address>', 'first address for guests')
        .option('--ipv4-to <address>', 'last address for guests')
        .option('--ipv4-gateway <address>', 'default route of the guests')
        .option('--ipv6 <subnet>', 'e.g. fd77::/64')
        .option('--ipv6-from <address>', 'first address for guests')
        .option('--ipv6-to <address>', 'last address for guests')
        .option('--ipv6-gateway <address>', 'default route of the guests')
        .option('--mtu <bytes>', "otherwise the bridge's own", parseWhole(576, 65_535))
        .option('--dns <address>', 'name server; may be repeated', collect)
        .option('--search <domain>', 'search domain; may be repeated', collect)
        .option('-l, --label <key=value>', 'label; may be repeated', collect),
    examples: [
      'network create lan --bridge br0 --ipv4 192.0.2.0/24 --ipv4-from 192.0.2.50 --ipv4-to 192.0.2.99 --ipv4-gateway 192.0.2.1',
      'network create default --mode nat --ipv4 10.77.0.0/24 --ipv4-gateway 10.77.0.1 --dns 192.0.2.53',
    ],
    run: create,
  });
  leaf<{ readonly label?: string }>(network, shell, {
    syntax: 'list [beginning]',
    summary: 'List networks',
    manner: 'list',
    options: (command) => command.option('-l, --label <selector>', 'only with these labels'),
    examples: ['network list'],
    run: async (call) => {
      const query = { label: call.options.label, name: call.args[0] };
      const { items } = await listAll(call.client, 'network.list', query, call.io.interrupted);
      call.out.list(items, columns, 'No networks. Create one: virga network create NAME --bridge BRIDGE');
      return undefined;
    },
  });
  leaf(network, shell, {
    syntax: 'show <name>',
    summary: 'Show a network',
    manner: 'look',
    examples: ['network show lan'],
    run: async (call) => {
      const shown = await call.client.call('network.show', { params: { network: call.args[0] ?? '' }, ...call.look });
      call.out.document(shown);
      call.out.facts(networkFacts(shown));
      return undefined;
    },
  });
  leaf(network, shell, {
    syntax: 'delete <name...>',
    summary: 'Delete networks; refused while guests use them',
    manner: 'destroy',
    examples: ['network delete lan'],
    run: remove,
  });
}
