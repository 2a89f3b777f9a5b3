/** Exit codes, and how an error is said to a person or a program. */
import { VirgaError, type ErrorCode, type ErrorValues } from '../api/errors.ts';
import { Interrupted, type Io } from './io.ts';

/** Documented in the reference; scripts rely on them. */
export const exitCodes = {
  ok: 0,
  /** The site answered with an error, or `diff` found differences. */
  refused: 1,
  usage: 2,
  unreachable: 3,
  timeout: 4,
  declined: 5,
  interrupted: 130,
} as const;

/** An error of the command line itself that ends with a particular exit code. */
export class Failure extends Error {
  readonly exitCode: number;
  readonly error: VirgaError;

  constructor(exitCode: number, code: ErrorCode, values: ErrorValues, options?: { cause?: unknown }) {
    const error = new VirgaError(code, values, options);
    super(error.message, options);
    this.name = 'Failure';
    this.exitCode = exitCode;
    this.error = error;
  }
}

export const usage = (detail: string): Failure => new Failure(exitCodes.usage, 'usage', { detail });
export const timedOut = (what: string, seconds: number): Failure =>
  new Failure(exitCodes.timeout, 'timeout', { what, seconds: Math.round(seconds) });

/** Codes of a site that cannot answer now and may soon: nobody is there, nobody leads, or the database is away. */
const away: ReadonlySet<ErrorCode> = new Set([
  'site_unreachable',
  'not_leading',
  'standby',
  'no_majority',
  'store_unavailable',
]);
export const isAway = (error: unknown): boolean => error instanceof VirgaError && away.has(error.code);

/** Errors of local files, said with the file's name. */
export function fileFailure(path: string, error: unknown): Failure {
  const cause = error as NodeJS.ErrnoException;
  const words: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ENOTDIR: 'a part of the path is not a folder',
    ENOSPC: 'no space left',
    EEXIST: 'it exists already',
  };
  const detail = words[cause.code ?? ''] ?? cause.message;
  return new Failure(exitCodes.usage, 'usage', { detail: `${path}: ${detail}` }, { cause: error });
}

interface Told {
  readonly exitCode: number;
  readonly error: VirgaError;
}

function judge(error: unknown): Told {
  if (error instanceof Failure) return error;
  if (error instanceof VirgaError) return { exitCode: exitOf(error), error };
  return {
    exitCode: exitCodes.refused,
    error: new VirgaError('internal', { id: (error as Error)?.message ?? String(error) }, { cause: error }),
  };
}

function exitOf(error: VirgaError): number {
  if (error.code === 'site_unreachable') return exitCodes.unreachable;
  return error.code === 'usage' || error.code === 'site_file' ? exitCodes.usage : exitCodes.refused;
}

/** What lies under an error, for VIRGA_DEBUG=1. */
function causes(error: unknown): string {
  const lines: string[] = [];
  let each: unknown = error;
  for (let depth = 0; depth < 8 && each instanceof Error; depth += 1) {
    lines.push(each.stack ?? each.message);
    each = each.cause;
  }
  return lines.join('\ncaused by: ');
}

/** Says the error, without a stack trace, and gives the exit code. */
export function tell(io: Io, error: unknown, json: boolean): number {
  if (error instanceof Interrupted || io.interrupted.aborted) {
    if (!json) io.stderr.write('virga: interrupted\n');
    return exitCodes.interrupted;
  }
  const told = judge(error);
  if (json) io.stdout.write(`${JSON.stringify(told.error.toBody())}\n`);
  else
    io.stderr.write(`virga: ${plain(told.error.message)}\n${told.error.hint ? `  ${plain(told.error.hint)}\n` : ''}`);
  if (io.env['VIRGA_DEBUG'] === '1') io.stderr.write(`${causes(error)}\n`);
  return told.exitCode;
}

/** Text of the site must not steer the terminal. */
export function plain(text: string): string {
  let out = '';
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    out += (code < 0x20 && code !== 0x0a && code !== 0x09) || (code >= 0x7f && code < 0xa0) ? '·' : character;
  }
  return out;
}
