/** `status`, `events`, `review …`, `backup` */
import type { Command } from 'commander';
import type { EventView, SiteStatusView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { plain } from '../failure.ts';
import { pause } from '../io.ts';
import { VirgaError } from '../../api/errors.ts';
import { toneOf } from '../ui/style.ts';
import { ago, counted, mib, parseWhole } from '../units.ts';
import { backupCommand } from './backup.ts';
import { reviewCommands } from './review.ts';

const counts = (states: Readonly<Record<string, number>>, call: Call): string => {
  const shown = Object.entries(states).filter(([, number]) => number > 0);
  if (shown.length === 0) return 'none';
  return shown.map(([state, number]) => call.out.paint(toneOf(state), `${number} ${plain(state)}`)).join(', ');
};

function statusLines(status: SiteStatusView, call: Call): string[] {
  const { paint } = call.out;
  const { total, promised } = status.capacity;
  const head = `${paint('bold', plain(status.name))}  Virga ${plain(status.version)}, up since ${ago(status.startedAt).replace(/ ago$/, '')}`;
  const lines = [
    head,
    '',
    `Hosts     ${counts(status.hosts, call)}`,
    `Guests    ${counts(status.guests, call)}`,
    `Images    ${counts(status.images, call)}`,
    `Networks  ${status.networks}`,
    `Promised  ${promised.cpus} of ${total.cpus} CPUs, ${mib(promised.memoryMiB)} of ${mib(total.memoryMiB)} memory, ${mib(promised.diskMiB)} of ${mib(total.diskMiB)} disk`,
  ];
  if (status.review)
    lines.push(
      '',
      paint(
        'busy',
        `Restored ${ago(status.review.restoredAt)} from a backup of ${ago(status.review.backupAt)}: nothing is destroyed until "virga review finish".`,
      ),
    );
  if (!status.leading) lines.push('', paint('busy', 'This controller does not lead; what it shows may be behind.'));
  if (status.problems.length > 0) {
    lines.push('', paint('bad', counted(status.problems.length, 'problem')));
    for (const each of status.problems) lines.push(`  ${plain(each.subject)}: ${plain(each.message)}`);
  }
  return lines;
}

async function status(call: Call<{ readonly watch?: boolean }>): Promise<void> {
  const look = (): Promise<SiteStatusView> => call.client.call('site.status', call.look);
  if (call.options.watch !== true) {
    const answer = await look();
    call.out.document(answer);
    call.out.lines(statusLines(answer, call));
    return;
  }
  const live = call.io.stdout.isTTY === true;
  for (;;) {
    const answer = await look().catch((error: unknown) => {
      if (error instanceof VirgaError && error.code === 'site_unreachable') return error;
      throw error;
    });
    if (answer instanceof VirgaError) call.io.stderr.write(`virga: ${plain(answer.message)}; trying again\n`);
    else if (call.out.json) call.out.record(answer);
    else
      call.io.stdout.write(
        `${live ? '\u001b[H\u001b[2J' : ''}${statusLines(answer, call).join('\n')}\n${live ? '' : '\n'}`,
      );
    await pause(2000, call.io.interrupted);
  }
}

interface EventOptions {
  readonly follow?: boolean;
  readonly limit?: number;
  readonly after?: number;
  readonly subject?: string;
  readonly type?: string;
}

function eventLine(event: EventView, call: Call): string {
  const { paint } = call.out;
  const who = `${event.who}${event.reason === undefined ? '' : `, "${event.reason}"`}`;
  const cause = event.cause === undefined ? '' : ` (${event.cause})`;
  const time = new Date(event.eventAt).toLocaleString('sv-SE');
  const text = `${plain(event.subject.kind)} ${plain(event.subject.name)}: ${plain(event.message)}${plain(cause)}`;
  return `${paint('dim', time)}  ${paint(toneOf(event.severity), text.replaceAll('\n', ' '))}  ${paint('dim', `[${plain(who)}]`)}`;
}

const tell = (call: Call, event: EventView): void => {
  if (call.out.json) call.out.record(event);
  else call.out.lines([eventLine(event, call)]);
};

async function events(call: Call<EventOptions>): Promise<void> {
  const { after, limit, subject, type, follow } = call.options;
  const filter = { ...(subject === undefined ? {} : { subject }), ...(type === undefined ? {} : { type }) };
  const query = { ...filter, limit: limit ?? 50, ...(after === undefined ? {} : { after }) };
  const { items } = await call.client.call('site.events', { query, ...call.look });
  if (follow !== true) {
    call.out.document(items);
    for (const event of items) if (!call.out.json) tell(call, event);
    if (items.length === 0) call.out.note('No events.');
    return;
  }
  let last = after ?? 0;
  for (const event of items) {
    tell(call, event);
    last = Math.max(last, event.seq);
  }
  await followEvents(call, filter, last);
}

/** The record as it grows; a broken connection is taken up again where it was, for as long as the person wants. */
async function followEvents(call: Call, filter: object, since: number): Promise<void> {
  let last = since;
  let delay = 200;
  let told = false;
  for (;;) {
    try {
      const query = { ...filter, after: last };
      for await (const frame of call.client.follow('site.follow', { query, lastEventId: String(last), ...call.look })) {
        delay = 200;
        told = false;
        const event = JSON.parse(frame.data) as EventView;
        if (typeof event.seq !== 'number' || event.seq <= last) continue;
        last = event.seq;
        tell(call, event);
      }
    } catch (error) {
      const code = error instanceof VirgaError ? error.code : 'site_unreachable';
      if (call.io.interrupted.aborted || !['site_unreachable', 'not_leading', 'store_unavailable'].includes(code))
        throw error;
      if (!told) call.out.note('The connection is broken; trying again …');
      told = true;
    }
    await pause(delay, call.io.interrupted);
    delay = Math.min(delay * 2, 5000);
  }
}

export function siteCommands(program: Command, shell: Shell): void {
  leaf<{ readonly watch?: boolean }>(program, shell, {
    syntax: 'status',
    summary: 'Show the site at a glance',
    manner: 'look',
    options: (command) => command.option('-w, --watch', 'show it anew every two seconds'),
    examples: ['status', 'status --json', 'status --watch'],
    run: status,
  });
  leaf<EventOptions>(program, shell, {
    syntax: 'events',
    summary: 'Show the record: who did what, when and why, and what was observed',
    detail: 'With --json and --follow one JSON document a line.',
    manner: 'look',
    options: (command) =>
      command
        .option('-f, --follow', 'go on as it grows')
        .option('-n, --limit <n>', 'the newest so many; default 50', parseWhole(1, 1000))
        .option('--after <seq>', 'only later ones than this number', parseWhole(0, Number.MAX_SAFE_INTEGER))
        .option('--subject <name>', 'only of this object')
        .option('--type <type>', 'only of this type, e.g. guest.state'),
    examples: ['events --follow', 'events --subject web-1', 'events --type host.silent --json'],
    run: events,
  });
  reviewCommands(program, shell);
  backupCommand(program, shell);
}
