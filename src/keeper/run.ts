/** The keeper as a process: real effects for its loop, the door for its host, and the guard that it keeps running. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { allRules } from '../core/ha/rules.ts';
import type { DoorView } from '../core/ha/door.ts';
import { X509Certificate } from 'node:crypto';
import { BootTime } from '../effects/boottime.ts';
import { durableFiles } from '../effects/files.ts';
import { systemIds } from '../effects/ids.ts';
import { doorSocket, makeRunFolder, runFolder } from '../effects/lines.ts';
import { raisePriority } from '../effects/priority.ts';
import { openWire, type OpenWire } from '../effects/wire/index.ts';
import type { Files, Log } from '../ports.ts';
import { reachable } from './addresses.ts';
import { cgroupRoot } from './cgroup.ts';
import { readIdentity, type KeeperIdentity } from './credentials.ts';
import { openDoor, type DoorLoop } from './door.ts';
import { hostGroups, noGroups } from './groups.ts';
import { guardClient } from './guard/client.ts';
import { bootId } from './guard/effects.ts';
import { keepGuard } from './guard/keep.ts';
import { KeeperLoop } from './loop.ts';
import type { GuardDoor, KeeperPorts } from './ports.ts';

export interface KeeperOptions {
  /** The agent's data folder: who the host is; the keeper's own files are below `keeper/`. */
  readonly dataDir: string;
  readonly role: 'host' | 'witness';
  /** `ADDRESS:PORT`, one per network, at most two. */
  readonly listen: readonly string[];
  readonly version: string;
  /** How a guard is started where none runs; absent: somebody else does. */
  readonly guardArgv?: readonly string[];
  readonly guardEnv?: NodeJS.ProcessEnv;
  /** Milliseconds from a lapse to the end of guests that hold locks on shared storage; absent: as the guard has it. */
  readonly graceMs?: number;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Renews the certificate of a witness, which has no agent that would. */
  readonly renew?: () => Promise<void>;
  /** Tells the site where a witness hears beats; of a host its agent does. Asked again until it succeeds. */
  readonly tell?: (said: KeeperPlace) => Promise<void>;
}

/** Where a keeper hears beats, and whose disk it is. */
export interface KeeperPlace {
  readonly diskId: string;
  readonly addresses: readonly string[];
  readonly version: string;
}

/** Milliseconds between two looks whether the certificate was renewed. */
const identityEveryMs = 60_000;

const noGuard: GuardDoor = { deadline() {}, answered: () => undefined };

interface HostParts {
  readonly ports: Pick<KeeperPorts, 'guard' | 'groups'>;
  /** Resolves when the guard was heard, or was waited for long enough. */
  readonly ready: () => Promise<void>;
  readonly close: () => void;
}

/** Milliseconds that a starting keeper waits for its guard: until it knows the deadline it would freeze guests that run. */
const guardMs = 1500;
const guardEveryMs = 10;

/** Guard and groups; a witness has neither, nor has a host whose guests could not be frozen: it only votes. */
function hostParts(options: KeeperOptions, hostId: string, clock: BootTime): HostParts {
  const { log, guardArgv } = options;
  if (options.role === 'host' && cgroupRoot() === undefined)
    log.warn('no cgroup v2 here: this keeper votes, but no highly available guest runs on this host');
  if (options.role === 'witness' || cgroupRoot() === undefined)
    return { ports: { guard: noGuard, groups: noGroups }, ready: () => Promise.resolve(), close() {} };
  const folder = runFolder(hostId);
  const client = guardClient(folder);
  if (options.graceMs !== undefined) client.settings({ graceMs: options.graceMs });
  const keeping =
    guardArgv &&
    keepGuard({
      argv: guardArgv,
      env: options.guardEnv ?? process.env,
      folder,
      logFile: join(options.dataDir, 'keeper', 'guard.log'),
      client,
      now: () => clock.now(),
      log,
    });
  return {
    ports: { guard: client, groups: hostGroups(hostId) },
    async ready() {
      for (const until = clock.now() + guardMs; clock.now() < until && !client.heard();)
        await clock.sleep(guardEveryMs);
    },
    close() {
      keeping?.close();
      client.close();
    },
  };
}

/** Runs until the signal. The lease lasts on: a keeper that comes back in time finds it. @throws VirgaError setup */
export async function runKeeper(options: KeeperOptions): Promise<void> {
  const { dataDir, log, signal, role } = options;
  const files = durableFiles(dataDir);
  const identity = await readIdentity(files, dataDir);
  const { hostId, siteId, hostName: name } = identity;
  const policy = raisePriority();
  const clock = new BootTime();
  await makeRunFolder(runFolder(hostId));
  const wire = await openWire({ self: hostId, siteId, identity, listen: options.listen, clock, log });
  const host = hostParts(options, hostId, clock);
  const addresses = await reachable(wire.addresses(), identity.url);
  const keeperFiles = durableFiles(join(dataDir, 'keeper'));
  const loop = new KeeperLoop(
    { clock, ids: systemIds, files: keeperFiles, wire, log, ...host.ports },
    { hostId, siteId, name, role, bootId: bootId(), rules: allRules },
  );
  const view = { addresses, version: options.version };
  const door = await openDoor(join(runFolder(hostId), doorSocket), doorLoop(loop, view), log).catch(
    async (error: unknown) => {
      host.close();
      await wire.close();
      throw error;
    },
  );
  const stopWatching = watchIdentity(options, files, identity, wire);
  try {
    await loop.load();
    await host.ready();
    tellPlace(options, { diskId: loop.state().lease.diskId, ...view }).catch(() => undefined);
    wire.onMessage((from, message) => loop.receive(from.id, message));
    log.info('keeper runs', { host: name, role, policy, addresses, guard: options.guardArgv !== undefined });
    await loop.run(signal);
  } finally {
    stopWatching();
    host.close();
    await door.close();
    await wire.close();
  }
}

/** Milliseconds between two attempts to tell the site where this keeper is, first and longest: each is a process. */
const tellFirstMs = 5000;
const tellLongestMs = 300_000;

/** Until the site has heard it; ends with the signal. */
async function tellPlace({ tell, log, signal }: KeeperOptions, place: KeeperPlace): Promise<void> {
  if (!tell) return;
  for (let waitMs = tellFirstMs; !signal.aborted; waitMs = Math.min(waitMs * 2, tellLongestMs)) {
    try {
      await tell(place);
      return;
    } catch (error) {
      if (waitMs === tellFirstMs)
        log.warn('the site was not told where this keeper is', { error: (error as Error).message });
      await sleep(waitMs, undefined, { signal });
    }
  }
}

/** What the loop cannot know of its own process. */
function doorLoop(loop: KeeperLoop, own: Pick<DoorView['lease'], 'addresses' | 'version'>): DoorLoop {
  return {
    state() {
      const view = loop.state();
      return { ...view, lease: { ...view.lease, ...own } };
    },
    register: async (ticket) => loop.register(ticket),
    enter: async (guestId, pid) => loop.enter(guestId, pid),
    clear: async (guestId) => loop.clear(guestId),
    leave: async (reason) => loop.leave(reason),
    onChange: (listener) => loop.onChange(listener),
  };
}

/** The agent renews the host's certificate, and the keeper follows. */
function watchIdentity(
  { dataDir, log, renew }: KeeperOptions,
  files: Files,
  first: KeeperIdentity,
  wire: OpenWire,
): () => void {
  let used = first.certificate;
  const look = async (): Promise<void> => {
    if (renew && renewalDue(used)) await renew();
    const identity = await readIdentity(files, dataDir);
    if (identity.certificate === used) return;
    wire.use(identity);
    used = identity.certificate;
    log.info('the renewed certificate is used');
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => log.warn('the certificate could not be looked at', { error: String(error) }));
  }, identityEveryMs);
  return () => clearInterval(timer);
}

/** True when two thirds of the certificate's life are over. */
function renewalDue(certificate: string): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return Date.now() >= from + ((to - from) * 2) / 3;
}
