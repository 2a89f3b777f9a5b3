/** `guest console`, `guest logs` */
import type { Command } from 'commander';
import { leaf, type Call, type Shell } from '../call.ts';
import { attach, escapeByte, escapeName } from '../console.ts';
import { followLog, forScreen, readLog } from '../logs.ts';
import { writeAll } from '../io.ts';
import { parseSeconds, parseWhole } from '../units.ts';

interface ConsoleOptions {
  readonly escape?: number | null;
  readonly idle?: number;
}

async function console(call: Call<ConsoleOptions>): Promise<void> {
  const guest = call.args[0] ?? '';
  const escape = call.options.escape === undefined ? 0x1d : call.options.escape;
  // Asked first: the answer says what is wrong in words, which a refused websocket cannot.
  const { name } = await call.client.call('guest.show', { params: { guest }, ...call.look });
  if (call.io.stdin.isTTY === true)
    call.out.note(`Console of ${name}.${escape === null ? '' : ` Leave with ${escapeName(escape)}.`}`);
  const why = await attach(call.client.websocket('guest.console', { guest }), call.io, {
    escape,
    idleMs: (call.options.idle ?? 2) * 1000,
  });
  if (call.io.stdin.isTTY === true) call.out.note(`\n${why}`);
}

interface LogOptions {
  readonly follow?: boolean;
  readonly bytes?: number;
  readonly raw?: boolean;
}

async function logs(call: Call<LogOptions>): Promise<void> {
  const guest = call.args[0] ?? '';
  const size = call.options.bytes ?? 64 * 1024;
  if (call.options.follow === true) return followLog(call, guest, size, call.options.raw);
  const text = await readLog(call.client, guest, size, call.io.interrupted);
  if (call.out.json) call.out.document({ guest, text: text.toString('utf8') });
  else await writeAll(call.io.stdout, forScreen(call, text, call.options.raw === true));
}

export function streamCommands(guest: Command, shell: Shell): void {
  leaf<ConsoleOptions>(guest, shell, {
    syntax: 'console <name>',
    summary: 'Attach to the serial console; leave with Ctrl-]',
    detail:
      'Without a terminal standard input is sent and the output printed; it ends when both are silent. ' +
      'Everything typed goes to the guest, Ctrl-C too.',
    manner: 'look',
    options: (command) =>
      command
        .option('--escape <key>', 'key that leaves: ^A to ^Z, ^], or none', escapeByte)
        .option('--idle <duration>', 'without a terminal: end after so long a silence; default 2s', parseSeconds),
    examples: ['guest console web-1', 'guest console web-1 --escape ^O', 'guest console web-1 < commands.txt'],
    run: console,
  });
  leaf<LogOptions>(guest, shell, {
    syntax: 'logs <name>',
    summary: 'Show the serial output of a guest',
    detail: 'The hosts keep the newest part of it.',
    manner: 'look',
    options: (command) =>
      command
        .option('-f, --follow', 'go on as it comes; takes up again after a break')
        .option('--raw', 'on a terminal: also the control sequences that the guest wrote')
        .option('--bytes <n>', 'the newest so many bytes; default 65536', parseWhole(1, 4 * 1024 * 1024)),
    examples: ['guest logs web-1', 'guest logs -f web-1'],
    run: logs,
  });
}
