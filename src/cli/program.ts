/** The whole command line as one tree; help, completion and the reference are made from it. */
import { Command } from 'commander';
import { ownVersion } from '../api/version.ts';
import { Shell } from './call.ts';
import { accessCommands } from './commands/access.ts';
import { applyCommands } from './commands/apply.ts';
import { completionCommand } from './commands/completion.ts';
import { contextCommands } from './commands/context.ts';
import { guestCommands } from './commands/guest.ts';
import { hostCommands } from './commands/host.ts';
import { imageCommands } from './commands/image.ts';
import { networkCommands } from './commands/network.ts';
import { siteCommands } from './commands/site.ts';
import { topCommand } from './commands/top.ts';
import { voterCommands } from './commands/voters.ts';
import { processIo, type Io } from './io.ts';

/** A command of this machine (demo, up, test …), brought in by whoever wires the program together. */
export interface LocalCommand {
  /** Name and arguments, e.g. `bench <name>`, or `host leave` in the group `host`. */
  readonly syntax: string;
  readonly summary: string;
  readonly detail?: string;
  readonly examples: readonly string[];
  /** Adds options; `--json` is the command's own to add. */
  readonly configure?: (command: Command) => unknown;
  /** Gives the exit code. Errors are `VirgaError`s; they are told as everywhere. */
  readonly run: (call: LocalCall) => Promise<number>;
}
export interface LocalCall {
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly io: Io;
}

const exits = `
Exit codes:
  0    done
  1    the site refused, or "diff" found differences
  2    wrong usage, or a mistake in a file that was given
  3    the site does not answer
  4    the time to wait was over
  5    not confirmed
  130  interrupted`;

const beginnings = `
Begin with:
  virga demo                                  three simulated hosts on this machine, with guests
  virga status                                the site at a glance
  virga image add debian.qcow2                bring an image
  virga guest run debian --cpus 2 --wait      run a guest from it
  virga guest console debian-1                its console; leave with Ctrl-]`;

function addLocal(program: Command, shell: Shell, local: LocalCommand): void {
  // `host leave`: a command of this machine in a group that the site's commands made.
  const [group = '', ...rest] = local.syntax.split(' ');
  const parent = /^[a-z]/.test(rest[0] ?? '') ? program.commands.find((each) => each.name() === group) : undefined;
  const syntax = parent ? rest.join(' ') : local.syntax;
  const command = (parent ?? program).command(syntax).summary(local.summary).helpGroup('This machine:');
  command.description(local.detail ? `${local.summary}.\n\n${local.detail}` : `${local.summary}.`);
  local.configure?.(command);
  command.addHelpText('after', `\nExamples:\n${local.examples.map((each) => `  virga ${each}`).join('\n')}`);
  command.action(async () => {
    shell.exitCode = await local.run({
      args: (command.processedArgs as readonly (string | readonly string[] | undefined)[])
        .flat()
        .filter((each) => each !== undefined),
      options: command.opts(),
      io: shell.io,
    });
  });
}

/** The program; `shell.exitCode` holds what the command that ran gave. */
export function buildProgram(local: readonly LocalCommand[] = [], shell: Shell = new Shell(processIo())): Command {
  const { io } = shell;
  const program = new Command('virga')
    .description('Runs virtual machines for research sites.')
    .usage('[which site] COMMAND')
    .version(ownVersion, '-V, --version', 'version of this program')
    .exitOverride()
    .enablePositionalOptions()
    .showSuggestionAfterError(true)
    .configureHelp({ sortSubcommands: false, helpWidth: Math.min(io.stdout.columns ?? 100, 120) })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      // Usage errors are told in one place, together with all others.
      writeErr: () => {},
      getOutHelpWidth: () => Math.min(io.stdout.columns ?? 100, 120),
    })
    .helpCommand(true)
    .optionsGroup('Which site:')
    .option('--context <name>', 'a site added with "virga context add"')
    .option('--socket <path>', "the controller's unix socket")
    .option('--url <url>', 'https address of the controller')
    .addHelpText('after', beginnings)
    .addHelpText('after', exits);
  program.commandsGroup('The site:');
  siteCommands(program, shell);
  topCommand(program, shell);
  program.commandsGroup('What it runs:');
  guestCommands(program, shell);
  imageCommands(program, shell);
  networkCommands(program, shell);
  hostCommands(program, shell);
  voterCommands(program, shell);
  applyCommands(program, shell);
  program.commandsGroup('Access:');
  accessCommands(program, shell);
  contextCommands(program, shell);
  completionCommand(program, shell);
  program.commandsGroup('This machine:');
  for (const each of local) addLocal(program, shell, each);
  return program;
}
