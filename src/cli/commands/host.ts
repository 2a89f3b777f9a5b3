/** `virga host …` */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import type { InviteView } from '../../api/schemas.ts';
import { group, leaf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import { each, listAll, repeating, report } from '../lists.ts';
import type { Column } from '../ui/table.ts';
import { ago, collect, parseLabelChanges, parseLabels, parseMiB, parseNumber, parseSeconds } from '../units.ts';
import { hostLeaseCommands } from './host-lease.ts';
import { hostLookCommands } from './host-look.ts';

interface InviteOptions {
  readonly name?: string;
  readonly validFor?: number;
  readonly witness?: boolean;
}

async function invite(call: Call<InviteOptions>): Promise<void> {
  const { name, validFor, witness } = call.options;
  const body = {
    ...(witness === true ? { role: 'witness' as const } : {}),
    ...(name === undefined ? {} : { hostName: name }),
    ...(validFor === undefined ? {} : { validSeconds: Math.round(validFor) }),
  };
  const idempotencyKey = randomUUID();
  const made = await repeating(call.io.interrupted, () =>
    call.client.call('host.invite', { body, idempotencyKey, ...call.change }),
  );
  call.out.document(made);
  call.out.note(
    `Type on the new ${witness === true ? 'witness' : 'host'}, as root (once, ${ago(made.invite.spec.expiresAt)} at the latest):`,
  );
  for (const url of made.urls.length > 0 ? made.urls.slice(0, 1) : ['URL'])
    call.out.line(`virga ${witness === true ? 'witness' : 'agent'} join ${url} ${made.secret}`);
  if (made.urls.length > 1) call.out.note(`Other addresses of this controller: ${made.urls.slice(1).join(', ')}`);
  if (made.urls.length === 0)
    call.out.note('URL is an address of this controller that hosts reach (virga controller --listen).');
}

const inviteColumns: readonly Column<InviteView>[] = [
  { title: 'NAME', value: (one) => one.name, tone: 'bold' },
  { title: 'FOR', value: (one) => `${one.spec.hostName ?? '(any)'}${one.spec.role === 'witness' ? ' (witness)' : ''}` },
  {
    title: 'STATE',
    value: (one) =>
      one.status.usedAt
        ? `used ${ago(one.status.usedAt)}`
        : Date.parse(one.spec.expiresAt) < Date.now()
          ? 'expired'
          : 'open',
  },
  { title: 'EXPIRES', value: (one) => ago(one.spec.expiresAt) },
  { title: 'BY', value: (one) => one.owner },
];

interface CordonOptions {
  readonly all?: boolean;
}

async function cordon(call: Call<CordonOptions>, cordoned: boolean): Promise<number> {
  const { reason, all } = call.options;
  if (call.args.length > 0 === (all === true)) throw usage('say which hosts: NAME …, or --all');
  const names =
    all === true
      ? (await listAll(call.client, 'host.list', {}, call.io.interrupted)).items.map((one) => one.name)
      : call.args;
  const already = new Set<string>();
  const body = { cordoned, ...(cordoned && reason !== undefined ? { cordonReason: reason } : {}) };
  const outcomes = await each(names, async (host) => {
    const before = await call.client.call('host.show', { params: { host }, ...call.look });
    if (before.spec.cordoned === cordoned) already.add(host);
    return repeating(call.io.interrupted, () =>
      call.client.call('host.change', { params: { host: before.id }, body, ...call.change }),
    );
  });
  const word = cordoned ? 'cordoned' : 'open for placements';
  return report(call, outcomes, {
    kind: 'host',
    done: word,
    say: (one) =>
      `${one.name} is ${word}${already.has(one.name) ? ' already' : ''}${cordoned && !already.has(one.name) ? '; its guests run on' : ''}`,
  });
}

interface SetOptions {
  readonly setLabel?: string[];
  readonly reserveCpus?: number;
  readonly reserveMemory?: number;
  readonly reserveDisk?: number;
  readonly overcommitCpu?: number;
  readonly overcommitMemory?: number;
  readonly capacityCpus?: number | null;
  readonly capacityMemory?: number | null;
  readonly capacityDisk?: number | null;
  readonly fence?: string[];
}

type FenceDevice = NonNullable<Body<'host.change'>['fence']>[number];

/** `fence_ipmilan ip=10.0.0.9 username=virga password_file=h1-ipmi delay=5s` */
export function parseFence(text: string): FenceDevice {
  const [agent = '', ...words] = text.trim().split(/\s+/);
  if (!/^fence_\w+$/.test(agent)) throw usage(`"${agent}" is no fence program; write "fence_ipmilan ip=… username=…"`);
  const { delay, ...parameters } = parseLabels(words);
  return { agent, parameters, ...(delay === undefined ? {} : { delayMs: Math.round(parseSeconds(delay) * 1000) }) };
}

function fenceDevices(given: readonly string[] | undefined): FenceDevice[] | undefined {
  if (!given) return undefined;
  if (!given.includes('none')) return given.map(parseFence);
  if (given.length > 1) throw usage('--fence none stands alone');
  return [];
}

const some = (value: object): object | undefined => {
  const given = Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined));
  return Object.keys(given).length > 0 ? given : undefined;
};

async function set(call: Call<SetOptions>): Promise<number> {
  const { options } = call;
  const body: Body<'host.change'> | undefined = some({
    labels: options.setLabel && parseLabelChanges(options.setLabel),
    reserved: some({ cpus: options.reserveCpus, memoryMiB: options.reserveMemory, diskMiB: options.reserveDisk }),
    overcommit: some({ cpu: options.overcommitCpu, memory: options.overcommitMemory }),
    fence: fenceDevices(options.fence),
    capacity: some({ cpus: options.capacityCpus, memoryMiB: options.capacityMemory, diskMiB: options.capacityDisk }),
  });
  if (!body) throw usage('say what to change; see --help');
  const outcomes = await each(call.args, (host) =>
    repeating(call.io.interrupted, () => call.client.call('host.change', { params: { host }, body, ...call.change })),
  );
  return report(call, outcomes, { kind: 'host', done: 'changed', say: (one) => `${one.name} is changed` });
}

interface RemoveOptions {
  readonly lost?: boolean;
  readonly confirm?: string;
}

async function remove(call: Call<RemoveOptions>): Promise<void> {
  const [name = ''] = call.args;
  const { lost, confirm: given } = call.options;
  if (given !== undefined && lost !== true) throw usage('--confirm belongs to --lost');
  const host = await call.client.call('host.show', { params: { host: name }, ...call.look });
  if (lost === true) {
    const what = `The machine ${host.name} is gone for ever: its guests are given up there, their disks on it are lost, and it may never come back under this identity`;
    if (given === undefined) await confirm(call, what, host.name);
    else if (given !== host.name) throw usage(`--confirm ${given}: the host's name is ${host.name}`);
  } else await confirm(call, `This removes the host ${host.name} from the site`);
  const query = lost === true ? { query: { lost: host.name } } : {};
  await call.client.call('host.remove', { params: { host: host.id }, ...query, ...call.change });
  call.out.document({ removed: host.name, id: host.id });
  call.out.line(`${host.name} is removed`);
}

const orNone =
  (parse: (text: string) => number) =>
  (text: string): number | null =>
    text === 'none' ? null : parse(text);

export function hostCommands(program: Command, shell: Shell): void {
  const host = group(program, 'host', 'Hosts: invite them, look at them, take them out');
  leaf<InviteOptions>(host, shell, {
    syntax: 'invite',
    summary: 'Invite a host; prints what to type there',
    detail: 'The token works once, and pins the site’s certificate authority.',
    manner: 'act',
    options: (command) =>
      command
        .option('--name <name>', 'name the host will have; otherwise its own')
        .option('--witness', 'it only votes on leases: any small machine will do')
        .option('--valid-for <duration>', 'default 1h, at most 7d', parseSeconds),
    examples: ['host invite', 'host invite --name h7 --valid-for 1d', 'host invite --witness --name w1'],
    run: invite,
  });
  leaf(host, shell, {
    syntax: 'invites',
    summary: 'List invitations',
    manner: 'list',
    examples: ['host invites'],
    run: async (call) => {
      const { items } = await listAll(call.client, 'invite.list', {}, call.io.interrupted);
      call.out.list(items, inviteColumns, 'No invitations.');
      return undefined;
    },
  });
  leaf(host, shell, {
    syntax: 'uninvite <invite...>',
    summary: 'Take invitations back',
    manner: 'act',
    examples: ['host uninvite invite-3'],
    run: async (call) => {
      const outcomes = await each(call.args, async (name) => {
        await call.client.call('invite.remove', { params: { invite: name }, ...call.change });
        return { removed: name };
      });
      return report(call, outcomes, {
        kind: 'invitation',
        done: 'taken back',
        say: (one) => `${one.name} is taken back`,
      });
    },
  });
  hostLookCommands(host, shell);
  hostLeaseCommands(host, shell);
  settingCommands(host, shell);
}

function settingCommands(host: Command, shell: Shell): void {
  for (const cordoned of [true, false])
    leaf<CordonOptions>(host, shell, {
      syntax: `${cordoned ? 'cordon' : 'uncordon'} [name...]`,
      summary: cordoned ? 'Give hosts no new guests; those that are there stay' : 'Give hosts new guests again',
      manner: 'act',
      options: (command) => command.option('--all', 'all hosts'),
      examples: cordoned ? ['host cordon h1 --reason "memory errors"'] : ['host uncordon h1'],
      run: (call) => cordon(call, cordoned),
    });
  leaf<SetOptions>(host, shell, {
    syntax: 'set <name...>',
    summary: 'Change labels, what is kept for the host, overcommit, the capacity it counts as, fence devices',
    manner: 'act',
    options: (command) =>
      command
        .option('--set-label <key=value>', 'set a label, or remove it with KEY-; may be repeated', collect)
        .option('--reserve-cpus <n>', 'CPUs kept for the host itself', parseNumber)
        .option('--reserve-memory <size>', 'memory kept for the host itself', parseMiB)
        .option('--reserve-disk <size>', 'disk kept for the host itself', parseMiB)
        .option(
          '--fence <device>',
          'a way to power it off, "fence_NAME KEY=VALUE … [delay=5s]"; may be repeated, tried in this order; none: no more',
          collect,
        )
        .option('--overcommit-cpu <factor>', 'virtual CPUs per real one', parseNumber)
        .option('--overcommit-memory <factor>', 'guests’ memory per real memory', parseNumber)
        .option('--capacity-cpus <n|none>', 'counts as so many CPUs; none: as many as it has', orNone(parseNumber))
        .option('--capacity-memory <size|none>', 'counts as so much memory', orNone(parseMiB))
        .option('--capacity-disk <size|none>', 'counts as so much disk', orNone(parseMiB)),
    examples: [
      'host set h1 h2 --set-label rack=3',
      'host set h1 --reserve-memory 4G --overcommit-cpu 4',
      'host set h1 --capacity-cpus none',
      'host set h1 --fence "fence_ipmilan ip=192.0.2.9 username=virga password_file=h1-ipmi"',
    ],
    run: set,
  });
  leaf<RemoveOptions>(host, shell, {
    syntax: 'remove <name>',
    summary: 'Take a host out of the site',
    detail: 'A host with guests is refused, unless the machine is gone for ever (--lost); then its name is asked for.',
    manner: 'destroy',
    options: (command) =>
      command
        .option('--lost', 'the machine is gone for ever, with the disks of its guests')
        .option('--confirm <name>', 'the host’s name once more, instead of being asked (with --lost)'),
    examples: ['host remove h3', 'host remove h3 --lost --confirm h3'],
    run: remove,
  });
}
