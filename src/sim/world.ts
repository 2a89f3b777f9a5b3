/**
 * A whole site in virtual time: the real controllers, keepers, guards and agents on simulated ports. Processes stall or
 * die between any two awaits, machines lose power, every direction of the network breaks, messages come late and twice.
 */
import { VirgaError } from '../core/errors.ts';
import { compareEpochs } from '../core/ha/epoch.ts';
import { profiles } from '../core/ha/margin.ts';
import { allRules, type Rules } from '../core/ha/rules.ts';
import { noEpoch } from '../core/ha/types.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { RequestContext, SiteEvent, Snapshot } from '../core/model/snapshot.ts';
import type { RequestResult } from '../core/requests/result.ts';
import type { Log } from '../ports.ts';
import { SimAgent } from './agent.ts';
import { SimController } from './controller.ts';
import { SimDatabase, type Written } from './database.ts';
import { SimGuard } from './guard.ts';
import { SimKeeper } from './keeper.ts';
import { Laws } from './laws.ts';
import { SimMachine } from './machine.ts';
import { Network } from './network.ts';
import { MachineTime, type Life, type Stalls } from './process.ts';
import { Random } from './random.ts';
import { addImage, addNetwork, joinMachine, setLease } from './site.ts';
import type { Surroundings } from './surroundings.ts';
import { epochAt, VirtualTime } from './time.ts';

const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

export interface WorldOptions {
  readonly seed: number;
  readonly hosts: readonly string[];
  /** Machines that vote and carry no guests. */
  readonly witnesses?: readonly string[];
  /** Controller → machine it runs on, which may be a host or a witness; one on a machine of its own by default. */
  readonly controllers?: Readonly<Record<string, string>>;
  /** Machine of the database; the first controller's by default. */
  readonly database?: string;
  /** Profile of the lease, or figures over those of the default one. */
  readonly lease?: 'fast' | { readonly drift: number };
  /** Most milliseconds that one call of a process to its disk, engine or database takes, twice (before and after). */
  readonly slowMs?: number;
  /** Most that each machine's clock drifts, relative. */
  readonly drift?: number;
  readonly stalls?: Stalls;
  readonly rules?: Rules;
  readonly log?: Log;
  /** Begins as this site, switched off. */
  readonly template?: Template;
}

/** What is left of a site when everything is switched off: ids, disks, the database. */
export interface Template {
  readonly siteId: Uuid;
  readonly controllers: ReadonlyMap<string, Uuid>;
  readonly machines: ReadonlyMap<
    string,
    Pick<SimMachine, 'id' | 'disk' | 'keeperDisk' | 'layers' | 'images' | 'sessionNumber'>
  >;
  readonly database: readonly Written[];
}

export async function takeTemplate(world: World): Promise<Template> {
  return {
    siteId: world.siteId,
    controllers: world.controllerIds,
    machines: new Map([...world.places].map(([name, { machine }]) => [name, machine])),
    database: await world.database.compact(),
  };
}

/** One machine with what runs on it. */
export interface Place {
  readonly machine: SimMachine;
  readonly role: 'host' | 'witness' | 'other';
  guard: SimGuard | undefined;
  keeper: SimKeeper | undefined;
  agent: SimAgent | undefined;
}

export type ProcessName = 'keeper' | 'guard' | 'agent' | 'controller';

export class World {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly network: Network;
  readonly laws: Laws;
  readonly database: SimDatabase;
  readonly places = new Map<string, Place>();
  readonly controllers = new Map<string, SimController>();
  readonly options: WorldOptions;
  readonly faults: { readonly at: number; readonly text: string }[] = [];
  /** Ids of guests that a person was told to be created, and those whose deletion was acknowledged. */
  readonly acknowledged = new Map<Uuid, string>();
  readonly deleted = new Set<Uuid>();
  /** Deletions that were asked for, answered or not. */
  readonly deletionAsked = new Set<Uuid>();
  /** Virtual milliseconds at which what is judged begins. */
  zero = 0;
  readonly siteId: Uuid;
  readonly surroundings: Surroundings;
  /** Controller → its machine. */
  readonly homes: ReadonlyMap<string, string>;
  readonly controllerIds = new Map<string, Uuid>();
  readonly #databaseAt: string;
  readonly #guestIds = new Map<string, Uuid>();

  constructor(options: WorldOptions) {
    this.options = options;
    this.random = new Random(options.seed);
    const { template } = options;
    this.siteId = template?.siteId ?? this.random.uuid();
    this.network = new Network(this.time, this.random);
    this.laws = new Laws(this.time);
    this.database = new SimDatabase(this.time, this.random.named('database'), this.siteId);
    this.homes = new Map(Object.entries(options.controllers ?? { controller: 'controller' }));
    for (const name of this.homes.keys())
      this.controllerIds.set(name, template?.controllers.get(name) ?? this.random.uuid());
    this.#databaseAt = options.database ?? [...this.homes.values()][0] ?? 'controller';
    this.surroundings = {
      random: this.random,
      network: this.network,
      log: options.log ?? silent,
      siteId: this.siteId,
      rules: options.rules ?? allRules,
      slowMs: options.slowMs ?? 2,
      stalls: options.stalls,
      boundMs: profiles[options.lease === 'fast' ? 'fast' : 'default'].boundMs,
    };
    for (const name of options.hosts) this.#addPlace(name, 'host');
    for (const name of options.witnesses ?? []) this.#addPlace(name, 'witness');
    for (const name of [...this.homes.values(), this.#databaseAt])
      if (!this.places.has(name)) this.#addPlace(name, 'other');
  }

  #addPlace(name: string, role: Place['role']): void {
    const drift = this.options.drift ?? 0;
    const clock = new MachineTime(this.time, 1 + drift * (2 * this.random.next() - 1));
    const shared = { time: this.time, clock, laws: this.laws };
    const note = (text: string): void => this.note(`${name}: ${text}`);
    const { sessionGroups } = this.surroundings.rules;
    const before = this.options.template?.machines.get(name);
    const machine = new SimMachine(name, before?.id ?? this.random.uuid(), shared, note, sessionGroups);
    if (before) machine.become(before);
    this.places.set(name, { machine, role, guard: undefined, keeper: undefined, agent: undefined });
    this.network.power(name, false);
  }

  place(name: string): Place {
    const found = this.places.get(name);
    if (!found) throw new Error(`the simulation has no machine ${name}`);
    return found;
  }

  /** Nothing is noted of what happens in it. */
  quiet = false;

  /** Machines that hold leases or vote on them. */
  keepers(): readonly Place[] {
    return [...this.places.values()].filter(({ role }) => role !== 'other');
  }

  note(text: string): void {
    if (!this.quiet) this.faults.push({ at: this.time.now, text });
  }

  // ---------------------------------------------------------------- life and death

  /** Boots everything, joins all hosts, adds the image `tiny` and the network `lab`. */
  async begin(): Promise<void> {
    const homes = new Set([...this.homes.values(), this.#databaseAt]);
    for (const [name, { role }] of this.places) if (role !== 'host' || homes.has(name)) this.powerOn(name);
    for (const name of this.homes.keys()) this.startController(name);
    await this.time.runUntil(this.time.now + 2_000);
    if (this.options.lease) await setLease(this, this.options.lease);
    for (const [name, { machine, role }] of this.places)
      if (role !== 'other') await joinMachine(this, name, machine.id, role);
    await addNetwork(this);
    await addImage(this);
    for (const name of this.places.keys()) this.powerOn(name);
    await this.time.runUntil(this.time.now + 8_000);
  }

  /** Switches on a site that was made before. */
  async resume(): Promise<void> {
    await this.database.replay(this.options.template?.database ?? []);
    await this.database.forget();
    for (const name of this.places.keys()) this.powerOn(name);
  }

  powerOn(name: string): void {
    const place = this.place(name);
    const { machine } = place;
    if (machine.powered) return;
    machine.powered = true;
    machine.engineUp = true;
    machine.sessionNumber += 1;
    machine.sessionId = this.random.uuid();
    machine.bootId = this.random.uuid();
    machine.clock.boot(this.random.whole(0, 1_000_000));
    this.network.power(name, true);
    for (const process of ['guard', 'keeper', 'agent'] as const) this.start(process, name);
    for (const [controller, home] of this.homes) if (home === name) this.startController(controller);
  }

  powerCut(name: string): void {
    const { machine } = this.place(name);
    for (const process of ['agent', 'keeper', 'guard'] as const) this.kill(process, name);
    for (const [controller, home] of this.homes) if (home === name) this.killController(controller);
    machine.powerOff();
    this.network.power(name, false);
  }

  start(process: Exclude<ProcessName, 'controller'>, name: string): void {
    const place = this.place(name);
    const { machine, role } = place;
    if (!machine.powered || role === 'other' || place[process]) return;
    if (process === 'guard' && role === 'host') place.guard = new SimGuard(machine, this.surroundings);
    if (process === 'keeper') place.keeper = new SimKeeper(machine, role, () => place.guard, this.surroundings);
    if (process === 'agent' && role === 'host')
      place.agent = new SimAgent(
        machine,
        (life) => SimKeeper.door(life, machine, () => place.keeper),
        () => this.controllers.values(),
        this.surroundings,
      );
  }

  kill(process: Exclude<ProcessName, 'controller'>, name: string): void {
    const place = this.place(name);
    place[process]?.kill();
    place[process] = undefined;
  }

  startController(name: string): void {
    const home = this.homes.get(name);
    const id = this.controllerIds.get(name);
    if (home === undefined || id === undefined) throw new Error(`the simulation has no controller ${name}`);
    const { machine } = this.place(home);
    if (!machine.powered || this.controllers.has(name)) return;
    this.controllers.set(
      name,
      new SimController(name, id, machine, this.database, this.#databaseAt, this.surroundings),
    );
  }

  killController(name: string): void {
    this.controllers.get(name)?.kill();
    this.controllers.delete(name);
  }

  /** A process of a machine, or a controller by its name. */
  life(process: ProcessName, name: string): Life | undefined {
    return process === 'controller' ? this.controllers.get(name)?.life : this.place(name)[process]?.life;
  }

  // ---------------------------------------------------------------- people

  /** Who leads, as people would find it: of those who say so, the one with the highest epoch. */
  leader(): SimController | undefined {
    const epochOf = (each: SimController) => each.state.epoch ?? noEpoch;
    return [...this.controllers.values()]
      .filter((each) => each.leads)
      .toSorted((a, b) => compareEpochs(epochOf(b), epochOf(a)))[0];
  }

  snapshot(): Snapshot {
    const leader = this.leader();
    if (!leader) throw new Error('no controller leads');
    return leader.state.snapshot;
  }

  /**
   * What a person asks of the controller. Resolves when it is acknowledged; a refusal rejects; when the controller dies
   * first it never settles.
   */
  async ask(decide: (snapshot: Snapshot, context: RequestContext) => RequestResult): Promise<RequestResult> {
    const controller = this.leader();
    if (!controller) throw new VirgaError('site_unreachable', { where: 'sim', detail: 'no controller leads' });
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

  /** Lets time pass until `done`, looked at every 250 ms, at most `ms`. */
  async passUntil(done: () => boolean, ms: number): Promise<void> {
    const end = this.time.now + ms;
    while (this.time.now < end && !done()) await this.time.runUntil(Math.min(end, this.time.now + 250));
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

  // ---------------------------------------------------------------- looking

  /** Where a guest is (running, paused or frozen) at this moment, on any powered machine. */
  copies(guestId: Uuid): readonly string[] {
    return [...this.places.values()]
      .filter(({ machine }) => machine.domains.has(guestId))
      .map(({ machine }) => machine.name);
  }

  guestId(name: string): Uuid | undefined {
    const id = this.leader()?.state.snapshot.byName('guest', name)?.id;
    if (id !== undefined) this.#guestIds.set(name, id);
    return id ?? this.#guestIds.get(name);
  }

  /** Somebody asked to delete it, and it may be so although nobody was told. */
  deletable(guestId: Uuid): boolean {
    return this.deletionAsked.has(guestId) || this.deleted.has(guestId);
  }

  /** Of this world's life, without those that its template brought. */
  async events(): Promise<readonly SiteEvent[]> {
    return this.database.events();
  }
}
