/**
 * What runs on this host, as libvirt shows it: one bulk call per look, and each domain's description read now and then.
 * Nothing here asks a guest's QEMU: of a frozen one libvirt would wait for ever (host-lease, "the kernel parts").
 */
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { ExitReason, GuestAddress } from '../core/model/guest.ts';
import type { ForeignDomain } from '../core/model/host.ts';
import {
  all,
  at,
  attr,
  DOMAIN_STATES,
  isLibvirtCode,
  LIST,
  nameOf,
  parseXml,
  STATS,
  text,
  type Dom,
  type DomainState,
  type DomainStats,
  type LibvirtClient,
} from '../libvirt/index.ts';
import type { EngineGuest, EngineView } from '../ports.ts';
import { readIdentity, type DomainIdentity } from './domain-xml.ts';
import type { GuestProcesses } from './engine-process.ts';

interface Known {
  /** Changes at each start: the description is read again then. */
  readonly domainId: number;
  readonly identity: DomainIdentity | undefined;
  readonly readAt: number;
  readonly cpus: number;
  readonly maxMemoryMiB: number;
  /** The balloon's size; its changes are told by an event. */
  memoryMiB: number;
  agentConnected: boolean;
  frozen: boolean;
}

/** virConnectListAllDomainsFlags. */
const withAutostart = 1024;
/** virDomainPausedReason. */
const pausedForIoError = 5;
const pausedCrashed = 10;

/** How many descriptions are asked for at a time. */
const parallel = 4;
/** Milliseconds (monotonic) after which a description is read anew: somebody else may have changed the domain. */
const rereadMs = 300_000;

export class DomainView {
  readonly #client: LibvirtClient;
  readonly #known = new Map<Uuid, Known>();
  readonly #addresses = new Map<Uuid, readonly GuestAddress[]>();

  readonly #processes: GuestProcesses;

  constructor(client: LibvirtClient, processes: GuestProcesses) {
    this.#client = client;
    this.#processes = processes;
  }

  /** Forgets what was read of a domain, or of all. */
  forget(uuid?: Uuid): void {
    if (uuid === undefined) this.#known.clear();
    else this.#known.delete(uuid);
  }

  agentChanged(uuid: Uuid, connected: boolean): void {
    const known = this.#known.get(uuid);
    if (known) known.agentConnected = connected;
    if (!connected) this.#addresses.delete(uuid);
  }

  setAddresses(uuid: Uuid, addresses: readonly GuestAddress[]): void {
    this.#addresses.set(uuid, addresses);
  }

  memoryChanged(uuid: Uuid, kib: number): void {
    const known = this.#known.get(uuid);
    if (known) known.memoryMiB = Math.round(kib / 1024);
  }

  /** Running guests whose agent answers. */
  withAgent(): readonly Uuid[] {
    return [...this.#known].flatMap(([uuid, known]) =>
      known.identity && known.agentConnected && !known.frozen ? [uuid] : [],
    );
  }

  identityOf(uuid: Uuid): DomainIdentity | undefined {
    return this.#known.get(uuid)?.identity;
  }

  /** @throws LibvirtError */
  async look(): Promise<EngineView> {
    const client = this.#client;
    // Even processor time asks QEMU (halt polling), with or without the flag not to wait.
    const groups = STATS.state;
    const [records, persistent, autostart] = await Promise.all([
      client.allDomainStats(groups, { noWait: true }),
      client.listDomains(LIST.persistent),
      client.listDomains(withAutostart),
    ]);
    await this.#read(records.map((record) => record.dom));
    this.#forgetOthers(new Set(records.map((record) => record.dom.uuid)));
    const lasting = new Set(persistent.map((dom) => dom.uuid));
    const starting = new Set(autostart.map((dom) => dom.uuid));
    const guests: EngineGuest[] = [];
    const foreign: ForeignDomain[] = [];
    for (const record of records) {
      const known = this.#known.get(record.dom.uuid);
      if (!known) continue;
      if (known.identity) guests.push(this.#guest(record, known, known.identity));
      else
        foreign.push({
          uuid: record.dom.uuid,
          name: record.dom.name,
          running: record.dom.id >= 0,
          cpus: known.cpus,
          memoryMiB: known.maxMemoryMiB,
          persistent: lasting.has(record.dom.uuid),
          autostart: starting.has(record.dom.uuid),
        });
    }
    return { guests, foreign };
  }

  async #read(doms: readonly Dom[]): Promise<void> {
    const before = performance.now() - rereadMs;
    const unread = doms.filter(({ uuid, id }) => {
      const known = this.#known.get(uuid);
      return known?.domainId !== id || known.readAt < before;
    });
    for (let from = 0; from < unread.length; from += parallel)
      await Promise.all(unread.slice(from, from + parallel).map((dom) => this.#readOne(dom)));
  }

  async #readOne(dom: Dom): Promise<void> {
    try {
      const root = parseXml(await this.#client.xmlDesc(dom), { root: 'domain' });
      const channel = all(root, 'devices/channel/target').find(
        (each) => attr(each, 'name') === 'org.qemu.guest_agent.0',
      );
      const maxMemory = Number(text(root, 'memory') ?? 0);
      this.#known.set(dom.uuid, {
        domainId: dom.id,
        identity: readIdentity(root),
        readAt: performance.now(),
        cpus: Number(attr(at(root, 'vcpu'), 'current') ?? text(root, 'vcpu') ?? 0),
        maxMemoryMiB: Math.round(maxMemory / 1024),
        memoryMiB: Math.round(Number(text(root, 'currentMemory') ?? maxMemory) / 1024),
        agentConnected: attr(channel, 'state') === 'connected',
        frozen: false,
      });
    } catch (error) {
      // It ended while we looked: the next look knows.
      if (!isLibvirtCode(error, 'VIR_ERR_NO_DOMAIN')) throw error;
    }
  }

  #forgetOthers(present: ReadonlySet<Uuid>): void {
    for (const uuid of this.#known.keys()) {
      if (present.has(uuid)) continue;
      this.#known.delete(uuid);
      this.#addresses.delete(uuid);
    }
    this.#processes.keep(present);
  }

  #guest({ dom, stats }: DomainStats, known: Known, identity: DomainIdentity): EngineGuest {
    const process = dom.id >= 0 ? this.#processes.sight(dom.uuid, dom.name, dom.id) : {};
    known.frozen = process.frozen ?? false;
    return {
      cpuSeconds: 0,
      ...process,
      id: dom.uuid,
      name: dom.name,
      siteId: identity.siteId,
      generation: identity.generation,
      epoch: identity.epoch,
      state: guestState(stats.number('state.state') ?? 0, stats.number('state.reason') ?? 0),
      startedAt: identity.startedAt,
      cpus: known.cpus,
      memoryMiB: known.memoryMiB,
      addresses: this.#addresses.get(dom.uuid) ?? [],
      agentConnected: known.agentConnected,
    };
  }
}

const down: readonly (DomainState | undefined)[] = ['shutoff', 'nostate', undefined];

function guestState(number: number, reason: number): EngineGuest['state'] {
  const state = nameOf(DOMAIN_STATES, number);
  if (state === 'paused' && reason === pausedForIoError) return 'io-error';
  if (state === 'crashed' || (state === 'paused' && reason === pausedCrashed)) return 'crashed';
  if (state === 'paused') return 'paused';
  return down.includes(state) ? 'shutoff' : 'running';
}

/** Detail of the lifecycle event `stopped` (virDomainEventStoppedDetailType), by position. */
const stoppedDetails: readonly ExitReason[] = [
  'shutdown',
  'destroyed',
  'crashed',
  'unknown',
  'unknown',
  'failed',
  'unknown',
];

export function exitReason(detail: number): ExitReason {
  return stoppedDetails[detail] ?? 'unknown';
}

/**
 * The last end in libvirt's log of a domain: `2026-11-21 15:59:01.123+0000: shutting down, reason=crashed`.
 * A later start in the log means that it has not ended.
 */
export function exitFromLog(log: string): { readonly reason: ExitReason; readonly exitAt: Instant } | undefined {
  const pattern = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3})\+0000: (shutting down, reason=([a-z -]+)|starting up)/gm;
  const last = [...log.matchAll(pattern)].at(-1);
  const [, day, time, , said] = last ?? [];
  if (day === undefined || time === undefined || said === undefined) return undefined;
  const reasons: readonly ExitReason[] = ['shutdown', 'destroyed', 'crashed', 'failed'];
  return { reason: reasons.find((each) => each === said.trim()) ?? 'unknown', exitAt: Date.parse(`${day}T${time}Z`) };
}
