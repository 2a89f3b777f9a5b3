/**
 * The libvirt daemon of this machine: the running one if there is one, else one of our own. Ours runs in a mount
 * namespace of its own, where a KVM that does not work is hidden (probing a broken one costs libvirt minutes) and where
 * QEMU's settings are ours without a file of the distribution being touched.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { tryKvm } from '../effects/kvm.ts';
import { linuxArch } from '../setup/doctor/machine.ts';
import { keepRunning, type Kept } from './child.ts';
import { partFile } from './paths.ts';
import { until } from './ready.ts';

const sockets = ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock'] as const;

async function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  return new Promise((done) => {
    const socket = connect(path);
    const end = (result: boolean): void => {
      socket.destroy();
      done(result);
    };
    socket.setTimeout(2_000, () => end(false));
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}

/** Socket of a libvirt daemon that runs here. */
export async function runningLibvirt(): Promise<string | undefined> {
  for (const path of sockets) if (await answers(path)) return path;
  return undefined;
}

const qemuConf = `# Written by virga up for its own libvirtd.
user = "root"
group = "root"
dynamic_ownership = 1
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`;

const libvirtdConf = `# Written by virga up for its own libvirtd.
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
`;

/** A shell script without a word of anybody's input: the paths come as arguments. */
const start = `set -e
if [ -n "$3" ]; then mount --bind "$3" /dev/kvm; mount -o remount,ro,bind /dev/kvm; fi
mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$2"
`;

export interface Libvirt {
  readonly socket: string;
  /** Ours to stop; absent when the distribution's daemon serves. */
  readonly own?: Kept;
  /** Sentences for people: what was found, and what is not used. */
  readonly notes: readonly string[];
}

export async function ensureLibvirt(dataDir: string, say: (line: string) => void): Promise<Libvirt> {
  const running = await runningLibvirt();
  if (running) return { socket: running, notes: [`libvirt answers at ${running}`] };
  const folder = join(dataDir, 'libvirtd');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await mkdir('/etc/libvirt', { recursive: true });
  if (!existsSync('/etc/libvirt/qemu.conf')) await writeFile('/etc/libvirt/qemu.conf', '');
  await writeFile(join(folder, 'qemu.conf'), qemuConf);
  await writeFile(join(folder, 'libvirtd.conf'), libvirtdConf);
  const kvm = await tryKvm(linuxArch());
  const notes = [
    'no libvirt daemon runs: started one of our own',
    kvm.works ? `KVM works: ${kvm.why}` : `KVM is not used: ${kvm.why}; guests run by emulation`,
  ];
  const empty = join(folder, 'no-kvm');
  await writeFile(empty, '');
  const hide = kvm.works || !existsSync('/dev/kvm') ? '' : empty;
  const pidFile = join('/run', 'virga', 'libvirtd.pid');
  const own = keepRunning(
    'libvirtd',
    ['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', start, 'libvirtd', folder, pidFile, hide],
    { logFile: join(folder, 'libvirtd.log'), pidFile: partFile('libvirtd'), onExit: say },
  );
  await until('libvirtd', 30_000, runningLibvirt);
  return { socket: sockets[0], own, notes };
}
