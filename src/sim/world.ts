/**
 * A whole site in virtual time: the real controller state and loop, the real agent loop, on simulated ports. Processes
 * are killed between any two awaits, machines lose power, links break, messages come late and twice.
 */
import { AgentLoop } from '../agent/loop.ts';
import type { AgentPorts } from '../agent/ports.ts';
import { Loop } from '../controller/loop.ts';
import { SiteState } from '../controller/state.ts';
import { MemoryStore, type StoreFault } from '../controller/store/memory.ts';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { RequestContext, SiteEvent, Snapshot } from '../core/model/snapshot.ts';
import { beginImage, imageReady, imageReceived } from '../core/requests/images.ts';
import { changeHost, joinHost } from '../core/requests/hosts.ts';
import { createNetwork } from '../core/requests/networks.ts';
import type { RequestResult } from '../core/requests/result.ts';
import { createInvite } from '../core/requests/tokens.ts';
import type { HostLink, Log, Store } from '../ports.ts';
import { SimMachine, simDisks, simEngine, simFiles, simImages, slowly } from './host.ts';
import { SimLink, type Weather } from './network.ts';
import { Random } from './random.ts';
import { clockOf, epochAt, Life, VirtualTime } from './time.ts';

const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

export interface WorldOptions {
  readonly seed: number;
  readonly hosts: readonly string[];
  /** Most milliseconds that one call of a process to its disk, engine or database takes, twice (before and after). */
  readonly slowMs?: number;
  readonly drift?: number;
  readonly log?: Log;
}

interface Controller {
  readonly life: Life;
  readonly state: SiteState;
  readonly loop: Loop;
  readonly stop: AbortController;
}

interface Agent {
  readonly life: Life;
  readonly loop: AgentLoop;
  readonly stop: AbortController;
}

interface Site {
  readonly machine: SimMachine;
  readonly link: SimLink;
  agent: Agent | undefined;
  /** The controller's end of the connection. */
  attached: { readonly to: Controller; readonly from: Agent; readonly link: HostLink } | undefined;
}

export const imageDigest = 'a'.repeat(128);
const facts = { cpus: 8, memoryMiB: 4096, diskMiB: 102_400 };
/** How often an agent without a connection dials. */
const dialMs = 500;

export class World {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly sites = new Map<string, Site>();
  readonly faults: { readonly at: number; readonly text: string }[] = [];
  /** Ids of guests that a person was told to be created, and those whose deletion was acknowledged. */
  readonly acknowledged = new Map<Uuid, string>();
  readonly deleted = new Set<Uuid>();
  /** Deletions that were asked for, answered or not. */
  readonly deletionAsked = new Set<Uuid>();
  readonly siteId: Uuid;
  storeFault: StoreFault | 'random' | undefined;
  readonly #options: WorldOptions;
  readonly #store: MemoryStore;
  #controller: Controller | undefined;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.random = new Random(options.seed);
    this.siteId = this.random.uuid();
    this.#store = new MemoryStore({
      newSite: { id: this.siteId, name: 'sim' },
      now: () => Math.round(epochAt + this.time.now),
      fault: () => (this.storeFault === 'random' ? this.#randomFault() : this.storeFault),
    });
    for (const name of options.hosts) {
      const machine = new SimMachine(name, this.random.uuid());
      this.sites.set(name, {
        machine,
        link: new SimLink(this.time, this.random),
        agent: undefined,
        attached: undefined,
      });
    }
  }

  #randomFault(): StoreFault | undefined {
    if (!this.random.chance(0.2)) return undefined;
    return this.random.chance(0.5) ? 'before' : 'after';
  }

  site(name: string): Site {
    const found = this.sites.get(name);
    if (!found) throw new Error(`the simulation has no host ${name}`);
    return found;
  }

  note(text: string): void {
    this.faults.push({ at: this.time.now, text });
  }

  // ---------------------------------------------------------------- life and death

  /** Boots everything, joins all hosts, adds the image `tiny` and the network `lab`. */
  async begin(): Promise<void> {
    this.startController();
    await this.time.runUntil(this.time.now + 2_000);
    for (const { machine } of this.sites.values()) await this.#join(machine);
    await this.must(
      this.ask((snapshot, context) =>
        createNetwork(snapshot, { name: 'lab', mode: 'bridge', bridge: 'br0', ipv4: { cidr: '10.9.0.0/16' } }, context),
      ),
    );
    await this.must(this.#addImage());
    for (const name of this.sites.keys()) this.powerOn(name);
    await this.time.runUntil(this.time.now + 8_000);
  }

  async #join(machine: SimMachine): Promise<void> {
    const { id, name } = machine;
    await this.must(this.ask((snapshot, context) => createInvite(snapshot, { hostName: name }, id, context)));
    const certificate = { serial: '1', expiresAt: epochAt * 2 };
    const join = { id, secretHash: id, hostName: name, agentVersion: 'sim', protocol: 1, certificate };
    await this.must(this.ask((snapshot, context) => joinHost(snapshot, join, context)));
  }

  async #addImage(): Promise<void> {
    const input = { name: 'tiny', format: 'qcow2', sizeBytes: 1024, sha512: imageDigest } as const;
    await this.must(this.ask((snapshot, context) => beginImage(snapshot, input, context)));
    const image = this.snapshot().byName('image', 'tiny');
    if (!image) throw new Error('the image was not written');
    await this.must(this.ask((snapshot, context) => imageReceived(snapshot, image.id, 1024, context)));
    const stored = { sha512: imageDigest, sizeBytes: 1024, format: 'qcow2' } as const;
    await this.must(
      this.ask((snapshot, context) =>
        imageReady(snapshot, image.id, { givenSha512: imageDigest, stored, virtualBytes: 1 << 30 }, context),
      ),
    );
  }

  startController(): void {
    if (this.#controller) return;
    const life = new Life();
    const clock = clockOf(this.time, life, this.#options.drift ?? 0);
    const log = this.#options.log ?? silent;
    const slow = slowly(this.time, life, this.random, this.#options.slowMs ?? 2);
    const store: Store = {
      lead: () => slow(() => this.#store.lead()),
      commit: (commit) => slow(() => this.#store.commit(commit)),
      idempotent: (who, key) => slow(() => this.#store.idempotent(who, key)),
      events: (query) => slow(() => this.#store.events(query)),
      ping: () => slow(() => this.#store.ping()),
    };
    const state = new SiteState({ store, clock, log });
    const loop = new Loop({ state, clock, log });
    const stop = new AbortController();
    this.#controller = { life, state, loop, stop };
    void loop.run(stop.signal);
  }

  killController(): void {
    this.#controller?.life.kill();
    this.#controller = undefined;
    for (const site of this.sites.values()) site.attached = undefined;
  }

  powerOn(name: string): void {
    const { machine } = this.site(name);
    if (machine.powered) return;
    machine.powered = true;
    machine.engineUp = true;
    machine.sessionNumber += 1;
    machine.sessionId = this.random.uuid();
    this.startAgent(name);
  }

  powerCut(name: string): void {
    const { machine } = this.site(name);
    this.killAgent(name);
    machine.powered = false;
    machine.domains.clear();
    machine.exits.clear();
  }

  startAgent(name: string): void {
    const site = this.site(name);
    if (site.agent || !site.machine.powered) return;
    const life = new Life();
    const loop = new AgentLoop(this.#agentPorts(site, life), {
      hostId: site.machine.id,
      siteId: this.siteId,
      session: { number: site.machine.sessionNumber, id: site.machine.sessionId },
      agentVersion: 'sim',
    });
    const agent: Agent = { life, loop, stop: new AbortController() };
    site.agent = agent;
    void life.of(loop.load()).then(() => loop.run(agent.stop.signal));
    this.#dial(site, agent);
  }

  killAgent(name: string): void {
    const site = this.site(name);
    site.agent?.life.kill();
    site.agent = undefined;
    site.machine.listeners.clear();
    this.#hangUp(site);
  }

  #agentPorts(site: Site, life: Life): AgentPorts {
    const { machine } = site;
    const slow = slowly(this.time, life, this.random, this.#options.slowMs ?? 2);
    return {
      clock: clockOf(this.time, life, -(this.#options.drift ?? 0)),
      ids: { uuid: () => this.random.uuid(), secret: () => this.random.hex(43) },
      files: simFiles(machine, slow),
      engine: simEngine(machine, this.time, slow),
      disks: simDisks(machine, slow),
      images: simImages(machine, slow),
      seeds: { write: (order) => slow(() => `guests/${order.id}/seed.iso`) },
      networks: { converge: (networks) => slow(() => new Map(networks.map(({ id }) => [id, undefined]))) },
      meter: {
        measure: () =>
          slow(() => ({
            measured: facts,
            used: { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 },
            network: { bridges: ['br0'] },
          })),
      },
      link: {
        connected: () => life.alive && site.attached !== undefined,
        report: (report) => {
          if (!life.alive || !site.attached) return;
          site.link.carry(
            report,
            (copy) => this.#controller?.life.alive && this.#controller.loop.report(machine.id, copy),
          );
        },
      },
      log: this.#options.log ?? silent,
    };
  }

  /** The agent keeps a connection as well as it can. */
  #dial(site: Site, agent: Agent): void {
    const tick = (): void => {
      if (!agent.life.alive) return;
      const controller = this.#controller;
      const good = controller !== undefined && !site.link.cut && controller.state.leadership === 'leading';
      if (!good || site.link.broken || site.attached?.to !== controller) this.#hangUp(site);
      if (good && !site.attached && controller) this.#attach(site, agent, controller);
      this.time.after(dialMs, tick);
    };
    tick();
  }

  #attach(site: Site, agent: Agent, controller: Controller): void {
    site.link.broken = false;
    const link: HostLink = {
      hostId: site.machine.id,
      send: (assignment) => {
        if (controller.life.alive) site.link.carry(assignment, (copy) => agent.life.alive && agent.loop.receive(copy));
      },
    };
    site.attached = { to: controller, from: agent, link };
    controller.loop.attach(link);
    agent.loop.wake();
  }

  #hangUp(site: Site): void {
    const { attached } = site;
    site.attached = undefined;
    if (attached?.to.life.alive) attached.to.loop.detach(attached.link);
  }

  setWeather(weather: Weather): void {
    for (const { link } of this.sites.values()) link.weather = weather;
  }

  // ---------------------------------------------------------------- people

  snapshot(): Snapshot {
    if (!this.#controller) throw new Error('no controller runs');
    return this.#controller.state.snapshot;
  }

  /**
   * What a person asks of the controller. Resolves when it is acknowledged; a refusal rejects; when the controller dies
   * first it never settles.
   */
  ask(decide: (snapshot: Snapshot, context: RequestContext) => RequestResult): Promise<RequestResult> {
    const controller = this.#controller;
    if (!controller)
      return Promise.reject(new VirgaError('site_unreachable', { where: 'sim', detail: 'no controller' }));
    const context = (): RequestContext => ({
      now: Math.round(epochAt + this.time.now),
      uuid: () => this.random.uuid(),
      actor: { who: 'local:root', role: 'admin', community: 'site' },
    });
    const answered = controller.state
      .change((snapshot) => decide(snapshot, context()))
      .then((outcome) => {
        if (outcome.repeated) throw new Error('the simulation sends no idempotency keys');
        return outcome.result;
      });
    return controller.life.of(answered);
  }

  /** Lets time pass until the promise settles; a refusal is an error of the scenario. */
  async must<T>(promise: Promise<T>): Promise<T> {
    const state = { settled: false };
    const watched = promise.finally(() => {
      state.settled = true;
    });
    watched.catch(() => undefined);
    const limit = this.time.now + 10_000;
    while (!state.settled && this.time.now < limit) await this.time.runUntil(this.time.now + 50);
    if (!state.settled) throw new Error('a request was not answered within 10 s of virtual time');
    return watched;
  }

  async setCapacity(host: string, cpus: number, memoryMiB: number): Promise<void> {
    await this.must(
      this.ask((snapshot, context) =>
        changeHost(
          snapshot,
          host,
          { capacity: { cpus, memoryMiB }, reserved: { cpus: 0, memoryMiB: 0, diskMiB: 0 } },
          context,
        ),
      ),
    );
  }

  // ---------------------------------------------------------------- looking

  /** Where a guest runs (or is paused) at this moment, on any powered machine. */
  copies(guestId: Uuid): readonly string[] {
    return [...this.sites.values()]
      .filter(({ machine }) => machine.domains.has(guestId))
      .map(({ machine }) => machine.name);
  }

  /** Somebody asked to delete it, and it may be so although nobody was told. */
  deletable(guestId: Uuid): boolean {
    return this.deletionAsked.has(guestId) || this.deleted.has(guestId);
  }

  async events(): Promise<readonly SiteEvent[]> {
    this.storeFault = undefined;
    const all: SiteEvent[] = [];
    for (;;) {
      const page = await this.#store.events({ afterSeq: all.at(-1)?.seq ?? 0, limit: 1000 });
      all.push(...page);
      if (page.length === 0) return all;
    }
  }
}
