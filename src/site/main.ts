/** The parts of a site as processes of this machine: controller, agent, and the restore of a backup. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { joinAgent, runAgent } from '../agent/main.ts';
import { VirgaError } from '../api/errors.ts';
import { ownVersion } from '../api/version.ts';
import type { LocalCall } from '../cli/program.ts';
import { exportAuthority } from '../controller/authority-file.ts';
import { authorityFiles } from '../controller/ca.ts';
import { runController, type ControllerOptions } from '../controller/main.ts';
import type { Decryption, Encryption } from '../controller/store/backup-file.ts';
import { openDatabase } from '../controller/store/open.ts';
import { restoreBackup } from '../controller/store/restore.ts';
import { writeDurably } from '../effects/files.ts';
import { openLog } from '../effects/log.ts';
import { systemUser } from '../setup/packages.ts';
import { defaults } from './paths.ts';
import { makeReachable } from './reachable.ts';

const text = (call: LocalCall, name: string): string | undefined => {
  const value = call.options[name];
  return typeof value === 'string' ? value : undefined;
};
const list = (call: LocalCall, name: string): readonly string[] | undefined => {
  const value = call.options[name];
  return Array.isArray(value) ? value.map(String) : undefined;
};

function wanted(call: LocalCall, ...words: readonly string[]): string {
  const [word = ''] = call.args;
  if (words.includes(word)) return word;
  throw new VirgaError('usage', { detail: `"${word}" is not one of: ${words.join(', ')}` });
}

/** A whole number above zero from an option; anything else is told with the option's name. */
function positive(call: LocalCall, name: string, flag: string): number {
  const value = Number(text(call, name));
  if (!Number.isFinite(value) || value <= 0)
    throw new VirgaError('usage', { detail: `${flag} takes a number above 0` });
  return value;
}

/** Aborted by SIGTERM and SIGINT. */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  return stop.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
}

/** `virga controller run`: until SIGTERM. */
export async function controller(call: LocalCall): Promise<number> {
  const what = wanted(call, 'run', 'export-authority');
  const dataDir = text(call, 'data') ?? join(defaults.dataDir, 'controller');
  if (what === 'export-authority') return giveAuthority(call, dataDir);
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  await makeReachable(systemUser, dataDir);
  const signal = stopSignal();
  const databaseUrl = process.env['DATABASE_URL'];
  const recipients = list(call, 'backupRecipient');
  const encryption: Encryption | undefined = recipients ? { recipients } : undefined;
  const folder = text(call, 'backupDir');
  const agentUrls = list(call, 'advertise');
  const authority = await authorityOf(call);
  const running = await runController({
    dataDir,
    socketPath: text(call, 'socket') ?? defaults.socket,
    listen: list(call, 'listen') ?? [],
    siteName: text(call, 'name') ?? 'site',
    version: ownVersion,
    dropTo: systemUser,
    log: openLog('controller'),
    ...(agentUrls ? { agentUrls } : {}),
    ...(authority ? { authority } : {}),
    ...(databaseUrl === undefined || databaseUrl === '' ? {} : { databaseUrl }),
    backup: {
      intervalMs: positive(call, 'backupHours', '--backup-hours') * 3_600_000,
      keep: positive(call, 'backupKeep', '--backup-keep'),
      ...(folder === undefined ? {} : { folder }),
      ...(encryption ? { encryption } : {}),
    },
  });
  try {
    await Promise.race([aborted(signal), running.failed]);
  } finally {
    await running.stop();
  }
  return 0;
}

/** `virga controller export-authority FILE`: for another controller of the same site. Never without a key to the file. */
async function giveAuthority(call: LocalCall, dataDir: string): Promise<number> {
  const [, path] = call.args;
  const passphraseFile = text(call, 'passphraseFile');
  const recipients = list(call, 'recipient');
  if (path === undefined || (passphraseFile === undefined) === (recipients === undefined))
    throw new VirgaError('usage', {
      detail: 'virga controller export-authority takes FILE, and either --passphrase-file or --recipient',
    });
  const encryption: Encryption =
    passphraseFile === undefined
      ? { recipients: recipients ?? [] }
      : { passphrase: await passphraseIn(passphraseFile) };
  const { pin } = await exportAuthority(dataDir, path, encryption);
  call.io.stdout.write(
    `${path} holds the keys of the site (pin ${pin.slice(0, 16)}…). On the other controller: virga controller run --authority ${path}\n`,
  );
  return 0;
}

async function authorityOf(call: LocalCall): Promise<ControllerOptions['authority']> {
  const path = text(call, 'authority');
  if (path === undefined) return undefined;
  const decryption = await decryptionOf(call);
  return { path, ...(decryption ? { decryption } : {}) };
}

/** `virga agent join URL… TOKEN` and `virga agent run`. */
export async function agent(call: LocalCall): Promise<number> {
  const what = wanted(call, 'join', 'run');
  const dataDir = text(call, 'data') ?? join(defaults.dataDir, 'agent');
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  if (what === 'join') return joinHere(call, dataDir);
  const socket = text(call, 'socket');
  await runAgent({
    dataDir,
    agentVersion: ownVersion,
    log: openLog('agent'),
    signal: stopSignal(),
    cacheBytes: positive(call, 'imageCache', '--image-cache') * 2 ** 30,
    ...(socket === undefined ? {} : { socket }),
  });
  return 0;
}

async function joinHere(call: LocalCall, dataDir: string): Promise<number> {
  const [url, ...more] = call.args.slice(1, -1);
  const token = call.args.at(-1);
  if (url === undefined || token === undefined)
    throw new VirgaError('usage', {
      detail:
        'virga agent join takes the URL of one or more controllers and TOKEN, as "virga host invite" printed them',
    });
  const hostName = text(call, 'name');
  const answer = await joinAgent({
    dataDir,
    url,
    more,
    token,
    agentVersion: ownVersion,
    ...(hostName === undefined ? {} : { hostName }),
  });
  const { credentials } = answer;
  call.io.stdout.write(
    answer.joined
      ? `joined the site ${credentials.siteName} as ${credentials.hostName}; now: virga agent run\n`
      : `this host belongs to the site ${credentials.siteName} as ${credentials.hostName} already\n`,
  );
  return 0;
}

async function passphraseIn(file: string): Promise<string> {
  return (await readFile(file, 'utf8')).replace(/\r?\n$/, '');
}

async function decryptionOf(call: LocalCall): Promise<Decryption | undefined> {
  const passphraseFile = text(call, 'passphraseFile');
  const identityFile = text(call, 'identity');
  if (passphraseFile !== undefined && identityFile !== undefined)
    throw new VirgaError('usage', { detail: 'give --passphrase-file or --identity, not both' });
  if (passphraseFile !== undefined) return { passphrase: await passphraseIn(passphraseFile) };
  if (identityFile === undefined) return undefined;
  const lines = (await readFile(identityFile, 'utf8')).split('\n').map((line) => line.trim());
  return { identities: lines.filter((line) => line !== '' && !line.startsWith('#')) };
}

/** `virga restore FILE`, while no controller runs. The database refuses a second server on the same data by its lock. */
export async function restore(call: LocalCall): Promise<number> {
  const [path = ''] = call.args;
  const data = text(call, 'data') ?? join(defaults.dataDir, 'controller');
  const databaseUrl = process.env['DATABASE_URL'];
  const decryption = await decryptionOf(call);
  await mkdir(data, { recursive: true, mode: 0o711 });
  const opened = await openDatabase({
    data,
    log: openLog('restore'),
    ...(databaseUrl === undefined || databaseUrl === '' ? {} : { databaseUrl }),
  });
  try {
    const result = await restoreBackup(opened.database, {
      path,
      now: Date.now(),
      who: 'local:root',
      replace: call.options['replace'] === true,
      ...(decryption ? { decryption } : {}),
    });
    await mkdir(join(data, authorityFiles.folder), { recursive: true, mode: 0o700 });
    for (const { name, bytes } of result.secrets) await writeDurably(join(data, authorityFiles.folder, name), bytes);
    tellRestored(call, path, result);
    return 0;
  } finally {
    await opened.close();
  }
}

function tellRestored(call: LocalCall, path: string, result: Awaited<ReturnType<typeof restoreBackup>>): void {
  const { siteName, backupAt, resources, secrets } = result;
  const at = new Date(backupAt).toISOString();
  if (call.options['json'] === true) {
    call.io.stdout.write(
      `${JSON.stringify({ site: siteName, backupAt: at, objects: resources, keys: secrets.map(({ name }) => name) })}\n`,
    );
    return;
  }
  const keys =
    secrets.length > 0
      ? 'the site’s keys were restored with it'
      : 'the backup holds no keys: the data folder must have those of this site, or its hosts must join again';
  call.io.stdout.write(
    `restored the site ${siteName} as of ${at} from ${path}: ${resources} objects; ${keys}.\n` +
      'Nothing that this state does not know is destroyed until you have looked: start the controller, then virga review list\n',
  );
}
