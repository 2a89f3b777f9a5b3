/** What an engine is and can: asked of libvirt once, for placement and for the pinning of new guests. */
import type { EngineFacts } from '../core/model/host.ts';
import { all, at, attr, children, parseXml, text, type LibvirtClient, type XmlElement } from '../libvirt/index.ts';

export interface FactsSettings {
  readonly arch: string;
  readonly kvm: boolean;
  /** True when firmware code for UEFI guests was found. */
  readonly uefi: boolean;
}

/** Reads the facts. @throws LibvirtError, XmlError */
export async function readFacts(client: LibvirtClient, settings: FactsSettings): Promise<EngineFacts> {
  const virttype = settings.kvm ? 'kvm' : 'qemu';
  const [versions, capabilities, domain] = await Promise.all([
    client.versions(),
    client.capabilities(),
    client.domainCapabilities({ arch: settings.arch, virttype }),
  ]);
  const { type } = await client.call('connectGetType');
  return {
    type: type.toLowerCase(),
    libvirtVersion: versions.libvirt,
    emulatorVersion: versions.hypervisor,
    arch: settings.arch,
    kvm: settings.kvm,
    machines: machineTypes(parseXml(capabilities), settings.arch, virttype),
    cpuModels: cpuModels(parseXml(domain)),
    firmwares: settings.uefi ? ['bios', 'uefi'] : ['bios'],
  };
}

/** Path of the emulator that libvirt uses for this architecture. */
export async function emulatorPath(client: LibvirtClient, arch: string, virttype: 'kvm' | 'qemu'): Promise<string> {
  const root = parseXml(await client.domainCapabilities({ arch, virttype }));
  return text(root, 'path') ?? `/usr/bin/qemu-system-${arch}`;
}

/** Names such as `pc-q35-7.2`: only versioned ones mean the same years later. Newest first. */
function machineTypes(capabilities: XmlElement, arch: string, virttype: string): string[] {
  const guests = all(capabilities, 'guest').filter((guest) => attr(at(guest, 'arch'), 'name') === arch);
  const names = new Set<string>();
  for (const guest of guests) {
    const found = at(guest, 'arch');
    if (!found) continue;
    const own = all(found, 'domain').filter((each) => attr(each, 'type') === virttype);
    for (const parent of [found, ...own])
      for (const machine of children(parent, 'machine')) names.add(text(machine) ?? '');
  }
  return [...names].filter((name) => /-\d+\.\d+$/.test(name)).sort(newestFirst);
}

function newestFirst(a: string, b: string): number {
  const version = (name: string): number[] => (/(\d+)\.(\d+)$/.exec(name) ?? []).slice(1).map(Number);
  const [majorA = 0, minorA = 0] = version(a);
  const [majorB = 0, minorB = 0] = version(b);
  return majorB - majorA || minorB - minorA || (a < b ? 1 : -1);
}

function cpuModels(domain: XmlElement): string[] {
  const custom = all(domain, 'cpu/mode').find((mode) => attr(mode, 'name') === 'custom');
  if (!custom) return [];
  return children(custom, 'model')
    .filter((model) => attr(model, 'usable') !== 'no')
    .map((model) => text(model) ?? '')
    .filter((name) => name !== '' && name !== 'host')
    .sort();
}
