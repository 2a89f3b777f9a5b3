/** The description of a guest's domain. Built as data and written by the XML library; nothing of a user's is pasted. */
import { attr, child, children, el, parseXml, toXml, type XmlElement, type XmlSpec } from '../libvirt/index.ts';
import type { Instant } from '../core/model/resource.ts';
import type { AdoptedDomain } from '../core/model/guest.ts';
import type { DomainSpec } from '../ports.ts';

/** Namespace of our element in a domain's metadata. */
export const metadataUri = 'urn:virga:guest:1';
export const metadataPrefix = 'virga';

/** Whose a domain is. */
export interface DomainIdentity {
  readonly siteId: string;
  readonly id: string;
  readonly name: string;
  readonly generation: number;
  readonly epoch: number;
  readonly owner: string;
  readonly community: string;
  readonly startedAt: Instant;
}

export interface EngineChoice {
  /** `qemu` is emulation. */
  readonly type: 'kvm' | 'qemu';
  readonly emulator: string;
  /** Firmware code for UEFI guests. */
  readonly uefiCode?: string;
}

/** Our element, as `setMetadata` wants it (without prefix) or for a whole document. */
export function identityElement(identity: DomainIdentity, prefixed: boolean): XmlSpec {
  const { siteId, id, name, generation, epoch, owner, community, startedAt } = identity;
  const fields = { site: siteId, id, name, generation, epoch, owner, community, started: startedAt };
  if (!prefixed) return el('guest', fields);
  return el(`${metadataPrefix}:guest`, { [`xmlns:${metadataPrefix}`]: metadataUri, ...fields });
}

/** Reads our element from a domain's description; `undefined`: the domain is not ours. */
export function readIdentity(domain: XmlElement): DomainIdentity | undefined {
  const metadata = child(domain, 'metadata');
  const element = metadata && child(metadata, 'guest', metadataUri);
  if (!element) return undefined;
  const text = (name: string): string => attr(element, name) ?? '';
  const number = (name: string): number => {
    const value = Number(text(name));
    return Number.isSafeInteger(value) ? value : -1;
  };
  return {
    siteId: text('site'),
    id: text('id'),
    name: text('name'),
    generation: number('generation'),
    epoch: number('epoch'),
    owner: text('owner'),
    community: text('community'),
    startedAt: number('started'),
  };
}

/** The whole description of a transient domain. */
export function domainXml(spec: DomainSpec, choice: EngineChoice, startedAt: Instant): string {
  const identity = { ...spec, startedAt };
  if (spec.adopted) return adoptedXml(spec.adopted, identity);
  const domain = el(
    'domain',
    { type: choice.type },
    el('name', null, spec.name),
    el('uuid', null, spec.id),
    el('metadata', null, identityElement(identity, true)),
    el('memory', { unit: 'MiB' }, spec.maxMemoryMiB),
    el('currentMemory', { unit: 'MiB' }, spec.memoryMiB),
    el('vcpu', { placement: 'static', current: spec.cpus }, spec.maxCpus),
    osElement(spec, choice),
    el(
      'features',
      null,
      el('acpi'),
      spec.arch === 'x86_64' && el('apic'),
      // Saves memory where it is safe. With several CPUs a small cache is cut into few regions, and QEMU 7.2 aborts when a
      // CPU is added while all are taken (tcg/region.c): 3 of 12 with 16 MiB.
      choice.type === 'qemu' && spec.maxCpus === 1 && el('tcg', null, el('tb-cache', { unit: 'MiB' }, 64)),
    ),
    el('cpu', { mode: 'custom', match: 'exact', check: 'none' }, el('model', { fallback: 'forbid' }, spec.cpuModel)),
    el('clock', { offset: 'utc' }),
    el('on_poweroff', null, 'destroy'),
    el('on_reboot', null, 'restart'),
    el('on_crash', null, 'destroy'),
    devices(spec, choice),
  );
  return toXml(domain);
}

/** A taken-over domain keeps its description; only the identity is added. */
function adoptedXml(adopted: AdoptedDomain, identity: DomainIdentity): string {
  const root = parseXml(adopted.xml, { root: 'domain' });
  const existing = child(root, 'metadata');
  const others = existing ? children(existing).filter((each) => each.namespaceURI !== metadataUri) : [];
  if (existing) root.removeChild(existing);
  const metadata = el('metadata', null, ...others, identityElement(identity, true));
  const attrs: Record<string, string> = {};
  for (const { name, value } of Array.from(root.attributes)) attrs[name] = value;
  delete attrs['id'];
  return toXml(el('domain', attrs, ...children(root), metadata));
}

function osElement(spec: DomainSpec, { uefiCode }: EngineChoice): XmlSpec {
  const uefi = spec.firmware === 'uefi';
  return el(
    'os',
    null,
    el('type', { arch: spec.arch, machine: spec.machineType }, 'hvm'),
    uefi && el('loader', { readonly: 'yes', type: 'pflash' }, uefiCode),
    uefi && el('nvram', null, spec.nvramPath),
  );
}

function devices(spec: DomainSpec, { emulator }: EngineChoice): XmlSpec {
  return el(
    'devices',
    null,
    el('emulator', null, emulator),
    spec.disks.map((disk, index) => diskElement(disk, index)),
    spec.seedPath !== undefined && seedElement(spec.seedPath, spec.disks.length),
    spec.nics.map(({ bridge, mac, mtu }) =>
      el(
        'interface',
        { type: 'bridge' },
        el('mac', { address: mac }),
        el('source', { bridge }),
        el('model', { type: 'virtio' }),
        mtu !== undefined && el('mtu', { size: mtu }),
      ),
    ),
    el('serial', { type: 'pty' }, el('log', { file: spec.serialLogPath, append: 'on' }), el('target', { port: 0 })),
    el(
      'console',
      { type: 'pty' },
      el('log', { file: spec.serialLogPath, append: 'on' }),
      el('target', { type: 'serial', port: 0 }),
    ),
    el('channel', { type: 'unix' }, el('target', { type: 'virtio', name: 'org.qemu.guest_agent.0' })),
    el('memballoon', { model: 'virtio' }, el('stats', { period: 10 })),
    el('rng', { model: 'virtio' }, el('backend', { model: 'random' }, '/dev/urandom')),
    // Nothing that a guest without a screen needs, and nothing that costs memory.
    el('controller', { type: 'usb', model: 'none' }),
  );
}

const targetName = (index: number): string => `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`;

/** The whole chain with every format written down: QEMU must probe nothing (CVE-2024-32498). */
function diskElement(disk: DomainSpec['disks'][number], index: number): XmlSpec {
  return el(
    'disk',
    { type: 'file', device: 'disk' },
    el('driver', { name: 'qemu', type: disk.format, cache: 'writeback', error_policy: 'stop', discard: 'unmap' }),
    el('source', { file: disk.path }),
    backingElement(disk.backing),
    el('target', { dev: targetName(index), bus: 'virtio' }),
    index === 0 && el('boot', { order: 1 }),
  );
}

function backingElement(paths: readonly string[]): XmlSpec {
  const [path, ...under] = paths;
  if (path === undefined) return el('backingStore');
  return el(
    'backingStore',
    { type: 'file' },
    el('format', { type: 'qcow2' }),
    el('source', { file: path }),
    backingElement(under),
  );
}

function seedElement(path: string, index: number): XmlSpec {
  return el(
    'disk',
    { type: 'file', device: 'disk' },
    el('driver', { name: 'qemu', type: 'raw', error_policy: 'stop' }),
    el('source', { file: path }),
    el('backingStore'),
    el('target', { dev: targetName(index), bus: 'virtio' }),
    el('readonly'),
  );
}

/** The snapshot of the first disk of a running guest; the others are left alone. */
export function snapshotXml(overlayPath: string, otherTargets: readonly string[]): string {
  return toXml(
    el(
      'domainsnapshot',
      null,
      el(
        'disks',
        null,
        el(
          'disk',
          { name: 'vda', snapshot: 'external', type: 'file' },
          el('driver', { type: 'qcow2' }),
          el('source', { file: overlayPath }),
        ),
        otherTargets.map((name) => el('disk', { name, snapshot: 'no' })),
      ),
    ),
  );
}
