/** `guest resize|set|rename|adopt` */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import type { GuestView } from '../../api/schemas.ts';
import { leaf, oneOf, type Call, type Shell } from '../call.ts';
import { usage } from '../failure.ts';
import { each, repeating, report, selectGuests, type Selection } from '../lists.ts';
import { haText, recoveryBody, recoveryOptions, type RecoveryOptions } from './guest-recovery.ts';
import { mib, parseLabelChanges, parseMiB, parseSeconds, parseWhole } from '../units.ts';

interface ResizeOptions extends Selection {
  readonly cpus?: number;
  readonly memory?: number;
  readonly maxCpus?: number;
  readonly maxMemory?: number;
  readonly disk?: number;
}

const present = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as T;

async function resize(call: Call<ResizeOptions>): Promise<number> {
  const { cpus, memory, maxCpus, maxMemory, disk } = call.options;
  const body = present({
    cpus,
    memoryMiB: memory,
    maxCpus,
    maxMemoryMiB: maxMemory,
    diskMiB: disk,
  }) as Body<'guest.resize'>;
  if (Object.keys(body).length === 0)
    throw usage('say what to change: --cpus, --memory, --disk, --max-cpus or --max-memory');
  const names = await selectGuests(call);
  const outcomes = await each(names, (guest) =>
    repeating(call.io.interrupted, () => call.client.call('guest.resize', { params: { guest }, body, ...call.change })),
  );
  return report(call, outcomes, {
    kind: 'guest',
    done: 'resized',
    say: (one) => (one.value ? resized(one.value) : one.name),
  });
}

function resized(guest: GuestView): string {
  const { spec } = guest;
  const pending = guest.conditions.find(
    (condition) => condition.type === 'ResizePending' && condition.status === 'true',
  );
  const now = `${guest.name} has ${spec.cpus} CPUs, ${mib(spec.memoryMiB)} memory, ${mib(spec.diskMiB)} disk`;
  return pending ? `${now}; ${pending.message}` : now;
}

interface SetOptions extends Selection, RecoveryOptions {
  readonly setLabel?: string[];
  readonly restart?: 'always' | 'on-failure' | 'never';
  readonly grace?: number;
}

async function set(call: Call<SetOptions>): Promise<number> {
  const { setLabel, restart, grace } = call.options;
  const labels = setLabel && parseLabelChanges(setLabel);
  const recovery = recoveryBody(call.options);
  const body = present({ labels, restart, graceSeconds: grace, ...recovery }) as Body<'guest.change'>;
  if (Object.keys(body).length === 0) throw usage('say what to change; see --help');
  const names = await selectGuests(call);
  const outcomes = await each(names, (guest) =>
    repeating(call.io.interrupted, () => call.client.call('guest.change', { params: { guest }, body, ...call.change })),
  );
  return report(call, outcomes, {
    kind: 'guest',
    done: 'changed',
    say: (one) =>
      one.value && Object.keys(recovery).length > 0
        ? `${one.name} is changed; when its host is lost: ${haText(one.value)}`
        : `${one.name} is changed`,
  });
}

async function rename(call: Call): Promise<void> {
  const [guest = '', name = ''] = call.args;
  const renamed = await call.client.call('guest.change', { params: { guest }, body: { name }, ...call.change });
  call.out.document(renamed);
  call.out.line(guest === renamed.name ? `${guest} has that name already` : `${guest} is now ${renamed.name}`);
}

async function adopt(call: Call<{ readonly name?: string }>): Promise<void> {
  const [host = '', domain = ''] = call.args;
  const { name } = call.options;
  const body = { host, domain, ...(name === undefined ? {} : { name }) };
  const idempotencyKey = randomUUID();
  const guest = await repeating(call.io.interrupted, () =>
    call.client.call('guest.adopt', { body, idempotencyKey, ...call.change }),
  );
  call.out.document(guest);
  call.out.line(guest.name);
  call.out.note(`${guest.name} is Virga's now; give it back with: virga guest release ${guest.name}`);
}

export function changeCommands(guest: Command, shell: Shell): void {
  const selectors = (command: Command): Command =>
    command.option('-l, --label <selector>', 'all with these labels').option('--all', 'all guests');
  leaf<ResizeOptions>(guest, shell, {
    syntax: 'resize [name...]',
    summary: 'Change CPUs, memory and disk; while running as far as the guest allows it',
    detail: 'A disk only grows. What cannot be done while it runs is done at the next start, and it says so.',
    manner: 'act',
    options: (command) =>
      selectors(command)
        .option('--cpus <n>', 'virtual CPUs', parseWhole(1, 1024))
        .option('--memory <size>', 'e.g. 4G', parseMiB)
        .option('--disk <size>', 'grows only', parseMiB)
        .option('--max-cpus <n>', 'upper bound while it runs', parseWhole(1, 1024))
        .option('--max-memory <size>', 'upper bound while it runs', parseMiB),
    examples: ['guest resize web-1 --cpus 4 --memory 8G', 'guest resize db --disk 100G'],
    run: resize,
  });
  leaf<SetOptions>(guest, shell, {
    syntax: 'set [name...]',
    summary: 'Change labels, restart policy, grace time, and what happens when its host is lost',
    manner: 'act',
    options: (command) => {
      selectors(command)
        .option(
          '--set-label <key=value>',
          'set a label, or remove it with KEY-; may be repeated',
          (text: string, before: string[] | undefined) => [...(before ?? []), text],
        )
        .option('--restart <always|on-failure|never>', 'what follows when it ends', (text) =>
          oneOf(text, ['always', 'on-failure', 'never']),
        )
        .option('--grace <duration>', 'time between the polite stop and the forced one', (text) =>
          Math.round(parseSeconds(text)),
        );
      recoveryOptions(command, true);
    },
    examples: [
      'guest set web-1 --set-label role=web --set-label old-',
      'guest set -l role=web --restart always',
      'guest set db --priority 90 --prefer h1 --fail-back',
      'guest set scratch --ha off',
    ],
    run: set,
  });
  leaf(guest, shell, {
    syntax: 'rename <name> <new-name>',
    summary: 'Rename a stopped guest',
    manner: 'act',
    examples: ['guest rename debian-1 mail'],
    run: rename,
  });
  leaf<{ readonly name?: string }>(guest, shell, {
    syntax: 'adopt <host> <domain>',
    summary: 'Take over a domain that runs on a host without Virga',
    detail: 'DOMAIN is its name or UUID; "virga host show HOST" lists those that are there. It is not restarted.',
    manner: 'act',
    options: (command) => command.option('--name <name>', 'its name in Virga, where the domain’s own does not fit'),
    examples: ['guest adopt h1 oldmail', 'guest adopt h1 "Windows Server" --name winserver'],
    run: adopt,
  });
}
