/**
 * The controller gives up root, and then still loads parts of itself. Where the program lies in a folder that is closed
 * to the user it becomes (a checkout in /root), the program is shown to it at a path of its own: a bind mount in a mount
 * namespace of this one process, so nothing on the machine changes but for an empty folder beside the data folder.
 */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { VirgaError } from '../api/errors.ts';
import { programRoot } from './paths.ts';

const run = promisify(execFile);

async function mayRead(user: string, path: string): Promise<boolean> {
  try {
    const as = ['--reuid', user, '--regid', user, '--init-groups', '--', 'test', '-r', path];
    await run('setpriv', as, { timeout: 5_000 });
    return true;
  } catch {
    return false;
  }
}

/** Mounts the program's folder and becomes this very command again, in place: same process id, same open files. */
const again = 'mount --bind "$1" "$2"; node=$3; shift 3; cd /; exec "$node" "$@"';

/** Node's compile cache lies with the program. */
function movedCache(moved: (path: string) => string): NodeJS.ProcessEnv {
  const cache = process.env['NODE_COMPILE_CACHE'];
  return cache === undefined ? {} : { NODE_COMPILE_CACHE: moved(cache) };
}

/** Returns when the user can read the program; otherwise this process starts itself again where it can. */
export async function makeReachable(user: string, dataDir: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const root = programRoot();
  const entry = process.argv[1] ?? '';
  if ((await mayRead(user, process.execPath)) && (await mayRead(user, join(root, 'package.json')))) return;
  if (process.env['VIRGA_SHOWN'] !== undefined)
    throw new VirgaError('setup', {
      detail: `The user ${user} cannot read the program in ${root}`,
      how: `Make it readable: chmod -R go+rX ${root}`,
    });
  // Beside the data folder, not in it: what is in it is given to the user.
  const shown = `${resolve(dataDir)}.program`;
  await mkdir(shown, { recursive: true, mode: 0o755 });
  const moved = (path: string): string => (path.startsWith(`${root}/`) ? join(shown, relative(root, path)) : path);
  if (moved(process.execPath) === process.execPath && !(await mayRead(user, process.execPath)))
    throw new VirgaError('setup', {
      detail: `The user ${user} cannot run ${process.execPath}`,
      how: `Make it readable: chmod go+rX ${dirname(process.execPath)}`,
    });
  const unshare = ['unshare', '--mount', '--propagation', 'slave', '--', 'sh', '-ec', again, 'virga', root, shown];
  const args = [
    moved(process.execPath),
    '--disable-warning=ExperimentalWarning',
    moved(entry),
    ...process.argv.slice(2),
  ];
  if (!process.execve)
    throw new VirgaError('setup', { detail: 'Node 24 is needed', how: 'Start Virga by ./virga, which brings it.' });
  process.execve('/usr/bin/unshare', [...unshare, ...args], { ...process.env, ...movedCache(moved), VIRGA_SHOWN: '1' });
}
