/**
 * The site's certificate authority in a file, to give it to another controller of the site. The file is an encrypted backup
 * without a database in it, so an encrypted backup of the site will do as well.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import { writeDurably } from '../effects/files.ts';
import { Authority, authorityFiles } from './ca.ts';
import { type Decryption, type Encryption, readBackupFile, writeBackupFile } from './store/backup-file.ts';
import { BackupReader, type OutgoingPart, writeFormat } from './store/backup-format.ts';

const names = [authorityFiles.certificate, authorityFiles.key].map((path) => basename(path));
const maxKeyBytes = 64 * 1024;

/** Writes the authority of a data folder to a new file. @throws VirgaError setup (there is none) · backup */
export async function exportAuthority(dataDir: string, path: string, encryption: Encryption): Promise<Authority> {
  const authority = await Authority.read(dataDir);
  if (!authority)
    throw new VirgaError('setup', {
      detail: `There is no certificate authority in ${dataDir}`,
      how: 'Run this on a controller that has led the site, with its data folder.',
    });
  const contents = names.map((name) => `key:${name}`);
  const header = { schema: 0, site: { id: authority.siteId, name: '' }, createdAt: Date.now(), contents };
  await writeBackupFile(path, writeFormat(header, parts(dataDir)), encryption);
  return authority;
}

async function* parts(dataDir: string): AsyncGenerator<OutgoingPart> {
  for (const name of names)
    yield { name: `key:${name}`, content: [await readFile(join(dataDir, authorityFiles.folder, name))] };
}

/**
 * Takes the authority from a file into a data folder that has none; one that has the same already is left as it is.
 * @throws VirgaError backup (no such file, wrong key, damaged, no keys in it) · setup (the folder has another one)
 */
export async function importAuthority(
  dataDir: string,
  path: string,
  decryption: Decryption | undefined,
): Promise<void> {
  const keys = await readKeys(path, decryption);
  const [certificate, key] = names.map((name) => keys.get(name));
  if (!certificate || !key)
    throw new VirgaError('backup', {
      detail: `${path} holds no certificate authority`,
      how: 'Make one on a controller of the site: virga controller export-authority FILE',
    });
  const present = await Authority.read(dataDir);
  if (present) {
    if (present.pem.trim() === certificate.toString('utf8').trim()) return;
    throw new VirgaError('setup', {
      detail: `The data folder ${dataDir} has the certificate authority of another site`,
      how: 'Use another data folder for this site.',
    });
  }
  await mkdir(join(dataDir, authorityFiles.folder), { recursive: true, mode: 0o700 });
  await writeDurably(join(dataDir, authorityFiles.key), key);
  await writeDurably(join(dataDir, authorityFiles.certificate), certificate, 0o644);
  // Whether they belong together is looked at before anything is signed with them.
  await Authority.read(dataDir);
}

async function readKeys(path: string, decryption: Decryption | undefined): Promise<ReadonlyMap<string, Buffer>> {
  const keys = new Map<string, Buffer>();
  const reader = new BackupReader(readBackupFile(path, decryption));
  try {
    await reader.header();
    for (let part = await reader.next(); part; part = await reader.next()) {
      const name = part.name.startsWith('key:') ? part.name.slice(4) : '';
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of reader.content()) {
        bytes += chunk.length;
        // What is no key of ours (tables of a backup) is read to its end, and not kept.
        if (names.includes(name) && bytes <= maxKeyBytes) chunks.push(chunk);
      }
      if (names.includes(name)) keys.set(name, Buffer.concat(chunks));
    }
  } finally {
    await reader.close();
  }
  return keys;
}
