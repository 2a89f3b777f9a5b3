/**
 * `virga demo`: three simulated physical hosts with real libvirt, a real controller and real guests, in front of the
 * user. It does the main job: an image is added, six guests are placed and answer with their own names, one is killed
 * behind libvirt's back and comes back by itself. Then a host loses power and its guests go on elsewhere, and the switch
 * loses power and the guests only pause.
 */
import { rmdir } from 'node:fs/promises';
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { GuestView } from '../api/schemas.ts';
import { testbedsDir, tinyImage } from '../testbed/index.ts';
import { uploadFile } from './upload.ts';
import { showDark, showFailover, type DemoDark, type DemoFailover } from './demo-lease.ts';
import { openLab, type Lab } from './lab.ts';
import { defaults } from './paths.ts';
import { guestsInState, until } from './ready.ts';
import { serveReference, type ReferenceServer } from './reference-server.ts';
import { ensureInstalled } from './setup.ts';
import { openStage, type Stage } from './stage.ts';

export interface DemoOptions {
  readonly once: boolean;
  readonly json: boolean;
  readonly yes: boolean;
  readonly hosts: number;
  readonly guests: number;
}

export interface DemoResult {
  readonly ok: boolean;
  readonly hosts: readonly { readonly name: string; readonly address: string; readonly guests: number }[];
  readonly guests: readonly {
    readonly name: string;
    readonly host: string;
    readonly address: string;
    readonly answeredMs: number;
  }[];
  readonly recovered: {
    readonly name: string;
    readonly host: string;
    readonly answeredMs: number;
    readonly restarts: number;
  };
  /** Absent with one host, whose guests have nowhere to go. */
  readonly failover?: DemoFailover;
  readonly dark?: DemoDark;
  readonly seconds: number;
}

const hostNames = ['alder', 'birch', 'cedar', 'elm', 'fir', 'hazel', 'maple', 'oak', 'pine', 'rowan'] as const;

async function addImage(client: Client, stage: Stage): Promise<void> {
  const tiny = await stage.step('building the tiny guest image from Debian packages (cached)', () =>
    tinyImage({ say: (line) => stage.note(line) }),
  );
  await stage.step(`adding it to the site (${(tiny.bytes / 1e6).toFixed(1)} MB)`, () =>
    uploadFile(client, { path: tiny.path, name: 'tiny', format: tiny.format, sha512: tiny.sha512, bytes: tiny.bytes }),
  );
}

async function addNetwork(lab: Lab): Promise<void> {
  const { plan } = lab.testbed;
  await lab.client.call('network.create', {
    body: {
      name: 'lab',
      mode: 'bridge',
      bridge: 'br0',
      mtu: plan.mtu,
      ipv4: { cidr: plan.subnet, from: plan.guestsFirst, to: plan.guestsLast, gateway: plan.gateway },
      ipv6: { cidr: plan.subnet6, from: plan.guests6First, to: plan.guests6Last, gateway: plan.gateway6 },
    },
  });
}

const addressOf = (guest: GuestView): string => {
  const address = guest.spec.nics[0]?.ipv4;
  if (address === undefined) throw new VirgaError('internal', { id: `guest ${guest.name} has no address` });
  return address;
};

/** Waits until each guest answers HTTP with its own name; times run from the request that created it. */
async function answers(lab: Lab, guests: readonly GuestView[], since: number): Promise<DemoResult['guests']> {
  const hosts = new Map((await lab.hosts()).map((host) => [host.id, host.name]));
  return Promise.all(
    guests.map(async (guest) => {
      const address = addressOf(guest);
      await lab.testbed.httpWait(address, { body: guest.name, timeoutMs: 180_000 });
      const host = hosts.get(guest.status.placement?.hostId ?? '') ?? '?';
      return { name: guest.name, host, address, answeredMs: Math.round(performance.now() - since) };
    }),
  );
}

/** Kills one guest's QEMU with SIGKILL, as no libvirt command would, and waits until it answers again. */
async function killAndRecover(lab: Lab, victim: DemoResult['guests'][number]): Promise<DemoResult['recovered']> {
  const host = lab.testbed.host(victim.host);
  const bootId = async (): Promise<string> =>
    (await lab.testbed.httpGet(victim.address, '/boot-id', { timeoutMs: 1_000 })).body;
  const before = (await lab.testbed.httpWait(victim.address, { path: '/boot-id', timeoutMs: 60_000 })).body;
  const pid = (await host.run(['cat', `/run/libvirt/qemu/${victim.name}.pid`])).trim();
  const killed = performance.now();
  await host.run(['kill', '-KILL', pid]);
  await until(
    `${victim.name} to answer again`,
    60_000,
    async () => ((await bootId()) === before ? undefined : true),
    50,
  );
  const answeredMs = Math.round(performance.now() - killed);
  const [guest] = await guestsInState(lab.client, [victim.name], 'running');
  return { name: victim.name, host: victim.host, answeredMs, restarts: guest?.status.observed?.restarts ?? 0 };
}

async function play(lab: Lab, stage: Stage, options: DemoOptions, started: number): Promise<DemoResult> {
  await addImage(lab.client, stage);
  await addNetwork(lab);
  const endBoard = stage.board(lab.client);
  try {
    return await main(lab, stage, options, started);
  } finally {
    await endBoard();
  }
}

/** The main job. */
async function main(lab: Lab, stage: Stage, options: DemoOptions, started: number): Promise<DemoResult> {
  const since = performance.now();
  const created = await stage.step(`running ${options.guests} guests`, () =>
    lab.client.call('guest.run', {
      body: { image: 'tiny', name: 'web', count: options.guests, memoryMiB: 128, diskMode: 'fresh', networks: ['lab'] },
      idempotencyKey: `demo-${lab.testbed.id}`,
    }),
  );
  const guests = await stage.step('waiting until each answers HTTP with its own name', () =>
    answers(lab, created.items, since),
  );
  const victim = guests[0];
  if (!victim) throw new VirgaError('internal', { id: 'the demo created no guest' });
  const recovered = await stage.step(`killing ${victim.name} on ${victim.host} behind libvirt's back`, () =>
    killAndRecover(lab, victim),
  );
  stage.note(`${victim.name} answers again ${(recovered.answeredMs / 1000).toFixed(1)} s after kill -9`);
  const hosts = lab.testbed.hosts.map((host) => ({
    name: host.name,
    address: host.address,
    guests: guests.filter((guest) => guest.host === host.name).length,
  }));
  const lease = hosts.length > 1 ? await leases(lab, stage, guests) : undefined;
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  return { ok: (lease?.dark.restarted ?? 0) === 0, hosts, guests, recovered, ...lease, seconds };
}

async function leases(
  lab: Lab,
  stage: Stage,
  guests: DemoResult['guests'],
): Promise<{ readonly failover: DemoFailover; readonly dark: DemoDark }> {
  await stage.step('waiting until every host holds a lease', () => lab.settled());
  const failover = await showFailover(lab, stage, guests);
  return { failover, dark: await showDark(lab, stage, guests) };
}

function closing(lab: Lab, reference: ReferenceServer): string {
  const { socket } = lab;
  return [
    '',
    `The site runs on. Its API reference: ${reference.url}`,
    'In another terminal (as root):',
    `  export VIRGA_SOCKET=${socket}`,
    '  virga status',
    '  virga guest list',
    '  virga guest console web-1        (detach with Ctrl-])',
    'Ctrl-C ends the demo and removes everything.',
  ].join('\n');
}

/** Resolves at Ctrl-C or SIGTERM. */
function interrupted(): Promise<'interrupted'> {
  return new Promise((done) => {
    process.once('SIGINT', () => done('interrupted'));
    process.once('SIGTERM', () => done('interrupted'));
  });
}

export async function demo(options: DemoOptions): Promise<number> {
  if (process.getuid?.() !== 0)
    throw new VirgaError('setup', { detail: 'the demo needs root (namespaces, libvirt)', how: 'Run it with sudo.' });
  const started = performance.now();
  const stage = openStage(options.json);
  const stop = interrupted();
  await stage.step('looking for what is missing', () =>
    ensureInstalled(['controller', 'agent', 'testbed'], options.yes),
  );
  let lab: Lab | undefined;
  let reference: ReferenceServer | undefined;
  try {
    lab = await stage.step(`starting a site of ${options.hosts} simulated physical hosts`, () =>
      openLab({
        hosts: hostNames.slice(0, options.hosts),
        siteName: 'demo',
        // An even number of hosts needs one more voice.
        witness: options.hosts % 2 === 0,
        say: (line) => stage.note(line),
      }),
    );
    const result = await Promise.race([play(lab, stage, options, started), stop]);
    if (result === 'interrupted') return 130;
    if (options.json) console.log(JSON.stringify(result));
    if (!options.once) {
      reference = await serveReference(lab.socket);
      stage.say(closing(lab, reference));
      await stop;
    }
    return 0;
  } finally {
    await reference?.close();
    stage.say('removing the demo');
    await lab?.close();
    // Only when nobody else has anything there.
    for (const folder of [testbedsDir, defaults.runDir]) await rmdir(folder).catch(() => undefined);
  }
}
