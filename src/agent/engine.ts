/** The engine port over libvirt. Domains are transient: they run on without us, and nothing starts them but an order. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { AdoptedDomain } from '../core/model/guest.ts';
import type { EngineFacts } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import {
  AFFECT,
  all,
  attr,
  at,
  isLibvirtCode,
  LIFECYCLE_EVENTS,
  LibvirtClient,
  nameOf,
  need,
  parseXml,
  SNAPSHOT_CREATE,
  text,
  toXml,
  UNDEFINE,
  XML,
  type ClientOptions,
  type Dom,
} from '../libvirt/index.ts';
import type { DomainSpec, Duplex, EngineView, GuestExit, Log } from '../ports.ts';
import {
  domainXml,
  identityElement,
  metadataPrefix,
  metadataUri,
  snapshotXml,
  type EngineChoice,
} from './domain-xml.ts';
import { engineError } from './engine-errors.ts';
import { emulatorPath, readFacts } from './engine-facts.ts';
import { GuestProcesses, type ProcessSettings } from './engine-process.ts';
import { DomainView, exitFromLog, exitReason } from './engine-view.ts';
import { pollAddresses } from './guest-addresses.ts';
import type { AgentEngine } from './ports.ts';

export interface EngineSettings {
  readonly client?: ClientOptions;
  readonly hostName: string;
  readonly arch: string;
  /** Whether KVM really works here; asked once. */
  readonly kvm: () => Promise<boolean>;
  /** Firmware code for UEFI guests, if there is one. */
  readonly uefiCode?: string;
  /** libvirt's logs of its QEMU domains; `/var/log/libvirt/qemu` by default. */
  readonly domainLogs?: string;
  readonly processes?: ProcessSettings;
  readonly now: () => number;
  readonly log: Log;
}

const createTimeoutMs = 120_000;
const logTailBytes = 16 * 1024;

export class LibvirtEngine implements AgentEngine {
  readonly client: LibvirtClient;
  readonly #settings: EngineSettings;
  readonly #view: DomainView;
  readonly #processes: GuestProcesses;
  readonly #listeners = new Set<(exit?: GuestExit) => void>();
  readonly #polling: { stop(): void };
  #choice: Promise<EngineChoice> | undefined;

  constructor(settings: EngineSettings) {
    this.#settings = settings;
    this.client = new LibvirtClient({
      callTimeoutMs: 20_000,
      backOff: { maxMs: 2000 },
      onHandlerError: (error) => settings.log.error('an event could not be handled', { detail: String(error) }),
      ...settings.client,
    });
    this.#processes = new GuestProcesses(settings.processes);
    this.#view = new DomainView(this.client, this.#processes);
    this.#polling = pollAddresses(this.client, this.#view, () => this.#tell());
    this.#subscribe();
  }

  /** Ends the connections; domains run on. */
  async close(): Promise<void> {
    this.#polling.stop();
    await this.client.close();
  }

  #subscribe(): void {
    const { log } = this.#settings;
    const failed = (error: unknown): void => log.warn('events cannot be subscribed', { detail: String(error) });
    const { client } = this;
    client
      .on('lifecycle', ({ dom, event, detail }) => {
        const name = nameOf(LIFECYCLE_EVENTS, event);
        if (name !== 'stopped') return this.#tell();
        this.#view.forget(dom.uuid);
        this.#tell({ id: dom.uuid, reason: exitReason(detail), exitAt: this.#settings.now() });
      })
      .catch(failed);
    client
      .on('metadataChange', ({ dom }) => {
        this.#view.forget(dom.uuid);
        this.#tell();
      })
      .catch(failed);
    client
      .on('balloonChange', ({ dom, actual }) => {
        this.#view.memoryChanged(dom.uuid, Number(actual));
        this.#tell();
      })
      .catch(failed);
    client
      .on('agentLifecycle', ({ dom, state }) => {
        this.#view.agentChanged(dom.uuid, state === 1);
        this.#tell();
      })
      .catch(failed);
    client.onState(() => {
      // While we were away anything may have happened.
      this.#view.forget();
      this.#tell();
    });
  }

  #tell(exit?: GuestExit): void {
    for (const listener of this.#listeners) listener(exit);
  }

  onChange(listener: (exit?: GuestExit) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async #do<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw engineError(error, this.#settings.hostName);
    }
  }

  /** Type and emulator; asked again when asking failed. */
  #choose(): Promise<EngineChoice> {
    this.#choice ??= this.#ask().catch((error: unknown) => {
      this.#choice = undefined;
      throw error;
    });
    return this.#choice;
  }

  async #ask(): Promise<EngineChoice> {
    const { arch, uefiCode } = this.#settings;
    const type = (await this.#settings.kvm()) ? 'kvm' : 'qemu';
    const emulator = await emulatorPath(this.client, arch, type);
    return { type, emulator, ...(uefiCode === undefined ? {} : { uefiCode }) };
  }

  facts(): Promise<EngineFacts> {
    return this.#do(async () => {
      const { type } = await this.#choose();
      const { arch, uefiCode } = this.#settings;
      return readFacts(this.client, { arch, kvm: type === 'kvm', uefi: uefiCode !== undefined });
    });
  }

  view(): Promise<EngineView> {
    return this.#do(() => this.#view.look());
  }

  createPaused(spec: DomainSpec): Promise<void> {
    return this.#do(async () => {
      const choice = await this.#choose();
      if (spec.firmware === 'uefi' && !spec.adopted && choice.uefiCode === undefined)
        throw new VirgaError('setup', { detail: 'This host has no UEFI firmware', how: 'Install the package ovmf.' });
      const xml = domainXml(spec, choice, this.#settings.now());
      await this.client.createXML(xml, { paused: true, timeoutMs: createTimeoutMs });
    });
  }

  pidOf(id: Uuid): Promise<number | undefined> {
    return this.#do(async () => {
      const dom = await this.client.findByUuid(id);
      return dom && this.#processes.pidOf(id, dom.name);
    });
  }

  async #dom(id: Uuid): Promise<Dom> {
    return this.client.lookupByUuid(id);
  }

  /** A domain that is not there, or not running, needs no stopping. */
  async #unlessGone(act: () => Promise<void>): Promise<void> {
    await this.#do(async () => {
      try {
        await act();
      } catch (error) {
        if (!isLibvirtCode(error, 'VIR_ERR_NO_DOMAIN', 'VIR_ERR_OPERATION_INVALID')) throw error;
      }
    });
  }

  shutdown(id: Uuid): Promise<void> {
    return this.#unlessGone(async () => this.client.shutdown(await this.#dom(id)));
  }

  destroy(id: Uuid): Promise<void> {
    return this.#unlessGone(async () => this.client.destroy(await this.#dom(id)));
  }

  pause(id: Uuid): Promise<void> {
    return this.#unlessGone(async () => this.client.suspend(await this.#dom(id)));
  }

  resume(id: Uuid): Promise<void> {
    return this.#unlessGone(async () => this.client.resume(await this.#dom(id)));
  }

  setCpus(id: Uuid, cpus: number): Promise<void> {
    return this.#do(async () => {
      await this.client.setVcpus(await this.#dom(id), cpus);
      this.#view.forget(id);
    });
  }

  setMemory(id: Uuid, memoryMiB: number): Promise<void> {
    return this.#do(async () => {
      await this.client.setMemory(await this.#dom(id), memoryMiB * 1024);
      this.#view.forget(id);
    });
  }

  growDisk(id: Uuid, bytes: number): Promise<void> {
    return this.#do(async () => this.client.blockResize(await this.#dom(id), 'vda', bytes));
  }

  snapshotDisk(id: Uuid, overlayPath: string): Promise<void> {
    return this.#do(async () => {
      const dom = await this.#dom(id);
      const root = parseXml(await this.client.xmlDesc(dom));
      const targets = all(root, 'devices/disk/target').map((target) => attr(target, 'dev') ?? '');
      const xml = snapshotXml(
        overlayPath,
        targets.filter((target) => target !== 'vda'),
      );
      const flags = SNAPSHOT_CREATE.diskOnly | SNAPSHOT_CREATE.atomic | SNAPSHOT_CREATE.noMetadata;
      await this.client.createSnapshot(dom, xml, flags);
    });
  }

  diskSource(id: Uuid): Promise<string | undefined> {
    return this.#do(async () => {
      const dom = await this.client.findByUuid(id);
      if (!dom) return undefined;
      const root = parseXml(await this.client.xmlDesc(dom));
      const disk = all(root, 'devices/disk').find((each) => attr(at(each, 'target'), 'dev') === 'vda');
      return disk && attr(at(disk, 'source'), 'file');
    });
  }

  inspect(uuid: Uuid): Promise<AdoptedDomain & { cpus: number; memoryMiB: number; name: string }> {
    return this.#do(async () => {
      const dom = await this.#dom(uuid);
      const described = await this.#describe(dom);
      const root = parseXml(described.xml);
      return {
        ...described,
        name: text(root, 'name') ?? dom.name,
        cpus: Number(text(root, 'vcpu') ?? 0),
        memoryMiB: Math.ceil(kib(need(root, 'memory').textContent ?? '0', attr(at(root, 'memory'), 'unit')) / 1024),
      };
    });
  }

  async #describe(dom: Dom): Promise<AdoptedDomain> {
    const persistent = (await this.client.listDomains(4)).some((each) => each.uuid === dom.uuid);
    const autostart = persistent ? (await this.client.call('domainGetAutostart', { dom })).autostart !== 0 : false;
    const xml = await this.client.xmlDesc(dom, XML.secure | (persistent ? XML.inactive : XML.migratable));
    return { xml, persistent, autostart };
  }

  adopt(
    uuid: Uuid,
    spec: Pick<DomainSpec, 'name' | 'siteId' | 'generation' | 'epoch' | 'owner' | 'community'>,
  ): Promise<AdoptedDomain> {
    return this.#do(async () => {
      const dom = await this.#dom(uuid);
      const described = await this.#describe(dom);
      if (dom.id >= 0) {
        const element = identityElement({ ...spec, id: uuid, startedAt: this.#settings.now() }, false);
        await this.client.setMetadata(dom, { uri: metadataUri, key: metadataPrefix, xml: toXml(element) }, AFFECT.live);
      }
      // A running domain goes on as a transient one; its autostart goes with the definition.
      if (described.persistent) await this.client.undefine(dom, UNDEFINE.keepNvram);
      this.#view.forget(uuid);
      return described;
    });
  }

  release(id: Uuid, domain: AdoptedDomain): Promise<void> {
    return this.#do(async () => {
      if (domain.persistent) {
        const defined = await this.client.defineXML(domain.xml);
        await this.client.call('domainSetAutostart', { dom: defined, autostart: domain.autostart ? 1 : 0 });
      }
      const dom = await this.client.findByUuid(id);
      if (dom && dom.id >= 0)
        await this.client.setMetadata(dom, { uri: metadataUri, key: metadataPrefix, xml: null }, AFFECT.live);
      this.#view.forget(id);
    });
  }

  console(id: Uuid): Promise<Duplex> {
    return this.#do(async () => {
      const stream = await this.client.openConsole(await this.#dom(id), { force: true });
      return {
        incoming: stream as AsyncIterable<Uint8Array>,
        write: (bytes: Uint8Array) =>
          new Promise<void>((resolve, reject) => {
            stream.write(bytes, (error) => (error ? reject(error) : resolve()));
          }),
        close: () => void stream.destroy(),
      };
    });
  }

  /** From libvirt's log of the domain, where the event was missed. */
  async lastExit(id: Uuid, name: string): Promise<GuestExit | undefined> {
    const path = join(this.#settings.domainLogs ?? '/var/log/libvirt/qemu', `${name}.log`);
    const log = await tail(path, logTailBytes).catch(() => undefined);
    const exit = log === undefined ? undefined : exitFromLog(log);
    return exit && { id, ...exit };
  }
}

function kib(value: string, unit = 'KiB'): number {
  const factors: Readonly<Record<string, number>> = { KiB: 1, k: 1, MiB: 1024, M: 1024, GiB: 1024 ** 2, G: 1024 ** 2 };
  return Number(value) * (factors[unit] ?? 1);
}

async function tail(path: string, bytes: number): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, bytes);
    const buffer = Buffer.alloc(length);
    await handle.read(buffer, 0, length, size - length);
    return buffer.toString('latin1');
  } finally {
    await handle.close();
  }
}
