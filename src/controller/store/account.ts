/** Running programs as the system user that owns the database. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { VirgaError } from '../../core/errors.ts';

const execute = promisify(execFile);

export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The account under which the server runs.
 * @throws VirgaError setup: there is none, or this process may not become it.
 */
export async function findAccount(name: string): Promise<Account> {
  const { stdout } = await execute('getent', ['passwd', name], { timeout: 10_000 }).catch((error: unknown) => {
    throw new VirgaError(
      'setup',
      { detail: `There is no system user "${name}"`, how: `useradd --system --shell /usr/sbin/nologin ${name}` },
      { cause: error },
    );
  });
  const fields = stdout.trim().split(':');
  const account = { name, uid: Number(fields[2]), gid: Number(fields[3]) };
  const self = process.getuid?.();
  if (self !== 0 && self !== account.uid)
    throw new VirgaError('setup', {
      detail: `The embedded PostgreSQL runs as "${name}", which user ${self} may not become`,
      how: `Run Virga as root or as ${name}, or give it a server with DATABASE_URL.`,
    });
  return account;
}

let deathSignal: Promise<boolean> | undefined;

/** Whether setpriv can tie a child's life to ours (util-linux 2.33 and later). */
async function knowsDeathSignal(): Promise<boolean> {
  deathSignal ??= execute('setpriv', ['--help'], { timeout: 10_000 }).then(
    ({ stdout }) => stdout.includes('--pdeathsig'),
    () => false,
  );
  return deathSignal;
}

const environment = { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TZ: 'UTC' };

/**
 * Starts a long-lived program as the account, in a session of its own (a Ctrl-C at the terminal is for us). When this
 * process dies, the kernel sends it SIGINT where setpriv can ask for that.
 */
export async function spawnAs(account: Account, argv: readonly string[], cwd: string): Promise<ChildProcess> {
  const wrapper = (await knowsDeathSignal()) ? ['setpriv', '--pdeathsig', 'INT', ...identity(account)] : [];
  const [program = '', ...args] = [...wrapper, ...argv];
  return spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: environment,
    cwd,
    ...(wrapper.length > 0 || process.getuid?.() !== 0 ? {} : { uid: account.uid, gid: account.gid }),
  });
}

/** Runs a program as the account to its end. Throws VirgaError setup with its last words. */
export async function runAs(account: Account, argv: readonly string[], timeoutMs: number): Promise<string> {
  const [program = '', ...args] = argv;
  const root = process.getuid?.() === 0;
  try {
    const done = await execute(program, args, {
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      env: environment,
      cwd: '/',
      ...(root ? { uid: account.uid, gid: account.gid } : {}),
    });
    return done.stdout;
  } catch (error) {
    const words = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-5).join('\n') ?? String(error);
    throw new VirgaError(
      'setup',
      { detail: `${program} failed as user ${account.name}: ${words}`, how: 'Look at what it says.' },
      { cause: error },
    );
  }
}

function identity(account: Account): readonly string[] {
  return process.getuid?.() === 0
    ? ['--reuid', String(account.uid), '--regid', String(account.gid), '--clear-groups']
    : [];
}
