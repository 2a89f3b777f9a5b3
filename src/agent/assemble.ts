/** Puts the real parts of one agent together; `main.ts` gives the effects, tests give another controller. */
import { existsSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ClientOptions } from '../libvirt/index.ts';
import type { Clock, ControllerLink, Files, Ids, Log } from '../ports.ts';
import { guestDisks, type DiskTool } from './disks.ts';
import { LibvirtEngine } from './engine.ts';
import { currentBoot } from './left.ts';
import { AgentLoop } from './loop.ts';
import { hostMeter } from './meter.ts';
import { hostNetworks } from './networks.ts';
import type { AgentIdentity, HostImages, KeeperDoor } from './ports.ts';
import { guestSeeds } from './seeds.ts';

/** Effects from outside this folder. */
export interface AgentWorld {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly files: Files;
  readonly log: Log;
  readonly diskTool: DiskTool;
  readonly images: HostImages;
  readonly keeper: KeeperDoor;
  readonly tryKvm: (arch: string) => Promise<{ readonly works: boolean; readonly why: string }>;
}

export interface AgentSettings {
  readonly dataDir: string;
  readonly hostId: string;
  readonly siteId: string;
  readonly agentVersion: string;
  readonly libvirt?: Pick<ClientOptions, 'uri' | 'socket'>;
  /** `kvm` or `qemu` instead of a trial. */
  readonly engineType?: 'kvm' | 'qemu';
}

export interface AssembledAgent {
  readonly loop: AgentLoop;
  readonly engine: LibvirtEngine;
  readonly identity: AgentIdentity;
  /** Path of a guest's serial output. */
  readonly serialPath: (guestId: string) => string;
}

/** Firmware by the paths of the Debian and the RHEL families: code, and the template of its variables. */
const uefiFiles: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  x86_64: [
    ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
    ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
  ],
  aarch64: [
    ['/usr/share/AAVMF/AAVMF_CODE.fd', '/usr/share/AAVMF/AAVMF_VARS.fd'],
    ['/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw', '/usr/share/edk2/aarch64/vars-template-pflash.raw'],
  ],
};

/** Names of architectures as QEMU has them. */
const architectures: Readonly<Record<string, string>> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  s390x: 's390x',
  ppc64: 'ppc64le',
};

/** Assembles an agent that reports to `link`. Its loop is loaded but not running. */
export async function assembleAgent(
  settings: AgentSettings,
  world: AgentWorld,
  link: ControllerLink,
): Promise<AssembledAgent> {
  const { dataDir } = settings;
  // The emulator's user passes through to disks and images; only root lists.
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  await chmod(dataDir, 0o711);
  const bootId = await currentBoot(world.files);
  const { hostId, siteId, agentVersion } = settings;
  const identity = { hostId, siteId, bootId, agentVersion };
  const arch = architectures[process.arch] ?? process.arch;
  const [uefiCode, uefiVars] = (uefiFiles[arch] ?? []).find(([code]) => existsSync(code)) ?? [];
  const disks = guestDisks({ dataDir, tool: world.diskTool, ...(uefiVars === undefined ? {} : { uefiVars }) });
  const engine = new LibvirtEngine({
    ...(settings.libvirt ? { client: settings.libvirt } : {}),
    hostName: hostname(),
    arch,
    kvm: () => decideKvm(settings, world, arch),
    ...(uefiCode === undefined ? {} : { uefiCode }),
    now: () => world.clock.now(),
    log: world.log,
  });
  const ports = {
    clock: world.clock,
    ids: world.ids,
    files: world.files,
    log: world.log,
    images: world.images,
    keeper: world.keeper,
    engine,
    link,
    disks,
    seeds: guestSeeds(dataDir),
    networks: hostNetworks(dataDir),
    meter: hostMeter(dataDir),
  };
  const loop = new AgentLoop(ports, identity);
  await loop.load();
  const serialPath = (guestId: string): string => disks.path(guestId, 'serial.log');
  return { loop, engine, identity, serialPath };
}

async function decideKvm(settings: AgentSettings, world: AgentWorld, arch: string): Promise<boolean> {
  if (settings.engineType) return settings.engineType === 'kvm';
  const { works, why } = await world.tryKvm(arch);
  world.log.info(works ? 'KVM works' : 'guests are emulated', { why });
  return works;
}

/** The part of the image cache that the loop sees. */
export function imagesOf(cache: {
  ensure: (image: { sha512: string; sizeBytes: number }, onProgress?: (fraction: number) => void) => Promise<string>;
  path: (sha512: string) => string;
  list: () => Promise<readonly string[]>;
  evict: (inUse: ReadonlySet<string>) => Promise<readonly string[]>;
}): HostImages {
  return {
    ensure: (image, onProgress) => cache.ensure(image, onProgress),
    path: (sha512) => cache.path(sha512),
    list: () => cache.list(),
    evict: (inUse) => cache.evict(inUse),
  };
}

export const imageFolder = (dataDir: string): string => join(dataDir, 'images');
