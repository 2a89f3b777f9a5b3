/** Keeper, guard and witness as commands. `run` of each loads only its own part: they stay resident beside the guests. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ownVersion } from '../api/version.ts';
import { VirgaError } from '../core/errors.ts';
import { systemClock } from '../effects/clock.ts';
import { durableFiles } from '../effects/files.ts';
import { plainLog } from '../effects/plain-log.ts';
import type { Log } from '../ports.ts';
import { errand } from './errand.ts';
import { defaults, programRoot, selfArgv } from '../site/paths.ts';
import type { KeeperPlace } from './run.ts';

export type Part = 'keeper' | 'guard' | 'witness';

export interface PartCall {
  /** What follows the part: `run`, or `join URL TOKEN`. */
  readonly args: readonly string[];
  readonly data?: string;
  readonly listen?: readonly string[];
  readonly name?: string;
  readonly watchdog?: string;
  /** Seconds. */
  readonly lapseGrace?: string;
  readonly say: (text: string) => void;
}

/** UDP port of beats where none is given. */
export const beatPort = 7444;

function bad(detail: string): VirgaError {
  return new VirgaError('usage', { detail });
}

function graceOf({ lapseGrace }: PartCall): { graceMs?: number } {
  if (lapseGrace === undefined) return {};
  const seconds = Number(lapseGrace);
  if (!(seconds >= 0 && seconds <= 600)) throw bad('--lapse-grace takes seconds, 0 to 600');
  return { graceMs: seconds * 1000 };
}

const usualGraceMs = 5000;

/** Aborted by SIGTERM and SIGINT. */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  return stop.signal;
}

function dataOf(part: Part, { data }: PartCall): string {
  return data ?? join(defaults.dataDir, part === 'witness' ? 'witness' : 'agent');
}

/** `virga keeper|guard|witness …`; gives the exit code. @throws VirgaError usage · setup · what joining throws */
export async function runPart(part: Part, call: PartCall): Promise<number> {
  const [what] = call.args;
  if (what === 'join' && part === 'witness') return joinWitness(call);
  if (what === 'renew' && part === 'witness') return renewWitness(dataOf(part, call), plainLog(part));
  if (what === 'tell' && part === 'witness') return tellSite(dataOf(part, call), call.args.slice(1));
  if (what !== 'run' || call.args.length > 1) throw bad(`virga ${part} ${part === 'witness' ? 'join|run' : 'run'}`);
  if (part === 'guard') await guard(call);
  else await keeper(part, call);
  return 0;
}

async function guard(call: PartCall): Promise<void> {
  const { readIdentity } = await import('./credentials.ts');
  const { runGuard } = await import('./guard/run.ts');
  const dataDir = dataOf('guard', call);
  const { hostId } = await readIdentity(durableFiles(dataDir), dataDir);
  const { graceMs = usualGraceMs } = graceOf(call);
  const log = plainLog('guard');
  await runGuard({
    hostId,
    graceMs,
    signal: stopSignal(),
    tell: ({ msg, ...values }) => log.info(String(msg), values),
    ...(call.watchdog === undefined ? {} : { watchdog: call.watchdog }),
  });
}

async function keeper(part: 'keeper' | 'witness', call: PartCall): Promise<void> {
  const { runKeeper } = await import('./run.ts');
  const dataDir = dataOf(part, call);
  const log = plainLog(part);
  const guardArgv = selfArgv('guard', 'run', '--data', dataDir);
  if (call.watchdog !== undefined) guardArgv.push('--watchdog', call.watchdog);
  if (call.lapseGrace !== undefined) guardArgv.push('--lapse-grace', call.lapseGrace);
  await runKeeper({
    dataDir,
    role: part === 'witness' ? 'witness' : 'host',
    listen: call.listen ?? [`0.0.0.0:${beatPort}`],
    version: ownVersion,
    log,
    signal: stopSignal(),
    ...graceOf(call),
    ...(part === 'keeper'
      ? {
          guardArgv,
          // Without kept code the process would carry the type stripper along.
          guardEnv: { NODE_COMPILE_CACHE: join(programRoot(), '.tools/compile-cache'), ...process.env },
        }
      : {
          renew: async () => errand(selfArgv('witness', 'renew', '--data', dataDir)),
          tell: async ({ diskId, version, addresses }: KeeperPlace) =>
            errand(selfArgv('witness', 'tell', diskId, version, ...addresses, '--data', dataDir)),
        }),
  });
}

async function joinWitness(call: PartCall): Promise<number> {
  const [, url, token, ...rest] = call.args;
  if (url === undefined || token === undefined || rest.length > 0)
    throw bad('virga witness join takes URL and TOKEN, as "virga host invite --witness" printed them');
  const { join: joinSite } = await import('../agent/join.ts');
  const { joined, credentials } = await joinSite({
    url,
    token,
    files: durableFiles(dataOf('witness', call)),
    agentVersion: ownVersion,
    ...(call.name === undefined ? {} : { hostName: call.name }),
  });
  call.say(
    joined
      ? `joined the site ${credentials.siteName} as ${credentials.hostName}; now: virga witness run`
      : `this machine belongs to the site ${credentials.siteName} as ${credentials.hostName} already`,
  );
  return 0;
}

/** Errand: a certificate two thirds through its life is renewed. */
async function renewWitness(dataDir: string, log: Log): Promise<number> {
  const { renewIfDue } = await import('../agent/join.ts');
  const { readCredentials } = await import('../agent/tls.ts');
  const files = durableFiles(dataDir);
  const credentials = await readCredentials(files);
  if (!credentials) return 1;
  return (await renewIfDue(credentials, { files, clock: systemClock, log, renewed() {} })) ? 0 : 1;
}

/** Errand: the site learns where this witness hears beats. */
async function tellSite(dataDir: string, words: readonly string[]): Promise<number> {
  const [diskId, version, ...addresses] = words;
  if (diskId === undefined || version === undefined) throw bad('virga witness tell DISK-ID VERSION ADDRESS…');
  const { tellKeeper } = await import('../agent/join.ts');
  const { readCredentials } = await import('../agent/tls.ts');
  const credentials = await readCredentials(durableFiles(dataDir));
  if (!credentials) return 1;
  await tellKeeper(credentials, { diskId, addresses, version });
  return 0;
}

const parts: readonly string[] = ['keeper', 'guard', 'witness'] satisfies readonly Part[];

/**
 * Runs the command line when it is `keeper run`, `guard run` or `witness run` in plain words, without loading the rest
 * of the program (it would cost each of them 30 MB). Undefined: it is for the whole program.
 */
export async function runLean(argv: readonly string[]): Promise<number | undefined> {
  const [part = '', what] = argv;
  if (!parts.includes(part) || what !== 'run') return undefined;
  const options = {
    data: { type: 'string' },
    listen: { type: 'string', multiple: true },
    watchdog: { type: 'string' },
    'lapse-grace': { type: 'string' },
  } as const;
  let values: { data?: string; listen?: string[]; watchdog?: string; 'lapse-grace'?: string };
  try {
    ({ values } = parseArgs({ args: argv.slice(2), options }));
  } catch {
    return undefined;
  }
  const { 'lapse-grace': lapseGrace, ...rest } = values;
  try {
    return await runPart(part as Part, {
      args: ['run'],
      ...rest,
      ...(lapseGrace === undefined ? {} : { lapseGrace }),
      say: (text) => process.stdout.write(`${text}\n`),
    });
  } catch (error) {
    if (!(error instanceof VirgaError)) throw error;
    process.stderr.write(`virga: ${error.message}\n  ${error.hint}\n`);
    return error.code === 'usage' ? 2 : 1;
  }
}
