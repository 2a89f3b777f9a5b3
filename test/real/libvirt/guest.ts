import { el, toXml } from '../../../src/libvirt/index.ts';

/** What a test may want different. */
export interface TestGuest {
  readonly name: string;
  /** Path and format of a disk. */
  readonly disk?: { readonly path: string; readonly format: 'raw' | 'qcow2' };
  readonly maxVcpus?: number;
}

/**
 * A real QEMU guest without KVM that needs no image: 32 MiB, and a BIOS that talks on the serial line and waits a
 * minute in its boot menu.
 */
export function guestXml({ name, disk, maxVcpus = 1 }: TestGuest): string {
  return toXml(
    el(
      'domain',
      { type: 'qemu' },
      el('name', null, name),
      el('memory', { unit: 'MiB' }, 32),
      el('vcpu', { current: 1 }, maxVcpus),
      el(
        'os',
        null,
        el('type', { arch: 'x86_64', machine: 'pc' }, 'hvm'),
        el('bios', { useserial: 'yes' }),
        el('bootmenu', { enable: 'yes', timeout: 60_000 }),
      ),
      el('features', null, el('acpi')),
      el('cpu', { mode: 'custom', match: 'exact', check: 'none' }, el('model', null, 'qemu64')),
      el(
        'devices',
        null,
        el('controller', { type: 'usb', model: 'none' }),
        disk &&
          el(
            'disk',
            { type: 'file', device: 'disk' },
            el('driver', { name: 'qemu', type: disk.format }),
            el('source', { file: disk.path }),
            el('target', { dev: 'vda', bus: 'virtio' }),
          ),
        el('serial', { type: 'pty' }),
        el('channel', { type: 'unix' }, el('target', { type: 'virtio', name: 'org.qemu.guest_agent.0' })),
        el('memballoon', { model: 'virtio' }),
      ),
    ),
  );
}
