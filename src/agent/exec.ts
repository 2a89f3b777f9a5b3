import { execFile } from 'node:child_process';
import { VirgaError } from '../core/errors.ts';

export interface ExecOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without a shell. Output at most 1 MiB. @throws VirgaError `timeout`, `setup` when it is not there */
export function exec(program: string, args: readonly string[], timeoutMs = 10_000): Promise<ExecOutcome> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: timeoutMs,
      killSignal: 'SIGKILL' as const,
      maxBuffer: 1024 * 1024,
      encoding: 'utf8' as const,
    };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (!error) return resolve({ code: 0, stdout, stderr });
      if (error.killed) return reject(new VirgaError('timeout', { what: program, seconds: timeoutMs / 1000 }));
      if (typeof error.code === 'string')
        return reject(
          new VirgaError('setup', { detail: `${program} cannot be run (${error.code})`, how: 'See virga doctor.' }),
        );
      resolve({ code: error.code ?? 1, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** `exec` that rejects when the program fails, with its last words. */
export async function run(program: string, args: readonly string[], timeoutMs = 10_000): Promise<string> {
  const done = await exec(program, args, timeoutMs);
  if (done.code === 0) return done.stdout;
  const said = done.stderr.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
  throw new VirgaError('setup', { detail: `${program} failed: ${said}`, how: 'See virga doctor.' });
}
