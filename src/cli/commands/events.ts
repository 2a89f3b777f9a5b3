/** `virga events`: the record. */
import type { Command } from 'commander';
import { VirgaError } from '../../api/errors.ts';
import type { EventView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { isAway, plain } from '../failure.ts';
import { pause } from '../io.ts';
import { toneOf } from '../ui/style.ts';
import { parseWhole } from '../units.ts';

interface EventOptions {
  readonly follow?: boolean;
  readonly limit?: number;
  readonly after?: number;
  readonly subject?: string;
  readonly type?: string;
}

/** What an event stands on, where a person may want to judge it: of hosts, of the site, and of everything that is no good news. */
function evidenceText({ severity, subject, evidence }: EventView): string {
  if (!evidence || (severity === 'info' && subject.kind !== 'host' && subject.kind !== 'site')) return '';
  return Object.entries(evidence)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ');
}

/** One line: when, what, why, on what evidence, who. */
export function eventLine(event: EventView, call: Pick<Call, 'out'>): string {
  const { paint } = call.out;
  const who = `${event.who}${event.reason === undefined ? '' : `, "${event.reason}"`}`;
  // Some messages end with their cause.
  const cause = event.cause === undefined || event.message.endsWith(event.cause) ? '' : ` (${event.cause})`;
  const time = new Date(event.eventAt).toLocaleString('sv-SE');
  const text = `${plain(event.subject.kind)} ${plain(event.subject.name)}: ${plain(event.message)}${plain(cause)}`;
  const evidence = plain(evidenceText(event)).replaceAll('\n', ' ');
  const said = paint(toneOf(event.severity), text.replaceAll('\n', ' '));
  return `${paint('dim', time)}  ${said}${evidence === '' ? '' : `  ${paint('dim', `{${evidence}}`)}`}  ${paint('dim', `[${plain(who)}]`)}`;
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
      // What is no error of the site is a connection that broke.
      if (call.io.interrupted.aborted || (error instanceof VirgaError && !isAway(error))) throw error;
      if (!told) call.out.note('The connection is broken; trying again …');
      told = true;
    }
    await pause(delay, call.io.interrupted);
    delay = Math.min(delay * 2, 5000);
  }
}

export function eventCommand(program: Command, shell: Shell): void {
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
}
