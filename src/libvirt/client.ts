import {
  ADDRESS_SOURCE,
  AFFECT,
  BLOCK_RESIZE,
  CONSOLE,
  CREATE,
  DESTROY,
  DOMAIN_STATES,
  METADATA,
  nameOf,
  SHUTDOWN,
  STATS_NOWAIT,
  type DomainState,
} from './constants.ts';
import type { CallOptions } from './deadline.ts';
import { isLibvirtCode, LibvirtError } from './errors.ts';
import { Params } from './params.ts';
import { LibvirtSession, type ClientOptions } from './session.ts';
import { StorageClient } from './storage.ts';
import type { LibvirtStream } from './streams.ts';
import type { Dom, Iface, Snap } from './types.ts';

/** Bulk statistics of one domain, such as `state.state`, `cpu.time` (ns), `balloon.rss` (KiB), `net.0.rx.bytes`. */
export interface DomainStats {
  readonly dom: Dom;
  readonly stats: Params;
}

/** A domain's state: libvirt's name and its number of the reason (virDomain…Reason, whose meaning the state gives). */
export interface DomainStatus {
  readonly state: DomainState;
  readonly reason: number;
}

/**
 * A libvirt client. Methods that take seconds use the slow connection, the others the control connection; what has no
 * method is reached by `call` and `slow.call` with libvirt's own names. Every method throws `LibvirtError`.
 */
export class LibvirtClient extends LibvirtSession {
  /** Pools and volumes. */
  readonly storage: StorageClient = new StorageClient(this);
  #hostname: Promise<string> | undefined;

  /** Connects. @throws LibvirtError where the first attempt fails; use the constructor and `onState` to keep trying */
  static async open(options: ClientOptions = {}): Promise<LibvirtClient> {
    const client = new LibvirtClient(options);
    try {
      await client.ready();
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  // The physical machine

  /** The machine's name as libvirt knows it. Asked once: it takes 5 s where names do not resolve. */
  hostname(): Promise<string> {
    this.#hostname ??= this.slow.call('connectGetHostname').then(
      ({ hostname }) => hostname,
      (error: unknown) => {
        this.#hostname = undefined;
        throw error;
      },
    );
    return this.#hostname;
  }

  /** libvirt's version and the hypervisor's, each as `9.0.0`. */
  async versions(): Promise<{ libvirt: string; hypervisor: string }> {
    const [{ libVer }, { hvVer }] = await Promise.all([
      this.call('connectGetLibVersion'),
      this.call('connectGetVersion'),
    ]);
    return { libvirt: dotted(libVer), hypervisor: dotted(hvVer) };
  }

  /** The document `<capabilities>`; the first call after the daemon's start probes QEMU and takes seconds. */
  async capabilities(): Promise<string> {
    return (await this.slow.call('connectGetCapabilities')).capabilities;
  }

  /** The document `<domainCapabilities>` for an emulator, architecture, machine type and kind of virtualization. */
  async domainCapabilities(
    of: { emulator?: string; arch?: string; machine?: string; virttype?: string } = {},
  ): Promise<string> {
    const { emulator: emulatorbin, ...rest } = of;
    return (await this.slow.call('connectGetDomainCapabilities', { emulatorbin, ...rest })).capabilities;
  }

  // Finding domains

  /** All domains, or those that `LIST` flags name. */
  async listDomains(flags = 0): Promise<readonly Dom[]> {
    return (await this.call('connectListAllDomains', { needResults: 1, flags })).domains;
  }

  async lookupByName(name: string): Promise<Dom> {
    return (await this.call('domainLookupByName', { name })).dom;
  }

  async lookupByUuid(uuid: string): Promise<Dom> {
    return (await this.call('domainLookupByUUID', { uuid })).dom;
  }

  /** Like `lookupByUuid`, but `undefined` where there is no such domain. */
  async findByUuid(uuid: string): Promise<Dom | undefined> {
    try {
      return await this.lookupByUuid(uuid);
    } catch (error) {
      if (isLibvirtCode(error, 'VIR_ERR_NO_DOMAIN')) return undefined;
      throw error;
    }
  }

  async domainState(dom: Dom, options?: CallOptions): Promise<DomainStatus> {
    const { state, reason } = await this.call('domainGetState', { dom }, options);
    return { state: nameOf(DOMAIN_STATES, state) ?? 'nostate', reason };
  }

  /** The domain's document; `flags` of `XML`. */
  async xmlDesc(dom: Dom, flags = 0): Promise<string> {
    return (await this.call('domainGetXMLDesc', { dom, flags })).xml;
  }

  /** Statistics of many domains in one call. `groups`: flags of `STATS`; `dom`s: only these (by default all). */
  async allDomainStats(
    groups = 0,
    options: { doms?: readonly Dom[]; noWait?: boolean; flags?: number } & CallOptions = {},
  ): Promise<DomainStats[]> {
    const { doms = [], noWait = false, flags = 0, ...limits } = options;
    const args = { doms, stats: groups, flags: noWait ? (flags | STATS_NOWAIT) >>> 0 : flags };
    const { records } = await this.call('connectGetAllDomainStats', args, limits);
    return records.map(({ dom, params }) => ({ dom, stats: new Params(params) }));
  }

  // Life of a domain

  /** Starts a transient domain. */
  async createXML(xml: string, options: { paused?: boolean } & CallOptions = {}): Promise<Dom> {
    const { paused = false, ...limits } = options;
    return (await this.slow.call('domainCreateXML', { xml, flags: paused ? CREATE.paused : 0 }, limits)).dom;
  }

  async defineXML(xml: string): Promise<Dom> {
    return (await this.call('domainDefineXMLFlags', { xml })).dom;
  }

  /** Starts a defined domain. */
  async start(dom: Dom, options: { paused?: boolean } & CallOptions = {}): Promise<Dom> {
    const { paused = false, ...limits } = options;
    return (await this.slow.call('domainCreateWithFlags', { dom, flags: paused ? CREATE.paused : 0 }, limits)).dom;
  }

  /** Removes the definition; `flags` of `UNDEFINE`. */
  async undefine(dom: Dom, flags = 0): Promise<void> {
    await this.slow.call('domainUndefineFlags', { dom, flags });
  }

  /** Pulls the plug. `graceful`: never SIGKILL, fails instead where QEMU does not end. */
  async destroy(dom: Dom, options: { graceful?: boolean } & CallOptions = {}): Promise<void> {
    const { graceful = false, ...limits } = options;
    await this.slow.call('domainDestroyFlags', { dom, flags: graceful ? DESTROY.graceful : 0 }, limits);
  }

  /** Presses the power button, or asks the guest agent; returns before the guest has obeyed. */
  async shutdown(dom: Dom, how: keyof typeof SHUTDOWN = 'default'): Promise<void> {
    await this.slow.call('domainShutdownFlags', { dom, flags: SHUTDOWN[how] });
  }

  /** Asks the guest to reboot; returns before it has. */
  async reboot(dom: Dom, how: keyof typeof SHUTDOWN = 'default'): Promise<void> {
    await this.slow.call('domainReboot', { dom, flags: SHUTDOWN[how] });
  }

  /** Presses the reset button. */
  async reset(dom: Dom): Promise<void> {
    await this.slow.call('domainReset', { dom });
  }

  async suspend(dom: Dom): Promise<void> {
    await this.slow.call('domainSuspend', { dom });
  }

  async resume(dom: Dom): Promise<void> {
    await this.slow.call('domainResume', { dom });
  }

  // Metadata

  /** The element of that namespace in the domain's metadata; `undefined` where it has none. */
  async getMetadata(dom: Dom, uri: string, flags: number = AFFECT.current): Promise<string | undefined> {
    try {
      return (await this.call('domainGetMetadata', { dom, type: METADATA.element, uri, flags })).metadata;
    } catch (error) {
      if (isLibvirtCode(error, 'VIR_ERR_NO_DOMAIN_METADATA')) return undefined;
      throw error;
    }
  }

  /**
   * Sets the element of that namespace, or removes it (`xml: null`). `xml` without the namespace's prefix and
   * declaration: libvirt adds both, with `key` as the prefix.
   */
  async setMetadata(
    dom: Dom,
    element: { uri: string; key: string; xml: string | null },
    flags: number = AFFECT.current,
  ): Promise<void> {
    const { uri, key, xml: metadata } = element;
    await this.call('domainSetMetadata', { dom, type: METADATA.element, metadata, key, uri, flags });
  }

  // Size and devices of a domain

  async setVcpus(dom: Dom, count: number, flags: number = AFFECT.live): Promise<void> {
    await this.slow.call('domainSetVcpusFlags', { dom, nvcpus: count, flags });
  }

  /** Sets the balloon's target. @param kib KiB */
  async setMemory(dom: Dom, kib: number | bigint, flags: number = AFFECT.live): Promise<void> {
    await this.slow.call('domainSetMemoryFlags', { dom, memory: BigInt(kib), flags });
  }

  /** Grows a disk of a running domain. @param disk target (`vda`) or path @param bytes new size */
  async blockResize(dom: Dom, disk: string, bytes: number | bigint): Promise<void> {
    await this.slow.call('domainBlockResize', { dom, disk, size: BigInt(bytes), flags: BLOCK_RESIZE.bytes });
  }

  async attachDevice(dom: Dom, xml: string, flags: number = AFFECT.live): Promise<void> {
    await this.slow.call('domainAttachDeviceFlags', { dom, xml, flags });
  }

  /** Asks for a device's removal; the event `deviceRemoved` says when the guest has let go. */
  async detachDevice(dom: Dom, xml: string, flags: number = AFFECT.live): Promise<void> {
    await this.slow.call('domainDetachDeviceFlags', { dom, xml, flags });
  }

  async updateDevice(dom: Dom, xml: string, flags: number = AFFECT.live): Promise<void> {
    await this.slow.call('domainUpdateDeviceFlags', { dom, xml, flags });
  }

  /** Addresses by network interface: from libvirt's leases, the guest agent, or the machine's ARP table. */
  async interfaceAddresses(dom: Dom, source: keyof typeof ADDRESS_SOURCE = 'lease'): Promise<readonly Iface[]> {
    const link = source === 'agent' ? this.slow : this.control;
    return (await link.call('domainInterfaceAddresses', { dom, source: ADDRESS_SOURCE[source] })).ifaces;
  }

  // Snapshots

  /** Takes a snapshot; `flags` of `SNAPSHOT_CREATE`. */
  async createSnapshot(dom: Dom, xml: string, flags = 0): Promise<Snap> {
    return (await this.slow.call('domainSnapshotCreateXML', { dom, xml, flags })).snap;
  }

  async listSnapshots(dom: Dom, flags = 0): Promise<readonly Snap[]> {
    return (await this.call('domainListAllSnapshots', { dom, needResults: 1, flags })).snapshots;
  }

  async lookupSnapshot(dom: Dom, name: string): Promise<Snap> {
    return (await this.call('domainSnapshotLookupByName', { dom, name })).snap;
  }

  async snapshotXml(snap: Snap): Promise<string> {
    return (await this.call('domainSnapshotGetXMLDesc', { snap })).xml;
  }

  /** `flags` of `SNAPSHOT_REVERT`. */
  async revertToSnapshot(snap: Snap, flags = 0): Promise<void> {
    await this.slow.call('domainRevertToSnapshot', { snap, flags });
  }

  /** `flags` of `SNAPSHOT_DELETE`. */
  async deleteSnapshot(snap: Snap, flags = 0): Promise<void> {
    await this.slow.call('domainSnapshotDelete', { snap, flags });
  }

  // Talking with the guest and with QEMU

  /**
   * Opens a serial console. Reading and writing are the guest's; `end()` or `destroy()` detaches.
   * @param options `device`: alias (default: the first console); `force`: takes it from whoever has it.
   */
  async openConsole(
    dom: Dom,
    options: { device?: string; force?: boolean } & CallOptions = {},
  ): Promise<LibvirtStream> {
    const { device, force = false, ...limits } = options;
    const args = { dom, devName: device ?? null, flags: force ? CONSOLE.force : 0 };
    return (await this.openStream('domainOpenConsole', args, limits)).stream;
  }

  /**
   * Sends a command to the guest agent. What it answers comes from inside the guest: do not trust it.
   * @param timeoutSeconds how long libvirt waits for the agent (default 5)
   */
  async agentCommand(dom: Dom, command: object, timeoutSeconds = 5): Promise<unknown> {
    const args = { dom, cmd: JSON.stringify(command), timeout: timeoutSeconds };
    const limits = { timeoutMs: (timeoutSeconds + 30) * 1000 };
    const { result } = await this.slow.call('domainAgentCommand', args, limits);
    return result === null ? undefined : parseJson(result, 'the guest agent');
  }

  /** Sends a QMP command and returns its `return`. libvirt then marks the domain as tainted. */
  async monitorCommand(dom: Dom, command: object): Promise<unknown> {
    const { result } = await this.slow.call('domainMonitorCommand', { dom, cmd: JSON.stringify(command) });
    return parseJson(result, 'QEMU');
  }
}

function dotted(version: bigint): string {
  return `${version / 1_000_000n}.${(version / 1000n) % 1000n}.${version % 1000n}`;
}

function parseJson(json: string, who: string): unknown {
  try {
    const answer: unknown = JSON.parse(json);
    return typeof answer === 'object' && answer !== null && 'return' in answer ? answer.return : answer;
  } catch (cause) {
    throw LibvirtError.protocol(`${who} answered with what is no JSON`, cause);
  }
}
