/**
 * Errands of a witness to its site (HTTPS): run as a process of their own, and behind everybody else. What they need
 * would cost the keeper 40 MB for ever, and half a second of a processor that its beats are waiting for.
 */
import { execFile } from 'node:child_process';
import { policyOf } from '../effects/priority.ts';

const limitMs = 60_000;
const maxOutputBytes = 64 * 1024;

/** Runs it to its end. @throws Error with the last line that it said */
export async function errand(argv: readonly string[]): Promise<void> {
  const behind = policyOf() === 'fifo' ? ['chrt', '--other', '0', ...argv] : argv;
  const [program = '', ...args] = behind;
  await new Promise<void>((done, refuse) => {
    execFile(
      program,
      args,
      { timeout: limitMs, maxBuffer: maxOutputBytes, killSignal: 'SIGKILL' },
      (error, _out, said) => {
        if (!error) return done();
        const [line = error.message] = said.trim().split('\n');
        return refuse(new Error(line === '' ? error.message : line, { cause: error }));
      },
    );
  });
}
