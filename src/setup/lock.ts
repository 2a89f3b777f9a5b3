import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Does `work` while holding an exclusive lock on a file (made when missing).
 *
 * The lock is the kernel's (flock(2)), held by a child that ends when its standard input closes: so it is free at the
 * instant this process dies, whatever way, and needs no guess about stale lock files.
 * @param waitMs milliseconds to wait for another holder, then an error that names `what`.
 */
export async function withLock<T>(path: string, what: string, waitMs: number, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  const seconds = Math.max(0, waitMs / 1000).toFixed(3);
  const holder = spawn('flock', ['-w', seconds, '-E', '75', path, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const exited = once(holder, 'exit');
  // A rejected `exited` (flock missing) is handled by the race below; later it must not count as unhandled.
  exited.catch(() => undefined);
  const held = await Promise.race([once(holder.stdout, 'data').then(() => true), exited.then(() => false)]);
  if (!held) {
    if (holder.exitCode === 75)
      throw new Error(`${what} is under way in another process (lock ${path}); try again later`);
    throw new Error(
      `cannot lock ${path}: flock ended with code ${holder.exitCode}: ${String(holder.stderr.read() ?? '')}`,
    );
  }
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await exited;
  }
}
