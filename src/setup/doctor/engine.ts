import { existsSync, readdirSync } from 'node:fs';
import { findEmulator } from '../../effects/kvm.ts';
import { installCommand as install, quietly } from './command.ts';
import type { Finding } from './finding.ts';
import { linuxArch } from './machine.ts';

const classicSockets = ['/run/libvirt/libvirt-sock'] as const;
const modularSockets = ['/run/libvirt/virtqemud-sock'] as const;

export function libvirtFindings(): Finding[] {
  const daemon = ['/usr/sbin/libvirtd', '/usr/sbin/virtqemud', '/usr/libexec/virtqemud'].find((path) =>
    existsSync(path),
  );
  if (!daemon)
    return [
      {
        area: 'engine',
        title: 'libvirt',
        state: 'fail',
        found: 'not installed',
        todo: install('libvirt-daemon-system libvirt-clients', 'libvirt-daemon-driver-qemu libvirt-client'),
      },
    ];
  const socket = [...classicSockets, ...modularSockets].find((path) => existsSync(path));
  return [
    { area: 'engine', title: 'libvirt', state: 'ok', found: daemon },
    socket
      ? { area: 'engine', title: 'libvirt socket', state: 'ok', found: socket }
      : {
          area: 'engine',
          title: 'libvirt socket',
          state: 'note',
          found: 'no libvirt daemon runs',
          todo: 'nothing: virga up starts one of its own; or start the distribution’s (systemctl start libvirtd)',
        },
  ];
}

export async function emulatorFindings(): Promise<Finding[]> {
  const arch = linuxArch();
  const emulator = findEmulator(arch);
  if (!emulator)
    return [
      {
        area: 'engine',
        title: 'QEMU',
        state: 'fail',
        found: `no emulator for ${arch}`,
        todo: install(arch === 'aarch64' ? 'qemu-system-arm' : 'qemu-system-x86', 'qemu-kvm'),
      },
    ];
  const version = /version ([\d.]+)/.exec((await quietly(emulator, ['--version'])).out)?.[1] ?? 'unknown version';
  const firmware = [
    '/usr/share/OVMF/OVMF_CODE_4M.fd',
    '/usr/share/edk2/ovmf/OVMF_CODE.fd',
    '/usr/share/AAVMF/AAVMF_CODE.fd',
  ].find((path) => existsSync(path));
  return [
    { area: 'engine', title: 'QEMU', state: 'ok', found: `${emulator} ${version}` },
    firmware
      ? { area: 'engine', title: 'UEFI firmware', state: 'ok', found: firmware }
      : {
          area: 'engine',
          title: 'UEFI firmware',
          state: 'note',
          found: 'not installed',
          todo: `only for guests with --firmware uefi: ${install('ovmf', 'edk2-ovmf')}`,
        },
  ];
}

/** `libvirt-guests` suspends or restarts domains at shutdown and boot: it would start what Virga moved elsewhere. */
export async function libvirtGuestsFindings(): Promise<Finding[]> {
  const linked = ['/etc/rc2.d', '/etc/rc3.d', '/etc/rc5.d'].some(
    (folder) => existsSync(folder) && readdirSync(folder).some((name) => /^S\d+libvirt-guests$/.test(name)),
  );
  const systemd = existsSync('/run/systemd/system');
  const asked = systemd ? await quietly('systemctl', ['is-enabled', 'libvirt-guests.service']) : undefined;
  const enabled = asked ? asked.code === 0 && asked.out.trim() === 'enabled' : linked;
  if (!enabled) return [{ area: 'engine', title: 'libvirt-guests service', state: 'ok', found: 'not enabled' }];
  return [
    {
      area: 'engine',
      title: 'libvirt-guests service',
      state: 'warn',
      found: 'enabled: it would suspend guests at shutdown and start them at boot, also those that moved elsewhere',
      todo: systemd ? 'systemctl disable libvirt-guests.service' : 'update-rc.d libvirt-guests disable',
    },
  ];
}
