/**
 * A power cut of a host of a lab, and what followed, with the time of each step. Nothing is computed from what should
 * be: the cut is the moment of the kill, the start of QEMU is libvirt's own event, the answer is seen by a client.
 */
import { createInterface } from 'node:readline';
import type { TestbedHost, TestbedProcess } from '../testbed/index.ts';
import type { Lab } from './lab.ts';
import type { Poller } from './poller.ts';
import { until } from './ready.ts';

/** Milliseconds since the cut. */
export interface GuestFailover {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  /** The session was sealed by a majority and is over. */
  readonly lostMs: number;
  /** The order to start it elsewhere was committed. */
  readonly orderedMs: number;
  /** QEMU runs its first instruction elsewhere. */
  readonly startedMs: number;
  readonly answeredMs: number;
  readonly failedRequests: number;
}

/** Follows what libvirt says of guests' starts, on every host that has power. */
export class StartWatch {
  readonly #processes = new Map<string, TestbedProcess>();
  /** Wall-clock instants of starts and resumes by host and guest, newest last. */
  readonly #seen: { readonly host: string; readonly guest: string; readonly at: number }[] = [];

  /** Begins on a host; again after each of its boots. */
  async follow(host: TestbedHost): Promise<void> {
    const argv = ['stdbuf', '-oL', 'virsh', 'event', '--loop', '--timestamp', '--event', 'lifecycle'];
    const process = await host.spawn(argv);
    this.#processes.set(host.name, process);
    if (process.stdout === undefined) throw new Error('virsh has no output to read');
    createInterface({ input: process.stdout }).on('line', (line) => this.#note(host.name, line));
    process.stderr?.resume();
  }

  #note(host: string, line: string): void {
    const [, at, guest, what] = /^(\S+ \S+): event 'lifecycle' for domain '?([^' ]+)'?: (\w+)/.exec(line) ?? [];
    if (at === undefined || guest === undefined || (what !== 'Resumed' && what !== 'Started')) return;
    this.#seen.push({ host, guest, at: Date.parse(at.replace(' ', 'T').replace('+0000', 'Z')) });
    if (this.#seen.length > 10_000) this.#seen.shift();
  }

  /** The last start or resume of the guest on that host since `since` (a guest that is created paused runs at its resume). */
  ranAt(host: string, guest: string, since: number): number | undefined {
    return this.#seen.findLast((each) => each.host === host && each.guest === guest && each.at >= since)?.at;
  }

  async stop(): Promise<void> {
    for (const process of this.#processes.values()) process.kill('SIGKILL');
    await Promise.all([...this.#processes.values()].map(async ({ exited }) => exited));
  }
}

export interface CutOptions {
  readonly lab: Lab;
  readonly host: string;
  /** The guests that run there and should go on elsewhere. */
  readonly guests: readonly string[];
  readonly poller: Poller;
  readonly starts: StartWatch;
  /** Until all answer again; 60,000 by default. */
  readonly limitMs?: number;
  /** Called right before the kill. */
  readonly begun?: () => void;
}

/** Cuts the power of a host and waits until each of its guests answers from another one. */
export async function cutAndWatch(options: CutOptions): Promise<readonly GuestFailover[]> {
  const { lab, host, guests, poller, starts } = options;
  options.begun?.();
  const [cutAt, begunAt] = [Date.now(), performance.now()];
  await lab.testbed.host(host).powerCut();
  poller.begin(guests, begunAt);
  await until(`${guests.join(', ')} to answer from elsewhere`, options.limitMs ?? 60_000, () =>
    Promise.resolve(poller.answering(guests) ? true : undefined),
  );
  await lab.leader();
  const hosts = await lab.hosts();
  const lostAt = hosts.find(({ name }) => name === host)?.status.loss?.lostAt;
  if (lostAt === undefined) throw new Error(`${host} was never declared lost, and yet its guests answer`);
  const lostMs = Date.parse(lostAt) - cutAt;
  return Promise.all(
    guests.map(async (name) => {
      const { status } = await lab.client.call('guest.show', { params: { guest: name } });
      const to = hosts.find(({ id }) => id === status.placement?.hostId)?.name ?? '?';
      const startedAt = await until(`libvirt’s word that ${name} started on ${to}`, 5_000, () =>
        Promise.resolve(starts.ranAt(to, name, cutAt)),
      );
      const { begunAt, answeredAt = Number.NaN, failed } = poller.outage(name);
      return {
        name,
        from: host,
        to,
        lostMs,
        orderedMs: Date.parse(status.placement?.placedAt ?? '') - cutAt,
        startedMs: startedAt - cutAt,
        answeredMs: answeredAt - begunAt,
        failedRequests: failed,
      };
    }),
  );
}
