/** Parameters of a device as its agent wants them, with the secrets from their files. */
import { lstat, open, realpath } from 'node:fs/promises';
import { isAbsolute, join, resolve, sep } from 'node:path';
import type { FenceDevice } from '../../core/model/host.ts';
import type { AgentMetadata } from './metadata.ts';

export interface PreparedDevice {
  /** `key=value` lines. */
  readonly input: string;
  /** Values that must not be shown. */
  readonly secrets: readonly string[];
}

export interface SecretFolders {
  /** Files that are named by `NAME_file`. */
  readonly secretsDir: string;
  /** The agents' own: files that they themselves write may lie there too. */
  readonly workDir: string;
}

const maxSecretBytes = 4096;

/** What is wrong with a device's parameters, in a sentence without secrets. */
export class DeviceRefused extends Error {}

/** @throws DeviceRefused */
export async function prepareDevice(
  device: FenceDevice,
  action: 'off' | 'status',
  metadata: AgentMetadata,
  folders: SecretFolders,
): Promise<PreparedDevice> {
  const lines = [`action=${action}`];
  const secrets: string[] = [];
  for (const [key, value] of Object.entries(device.parameters)) {
    const known = (name: string): boolean =>
      metadata.parameters.has(name) || metadata.parameters.has(underscored(name));
    if (known(key)) {
      // The agent's own parameter: it opens the file itself.
      lines.push(`${key}=${underscored(key).endsWith('_file') ? inside(value, folders) : value}`);
      continue;
    }
    const plain = key.replace(/[_-]file$/, '');
    if (plain === key || !known(plain)) throw new DeviceRefused(`${device.agent} knows no parameter "${key}"`);
    const secret = await readSecret(value, folders.secretsDir);
    secrets.push(secret);
    lines.push(`${plain}=${secret}`);
  }
  return { input: `${lines.join('\n')}\n`, secrets };
}

const underscored = (key: string): string => key.replaceAll('-', '_');

/** Absolute path of a file that an agent opens itself: ours are out of its sight anyway, this says so early. */
function inside(value: string, { secretsDir, workDir }: SecretFolders): string {
  const path = isAbsolute(value) ? resolve(value) : join(secretsDir, value);
  if ([secretsDir, workDir].some((folder) => path.startsWith(folder + sep))) return path;
  throw new DeviceRefused(`the file "${value}" must lie in ${secretsDir}`);
}

/** First line of a file that only its owner can read. */
async function readSecret(value: string, folder: string): Promise<string> {
  const path = isAbsolute(value) ? resolve(value) : join(folder, value);
  const how = `it must be a file of mode 0600 in ${folder}`;
  try {
    const facts = await lstat(path);
    if (!(await realpath(path)).startsWith((await realpath(folder)) + sep) || !facts.isFile())
      throw new DeviceRefused(`the secret "${value}" is refused: ${how}`);
    const handle = await open(path, 'r');
    try {
      const { mode, uid, size } = await handle.stat();
      if ((mode & 0o077) !== 0 || (uid !== 0 && uid !== process.geteuid?.()))
        throw new DeviceRefused(`the secret "${value}" is refused: ${how}, owned by root or virga`);
      if (size > maxSecretBytes)
        throw new DeviceRefused(`the secret "${value}" is larger than ${maxSecretBytes} bytes`);
      const [line = ''] = (await handle.readFile('utf8')).split('\n');
      if (line === '' || /\p{Cc}/u.test(line))
        throw new DeviceRefused(`the secret "${value}" is empty or not a line of text`);
      return line;
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof DeviceRefused) throw error;
    const { code = 'unreadable' } = error as NodeJS.ErrnoException;
    throw new DeviceRefused(
      `the secret "${value}" cannot be read (${code}): ${how}, owned by the user of the controller`,
    );
  }
}
