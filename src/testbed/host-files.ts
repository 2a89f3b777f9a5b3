import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Directories of the system that each host has for itself; they keep their content over power cuts. */
export const privateDirs = ['etc/libvirt', 'var/lib/libvirt', 'var/log/libvirt', 'var/cache/libvirt'] as const;

/**
 * First process of a host, in new mount, UTS, pid, network and cgroup namespaces. Arguments: name, directory, run
 * directory, where the version 2 tree of control groups is (empty: nowhere).
 * Says "ready" when its mounts are made, then only reaps orphans: libvirtd as process 1 never would, and waits 40 s
 * for each of QEMU's probes.
 */
export const hostInit = String.raw`
set -eu
name=$1 dir=$2 run=$3 groups=$4
hostname "$name"
mount -t proc proc /proc
# /sys shows the network namespace it was mounted in; the control groups below it are kept.
stash="$dir/stash"
if [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup "$stash"; fi
mount -t sysfs sysfs /sys
if mountpoint -q "$stash"; then mount --move "$stash" /sys/fs/cgroup; fi
# Mounted again it shows this host's part as the whole tree.
if [ -n "$groups" ]; then umount "$groups"; mount -t cgroup2 none "$groups"; fi
for path in etc/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt; do mount --bind "$dir/$path" "/$path"; done
for file in etc/hostname etc/hosts etc/machine-id; do
  if [ -e "/$file" ]; then mount --bind "$dir/$file" "/$file"; fi
done
mount --bind "$dir/boot_id" /proc/sys/kernel/random/boot_id
# Probing a KVM that does not work costs minutes. A regular file, read-only: with /dev/null libvirt probes each time.
if [ -e /dev/kvm ]; then mount --bind "$dir/empty" /dev/kvm; mount -o remount,ro,bind /dev/kvm; fi
mount --bind "$run" /run
ip link set lo up
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad || true
echo ready
exec > /dev/null 2>&1
while :; do sleep infinity & wait; done
`;

export interface HostIdentity {
  readonly name: string;
  readonly hostUuid: string;
  /** Lines of /etc/hosts, so that names resolve at once (libvirt waits seconds otherwise). */
  readonly hosts: string;
}

/** Fills a host's directory: what an operating system's installation would have left there. */
export async function writeHostFiles(dir: string, host: HostIdentity): Promise<void> {
  for (const path of [...privateDirs, 'stash', 'log']) await mkdir(join(dir, path), { recursive: true });
  await mkdir(join(dir, 'var/lib/libvirt/images'), { recursive: true });
  const files: Record<string, string> = {
    'etc/hostname': `${host.name}\n`,
    'etc/hosts': host.hosts,
    'etc/machine-id': `${host.hostUuid.replaceAll('-', '')}\n`,
    'etc/libvirt/libvirtd.conf': `host_uuid = "${host.hostUuid}"\nunix_sock_group = "root"\nauth_unix_rw = "none"\nmdns_adv = 0\n`,
    'etc/libvirt/qemu.conf': [
      'user = "root"',
      'group = "root"',
      'cgroup_controllers = []',
      'security_driver = "none"',
      'namespaces = []',
      'stdio_handler = "file"',
      '',
    ].join('\n'),
    empty: '',
  };
  for (const [path, text] of Object.entries(files)) await writeFile(join(dir, path), text);
}
