/** The controller: wires real effects together, and starts and stops what runs. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Instant } from '../core/model/resource.ts';
import { systemClock } from '../effects/clock.ts';
import { durableFiles } from '../effects/files.ts';
import { systemIds } from '../effects/ids.ts';
import { openLog } from '../effects/log.ts';
import { sandboxedQemuImg } from '../effects/qemu-img.ts';
import type { Log } from '../ports.ts';
import { Authority, ownNames } from './ca.ts';
import { Backups, type BackupSettings } from './backups.ts';
import { Access, virga } from './http/access.ts';
import { Doors, parseListen } from './http/listen.ts';
import { warm } from './http/lists.ts';
import { Metrics } from './http/metrics.ts';
import { buildServer } from './http/server.ts';
import type { Services } from './http/services.ts';
import { upgradesOf } from './http/upgrades.ts';
import { ImageWork } from './image-work.ts';
import { openImageFiles } from './images/service.ts';
import { Links } from './links.ts';
import { Loop } from './loop.ts';
import { become, findGroup, findUser, giveFolder, giveTo, type SystemUser } from './privileges.ts';
import { SiteState } from './state.ts';
import { StoreDoor } from './store-door.ts';
import { openStore, type OpenDatabase } from './store/open.ts';
import type { PgStore } from './store/store.ts';
import { Streams } from './streams.ts';

export interface ControllerOptions {
  readonly dataDir: string;
  /** `/run/virga/virga.sock` by default. */
  readonly socketPath?: string;
  /** `HOST:PORT`, or `fd:N` for an inherited listening socket; each speaks TLS. */
  readonly listen?: readonly string[];
  /** Names and addresses under which agents and people reach the listeners, besides this machine's own. */
  readonly names?: readonly string[];
  /** URLs that invitations show; made from `names` and the listeners when absent. */
  readonly agentUrls?: readonly string[];
  /** A PostgreSQL server; the embedded one when absent. */
  readonly databaseUrl?: string;
  /** Of the embedded server; see `EmbeddedOptions`. */
  readonly runFolder?: string;
  /** System user of the embedded server; `virga` by default. */
  readonly databaseUser?: string;
  readonly siteName?: string;
  /** Becomes this system user once everything that needs root is done; not when absent or not root. */
  readonly dropTo?: string;
  readonly backup?: BackupSettings;
  /** Milliseconds without a report until a host is called silent. */
  readonly silentAfterMs?: number;
  readonly version?: string;
  readonly log?: Log;
}

export interface RunningController {
  readonly socketPath: string;
  /** Ports of the TLS listeners, in their order. */
  readonly ports: readonly number[];
  readonly services: Services;
  /** Resolves when it leads for the first time. */
  readonly leading: Promise<void>;
  /** Rejects with what makes going on useless (a newer database, no database programs). */
  readonly failed: Promise<never>;
  stop(): Promise<void>;
}

const stopGraceMs = 3000;
const storeRetryMs = 1000;
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
  readonly #stopping = new AbortController();
  readonly #state: SiteState;
  readonly #loop: Loop;
  #services: Services | undefined;
  #doors: Doors | undefined;
  #authority: Authority | undefined;
  #identityUntil: Instant = 0;
  #opened: (OpenDatabase & { readonly store: PgStore }) | undefined;
  #backups: Backups | undefined;
  #running: Promise<unknown>[] = [];
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
    const gid = await findGroup('virga');
    this.#doors = await Doors.open(this.socketPath, listen.map(parseListen), gid === undefined ? undefined : { gid });
    try {
      if (user) await this.#drop(user);
      await this.#serve();
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#running = [this.#openStore(), this.#loop.run(this.#stopping.signal), this.#maintain()];
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
    await Promise.allSettled(this.#running);
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
    const services = this.#wire(files);
    this.#services = services;
    this.#metrics.watch({
      state: this.#state,
      links: () => services.links.count,
      storeUp: async () =>
        this.#door.ping().then(
          () => true,
          () => false,
        ),
    });
    this.#state.listen((news) => {
      if (news.type === 'loaded') this.#loaded().catch((error: unknown) => this.#fail(error));
    });
    const { listener } = await buildServer(services);
    this.#doors?.serve(services.access, listener, upgradesOf(services));
    if (this.#authority) await this.#identify();
  }

  #wire(files: Services['files']): Services {
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
      access: new Access({ state, clock: systemClock, log: this.#log }),
      metrics: this.#metrics,
      authority: () => {
        if (!this.#authority) throw new VirgaError('not_leading');
        return this.#authority;
      },
      agentUrls: () => this.#agentUrls(),
      backup: async (request) => {
        if (!this.#backups) throw new VirgaError('store_unavailable', { detail: 'it is starting' });
        return this.#backups.stream(request);
      },
    };
  }

  /** The state is here. A new site gets its authority now, because now it has its id. */
  async #loaded(): Promise<void> {
    const { site } = this.#state.snapshot;
    if (!this.#authority) {
      this.#authority = await Authority.create(this.#options.dataDir, site.id, site.name, systemClock.now());
      await this.#identify();
      this.#log.info('made the certificate authority of the site', { pin: this.#authority.pin });
    }
    if (this.#authority.siteId !== site.id) {
      const detail = 'The certificate authority in the data folder is of another site than the database';
      return this.#fail(new VirgaError('setup', { detail, how: 'Restore both from one backup.' }));
    }
    this.#lead();
    await warm(this.#state.snapshot, this.#stopping.signal);
  }

  async #identify(): Promise<void> {
    if (!this.#authority || !this.#doors) return;
    const listened = this.#doors.addresses.map(({ address }) => address);
    const names = ownNames([...(this.#options.names ?? []), ...listened]);
    const identity = await this.#authority.serverIdentity(names, systemClock.now());
    this.#doors.identify(identity, this.#authority.pem);
    this.#identityUntil = identity.expiresAt;
  }

  /** Tries until the database is there; what no waiting can mend ends the controller. */
  async #openStore(): Promise<void> {
    const { dataDir, databaseUrl, databaseUser, runFolder, siteName = 'virga' } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const opened = await openStore({
          data: dataDir,
          log: this.#log.child({ part: 'store' }),
          newSite: { id: systemIds.uuid(), name: siteName },
          ...(databaseUrl === undefined ? {} : { databaseUrl }),
          ...(runFolder === undefined ? {} : { runFolder }),
          ...(databaseUser === undefined ? {} : { user: databaseUser }),
        });
        this.#opened = opened;
        this.#door.open(opened.store);
        this.#loop.wake();
        const backups = new Backups(opened.database, dataDir, this.#world, this.#options.backup);
        await backups.sweep();
        this.#backups = backups;
        this.#running.push(this.leading.then(async () => backups.run(signal)));
        return;
      } catch (error) {
        this.#complain('the database could not be opened', error);
        const code = error instanceof VirgaError ? error.code : 'internal';
        if (code !== 'store_unavailable') return this.#fail(error);
        this.#door.closed((error as Error).message);
        await systemClock.sleep(storeRetryMs, signal).catch(() => undefined);
      }
    }
  }

  /** Certificate and memory of old things, once a minute. */
  async #maintain(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await systemClock.sleep(maintenanceMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      try {
        if (systemClock.now() > this.#identityUntil - renewBeforeMs) await this.#identify();
        while (this.#opened && !signal.aborted && (await this.#opened.store.prune()).more);
      } catch (error) {
        this.#complain('maintenance failed', error);
      }
    }
  }

  #agentUrls(): readonly string[] {
    const { agentUrls, names } = this.#options;
    if (agentUrls) return agentUrls;
    return (this.#doors?.addresses ?? []).flatMap(({ address, port, family }) => {
      const every = address === '::' || address === '0.0.0.0';
      const hosts = names && names.length > 0 ? names : every ? ownNames().slice(1) : [address];
      const usable = hosts.filter((each) => !every || !/^(127\.|::1$|fe80:)/.test(each));
      return usable.map((each) => `https://${each.includes(':') && family === 'IPv6' ? `[${each}]` : each}:${port}`);
    });
  }

  #complain(message: string, error: unknown): void {
    const values = error instanceof VirgaError ? { code: error.code, detail: error.message, hint: error.hint } : {};
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#log.error(message, { ...values, ...(error instanceof VirgaError ? {} : { error: stack }) });
  }
}
