/** Backup files on disk: compressed, perhaps encrypted, written whole or not at all, never over another one. */
import { Decrypter, Encrypter } from 'age-encryption';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, link, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { VirgaError } from '../../core/errors.ts';
import { backupDamaged } from './backup-format.ts';
import { passphraseIdentity, passphraseRecipient } from './passphrase.ts';

/** To whom a backup is encrypted: age public keys (`age1…`), or one passphrase. */
export type Encryption = { readonly recipients: readonly string[] } | { readonly passphrase: string };

/** What opens it: age secret keys (`AGE-SECRET-KEY-1…`), or the passphrase. */
export type Decryption = { readonly identities: readonly string[] } | { readonly passphrase: string };

export interface WrittenFile {
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 (hex) of the file. */
  readonly sha256: string;
}

/** Throws VirgaError backup for a key that is none, before any work is done. */
export function encrypterFor(encryption: Encryption): Encrypter {
  const encrypter = new Encrypter();
  try {
    if ('passphrase' in encryption) encrypter.addRecipient(passphraseRecipient(encryption.passphrase));
    else for (const recipient of encryption.recipients) encrypter.addRecipient(recipient);
  } catch (error) {
    throw new VirgaError(
      'backup',
      { detail: 'The recipient is not an age public key', how: 'It begins with age1; age-keygen makes one.' },
      { cause: error },
    );
  }
  const empty = 'passphrase' in encryption ? encryption.passphrase === '' : encryption.recipients.length === 0;
  if (empty)
    throw new VirgaError('backup', { detail: 'Encryption to nobody', how: 'Give a recipient or a passphrase.' });
  return encrypter;
}

/** Writes a backup (mode 0600). Refuses to replace a file. Throws VirgaError backup. */
export async function writeBackupFile(
  path: string,
  plain: AsyncIterable<Uint8Array>,
  encryption: Encryption | undefined,
): Promise<WrittenFile> {
  const encrypter = encryption && encrypterFor(encryption);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', 0o600).catch((error: unknown) => cannotWrite(path, error));
  try {
    const written = await fill(handle, plain, encrypter, path);
    // Unlike a rename, a link never replaces what is there.
    await link(temporary, path).catch((error: unknown) => cannotWrite(path, error));
    await syncFolder(dirname(path));
    return { path, ...written };
  } finally {
    // Closing a second time does nothing.
    await handle.close();
    await rm(temporary, { force: true });
  }
}

async function fill(
  handle: FileHandle,
  plain: AsyncIterable<Uint8Array>,
  encrypter: Encrypter | undefined,
  path: string,
): Promise<{ bytes: number; sha256: string }> {
  const digest = createHash('sha256');
  let bytes = 0;
  await pipeline(plain, createGzip({ level: 4 }), async (compressed: AsyncIterable<Uint8Array>) => {
    const stream = encrypter ? await encrypter.encrypt(ReadableStream.from(compressed)) : compressed;
    for await (const chunk of stream) {
      digest.update(chunk);
      bytes += chunk.length;
      await handle.writeFile(chunk).catch((error: unknown) => cannotWrite(path, error));
    }
  });
  await handle.sync();
  await handle.close();
  return { bytes, sha256: digest.digest('hex') };
}

function cannotWrite(path: string, error: unknown): never {
  const code = (error as NodeJS.ErrnoException).code;
  const there = code === 'EEXIST';
  throw new VirgaError(
    'backup',
    {
      detail: there ? `${path} exists already` : `Cannot write ${path} (${code ?? String(error)})`,
      how: there ? 'A backup never replaces a file: choose another name.' : 'Choose a folder with space and access.',
    },
    { cause: error },
  );
}

/** The uncompressed bytes of a backup file. Every failure is a VirgaError backup. */
export async function* readBackupFile(path: string, decryption: Decryption | undefined): AsyncGenerator<Uint8Array> {
  const encrypted = await isEncrypted(path);
  if (encrypted && !decryption)
    throw new VirgaError('backup', {
      detail: `${path} is encrypted`,
      how: 'Give the passphrase, or the file with the age secret key.',
    });
  try {
    const file = createReadStream(path);
    const compressed = encrypted && decryption ? await decrypt(file, decryption) : file;
    yield* gunzip(compressed);
  } catch (error) {
    if (error instanceof VirgaError) throw error;
    throw backupDamaged(error instanceof Error ? error.message : String(error), error);
  }
}

const ageMagic = 'age-encryption.org/v1';

async function isEncrypted(path: string): Promise<boolean> {
  const start = Buffer.alloc(ageMagic.length);
  try {
    const handle = await open(path, 'r');
    try {
      await handle.read(start, 0, start.length, 0);
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    throw new VirgaError(
      'backup',
      { detail: `Cannot read ${path} (${code})`, how: 'Check the name.' },
      { cause: error },
    );
  }
  if (start.toString('latin1') === ageMagic) return true;
  if (start[0] === 0x1f && start[1] === 0x8b) return false;
  throw new VirgaError('backup', { detail: `${path} is not a backup of Virga`, how: 'Give the right file.' });
}

async function decrypt(file: AsyncIterable<Uint8Array>, decryption: Decryption): Promise<AsyncIterable<Uint8Array>> {
  const decrypter = new Decrypter();
  try {
    if ('passphrase' in decryption) decrypter.addIdentity(passphraseIdentity(decryption.passphrase));
    else for (const identity of decryption.identities) decrypter.addIdentity(identity);
    return await decrypter.decrypt(ReadableStream.from(file));
  } catch (error) {
    const what = 'passphrase' in decryption ? 'passphrase' : 'key';
    throw new VirgaError(
      'backup',
      { detail: `The backup cannot be opened with this ${what}`, how: `Give the ${what} it was made with.` },
      { cause: error },
    );
  }
}

async function* gunzip(compressed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const unpacker = createGunzip();
  const fed = pipeline(compressed, unpacker);
  // A failure reaches the reader below, through the destroyed stream; here it must not count as unhandled.
  fed.catch(() => undefined);
  for await (const chunk of unpacker) yield chunk as Uint8Array;
  await fed;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
