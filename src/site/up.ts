/**
 * `virga up` and `virga down`: this machine as a site of one host, for real use. Controller and agent end with `up`;
 * keeper and guard run on, as guests do, because they hold the guests' lease.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';

import { keepRunning, type Kept } from './child.ts';
import { endLasting, lastingParts, tend, type Tended } from './lasting.ts';
import { ensureLibvirt } from './libvirtd.ts';
import { defaults, partFile, selfArgv } from './paths.ts';
import { livingPid, removePid, writePid } from './pidfile.ts';
import { hostsOnline, readyClient, until } from './ready.ts';
import { ensureInstalled } from './setup.ts';

export interface UpOptions {
  readonly data: string;
  readonly name: string;
  /** HOST:PORT for agents and remote clients. */
  readonly listen: string;
  readonly detach: boolean;
  /** Install packages without asking. */
  readonly yes: boolean;
}

const pidFile = join(defaults.runDir, 'up.pid');
const say = (line: string): void => console.log(line);

/** The local host's name: its own, as RFC 1123 label. */
function localHostName(): string {
  const label = hostname()
    .split('.')[0]
    ?.toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 63);
  return label === undefined || label === '' ? 'localhost' : label;
}

async function joinHere(client: Client, options: UpOptions, agentDir: string): Promise<void> {
  const { items } = await client.call('host.list');
  const name = localHostName();
  if (items.some((host) => host.name === name)) return;
  const { secret } = await client.call('host.invite', { body: { hostName: name } });
  const [command = '', ...args] = selfArgv('agent', 'join', `https://${options.listen}`, secret, '--data', agentDir);
  await new Promise<void>((done, refuse) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 60_000 });
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4000)));
    child.once('error', refuse);
    child.once('close', (code) =>
      code === 0
        ? done()
        : refuse(
            new VirgaError('setup', {
              detail: `this host could not join: ${errors.trim()}`,
              how: `Look at ${options.data}/controller.log`,
            }),
          ),
    );
  });
}

function describe(options: UpOptions, notes: readonly string[]): string {
  return [
    `${options.name} is up: controller and host ${localHostName()} on this machine.`,
    ...notes.map((note) => `  ${note}`),
    `  command line   virga status    virga guest run --help`,
    `  API            https://${options.listen}/reference   (socket ${defaults.socket})`,
    `  data           ${options.data}`,
  ].join('\n');
}

/** Ends what an `up` that was killed left running. Guests run on, with keeper and guard. Gives the names of the parts. */
async function endOrphans(): Promise<string[]> {
  const ended: string[] = [];
  for (const part of ['agent', 'controller', 'libvirtd'] as const) {
    const pid = livingPid(partFile(part));
    if (pid !== undefined) {
      process.kill(pid, 'SIGTERM');
      await until(`the ${part} of an earlier "up" to stop`, 60_000, () =>
        Promise.resolve(livingPid(partFile(part)) === undefined ? true : undefined),
      );
      ended.push(part);
    }
    await removePid(partFile(part));
  }
  return ended;
}

/** Runs until SIGINT or SIGTERM; then controller and agent stop; guests, keeper and guard run on. */
async function foreground(options: UpOptions): Promise<number> {
  await mkdir(options.data, { recursive: true, mode: 0o711 });
  await mkdir(defaults.runDir, { recursive: true });
  await writePid(pidFile);
  const orphans = await endOrphans();
  if (orphans.length > 0) say(`ended what an earlier "up" left: ${orphans.join(', ')}`);
  const kept: Kept[] = [];
  const tended: Tended[] = [];
  const stopped = new Promise<void>((done) => {
    process.once('SIGINT', () => done());
    process.once('SIGTERM', () => done());
  });
  try {
    const libvirt = await ensureLibvirt(options.data, say);
    if (libvirt.own) kept.push(libvirt.own);
    const agentDir = join(options.data, 'agent');
    kept.push(
      keepRunning(
        'controller',
        selfArgv(
          'controller',
          'run',
          '--data',
          join(options.data, 'controller'),
          '--socket',
          defaults.socket,
          '--listen',
          options.listen,
          '--name',
          options.name,
        ),
        {
          logFile: join(options.data, 'controller.log'),
          pidFile: partFile('controller'),
          onExit: say,
        },
      ),
    );
    const client = await readyClient(defaults.socket, 90_000);
    await joinHere(client, options, agentDir);
    for (const part of lastingParts)
      tended.push(tend(part, { agentDir, logFile: join(options.data, `${part}.log`), onExit: say }));
    kept.push(
      keepRunning('agent', selfArgv('agent', 'run', '--data', agentDir, '--socket', libvirt.socket), {
        logFile: join(options.data, 'agent.log'),
        pidFile: partFile('agent'),
        onExit: say,
      }),
    );
    await hostsOnline(client, 1, 60_000);
    await client.close();
    say(describe(options, libvirt.notes));
    if (process.stdout.isTTY) say('Ctrl-C stops controller and agent; guests run on.');
    await stopped;
  } finally {
    for (const each of tended) each.leave();
    for (const each of kept.toReversed()) await each.stop();
    await removePid(pidFile);
  }
  say('Stopped. Guests run on; virga up finds them again.');
  return 0;
}

async function detached(options: UpOptions): Promise<number> {
  await mkdir(options.data, { recursive: true, mode: 0o711 });
  const logFile = join(options.data, 'up.log');
  const log = openSync(logFile, 'a', 0o640);
  const [command = '', ...args] = selfArgv(
    'up',
    '--yes',
    '--data',
    options.data,
    '--name',
    options.name,
    '--listen',
    options.listen,
  );
  const child = spawn(command, args, { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ended: string | undefined;
  child.once('exit', (code, signal) => (ended = signal ?? `exit code ${code}`));
  child.unref();
  const client = await until('virga up', 150_000, async () => {
    if (ended !== undefined) return 'ended' as const;
    // The state remembers this host as online from before: it is up when its agent runs again.
    if (livingPid(partFile('agent')) === undefined) return undefined;
    const ready = await readyClient(defaults.socket, 1_000);
    await hostsOnline(ready, 1, 1_000);
    return ready;
  });
  if (client === 'ended')
    throw new VirgaError('setup', { detail: `virga up ended (${ended})`, how: `Look at ${logFile}` });
  await client.close();
  say(`${options.name} is up in the background (pid ${child.pid}, log ${logFile}). Stop it: virga down`);
  return 0;
}

export async function up(options: UpOptions): Promise<number> {
  if (process.getuid?.() !== 0)
    throw new VirgaError('setup', { detail: 'virga up needs root', how: 'Run it with sudo.' });
  const running = livingPid(pidFile);
  if (running !== undefined) {
    say(`already up (pid ${running})`);
    return 0;
  }
  await ensureInstalled(['controller', 'agent'], options.yes);
  return options.detach ? detached(options) : foreground(options);
}

export interface DownOptions {
  /** Also stops every guest first, politely, and then what holds their lease. */
  readonly guests: boolean;
}

const alive: ReadonlySet<string> = new Set(['running', 'paused', 'io-error']);

/** True when nothing runs any more. */
async function stopGuests(): Promise<boolean> {
  const client = await readyClient(defaults.socket, 10_000);
  const { items } = await client.call('guest.list', { query: { state: 'running' } });
  for (const guest of items) await client.call('guest.stop', { params: { guest: guest.name }, body: {} });
  const grace = Math.max(0, ...items.map((guest) => guest.spec.graceSeconds));
  await until(`${items.length} guests to stop`, (grace + 30) * 1000, async () => {
    const { items: left } = await client.call('guest.list', { query: { state: 'stopping' } });
    return left.length === 0 ? true : undefined;
  });
  const { items: all } = await client.call('guest.list');
  await client.close();
  say(`stopped ${items.length} guests`);
  const on = all.filter(({ status }) => status.observed !== undefined && alive.has(status.observed.engine));
  if (on.length > 0) say(`these run on, with keeper and guard: ${on.map(({ name }) => name).join(', ')}`);
  return on.length === 0;
}

export async function down(options: DownOptions): Promise<number> {
  const pid = livingPid(pidFile);
  if (pid === undefined) {
    const orphans = await endOrphans();
    say(orphans.length > 0 ? `down (an earlier "up" had been killed; ended ${orphans.join(', ')})` : 'already down');
    // Without a controller nobody knows whether guests run that must freeze when their lease runs out.
    if (options.guests && lastingParts.some((part) => livingPid(partFile(part)) !== undefined))
      say('keeper and guard run on for the guests: virga up, then virga down --guests');
    return 0;
  }
  const nothingRuns = options.guests && (await stopGuests());
  process.kill(pid, 'SIGTERM');
  // While it is still starting it hears of this only when it is up.
  await until('virga up to stop', 200_000, async () => (livingPid(pidFile) === undefined ? true : undefined));
  if (nothingRuns) await endLasting();
  say(options.guests ? 'down' : 'down; guests run on (virga down --guests stops them too)');
  return 0;
}
