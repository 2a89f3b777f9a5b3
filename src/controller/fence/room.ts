/**
 * Where a fence agent runs: a program of the distribution that talks to a management board, which may be old, broken or
 * hostile. It has the network and the distribution's files, and neither our data, nor our sockets, nor a way to leave
 * anything running: a space of processes of its own (bubblewrap) dies with it, also what made a session of its own (ssh
 * under a terminal does).
 */
import { spawn } from 'node:child_process';
import { supervise, type SandboxResult } from '../../effects/sandbox.ts';

export interface FenceJob {
  /** Absolute path below /usr. */
  readonly program: string;
  /** Its parameters, one `key=value` a line. */
  readonly input: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface FenceRoom {
  /** The controller's folder: nothing of it is shown but the two below. */
  readonly dataDir: string;
  /** Shown, read-only: keys and secrets of the devices. */
  readonly secretsDir: string;
  /** Shown, writable: the home of the agents. */
  readonly workDir: string;
  /** Whose rights it has when we are root. */
  readonly identity: { readonly uid: number; readonly gid: number };
}

const words = (text: string): readonly string[] => text.split(' ');

/** The whole command line, for the process with effective uid `uid`. Never holds a parameter. */
export function fenceCommand(room: FenceRoom, program: string, uid: number): readonly string[] {
  const { identity } = room;
  return [
    ...words('/usr/bin/prlimit --cpu=60:62 --as=4294967296 --fsize=16777216 --nofile=512 --core=0'),
    ...words('/usr/bin/bwrap --unshare-pid --unshare-ipc --die-with-parent --clearenv'),
    ...(uid === 0 ? [] : words('--unshare-user --disable-userns --cap-drop ALL')),
    ...words('--ro-bind / / --dev /dev --tmpfs /proc --tmpfs /tmp --tmpfs /var/tmp --tmpfs /run'),
    // Where /etc/resolv.conf leads to.
    ...words('--ro-bind-try /run/systemd/resolve /run/systemd/resolve --ro-bind-try /run/resolvconf /run/resolvconf'),
    '--tmpfs',
    room.dataDir,
    '--ro-bind',
    room.secretsDir,
    room.secretsDir,
    '--bind',
    room.workDir,
    room.workDir,
    '--setenv',
    'HOME',
    room.workDir,
    ...words('--setenv PATH /usr/sbin:/usr/bin:/sbin:/bin --setenv LANG C --setenv LC_ALL C --chdir /'),
    ...(uid === 0
      ? words(
          `/usr/bin/setpriv --reuid=${identity.uid} --regid=${identity.gid} --clear-groups ` +
            '--bounding-set=-all --inh-caps=-all --no-new-privs',
        )
      : []),
    program,
  ];
}

/**
 * Runs a fence agent to its end; nothing of it is left afterwards.
 * @throws VirgaError `setup` when the room cannot be made at all
 */
export async function runFenceAgent(room: FenceRoom, job: FenceJob): Promise<SandboxResult> {
  const [file = '', ...args] = fenceCommand(room, job.program, process.geteuid?.() ?? -1);
  const child = spawn(file, args, { env: {}, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  // One that ends without reading its parameters is judged by how it ended.
  child.stdin.on('error', () => undefined);
  child.stdin.end(job.input);
  return supervise(child, { timeoutMs: job.timeoutMs, ...(job.signal ? { signal: job.signal } : {}) });
}
