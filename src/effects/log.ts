import { pino, type Logger } from 'pino';
import type { Log } from '../ports.ts';

/** Keys whose values never reach a log, at any depth that we write. */
const secretKeys = ['token', 'secret', 'password', 'passphrase', 'authorization', 'userData', 'key', 'csr'];

function wrap(logger: Logger): Log {
  return {
    debug: (message, values) => logger.debug(values ?? {}, message),
    info: (message, values) => logger.info(values ?? {}, message),
    warn: (message, values) => logger.warn(values ?? {}, message),
    error: (message, values) => logger.error(values ?? {}, message),
    child: (values) => wrap(logger.child(values)),
  };
}

/** Structured log lines (JSON) on standard error or in a file. Level by VIRGA_LOG (debug, info, warn, error). */
export function openLog(part: string, destination?: string): Log {
  const level = process.env['VIRGA_LOG'] ?? 'info';
  const paths = secretKeys.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]);
  const stream = destination ? pino.destination({ dest: destination, append: true, sync: false }) : pino.destination(2);
  return wrap(
    pino(
      {
        level,
        base: { part, pid: process.pid },
        timestamp: pino.stdTimeFunctions.isoTime,
        redact: { paths, censor: '…' },
      },
      stream,
    ),
  );
}
