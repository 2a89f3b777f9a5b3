/** The controller: wires real effects together, and starts and stops what runs. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import { BootTime } from '../effects/boottime.ts';
import { systemClock } from '../effects/clock.ts';
import { durableFiles } from '../effects/files.ts';
import { systemIds } from '../effects/ids.ts';
import { openLog } from '../effects/log.ts';
import { sandboxedQemuImg } from '../effects/qemu-img.ts';
import { openWire, type WireIdentity } from '../effects/wire/index.ts';
import type { Log } from '../ports.ts';
import { ownUrls } from './addresses.ts';
import { importAuthority } from './authority-file.ts';
import { Authority, ownNames, type ServerIdentity } from './ca.ts';
import { Colleagues } from './colleagues.ts';
import { Backups } from './backups.ts';
import { Access, virga } from './http/access.ts';
import { Doors, parseListen } from './http/listen.ts';
import { warm } from './http/lists.ts';
import { Metrics } from './http/metrics.ts';
import { buildServer } from './http/server.ts';
import type { Services } from './http/services.ts';
import { upgradesOf } from './http/upgrades.ts';
import { ImageWork } from './image-work.ts';
import { imageCopies, neededImages } from './copying.ts';
import { openImageFiles } from './images/service.ts';
import { leadByVoters } from './leading.ts';
import { Links } from './links.ts';
import { Loop } from './loop.ts';
import { openPatiently, type OpenedStore } from './opening.ts';
import type { ControllerOptions, Lead, Leading, RunningController } from './options.ts';
import { ownName, type OwnName } from './own.ts';
import { become, findGroup, findUser, giveFolder, giveTo, type SystemUser } from './privileges.ts';
import { authorityFor } from './site-authority.ts';
import { SiteState } from './state.ts';
import { StoreDoor } from './store-door.ts';
import { Streams } from './streams.ts';
import { WireDoor } from './wire-door.ts';

export type { ControllerOptions, Lead, RunningController };

const stopGraceMs = 3000;
const maintenanceMs = 60_000;
/** A server certificate is made anew when so much of its life is left. */
const renewBeforeMs = 30 * 24 * 3600 * 1000;

export async function runController(options: ControllerOptions): Promise<RunningController> {
  const controller = new Controller(options);
  await controller.start();
  return controller;
}

class Controller implements RunningController {
  readonly socketPath: string;
  readonly leading: Promise<void>;
  readonly failed: Promise<never>;
  readonly #options: ControllerOptions;
  readonly #log: Log;
  readonly #door = new StoreDoor();
  readonly #metrics = new Metrics();
  readonly #boot = new BootTime();
  readonly #wireDoor = new WireDoor();
  readonly #stopping = new AbortController();
  readonly #state: SiteState;
  readonly #loop: Loop;
  #services: Services | undefined;
  #doors: Doors | undefined;
  #authority: Authority | undefined;
  #identity: ServerIdentity | undefined;
  #leading: Leading | undefined;
  #own: OwnName | undefined;
  #colleagues: Colleagues | undefined;
  #opened: OpenedStore | undefined;
  #backups: Backups | undefined;
  #running: Promise<unknown>[] = [];
  #copying: Promise<void> | undefined;
  #lead: () => void = () => undefined;
  #fail: (error: unknown) => void = () => undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.socketPath = options.socketPath ?? '/run/virga/virga.sock';
    this.#log = options.log ?? openLog('controller');
    this.leading = new Promise((resolve) => {
      this.#lead = resolve;
    });
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => undefined);
    this.#state = new SiteState({
      store: this.#door,
      clock: systemClock,
      log: this.#log,
      onCommitted: (ms) => this.#metrics.commit(ms),
    });
    this.#loop = new Loop({
      state: this.#state,
      clock: systemClock,
      log: this.#log,
      ...(options.silentAfterMs === undefined ? {} : { silentAfterMs: options.silentAfterMs }),
      onIteration: (ms) => this.#metrics.iteration(ms),
      lease: () => this.#leading?.lease,
      onReport: (report) => this.#metrics.report(report),
    });
  }

  get #world() {
    return { clock: systemClock, ids: systemIds, log: this.#log };
  }

  get services(): Services {
    if (!this.#services) throw new VirgaError('not_leading');
    return this.#services;
  }

  get ports(): readonly number[] {
    return this.#doors?.addresses.map(({ port }) => port) ?? [];
  }

  async start(): Promise<void> {
    const { dataDir, listen = [], dropTo } = this.#options;
    // Passable, since the embedded database runs as its own user in a folder below; what is in it is closed.
    await mkdir(dataDir, { recursive: true, mode: 0o711 });
    const user = dropTo !== undefined && process.getuid?.() === 0 ? await findUser(dropTo) : undefined;
    const { authority } = this.#options;
    if (authority) await importAuthority(dataDir, authority.path, authority.decryption);
    this.#own = await ownName(dataDir, systemIds);
    const gid = await findGroup('virga');
    this.#doors = await Doors.open(this.socketPath, listen.map(parseListen), gid === undefined ? undefined : { gid });
    try {
      if (user) await this.#drop(user);
      await this.#serve();
    } catch (error) {
      await this.stop();
      throw error;
    }
    const { signal } = this.#stopping;
    this.#running = [
      this.#openStore(),
      this.#leading?.run(signal) ?? Promise.resolve(),
      this.#loop.run(signal),
      this.#maintain(),
    ];
  }

  /** Ends everything; guests run on. Safe to call twice. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    const services = this.#services;
    services?.streams.close();
    services?.links.close();
    await this.#doors?.close(stopGraceMs);
    await services?.images.close();
    await Promise.allSettled([...this.#running, this.#copying]);
    await this.#wireDoor.close();
    await this.#opened?.close();
    this.#log.info('stopped');
  }

  async #drop(user: SystemUser): Promise<void> {
    await giveTo(this.#options.dataDir, user);
    await mkdir(this.#options.runFolder ?? '/run/virga', { recursive: true, mode: 0o755 });
    await giveFolder(this.#options.runFolder ?? '/run/virga', user);
    become(user);
    this.#log.info('dropped privileges', { user: user.name });
  }

  async #serve(): Promise<void> {
    const { dataDir } = this.#options;
    this.#authority = await Authority.read(dataDir);
    const folder = join(dataDir, 'images');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const files = await openImageFiles(
      { folder },
      {
        tool: sandboxedQemuImg(),
        records: durableFiles(folder),
        clock: systemClock,
        log: this.#log.child({ part: 'images' }),
      },
    );
    const { own, colleagues } = this.#meet();
    const { lead = leadByVoters } = this.#options;
    this.#leading = lead({
      dataDir: this.#options.dataDir,
      controllerId: own.id,
      controllerName: own.name,
      state: this.#state,
      store: this.#door,
      loop: this.#loop,
      wire: this.#wireDoor,
      boot: this.#boot,
      ...this.#world,
    });
    this.#colleagues = colleagues;
    const services = this.#wire(files, colleagues);
    this.#services = services;
    this.#state.onLeadership(() => services.links.update());
    const caller = (): { readonly identity: ServerIdentity; readonly ca: string } | undefined =>
      this.#identity && this.#authority && { identity: this.#identity, ca: this.#authority.pem };
    const copies = imageCopies({ folder, files, state: this.#state, colleagues, own: caller, ...this.#world });
    this.#copying = copies.run(this.#stopping.signal);
    this.#metrics.watch({
      state: this.#state,
      links: () => services.links.count,
      storeUp: async () =>
        this.#door.ping().then(
          () => true,
          () => false,
        ),
      ...(this.#leading.lease ? { lease: this.#leading.lease } : {}),
    });
    this.#state.listen((news) => {
      if (news.type === 'loaded') this.#loaded().catch((error: unknown) => this.#loadFailed(error));
    });
    const { listener } = await buildServer(services);
    this.#doors?.serve(services.access, listener, upgradesOf(services));
    if (this.#authority) await this.#identify();
  }

  #meet(): { readonly own: OwnName; readonly colleagues: Colleagues } {
    const own = this.#own;
    if (!own) throw new TypeError('it has no id yet');
    const colleagues = new Colleagues({
      ...own,
      // Nobody can call a controller without certificates.
      urls: () => (this.#authority ? this.#urls() : []),
      clock: systemClock,
      log: this.#log,
      changed: () => this.#services?.links.announce(),
    });
    return { own, colleagues };
  }

  #wire(files: Services['files'], colleagues: Colleagues): Services {
    const state = this.#state;
    const loop = this.#loop;
    const shared = this.#world;
    const version = this.#options.version ?? 'unknown';
    const links = new Links({
      loop,
      clock: systemClock,
      log: this.#log,
      version,
      siteId: () => state.snapshot.site.id,
      // Hosts stay while the database is away: what they say is heard, and silence would say nothing.
      epoch: () => (state.known ? state.epoch?.number : undefined),
      host: (id) => state.snapshot.get('host', id),
      controllerId: this.#own?.id ?? '',
      controllers: () => colleagues.urls,
      leader: () => colleagues.leader,
    });
    return {
      ...shared,
      version,
      startedAt: systemClock.now(),
      state,
      store: this.#door,
      loop,
      links,
      streams: new Streams({ links, ...shared }),
      files,
      images: new ImageWork({ state, files, ...shared, actor: virga }),
      access: new Access({ state, siteId: () => this.#siteAuthority().siteId, clock: systemClock, log: this.#log }),
      metrics: this.#metrics,
      authority: () => this.#siteAuthority(),
      leader: () => (state.epoch ? undefined : colleagues.leader),
      storedImages: async () => (state.leadership === 'leading' ? neededImages(state) : []),
      agentUrls: () => this.#urls(),
      ...(this.#leading?.lease ? { lease: this.#leading.lease } : {}),
      ...(this.#leading?.fencer ? { fencer: this.#leading.fencer } : {}),
      backup: async (request) => {
        if (!this.#backups) throw new VirgaError('store_unavailable', { detail: 'it is starting' });
        return this.#backups.stream(request);
      },
    };
  }

  #siteAuthority(): Authority {
    if (!this.#authority) throw new VirgaError('not_leading');
    return this.#authority;
  }

  /** The state is here. A new site gets its authority now, because now it has its id. */
  async #loaded(): Promise<void> {
    const { dataDir } = this.#options;
    const { site } = this.#state.snapshot;
    const database = this.#opened?.database;
    if (!database) return;
    const present = this.#authority;
    this.#authority = await authorityFor({ present, database, dataDir, site, now: systemClock.now() });
    if (!present) {
      await this.#identify();
      this.#log.info('made the certificate authority of the site', { pin: this.#authority.pin });
    }
    this.#lead();
    await warm(this.#state.snapshot, this.#stopping.signal);
  }

  /** The next load tries again what the database did not answer. */
  #loadFailed(error: unknown): void {
    const code = error instanceof VirgaError ? error.code : 'internal';
    this.#complain('the loaded state cannot be used', error);
    if (code === 'store_unavailable' || code === 'not_leading') this.#state.doubt();
    else this.#fail(error);
  }

  async #identify(): Promise<void> {
    if (!this.#authority || !this.#doors) return;
    const listened = this.#doors.addresses.map(({ address }) => address);
    const names = ownNames([...(this.#options.names ?? []), ...listened]);
    this.#identity = await this.#authority.serverIdentity(names, systemClock.now(), this.#own?.id);
    this.#doors.identify(this.#identity, this.#authority.pem);
    await this.#openWire({ ...this.#identity, ca: this.#authority.pem }, this.#authority.siteId);
  }

  async #openWire(identity: WireIdentity, siteId: Uuid): Promise<void> {
    if (this.#wireDoor.opened || !this.#own) return this.#wireDoor.use(identity);
    // Keepers answer to where they were asked from, so any port will do.
    const ways = { self: this.#own.id, siteId, listen: ['0.0.0.0:0'] };
    this.#wireDoor.open(
      await openWire({ ...ways, identity, clock: this.#boot, log: this.#log.child({ part: 'wire' }) }),
    );
  }

  /** What no waiting can mend ends the controller. */
  async #openStore(): Promise<void> {
    const { dataDir, databaseUrl, databaseUser, runFolder, siteName = 'virga' } = this.#options;
    const { signal } = this.#stopping;
    try {
      const opened = await openPatiently(
        {
          data: dataDir,
          log: this.#log.child({ part: 'store' }),
          newSite: { id: systemIds.uuid(), name: siteName },
          ...(this.#own ? { controllerId: this.#own.id } : {}),
          ...(databaseUrl === undefined ? {} : { databaseUrl }),
          ...(runFolder === undefined ? {} : { runFolder }),
          ...(databaseUser === undefined ? {} : { user: databaseUser }),
        },
        this.#world,
        (why) => this.#door.closed(why),
        signal,
      );
      if (!opened) return;
      this.#opened = opened;
      this.#door.open(opened.store);
      if (this.#colleagues) this.#running.push(this.#colleagues.run(opened.database, signal));
      const backups = new Backups(opened.database, dataDir, this.#world, this.#options.backup);
      await backups.sweep();
      this.#backups = backups;
      this.#running.push(this.#once(async () => backups.run(signal)));
    } catch (error) {
      this.#complain('the database cannot be used', error);
      this.#fail(error);
    }
  }

  /** Does that when it has led once, unless it is stopped before. */
  async #once(work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping;
    const stopped = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([this.leading, stopped]);
    if (!signal.aborted) await work();
  }

  /** Certificate and memory of old things, once a minute. */
  async #maintain(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await systemClock.sleep(maintenanceMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      try {
        if (systemClock.now() > (this.#identity?.expiresAt ?? 0) - renewBeforeMs) await this.#identify();
        while (this.#opened && !signal.aborted && (await this.#opened.store.prune()).more);
      } catch (error) {
        this.#complain('maintenance failed', error);
      }
    }
  }

  #urls(): readonly string[] {
    return ownUrls(this.#options, this.#doors?.addresses ?? []);
  }

  #complain(message: string, error: unknown): void {
    const values = error instanceof VirgaError ? { code: error.code, detail: error.message, hint: error.hint } : {};
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#log.error(message, { ...values, ...(error instanceof VirgaError ? {} : { error: stack }) });
  }
}
