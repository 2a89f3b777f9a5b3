import { execa } from 'execa';

/** Output of a command beyond this many bytes is cut. */
const outputLimit = 16 * 1024 * 1024;

export interface CommandOptions {
  /** Milliseconds until it is killed; 30,000 by default. */
  readonly timeoutMs?: number;
  /** Written to its standard input; nothing by default. */
  readonly input?: string | Uint8Array;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface CommandResult {
  /** Exit code; 127 when the program is missing, 124 when the time ran out, 128 + 9 when otherwise killed. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that failed: what it was, how it ended and its own last words. */
export class CommandError extends Error {
  readonly argv: readonly string[];
  readonly result: CommandResult;

  constructor(argv: readonly string[], result: CommandResult) {
    const words = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-5).join('\n');
    const end = result.code === 124 ? 'ran out of time' : `ended with code ${result.code}`;
    super(`${argv.join(' ').slice(0, 300)}: ${end}${words === '' ? '' : `: ${words}`}`);
    this.name = 'CommandError';
    this.argv = argv;
    this.result = result;
  }
}

/** Runs a program (no shell) to its end. Never throws for what the program does; see `CommandResult.code`. */
export async function execute(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new TypeError('no program was named');
  const done = await execa(program, args, {
    reject: false,
    timeout: options.timeoutMs ?? 30_000,
    killSignal: 'SIGKILL',
    maxBuffer: outputLimit,
    stripFinalNewline: false,
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { LC_ALL: 'C.UTF-8', ...options.env },
  });
  const missing = done.code === 'ENOENT' ? 127 : undefined;
  const code = done.timedOut ? 124 : (done.exitCode ?? missing ?? 137);
  const stderr = missing === undefined ? done.stderr : `${program}: no such program (or the working directory is gone)`;
  return { code, stdout: done.stdout, stderr };
}

/** Runs a program to its end and returns its standard output; throws `CommandError` when it fails. */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await execute(argv, options);
  if (result.code !== 0) throw new CommandError(argv, result);
  return result.stdout;
}
