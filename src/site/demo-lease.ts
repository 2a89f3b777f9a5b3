/**
 * The second act of the demo: a host loses power in front of the user, and its guests go on elsewhere; then the switch
 * loses power, and they only pause.
 */
import { darkAndBack } from './dark.ts';
import { cutAndWatch, StartWatch, type GuestFailover } from './failover.ts';
import type { Lab } from './lab.ts';
import { Poller, type Watched } from './poller.ts';
import { until } from './ready.ts';
import type { Stage } from './stage.ts';

/** Milliseconds; of the steps the medians over the guests. */
export interface DemoFailover {
  readonly host: string;
  /** Of each guest, in the order of `guests`. */
  readonly cutToAnswerMs: readonly number[];
  readonly guests: readonly string[];
  readonly detectMs: number;
  readonly decideMs: number;
  readonly startMs: number;
  readonly bootMs: number;
  /** Of a client that asks each guest every 50 ms, all guests together. */
  readonly failedRequests: number;
}

export interface DemoDark {
  readonly restarted: number;
  readonly onAgainMs: number;
}

const darkMs = 8_000;

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

function middle(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[sorted.length >> 1] ?? Number.NaN);
}

function summary(host: string, seen: readonly GuestFailover[]): DemoFailover {
  return {
    host,
    guests: seen.map(({ name }) => name),
    cutToAnswerMs: seen.map(({ answeredMs }) => Math.round(answeredMs)),
    detectMs: middle(seen.map(({ lostMs }) => lostMs)),
    decideMs: middle(seen.map(({ lostMs, orderedMs }) => orderedMs - lostMs)),
    startMs: middle(seen.map(({ orderedMs, startedMs }) => startedMs - orderedMs)),
    bootMs: middle(seen.map(({ startedMs, answeredMs }) => answeredMs - startedMs)),
    failedRequests: seen.reduce((sum, { failedRequests }) => sum + failedRequests, 0),
  };
}

/** Says each step when it is seen, until it is told to end. */
async function narrate(
  lab: Lab,
  host: string,
  guests: readonly string[],
  world: { readonly poller: Poller; readonly note: (line: string) => void; readonly ended: () => boolean },
): Promise<void> {
  const cutAt = performance.now();
  const said = new Set<string>();
  const say = (key: string, line: string): void => {
    if (said.has(key)) return;
    said.add(key);
    world.note(`${seconds(performance.now() - cutAt).padStart(6)} after the cut: ${line}`);
  };
  const old = (await lab.hosts()).find(({ name }) => name === host);
  const look = async (): Promise<void> => {
    const hosts = await lab.hosts();
    if (hosts.find(({ name }) => name === host)?.status.state === 'lost')
      say('lost', `detected: ${host} is lost, a majority sealed its session and its lease has run out everywhere`);
    const { items } = await lab.client.call('guest.list');
    for (const { name, status } of items.filter((guest) => guests.includes(guest.name))) {
      const to = hosts.find(({ id }) => id === status.placement?.hostId);
      if (to === undefined || to.id === old?.id) continue;
      say(`decided ${name}`, `decided: ${name} goes on on ${to.name}`);
      if (status.state === 'running') say(`started ${name}`, `started: ${name} runs on ${to.name}`);
    }
    for (const name of guests)
      if (world.poller.answering([name]) && world.poller.outage(name).begunAt > 0)
        say(`answers ${name}`, `answering: ${name}; ${world.poller.outage(name).failed} requests of its client failed`);
  };
  while (!world.ended()) {
    await look().catch(() => undefined);
    await new Promise((next) => setTimeout(next, 100));
  }
  await look().catch(() => undefined);
}

/** The busiest host that carries highly available guests. */
async function victimOf(lab: Lab, guests: readonly Watched[]): Promise<{ host: string; names: readonly string[] }> {
  return until('guests that may start elsewhere', 30_000, async () => {
    const hosts = await lab.hosts();
    const { items } = await lab.client.call('guest.list');
    const ours = items.filter(({ name }) => guests.some((each) => each.name === name));
    if (!ours.every(({ status }) => status.observed?.inside === true)) return undefined;
    const byHost = hosts.map(({ id, name }) => ({
      host: name,
      names: ours.filter(({ status }) => status.placement?.hostId === id).map((guest) => guest.name),
    }));
    return byHost.toSorted((a, b) => b.names.length - a.names.length)[0];
  });
}

/** Cuts the power of a host, shows the timeline, and switches it on again. */
export async function showFailover(lab: Lab, stage: Stage, guests: readonly Watched[]): Promise<DemoFailover> {
  const { host, names } = await victimOf(lab, guests);
  const poller = new Poller(lab.testbed, guests);
  const starts = new StartWatch();
  try {
    for (const each of lab.testbed.hosts) await starts.follow(each);
    let ended = false;
    const told = names.join(', ');
    const seen = await stage.step(`cutting the power of ${host}, which carries ${told}`, async () => {
      const story = narrate(lab, host, names, { poller, note: (line) => stage.note(line), ended: () => ended });
      try {
        return await cutAndWatch({ lab, host, guests: names, poller, starts, limitMs: 120_000 });
      } finally {
        ended = true;
        await story;
      }
    });
    const result = summary(host, seen);
    const { detectMs, decideMs, startMs, bootMs } = result;
    const steps = `detected ${seconds(detectMs)}, decided ${seconds(decideMs)}, started ${seconds(startMs)}, booted ${seconds(bootMs)}`;
    stage.note(`cut to answer ${result.cutToAnswerMs.map(seconds).join(', ')}: ${steps}`);
    await stage.step(
      `switching ${host} on again: it is a new session, and starts nothing that moved away`,
      async () => {
        await lab.powerOn(host);
        await lab.settled();
      },
    );
    return result;
  } finally {
    poller.stop();
    await starts.stop();
  }
}

/** Pulls the switch for longer than any lease, and puts it back. */
export async function showDark(lab: Lab, stage: Stage, guests: readonly Watched[]): Promise<DemoDark> {
  const poller = new Poller(lab.testbed, guests);
  try {
    const what = `pulling the switch for ${seconds(darkMs)}: every host freezes its guests, and nobody is declared lost`;
    const { restarted, onAgainMs } = await stage.step(what, () => darkAndBack(lab, poller, guests, darkMs));
    stage.note(`${restarted} guests restarted; all answer again ${seconds(onAgainMs)} after the switch came back`);
    return { restarted, onAgainMs: Math.round(onAgainMs) };
  } finally {
    poller.stop();
  }
}
