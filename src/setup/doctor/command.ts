import { execFile } from 'node:child_process';
import { operatingSystem } from '../system.ts';

export interface Quiet {
  /** 127: not installed · 124: took longer than the limit. */
  readonly code: number;
  readonly out: string;
}

/** Asks a tool without ever throwing; at most `limitMs` and 1 MiB. */
export async function quietly(command: string, args: readonly string[], limitMs = 5_000): Promise<Quiet> {
  return new Promise((done) => {
    execFile(
      command,
      args,
      { timeout: limitMs, maxBuffer: 1 << 20, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        if (!error) return done({ code: 0, out: stdout });
        const { code, killed } = error as { code?: number | string; killed?: boolean };
        return done({
          code: killed ? 124 : code === 'ENOENT' ? 127 : typeof code === 'number' ? code : 1,
          out: stdout + stderr,
        });
      },
    );
  });
}

/** The command that installs packages on this machine's family of distributions. */
export function installCommand(debian: string, rhel: string): string {
  const { family } = operatingSystem();
  return family === 'rhel' ? `dnf install ${rhel}` : `apt-get install --no-install-recommends ${debian}`;
}
