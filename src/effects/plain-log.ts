/**
 * Log lines in the form of `openLog`, without its library: for keeper and guard, which are as small as they can be. They
 * log few things, and no secrets.
 */
import type { Log } from '../ports.ts';

const levels = { debug: 20, info: 30, warn: 40, error: 50 } as const;

/** JSON lines on standard error. Level by VIRGA_LOG, as everywhere. */
export function plainLog(part: string, fixed: Readonly<Record<string, unknown>> = {}): Log {
  const wanted = process.env['VIRGA_LOG'] ?? 'info';
  const least = Object.hasOwn(levels, wanted) ? levels[wanted as keyof typeof levels] : levels.info;
  const at =
    (level: number) =>
    (msg: string, values: Readonly<Record<string, unknown>> = {}): void => {
      if (level < least) return;
      const line = { level, time: new Date().toISOString(), part, pid: process.pid, ...fixed, ...values, msg };
      process.stderr.write(`${JSON.stringify(line)}\n`);
    };
  return {
    debug: at(levels.debug),
    info: at(levels.info),
    warn: at(levels.warn),
    error: at(levels.error),
    child: (values) => plainLog(part, { ...fixed, ...values }),
  };
}
