/** The agent as a process: wires the real effects to the loop. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ask } from '../api/link.ts';
import { VirgaError } from '../core/errors.ts';
import { systemClock } from '../effects/clock.ts';
import { durableFiles } from '../effects/files.ts';
import { systemIds } from '../effects/ids.ts';
import { tryKvm } from '../effects/kvm.ts';
import { sandboxedQemuImg } from '../effects/qemu-img.ts';
import type { HostReport } from '../core/model/assignment.ts';
import type { HostSession } from '../core/model/host.ts';
import type { ControllerLink, Log } from '../ports.ts';
import { claim } from './alone.ts';
import { assembleAgent, imageFolder, imagesOf, type AssembledAgent } from './assemble.ts';
import { readSerial } from './disks.ts';
import { openImageCache } from './images/cache.ts';
import { join, renewIfDue, type Joined } from './join.ts';
import { keeperClient } from './keeper-client.ts';
import { imageTransport } from './link-images.ts';
import { AgentLink } from './link.ts';
import { runUntilLeft } from './until-left.ts';
import { AgentStreams } from './link-streams.ts';
import { keepCredentials, readCredentials, type Credentials } from './tls.ts';

const GiB = 1024 ** 3;
/** Milliseconds between two looks at the certificate's age. */
const renewalEveryMs = 3600_000;
const maxTailBytes = 4 * 1024 * 1024;

export interface RunAgentOptions {
  readonly dataDir: string;
  readonly agentVersion: string;
  readonly log: Log;
  /** `qemu:///system` by default. */
  readonly libvirtUri?: string;
  /** Path of libvirt's socket, where it is not the usual one. */
  readonly socket?: string;
  /** Instead of a trial of KVM. */
  readonly engineType?: 'kvm' | 'qemu';
  /** Bound of the image cache; 100 GiB by default. Images in use may exceed it. */
  readonly cacheBytes?: number;
  /** Ends the agent in order; its guests run on. */
  readonly signal: AbortSignal;
}

/** Joins this host to the site of the invitation. @throws VirgaError, see `join` */
export async function joinAgent(options: {
  readonly dataDir: string;
  readonly url: string;
  /** Other controllers of the same site. */
  readonly more?: readonly string[];
  readonly token: string;
  readonly agentVersion: string;
  readonly hostName?: string;
}): Promise<Joined> {
  const { dataDir, ...rest } = options;
  return join({ ...rest, files: durableFiles(dataDir) });
}

/**
 * Runs the agent of this host until the signal. Guests are not touched by its end.
 * @throws VirgaError setup when the host has not joined a site
 */
export async function runAgent(options: RunAgentOptions): Promise<void> {
  const { dataDir, log } = options;
  const files = durableFiles(dataDir);
  const credentials = await readCredentials(files);
  if (!credentials)
    throw new VirgaError('setup', {
      detail: `This host has not joined a site (${dataDir})`,
      how: 'Ask the site for an invitation: virga host invite. Then: virga agent join URL TOKEN',
    });
  const giveBack = await claim(dataDir, log);
  try {
    await runJoined(options, credentials, files);
  } finally {
    await giveBack();
  }
}

async function runJoined(
  options: RunAgentOptions,
  joined: Credentials,
  files: ReturnType<typeof durableFiles>,
): Promise<void> {
  const { dataDir, log, signal, agentVersion } = options;
  let credentials = joined;
  const current = (): Credentials => credentials;
  const leading = followed(() => wired.link?.url);
  // Images come from the controller that leads.
  const transport = imageTransport(() => leading.at(current()));
  const cache = await openImageCache(
    { folder: imageFolder(dataDir), maxBytes: options.cacheBytes ?? 100 * GiB },
    { fetch: transport.fetch, records: durableFiles(imageFolder(dataDir)), clock: systemClock, log },
  );
  const keeper = keeperClient(credentials.hostId, hostname());
  // The loop wants a link to report to, the link wants the session that assembling finds out.
  const wired: { link?: AgentLink } = {};
  const reports: ControllerLink = {
    report: (report: HostReport) => wired.link?.report(report),
    connected: () => wired.link?.connected() ?? false,
  };
  const agent = await assembleAgent(
    {
      dataDir,
      agentVersion,
      hostId: credentials.hostId,
      siteId: credentials.siteId,
      ...(options.engineType ? { engineType: options.engineType } : engineFromEnvironment()),
      libvirt: {
        ...(options.libvirtUri === undefined ? {} : { uri: options.libvirtUri }),
        ...(options.socket === undefined ? {} : { socket: options.socket }),
      },
    },
    {
      clock: systemClock,
      ids: systemIds,
      files,
      log,
      diskTool: sandboxedQemuImg(),
      images: imagesOf(cache),
      keeper,
      tryKvm,
    },
    reports,
  );
  const streams = new AgentStreams({ console: (id) => agent.engine.console(id), serialPath: agent.serialPath }, log);
  const session = (): HostSession => agent.loop.session;
  const link = new AgentLink({
    credentials,
    session,
    agentVersion,
    clock: systemClock,
    log,
    learned: (urls) => {
      credentials = { ...credentials, urls };
      link.use(credentials);
      keepCredentials(files, credentials).catch((error: unknown) =>
        log.warn('the addresses of the controllers could not be kept', { detail: String(error) }),
      );
    },
  });
  wired.link = link;
  link.start({
    assignment: (assignment) => void agent.loop.receive(assignment),
    ask: (ask, url) => answer(ask, agent, streams, { ...current(), url }),
  });
  const renewing = renewals(
    current,
    signal,
    (next) => {
      credentials = next;
      link.use(next);
    },
    { files, log },
    () => link.url,
  );
  try {
    const { loop, engine } = agent;
    await runUntilLeft({ dataDir, loop, engine, keeper, files, clock: systemClock, log, signal });
  } finally {
    streams.close();
    link.close();
    keeper.close();
    await Promise.all([renewing, agent.engine.close(), cache.close(), transport.close()]);
  }
}

/** The credentials with the address of the controller that leads; the same object while neither changes. */
function followed(url: () => string | undefined): { at(credentials: Credentials): Credentials } {
  let last: { readonly of: Credentials; readonly at: Credentials } | undefined;
  return {
    at: (credentials) => {
      const wanted = url() ?? credentials.url;
      if (last?.of !== credentials || last.at.url !== wanted)
        last = { of: credentials, at: { ...credentials, url: wanted } };
      return last.at;
    },
  };
}

function engineFromEnvironment(): { engineType?: 'kvm' | 'qemu' } {
  const given = process.env['VIRGA_ENGINE'];
  if (given === undefined || given === '') return {};
  if (given === 'kvm' || given === 'qemu') return { engineType: given };
  throw new VirgaError('usage', { detail: `VIRGA_ENGINE is "${given}"; it must be kvm or qemu` });
}

async function renewals(
  current: () => Credentials,
  signal: AbortSignal,
  renewed: (next: Credentials) => void,
  world: { readonly files: ReturnType<typeof durableFiles>; readonly log: Log },
  url: () => string,
): Promise<void> {
  while (!signal.aborted) {
    await renewIfDue(current(), { ...world, url: url(), clock: systemClock, renewed });
    await sleep(renewalEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/** Answers the controller's questions. Only guests and domains of this host can be asked about. */
async function answer(
  ask: Ask,
  { engine, loop, serialPath }: AssembledAgent,
  streams: AgentStreams,
  credentials: Credentials,
): Promise<unknown> {
  if ((ask.ask === 'log' || ask.ask === 'open') && !loop.lists(ask.guestId))
    throw new VirgaError('not_found', { kind: 'guest', name: ask.guestId });
  switch (ask.ask) {
    case 'log':
      return readSerial(serialPath(ask.guestId), Math.min(ask.tailBytes, maxTailBytes));
    case 'inspect':
      return engine.inspect(ask.uuid);
    case 'open':
      await streams.open(credentials, ask.stream, ask.what, ask.guestId);
      return {};
    case 'destroy-stray':
      await loop.destroyStray(ask.guestId);
      return {};
    default:
      throw new VirgaError('usage', { detail: 'this agent does not know that question' });
  }
}
