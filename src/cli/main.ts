/** Runs one command line. */
import { CommanderError, type Command } from 'commander';
import { Shell } from './call.ts';
import { exitCodes, tell, usage } from './failure.ts';
import { processIo, type Io } from './io.ts';
import { buildProgram, type LocalCommand } from './program.ts';

/** Runs the arguments (without program and script) and gives the exit code. Never throws. */
export async function runCli(
  argv: readonly string[],
  local: readonly LocalCommand[] = [],
  io: Io = processIo(),
): Promise<number> {
  const shell = new Shell(io);
  const program = buildProgram(local, shell);
  try {
    if (argv.length === 0) {
      program.outputHelp();
      return exitCodes.ok;
    }
    await program.parseAsync([...argv], { from: 'user' });
    return shell.exitCode;
  } catch (error) {
    return explain(program, argv, io, error);
  } finally {
    await shell.close();
  }
}

function explain(program: Command, argv: readonly string[], io: Io, error: unknown): number {
  const beforeDashes = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const json = beforeDashes.includes('--json') || /(^| )(-o|--output)[ =]json( |$)/.test(beforeDashes.join(' '));
  if (!(error instanceof CommanderError)) return tell(io, error, json);
  // Help that was asked for is no error.
  if (error.exitCode === 0) return exitCodes.ok;
  if (error.code === 'commander.help') {
    // A group without its command: its help, as commander would have printed it to stderr.
    groupOf(program, argv).outputHelp();
    return exitCodes.usage;
  }
  return tell(io, usage(error.message.replace(/^error: /, '').replaceAll('\n', ' ')), json);
}

/** The deepest group that the arguments name. */
function groupOf(program: Command, argv: readonly string[]): Command {
  let at = program;
  for (const word of argv) {
    const next = at.commands.find((each) => each.name() === word || each.aliases().includes(word));
    if (next) at = next;
  }
  return at;
}
