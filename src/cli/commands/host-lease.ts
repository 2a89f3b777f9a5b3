/** `host declare-dead|lose|fence|history`: hosts that are dead, and what follows. */
import type { Command } from 'commander';
import type { EventView, FencingView, LossPlanView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { askLine, canAsk, confirm } from '../confirm.ts';
import { exitCodes, plain, usage } from '../failure.ts';
import { readLeases } from '../leases.ts';
import { leaseSentence, shortMs } from '../ui/lease.ts';
import { counted } from '../units.ts';
import { eventLine } from './events.ts';

export interface ConfirmOptions {
  readonly confirm?: string;
}

/** The reason: given, or typed by the person; nothing that cannot be taken back is recorded without one. */
export async function reasonFor(call: Call, question: string): Promise<string> {
  const { reason } = call.options;
  const given = reason ?? (canAsk(call.io) ? await askLine(call.io, question) : '');
  if (given.trim() === '') throw usage('say why: --reason "…"; it goes into the site’s record with your name');
  return given.trim();
}

/** The name once more: typed by a person, or given by a script with `--confirm NAME`; `--yes` is not enough. */
export async function confirmName(call: Call<ConfirmOptions>, what: string, name: string): Promise<void> {
  const { confirm: given } = call.options;
  if (given === undefined) return confirm(call, what, name);
  if (given !== name) throw usage(`--confirm ${given}: the name is ${name}`);
}

async function declareDead(call: Call<ConfirmOptions>): Promise<void> {
  const [ref = ''] = call.args;
  const host = await call.client.call('host.show', { params: { host: ref }, ...call.look });
  const lease = (await readLeases(call)).of(host.id);
  const known = lease ? ` Its lease is ${leaseSentence(lease)}.` : '';
  await confirmName(
    call,
    `You say that ${host.name} is dead: switched off, and that nothing of it writes to any disk.${known}\nIts highly available guests start elsewhere at once. If it still runs, two copies of one guest may write the same disk`,
    host.name,
  );
  const reason = await reasonFor(call, 'Why (it goes into the record with your name): ');
  const body = { confirm: host.name, reason };
  const dead = await call.client.call('host.declare', {
    params: { host: host.id },
    body,
    timeoutMs: 60_000,
    signal: call.io.interrupted,
    reason,
  });
  call.out.document(dead);
  const already = ['lost', 'fenced'].includes(host.status.state);
  call.out.line(
    already
      ? `${dead.name} was ${host.status.state} already`
      : `${dead.name} is declared dead; its guests start elsewhere`,
  );
  call.out.note(`See: virga guest list --host ${dead.name}, virga events --follow`);
}

function planLines({ guests }: LossPlanView, call: Call): string[] {
  const { paint } = call.out;
  const marks = {
    moves: paint('good', '→'),
    waits: paint('bad', '✗'),
    stays: paint('dim', '·'),
    ends: paint('dim', '·'),
  };
  const said = (each: LossPlanView['guests'][number]): string => {
    if (each.what === 'moves') return `${each.guest} starts on ${each.host ?? 'another host'}: ${each.why}`;
    const words = { waits: 'waits', stays: 'stays down until the host is back', ends: 'is not started elsewhere' };
    return `${each.guest} ${words[each.what]}: ${each.why}`;
  };
  return guests.map((each) => `  ${marks[each.what]} ${plain(said(each))}`);
}

async function lose(call: Call<{ readonly dryRun?: boolean }>): Promise<void> {
  const [host = ''] = call.args;
  if (call.options.dryRun !== true)
    throw usage(
      'only --dry-run is there: it says what would happen. To lose a host in earnest, cut its power and watch: virga events --follow',
    );
  const plan = await call.client.call('host.loss', { params: { host }, ...call.look });
  call.out.document(plan);
  const count = (what: LossPlanView['guests'][number]['what']): number =>
    plan.guests.filter((each) => each.what === what).length;
  call.out.line(
    `If ${plan.host} lost its power now, it would be declared lost after about ${shortMs(plan.detectMs)}: ` +
      `${counted(count('moves'), 'guest')} would start elsewhere, ${count('waits')} would wait, ${count('stays')} would stay down.`,
  );
  for (const each of plan.blockers) call.out.lines([call.out.paint('bad', `  ! ${plain(each)}`)]);
  call.out.lines(planLines(plan, call));
}

async function fence(call: Call<ConfirmOptions & { readonly test?: boolean }>): Promise<number> {
  const [ref = ''] = call.args;
  const { test, confirm: given } = call.options;
  const host = await call.client.call('host.show', { params: { host: ref }, ...call.look });
  if (test === true && given !== undefined) throw usage('--confirm belongs to fencing; a test changes nothing');
  if (test !== true)
    await confirmName(
      call,
      `This cuts the power of ${host.name}; its highly available guests start elsewhere, the others are down until it is back`,
      host.name,
    );
  const reason = test === true ? call.options.reason : await reasonFor(call, 'Why (it goes into the record): ');
  const done = await call.client.call('host.fence', {
    params: { host: host.id },
    body: test === true ? { test } : { confirm: host.name },
    // Each device has a time-out of its own, and there may be several.
    timeoutMs: 600_000,
    signal: call.io.interrupted,
    ...(reason === undefined ? {} : { reason }),
  });
  call.out.document(done);
  call.out.lines(attemptLines(done, call));
  const word = test === true ? 'every device answers' : `${done.host} is powered off for certain`;
  const not = test === true ? 'not every device answers' : `${done.host} could not be powered off`;
  call.out.line(done.ok ? word : not);
  return done.ok ? exitCodes.ok : exitCodes.refused;
}

/** @param when - with the time of each. */
const attemptLines = ({ attempts }: Pick<FencingView, 'attempts'>, { out }: Call, when = false): string[] =>
  attempts.map((each) => {
    const good = each.outcome === 'off' || (each.what === 'test' && each.outcome === 'on');
    const mark = good ? out.paint('good', '✓') : out.paint('bad', '✗');
    const time = when ? `${out.paint('dim', new Date(each.attemptAt).toLocaleString('sv-SE'))}  ` : '';
    const who = when ? `; ${each.what}, ${each.who}${each.reason === '' ? '' : `, "${each.reason}"`}` : '';
    const said = `${each.level}. ${each.agent}: ${each.outcome}: ${each.detail} (${shortMs(each.ms)}${who})`;
    return `  ${time}${mark} ${plain(said)}`;
  });

/** Settings and reports of trouble are of the day; what is left is the host's life, its lease, and its death. */
const daily = /^host\.(changed|cordoned|uncordoned|renewed|keeper|problem|well)$/;
const telling = (type: string): boolean => !daily.test(type);

async function history(call: Call<{ readonly all?: boolean }>): Promise<void> {
  const [name = ''] = call.args;
  const host = await call.client.call('host.show', { params: { host: name }, ...call.look });
  const query = { subject: host.id, limit: 1000 };
  const { items } = await call.client.call('site.events', { query, ...call.look });
  const shown: EventView[] = items.filter((each) => call.options.all === true || telling(each.type));
  const fencing = await call.client.call('host.fencing', { params: { host: host.id }, ...call.look });
  call.out.document({ events: shown, fencing });
  call.out.lines(shown.map((each) => eventLine(each, call)));
  if (shown.length === 0) call.out.note(`Nothing is recorded of ${host.name}.`);
  if (fencing.attempts.length > 0) call.out.line('\nIts fence devices, oldest first:');
  call.out.lines(attemptLines(fencing, call, true));
  if (fencing.waits !== undefined) call.out.line(`It is not fenced now: ${fencing.waits}`);
}

export function hostLeaseCommands(host: Command, shell: Shell): void {
  const once = 'the host’s name once more, instead of being asked';
  leaf<ConfirmOptions>(host, shell, {
    syntax: 'declare-dead <name>',
    summary: 'Say that a host is dead, so that its guests start elsewhere',
    detail:
      'Your word takes the place of the proof that the lease gives: use it only for a machine that you know to be switched off. ' +
      'It asks for the name and the reason; a script gives both with --confirm and --reason.',
    manner: 'act',
    options: (command) => command.option('--confirm <name>', once),
    examples: ['host declare-dead h3', 'host declare-dead h3 --confirm h3 --reason "burnt board, unplugged"'],
    run: declareDead,
  });
  leaf<{ readonly dryRun?: boolean }>(host, shell, {
    syntax: 'lose <name>',
    summary: 'Say what would happen if a host lost its power now',
    detail: 'Changes nothing. Every guest with where it would start, or why it would not.',
    manner: 'look',
    options: (command) => command.option('--dry-run', 'only say what would happen'),
    examples: ['host lose h3 --dry-run'],
    run: lose,
  });
  leaf<ConfirmOptions & { readonly test?: boolean }>(host, shell, {
    syntax: 'fence <name>',
    summary: 'Power a host off with its fence devices',
    detail:
      'The devices (virga host set NAME --fence …) are tried in their order until one confirms that the power is off; ' +
      'then the host counts as lost at once. With --test each is only asked for the state of the power.',
    manner: 'act',
    options: (command) =>
      command.option('--test', 'only ask each device for the state of the power').option('--confirm <name>', once),
    examples: ['host fence h3 --test', 'host fence h3 --confirm h3 --reason "hangs, nobody reaches its console"'],
    run: fence,
  });
  leaf<{ readonly all?: boolean }>(host, shell, {
    syntax: 'history <name>',
    summary: 'Show what happened to a host: boots, silences, lapses, losses, fencing',
    manner: 'look',
    options: (command) => command.option('--all', 'also everything else that is recorded of it'),
    examples: ['host history h3'],
    run: history,
  });
}
