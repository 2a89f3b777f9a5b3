/** A lock that the kernel frees at the instant its holder dies, in whatever way. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { VirgaError } from '../../core/errors.ts';

export interface ExclusiveLock {
  release(): Promise<void>;
}

/**
 * Takes flock(2) on a file (made when missing), through a child that ends when its standard input closes.
 * @param waitMs milliseconds to wait for a holder that is just dying
 * @throws VirgaError setup: another process holds it.
 */
export async function lockExclusively(path: string, refusal: VirgaError, waitMs: number): Promise<ExclusiveLock> {
  // In a session of its own: a Ctrl-C at the terminal must not free the lock before we have stopped what it protects.
  const holder = spawn(
    'flock',
    ['-w', (waitMs / 1000).toFixed(3), '-E', '75', path, 'sh', '-c', 'echo held; exec cat >/dev/null'],
    { stdio: ['pipe', 'pipe', 'ignore'], detached: true },
  );
  holder.stdin.on('error', () => undefined);
  const ended = once(holder, 'exit').then(
    () => false,
    (error: unknown) => error,
  );
  const held = await Promise.race([once(holder.stdout, 'data').then(() => true), ended]);
  if (held === true) {
    holder.unref();
    return {
      async release() {
        holder.ref();
        holder.stdin.end();
        await ended;
      },
    };
  }
  if (holder.exitCode === 75) throw refusal;
  const detail = `cannot lock ${path} (flock ended with ${holder.exitCode ?? String(held)})`;
  throw new VirgaError('setup', { detail, how: 'util-linux provides flock; the folder must be writable.' });
}
