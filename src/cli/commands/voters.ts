/** `virga voters …`: who votes on leases. */
import type { Command } from 'commander';
import type { LeasesView } from '../../api/schemas.ts';
import { group, leaf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { plain, timedOut, usage } from '../failure.ts';
import { pause } from '../io.ts';
import { StatusLine } from '../ui/progress.ts';
import { changeLines, leaseStandingLines } from '../ui/standing.ts';
import { counted, parseSeconds } from '../units.ts';
import { confirmName, reasonFor } from './host-lease.ts';

async function list(call: Call): Promise<void> {
  const leases = await call.client.call('lease.show', call.look);
  if (call.out.json) return call.out.document(leases);
  if (call.out.quiet) return call.out.lines(leases.voters.map((each) => plain(each.name)));
  call.out.lines(leaseStandingLines(leases, call.out));
}

interface WishOptions {
  readonly wait?: boolean;
  readonly timeout?: number;
}

const everyMs = 500;

/** Asks until the change is done; shows what it waits for. */
async function waitFor(
  call: Call<WishOptions>,
  what: string,
  done: (leases: LeasesView) => boolean,
): Promise<LeasesView> {
  const seconds = call.options.timeout ?? 300;
  const line = new StatusLine(call.io, call.out.json || call.out.quiet);
  const until = performance.now() + seconds * 1000;
  try {
    for (;;) {
      const leases = await call.client.call('lease.show', call.look);
      if (done(leases)) return leases;
      if (performance.now() > until) throw timedOut(what, seconds);
      const waits = leases.change?.waitsFor.join(', ') ?? '';
      line.show(
        leases.change ? `${leases.change.what}${waits === '' ? '' : `: waits for ${waits}`}` : `${what} has not begun`,
      );
      await pause(everyMs, call.io.interrupted);
    }
  } finally {
    line.clear();
  }
}

async function add(call: Call<WishOptions>): Promise<void> {
  const [name = ''] = call.args;
  const host = await call.client.call('host.show', { params: { host: name }, ...call.look });
  let leases = await call.client.call('voter.add', { body: { host: host.id }, ...call.change });
  if (call.options.wait === true)
    leases = await waitFor(
      call,
      `the change of the voter list for ${host.name}`,
      (now) => now.voters.some((each) => each.keeperId === host.id) && now.change === undefined,
    );
  call.out.document(leases);
  const votes = leases.voters.some((each) => each.keeperId === host.id);
  call.out.line(votes ? `${host.name} is a voter` : `${host.name} is to become a voter`);
  call.out.lines(changeLines(leases, call.out.paint));
}

async function remove(call: Call<WishOptions>): Promise<void> {
  const [name = ''] = call.args;
  const before = await call.client.call('lease.show', call.look);
  const voter = before.voters.find((each) => each.name === name || each.keeperId === name);
  if (!voter) throw usage(`"${name}" is no voter; see: virga voters list`);
  await confirm(
    call,
    `${voter.name} votes on no lease any more; ${counted(before.votes - voter.votes, 'vote')} are left`,
  );
  let leases = await call.client.call('voter.remove', { params: { host: voter.keeperId }, ...call.change });
  if (call.options.wait === true)
    leases = await waitFor(
      call,
      `the change of the voter list for ${voter.name}`,
      (now) => !now.voters.some((each) => each.keeperId === voter.keeperId) && now.change === undefined,
    );
  call.out.document(leases);
  const still = leases.voters.some((each) => each.keeperId === voter.keeperId);
  call.out.line(still ? `${voter.name} is to leave the voters` : `${voter.name} is no voter any more`);
  call.out.lines(changeLines(leases, call.out.paint));
}

async function force(call: Call<{ readonly confirm?: string }>): Promise<void> {
  const names = call.args;
  const signal = call.io.interrupted;
  const before = await call.client.call('lease.show', call.look);
  const word = names.join(' ');
  const left = before.voters.filter((each) => !names.includes(each.name) && !names.includes(each.keeperId));
  const alive = left.filter((each) => each.answers).map((each) => each.name);
  const dead = left.map((each) => each.name).join(', ');
  const answering = alive.length > 0 ? `\n! ${alive.join(', ')} STILL ANSWER: they are not dead.` : '';
  await confirmName(
    call,
    `This takes ${names.join(', ')} as the only voters, by hand, without asking ${dead === '' ? 'anybody' : dead}.${answering}
If one of those is only cut off and not dead, it may go on granting leases, and two copies of one guest may write the same disk.
Make sure that each of them is switched off and never comes back as it was`,
    word,
  );
  const reason = await reasonFor(call, 'Why (it goes into the record with your name): ');
  const leases = await call.client.call('voter.force', {
    body: { hosts: [...names], confirm: word, reason },
    timeoutMs: 60_000,
    signal,
    reason,
  });
  call.out.document(leases);
  call.out.line(`The voters are ${leases.voters.map((each) => each.name).join(', ')}`);
}

export function voterCommands(program: Command, shell: Shell): void {
  const voters = group(program, 'voters', 'Voters: the hosts and witnesses whose majority grants the leases');
  const waits = (command: Command): Command =>
    command
      .option('-w, --wait', 'wait until the change is done')
      .option('--timeout <duration>', 'of --wait; default 5m', parseSeconds);
  leaf(voters, shell, {
    syntax: 'list',
    summary: 'List the voters: who answers, how fast, over which networks, and what the site proposes',
    manner: 'list',
    usual: true,
    examples: ['voters list', 'voters list --json'],
    run: list,
  });
  leaf<WishOptions>(voters, shell, {
    syntax: 'add <name>',
    summary: 'Make a host or witness a voter',
    detail: 'The list changes by one voter at a time, each time when a majority and every host have the one before.',
    manner: 'act',
    options: waits,
    examples: ['voters add w1 --wait'],
    run: add,
  });
  leaf<WishOptions>(voters, shell, {
    syntax: 'remove <name>',
    summary: 'Let a voter leave',
    manner: 'destroy',
    options: waits,
    examples: ['voters remove h3 --wait --yes'],
    run: remove,
  });
  leaf<{ readonly confirm?: string }>(voters, shell, {
    syntax: 'force <name...>',
    summary: 'Take survivors as the only voters, by hand, when the majority of the voters is dead for ever',
    detail:
      'The last resort. It asks for the survivors’ names once more and the reason; a script gives both with --confirm and --reason. Voters are odd in number.',
    manner: 'act',
    options: (command) => command.option('--confirm <names>', 'the survivors’ names once more, instead of being asked'),
    examples: [
      'voters force h1',
      'voters force h1 h2 w1 --confirm "h1 h2 w1" --reason "fire in rack 2, h3 and h4 are scrap"',
    ],
    run: force,
  });
}
