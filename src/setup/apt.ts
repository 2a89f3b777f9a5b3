import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandError, execute, run } from './command.ts';

const listsDir = '/var/lib/apt/lists';

/** True when the distribution's package lists have been fetched at least once. */
export async function haveLists(): Promise<boolean> {
  const names = await readdir(listsDir).catch(() => []);
  return names.some((name) => name.endsWith('_Packages') || name.includes('_Packages.') || name.endsWith('Release'));
}

/** `apt-get update`. Throws with apt's own words when no list could be fetched. */
export async function updateLists(): Promise<void> {
  const argv = ['apt-get', 'update', '-q', '-o', 'Acquire::Retries=3', '-o', 'DPkg::Lock::Timeout=120'];
  await run(argv, { timeoutMs: 600_000, env: { DEBIAN_FRONTEND: 'noninteractive' } });
}

/** Version that apt would install now, for each of the packages that it knows. */
export async function candidates(
  names: readonly string[],
): Promise<Map<string, { version: string; depends: string[] }>> {
  const result = await execute(['apt-cache', 'show', '--no-all-versions', ...names]);
  const found = new Map<string, { version: string; depends: string[] }>();
  for (const paragraph of result.stdout.split(/\n\n+/)) {
    const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(paragraph)?.[1] ?? '';
    if (field('Package') === '') continue;
    const depends = `${field('Pre-Depends')},${field('Depends')}`
      .split(',')
      .map((entry) => entry.trim().split(/[ |(:]/)[0] ?? '')
      .filter((entry) => entry !== '');
    found.set(field('Package'), { version: field('Version'), depends });
  }
  return found;
}

/** True when apt's complaint is what lists that are older than the mirror lead to. */
export function staleLists(output: string): boolean {
  return /404 +Not Found|Unable to fetch|Failed to fetch|Hash Sum mismatch/.test(output);
}

/**
 * Fetches packages into a new directory and unpacks them below `${dir}/root`; installs nothing.
 * A list that has gone stale (the mirror has a newer version) is refreshed once.
 */
export async function unpackPackages(names: readonly string[], dir: string): Promise<string> {
  const root = join(dir, 'root');
  await mkdir(root, { recursive: true });
  const download = () => execute(['apt-get', 'download', '-q', ...names], { cwd: dir, timeoutMs: 600_000 });
  let result = await download();
  if (result.code !== 0 && staleLists(result.stderr)) {
    await updateLists();
    result = await download();
  }
  if (result.code !== 0) throw new CommandError(['apt-get', 'download', ...names], result);
  for (const file of await readdir(dir)) {
    if (file.endsWith('.deb')) await run(['dpkg-deb', '-x', join(dir, file), root], { timeoutMs: 120_000 });
  }
  return root;
}
