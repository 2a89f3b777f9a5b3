/**
 * Runs one program on files that nobody should trust, in a room of its own (bubblewrap): private mount, network, process, IPC
 * and host name spaces, an empty read-only root that holds /usr, a bare /dev and the named files, no capability, no
 * environment, no shell, limits on processor time, memory, file size and descriptors, a time limit, bounded output.
 *
 * Root runs it under the real uid 65534; an ordinary user cannot, so there a user name space makes it 65534 inside, and
 * outside it has that user's rights on nothing but the named files.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { VirgaError } from '../core/errors.ts';

export const nobody = 65_534;

export interface SandboxLimits {
  /** Seconds of processor time. */
  readonly cpuSeconds: number;
  /** Address space. */
  readonly memoryBytes: number;
  /** The largest file it may write. */
  readonly fileBytes: number;
  readonly openFiles: number;
}

export interface SandboxJob {
  /** Absolute path, below /usr. */
  readonly program: string;
  readonly args: readonly string[];
  /** Files to show inside; nothing else of the host's data is there. Root needs them readable by uid 65534 (or by `identity`). */
  readonly readable: readonly { readonly from: string; readonly to: string }[];
  readonly writable: readonly { readonly from: string; readonly to: string }[];
  readonly limits: SandboxLimits;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Whose rights it has on the files when root asks; nobody's by default. An ordinary user has only its own to give. */
  readonly identity?: { readonly uid: number; readonly gid: number };
  /** Called with each piece of standard output, which is then not kept. */
  readonly onOutput?: (text: string) => void;
}

/** How it ended: by itself · out of time · of processor time · wrote too large a file · said too much · was aborted · was killed by something else. */
export type SandboxEnd = 'exit' | 'timeout' | 'cpu' | 'file-size' | 'output' | 'aborted' | 'killed';

export interface SandboxResult {
  readonly end: SandboxEnd;
  /** Exit code; 128 + n when signal n ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Output that is kept; more ends the job. */
const maxOutputBytes = 256 * 1024;
/** Of standard error the last of it is kept. */
const maxErrorBytes = 16 * 1024;
const prlimit = '/usr/bin/prlimit';
const bubblewrap = '/usr/bin/bwrap';
const setpriv = '/usr/bin/setpriv';
const signalCodes: Readonly<Record<number, SandboxEnd>> = {
  [128 + 9]: 'killed',
  [128 + 24]: 'cpu',
  [128 + 25]: 'file-size',
};

/** The whole command line, for the process with effective uid `uid`. */
export function sandboxCommand(job: SandboxJob, uid: number): readonly string[] {
  const { limits } = job;
  const folders = new Set([...job.readable, ...job.writable].flatMap((file) => foldersAbove(file.to)));
  const root = uid === 0;
  const identity = job.identity ?? { uid: nobody, gid: nobody };
  return [
    prlimit,
    // The soft limit comes first, so that SIGXCPU says why it ended.
    `--cpu=${limits.cpuSeconds}:${limits.cpuSeconds + 2}`,
    `--as=${limits.memoryBytes}`,
    `--fsize=${limits.fileBytes}`,
    `--nofile=${limits.openFiles}`,
    '--core=0',
    bubblewrap,
    ...(root ? [] : words(`--unshare-user --disable-userns --uid ${nobody} --gid ${nobody}`)),
    ...words('--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --hostname sandbox'),
    ...words('--die-with-parent --clearenv'),
    ...words('--ro-bind /usr /usr --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --dev /dev'),
    ...words('--symlink usr/lib /lib --symlink usr/lib64 /lib64 --symlink usr/bin /bin'),
    ...[...folders].flatMap((folder) => ['--perms', '0755', '--dir', folder]),
    ...job.readable.flatMap(({ from, to }) => ['--ro-bind', from, to]),
    ...job.writable.flatMap(({ from, to }) => ['--bind', from, to]),
    ...words('--remount-ro / --remount-ro /dev --chdir /'),
    ...(root
      ? words(
          `${setpriv} --reuid=${identity.uid} --regid=${identity.gid} --clear-groups ` +
            '--bounding-set=-all --inh-caps=-all --no-new-privs',
        )
      : words('--cap-drop ALL')),
    job.program,
    ...job.args,
  ];
}

/** `/a/b/c` → `/a`, `/a/b`: made one by one, since bubblewrap makes missing ones for their owner only. */
function foldersAbove(path: string): readonly string[] {
  const parts = path.split('/').slice(1, -1);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`);
}

function words(text: string): readonly string[] {
  return text.split(' ');
}

/**
 * Runs a job to its end; rejects only when the sandbox itself cannot be made.
 * @throws VirgaError `setup` (bubblewrap is missing, or the kernel refuses name spaces)
 */
export async function runSandboxed(job: SandboxJob): Promise<SandboxResult> {
  if (job.signal?.aborted) return { end: 'aborted', code: 137, stdout: '', stderr: '' };
  const [program, ...args] = sandboxCommand(job, process.geteuid?.() ?? -1);
  // Detached: a session of its own, without a terminal, and a process group that can be ended as a whole.
  const child = spawn(program ?? prlimit, args, {
    env: {},
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const result = await supervise(child, job);
  if (/^(bwrap|prlimit|setpriv): /m.test(result.stderr) && result.code !== 0)
    throw setupError(result.stderr.trim().split('\n').at(-1) ?? '');
  return result;
}

function setupError(detail: string, cause?: unknown): VirgaError {
  return new VirgaError(
    'setup',
    { detail: `The sandbox cannot be made: ${detail}`, how: 'See virga doctor; it needs bubblewrap and util-linux.' },
    { cause },
  );
}

/**
 * The whole group: bubblewrap, and the init of its space of processes, with which all in that space die. (`--die-with-parent` alone is not
 * enough: an init whose parent died before it asked for that signal never gets it.)
 */
function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * Waits for the end of a child that leads a process group of its own, and brings it about when a limit is reached.
 * @throws VirgaError `setup` when the child could not be started
 */
export async function supervise(
  child: ChildProcess,
  job: Pick<SandboxJob, 'onOutput' | 'signal' | 'timeoutMs'>,
): Promise<SandboxResult> {
  let forced: SandboxEnd | undefined;
  const stop = (why: SandboxEnd): void => {
    forced ??= why;
    endGroup(child);
  };
  const kept = { stdout: '', stderr: '' };
  const hear = (text: string): void => {
    if (job.onOutput) job.onOutput(text);
    else kept.stdout += text;
    if (kept.stdout.length > maxOutputBytes) stop('output');
  };
  // The last words are what matters: a check may complain of every cluster of a disk.
  const complain = (text: string): void => {
    kept.stderr = (kept.stderr + text).slice(-maxErrorBytes);
  };
  child.stdout?.setEncoding('utf8').on('data', hear);
  child.stderr?.setEncoding('utf8').on('data', complain);
  const abort = (): void => stop('aborted');
  job.signal?.addEventListener('abort', abort, { once: true });
  if (job.signal?.aborted === true) abort();
  const timer = setTimeout(() => stop('timeout'), job.timeoutMs);
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', (error) => reject(setupError(error.message, error)));
      child.once('close', (code, signal) => resolve(code ?? (signal === 'SIGXCPU' ? 152 : 137)));
    });
    return { end: forced ?? signalCodes[code] ?? 'exit', code, ...kept };
  } finally {
    clearTimeout(timer);
    job.signal?.removeEventListener('abort', abort);
  }
}
