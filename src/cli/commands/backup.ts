/** `virga backup FILE` */
import { open, rename, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { askSecret, canAsk, readStdin } from '../confirm.ts';
import { readText } from '../contexts.ts';
import { fileFailure, usage } from '../failure.ts';
import { writeAll } from '../io.ts';
import { bytes, collect } from '../units.ts';

interface BackupOptions {
  readonly recipient?: string[];
  readonly recipientsFile?: string;
  readonly passphraseFile?: string;
  readonly passphrase?: boolean;
  readonly force?: boolean;
}

const mostPassphrase = 1024;

async function passphraseOf(call: Call<BackupOptions>): Promise<string | undefined> {
  const { passphraseFile, passphrase } = call.options;
  if (passphraseFile !== undefined && passphrase === true)
    throw usage('give one of --passphrase and --passphrase-file');
  if (passphraseFile === '-') return (await readStdin(call.io, mostPassphrase)).replace(/\r?\n$/, '');
  if (passphraseFile !== undefined) return readText(passphraseFile).replace(/\r?\n$/, '');
  if (passphrase !== true) return undefined;
  if (!canAsk(call.io)) throw usage('--passphrase is typed on a terminal; in scripts use --passphrase-file FILE');
  const first = await askSecret(call.io, 'Passphrase (8 characters or more): ');
  if ((await askSecret(call.io, 'Once more: ')) !== first) throw usage('the two passphrases differ');
  return first;
}

async function bodyOf(call: Call<BackupOptions>): Promise<Body<'site.backup'>> {
  const { recipient, recipientsFile } = call.options;
  const listed = recipientsFile === undefined ? [] : readText(recipientsFile).split('\n');
  const recipients = [
    ...(recipient ?? []),
    ...listed.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#')),
  ];
  if (recipients.some((each) => each.startsWith('AGE-SECRET-KEY')))
    throw usage('that is a secret key; give the public one (age1…)');
  const passphrase = await passphraseOf(call);
  if (recipients.length > 0 && passphrase !== undefined)
    throw usage('encrypt to recipients or with a passphrase, not both');
  if (passphrase !== undefined && passphrase.length < 8) throw usage('the passphrase is shorter than 8 characters');
  return { ...(recipients.length > 0 ? { recipients } : {}), ...(passphrase === undefined ? {} : { passphrase }) };
}

/** Write-then-rename, readable by its owner only: half a backup never carries the name of a whole one. */
async function saveTo(path: string, body: AsyncIterable<Uint8Array>, force: boolean): Promise<number> {
  const draft = `${path}.part`;
  try {
    if (!force) await (await open(path, 'wx', 0o600)).close();
    const file = await open(draft, 'w', 0o600);
    let size = 0;
    try {
      for await (const chunk of body) {
        await file.writeFile(chunk);
        size += chunk.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (size === 0) throw new Error('the site sent an empty backup');
    await rename(draft, path);
    return size;
  } catch (error) {
    await rm(draft, { force: true });
    const exists = (error as NodeJS.ErrnoException).code === 'EEXIST';
    // The empty file that reserved the name goes too; one that was there before stays.
    if (!exists && !force) await rm(path, { force: true });
    if (exists) throw usage(`${path} exists already; choose another name, or --force`);
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw fileFailure(path, error);
  }
}

async function backup(call: Call<BackupOptions>): Promise<void> {
  const [path = ''] = call.args;
  if (path === '-' && call.out.json) throw usage('--json and "-" cannot both have standard output');
  const body = await bodyOf(call);
  const answer = await call.client.raw('site.backup', { body, timeoutMs: 600_000, ...call.change });
  const encrypted = body.recipients !== undefined || body.passphrase !== undefined;
  if (path === '-') {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) await writeAll(call.io.stdout, chunk);
  } else {
    const size = await saveTo(path, answer.body, call.options.force === true);
    call.out.document({ file: path, sizeBytes: size, encrypted });
    call.out.line(`${path}  ${bytes(size)}`);
  }
  if (!encrypted)
    call.out.note(
      'Not encrypted, so the keys of the site’s certificate authority are left out: after a restore hosts must join anew. See --recipient.',
    );
}

export function backupCommand(program: Command, shell: Shell): void {
  leaf<BackupOptions>(program, shell, {
    syntax: 'backup <file>',
    summary: 'Write the whole state to one file; "virga restore" reads it',
    detail:
      'The keys of the certificate authority are in it only when it is encrypted, to age recipients or with a passphrase. ' +
      '"-" writes to standard output. Disks of guests and bytes of images are not in it.',
    manner: 'act',
    options: (command) =>
      command
        .option('--recipient <age1…>', 'public age key that can read it; may be repeated', collect)
        .option('--recipients-file <file>', 'public age keys, one a line')
        .option('--passphrase', 'ask for a passphrase')
        .option('--passphrase-file <file>', 'passphrase from a file; - is standard input')
        .option('--force', 'overwrite FILE'),
    examples: ['backup site.backup --recipients-file admins.txt', 'backup /mnt/usb/site.backup --passphrase'],
    run: backup,
  });
}
