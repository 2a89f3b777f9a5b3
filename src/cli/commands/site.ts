/** `status`, and what belongs to the site as a whole */
import type { Command } from 'commander';
import type { SiteStatusView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { isAway, plain } from '../failure.ts';
import { statusFromHere } from '../here.ts';
import { pause } from '../io.ts';
import { VirgaError } from '../../api/errors.ts';
import { toneOf } from '../ui/style.ts';
import { ago, counted, mib } from '../units.ts';
import { backupCommand } from './backup.ts';
import { eventCommand } from './events.ts';
import { reviewCommands } from './review.ts';
import { settingsCommands } from './site-settings.ts';

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
  lines.splice(3, 0, ...leaseLines(status, call));
  if (status.hold)
    lines.push(
      '',
      paint(
        'busy',
        plain(
          `Held by ${status.hold.who} ${ago(status.hold.heldAt)} (${status.hold.reason}): no guest is recovered until "virga site release".`,
        ),
      ),
    );
  if (status.review)
    lines.push(
      '',
      paint(
        'busy',
        `Restored ${ago(status.review.restoredAt)} from a backup of ${ago(status.review.backupAt)}: nothing is destroyed until "virga review finish".`,
      ),
    );
  if (!status.leading) {
    const who = status.leader === undefined ? '' : ` (${plain(status.leader)} does)`;
    lines.push('', paint('busy', `This controller does not lead${who}; what it shows may be behind.`));
  }
  lines.push(...waitingLines(status, call));
  if (status.problems.length > 0) {
    lines.push('', paint('bad', counted(status.problems.length, 'problem')));
    for (const each of status.problems) lines.push(`  ${plain(each.subject)}: ${plain(each.message)}`);
  }
  return lines;
}

/** Leases and voters in one line each. */
function leaseLines({ leases }: SiteStatusView, call: Call): string[] {
  if (!leases) return [];
  const { votes, answeringVotes, silentVoters } = leases;
  const { paint } = call.out;
  const majority = answeringVotes * 2 > votes;
  const silent = silentVoters.length > 0 ? plain(`; ${silentVoters.join(', ')} silent`) : '';
  const said = votes === 0 ? 'none yet' : `${answeringVotes} of ${counted(votes, 'vote')} answer${silent}`;
  const tone = votes === 0 || silent === '' ? 'plain' : majority ? 'busy' : 'bad';
  return [`Leases    ${counts(leases.states, call)}`, `Voters    ${paint(tone, said)}`];
}

/** What waits for what, and what to do. */
function waitingLines({ waiting = [], leases }: SiteStatusView, call: Call): string[] {
  const { paint } = call.out;
  const lines = waiting.map((each) => `  ${plain(each.what)}: ${plain(each.waitsFor.join('; '))}`);
  return [
    ...(lines.length > 0 ? ['', paint('busy', 'What waits, and for what'), ...lines] : []),
    ...(leases?.advice.length ? ['', ...leases.advice.map((each) => paint('busy', plain(each)))] : []),
  ];
}

async function status(call: Call<{ readonly watch?: boolean }>): Promise<number | void> {
  const look = (): Promise<SiteStatusView> => call.client.call('site.status', call.look);
  if (call.options.watch !== true) {
    let answer: SiteStatusView;
    try {
      answer = await look();
    } catch (error) {
      return statusFromHere(call, error);
    }
    call.out.document(answer);
    call.out.lines(statusLines(answer, call));
    return undefined;
  }
  const live = call.io.stdout.isTTY === true;
  for (;;) {
    const answer = await look().catch((error: unknown) => {
      if (error instanceof VirgaError && isAway(error)) return error;
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

export function siteCommands(program: Command, shell: Shell): void {
  leaf<{ readonly watch?: boolean }>(program, shell, {
    syntax: 'status',
    summary: 'Show the site at a glance',
    detail:
      'Where no controller, no majority of the voters or no database answers, it says what the keeper of this machine knows: lease, frozen guests, who answers, what to do.',
    manner: 'look',
    options: (command) => command.option('-w, --watch', 'show it anew every two seconds'),
    examples: ['status', 'status --json', 'status --watch'],
    run: status,
  });
  eventCommand(program, shell);
  settingsCommands(program, shell);
  reviewCommands(program, shell);
  backupCommand(program, shell);
}
