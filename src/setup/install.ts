import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { candidates, haveLists, staleLists, updateLists } from './apt.ts';
import { execute } from './command.ts';
import { hasLeftovers, installScript } from './install-script.ts';
import { withLock } from './lock.ts';
import { byHand, missing, required, type Purpose, type Requirement } from './requirements.ts';
import { operatingSystem } from './system.ts';

/** Why packages could not be installed, with the distribution's own words and what to do. */
export class InstallError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'InstallError';
  }
}

export interface InstallOptions {
  readonly purposes: readonly Purpose[];
  /** Asked once, after what would be installed was said. False: nothing is done and `InstallError` is thrown. */
  readonly confirm: (question: string) => Promise<boolean>;
  /** Told line by line what is done. */
  readonly out: (line: string) => void;
}

export interface Installed {
  /** Debian's packages that were asked for; empty when nothing was missing. */
  readonly packages: readonly string[];
}

const installTimeoutMs = 30 * 60_000;
/** Never removes a package of the machine to make room for ours, and keeps every changed configuration file. */
const aptOptions = [
  '-y',
  '-q',
  '--no-install-recommends',
  '--no-remove',
  '-o',
  'Dpkg::Use-Pty=0',
  '-o',
  'DPkg::Lock::Timeout=300',
  '-o',
  'Acquire::Retries=3',
  '-o',
  'Dpkg::Options::=--force-confdef',
  '-o',
  'Dpkg::Options::=--force-confold',
] as const;

/**
 * Installs what these purposes need and this machine lacks. Starts no service and creates no database cluster, also
 * when it fails or is killed on the way (`install-script.ts`). One at a time on a machine.
 */
export async function install(options: InstallOptions): Promise<Installed> {
  const system = operatingSystem();
  if (system.family !== 'debian') {
    const needed = required(options.purposes);
    throw new InstallError(`Virga does not install packages on ${system.name}; ${byHand(system.family, needed)}`);
  }
  if (hasLeftovers('')) await underLock(() => runScript(['repair'], ''));
  if ((await missing(options.purposes)).length === 0) return { packages: [] };
  if (process.getuid?.() !== 0) {
    const lacking = await missing(options.purposes);
    throw new InstallError(`packages are missing and only root can install them; ${byHand('debian', lacking)}`);
  }
  return underLock(() => installMissing(options));
}

function underLock<T>(work: () => Promise<T>): Promise<T> {
  return withLock('/var/cache/virga/install.lock', 'an installation of packages', 60_000, work);
}

async function installMissing(options: InstallOptions): Promise<Installed> {
  // Looked at again under the lock: another one may just have installed them.
  const lacking = await missing(options.purposes);
  if (lacking.length === 0) return { packages: [] };
  const names = lacking.map((entry) => entry.package);
  await freshLists(names, options.out);
  for (const line of describe(lacking)) options.out(line);
  for (const line of await sizes(names)) options.out(line);
  if (!(await options.confirm('Install them now?'))) {
    throw new InstallError(`nothing was installed, as you said; ${byHand('debian', lacking)}`);
  }
  let result = await runScript(['install', ...aptOptions, 'install', ...names], '', progress(options.out));
  if (result.code !== 0 && staleLists(result.output)) {
    options.out('the package lists are out of date: fetching them again');
    await updateLists();
    result = await runScript(['install', ...aptOptions, 'install', ...names], '', progress(options.out));
  }
  if (result.code !== 0)
    throw new InstallError(`apt-get could not install ${names.join(' ')}: ${complaint(result.output)}`);
  const still = await missing(options.purposes);
  if (still.length > 0) {
    throw new InstallError(
      `apt-get ended well, but these are not installed: ${still.map((entry) => entry.package).join(' ')}`,
    );
  }
  return { packages: names };
}

/** Lists are fetched only when there are none, or they do not know what is wanted. */
async function freshLists(names: readonly string[], out: (line: string) => void): Promise<void> {
  if ((await haveLists()) && (await candidates(names)).size === names.length) return;
  out('fetching the lists of packages (apt-get update)');
  await updateLists();
  const known = await candidates(names);
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    throw new InstallError(
      `the distribution’s package sources do not have ${unknown.join(', ')}; check /etc/apt/sources.list`,
    );
  }
}

/** What will be installed and why, for the person who is asked. */
export function describe(lacking: readonly Requirement[]): string[] {
  const width = Math.max(...lacking.map((entry) => entry.package.length));
  return [
    'These packages of the distribution are missing:',
    ...lacking.map((entry) => `  ${entry.package.padEnd(width)}  ${entry.why}`),
    'No service is started and no database cluster is created by installing them.',
  ];
}

/** apt's own words on how many packages and bytes it comes to, dependencies included. */
async function sizes(names: readonly string[]): Promise<string[]> {
  const argv = ['apt-get', '--assume-no', '--no-install-recommends', '--no-remove', 'install', ...names];
  const { stdout } = await execute(argv, { timeoutMs: 60_000 });
  return stdout.split('\n').filter((line) => /newly installed|^Need to get|^After this operation/.test(line));
}

/** One line for each package fetched, unpacked, set up; the rest of apt's talk is left out. */
function progress(out: (line: string) => void): (line: string) => void {
  return (line) => {
    const step = /^(?:Get:\d+ \S+ \S+ \S+ (\S+) .*\[(.*)\]|(Unpacking|Setting up) (\S+))/.exec(line);
    if (step === null) return;
    out(step[1] === undefined ? `  ${step[3]} ${step[4]}` : `  fetching ${step[1]} (${step[2]})`);
  };
}

/** The lines that say why, else the last ones. */
export function complaint(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const reasons = lines.filter((line) => /^(E:|dpkg: error|The following packages will be REMOVED)/.test(line));
  return (reasons.length > 0 ? reasons : lines).slice(-6).join('\n');
}

export interface ScriptResult {
  readonly code: number;
  /** Last 64 KiB of what was said. */
  readonly output: string;
}

/**
 * Runs the script of `install-script.ts`.
 * @param root put before all paths it touches; empty on a real system.
 */
export async function runScript(
  args: readonly string[],
  root: string,
  line: (text: string) => void = () => undefined,
  apt = 'apt-get',
): Promise<ScriptResult> {
  const child = spawn('sh', ['-c', installScript, 'virga-install', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // A session of its own: Ctrl-C does not reach it, so that it can put everything back.
    detached: true,
    env: { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive', ROOT: root, APT: apt },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (text) => {
      output = `${output}${text}\n`.slice(-65_536);
      line(text);
    });
  }
  const timer = setTimeout(() => {
    // The group, so that apt-get ends too; the script's trap then restores.
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
  }, installTimeoutMs);
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit) => resolve(exit ?? 137));
    });
    return { code, output };
  } finally {
    clearTimeout(timer);
  }
}
