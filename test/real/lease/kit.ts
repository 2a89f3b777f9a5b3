/** What the tests of the host lease on real processes share: a site with guests that may move, and eyes outside of it. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GuestView } from '../../../src/api/schemas.ts';
import type { LabOptions } from '../../../src/site/lab.ts';
import { isFrozen } from '../../../src/site/dark.ts';
import { groupRoot } from '../../../src/testbed/groups.ts';
import { Site, until } from '../site/kit.ts';

export { until };

export const threeHosts = ['alder', 'birch', 'cedar'] as const;

/** A running copy of a guest, as the kernel sees it from outside of all hosts. */
interface Copy {
  readonly host: string;
  readonly guestId: string;
  readonly frozen: boolean;
  /** Its control group. */
  readonly folder: string;
}

/** Looks at the control groups of all hosts, every few milliseconds, for a guest that runs twice (law 1). */
export class CopyWatch {
  readonly #root: string;
  readonly #timer: NodeJS.Timeout;
  /** Guest ids that were seen running on two hosts at once, with hosts and processes. */
  readonly twice = new Map<string, readonly string[]>();
  #looks = 0;

  constructor(site: Site) {
    const root = groupRoot();
    assert.ok(root !== undefined, 'the kernel has no version 2 tree of control groups');
    this.#root = join(root, `vg${site.lab.testbed.id}`);
    this.#timer = setInterval(() => this.#look(), 20);
  }

  /** Processes of guests now. */
  copies(): readonly Copy[] {
    return globSync('*/virga/*/s*/*/cgroup.events', { cwd: this.#root }).flatMap((path) => {
      const parts = path.split('/');
      const text = read(join(this.#root, path));
      if (!/populated 1/.test(text)) return [];
      const folder = join(this.#root, path, '..');
      return [{ host: parts[0] ?? '', guestId: parts[4] ?? '', frozen: /frozen 1/.test(text), folder }];
    });
  }

  #look(): void {
    this.#looks += 1;
    const running = this.copies().filter(({ frozen }) => !frozen);
    for (const { guestId } of running) {
      const copies = running.filter((copy) => copy.guestId === guestId);
      if (copies.length < 2) continue;
      const executing = copies.map(({ host, folder }) => ({ host, states: statesIn(folder) }));
      const alive = executing.filter(({ states }) => states.length > 0);
      if (alive.length > 1)
        this.twice.set(
          guestId,
          alive.map(({ host, states }) => `${host}: ${states.join(', ')}`),
        );
    }
  }

  /** Ends the watch; no guest was ever seen twice. */
  end(): void {
    clearInterval(this.#timer);
    assert.ok(this.#looks > 10, 'the watch hardly looked');
    assert.deepEqual([...this.twice], [], 'guests that ran on two hosts at once');
  }
}

const killBit = 1n << 8n;

/**
 * Processes of the group that may still execute. One that is being killed leaves the frozen state to die: it has a
 * SIGKILL pending, or is gone but for its entry (proc(5), State, SigPnd, ShdPnd).
 */
function statesIn(folder: string): readonly string[] {
  const pids = read(join(folder, 'cgroup.procs')).split('\n').filter(Boolean);
  return pids.flatMap((pid) => {
    const status = read(`/proc/${pid}/status`);
    const field = (name: string): string => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? '';
    const pending = BigInt(`0x${field('SigPnd') || '0'}`) | BigInt(`0x${field('ShdPnd') || '0'}`);
    if (status === '' || /[ZX]/.test(field('State')) || (pending & killBit) !== 0n) return [];
    // Threads of a process that is killed die one by one; the first has no SIGKILL pending once it acts on it.
    const flags = Number(read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ')[6] ?? 0);
    return (flags & (exiting | signaled)) === 0 ? [`${pid} ${field('State')} ${new Date().toISOString()}`] : [];
  });
}

/** PF_EXITING and PF_SIGNALED of the kernel's task flags (proc(5), field 9). */
const exiting = 0x4;
const signaled = 0x400;

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It went between the two calls.
    return '';
  }
}

export class LeaseSite {
  readonly site: Site;
  readonly watch: CopyWatch;

  private constructor(site: Site) {
    this.site = site;
    this.watch = new CopyWatch(site);
  }

  static async open(options: Partial<LabOptions> = {}): Promise<LeaseSite> {
    return new LeaseSite(await Site.open({ hosts: threeHosts, ...options }));
  }

  get lab(): Site['lab'] {
    return this.site.lab;
  }

  /** Ends everything, then judges: a copy too many fails the file. */
  async close(): Promise<void> {
    try {
      this.watch.end();
    } finally {
      await this.site.lab.close();
    }
  }

  /** A guest that may go on elsewhere, running on that host inside its session's group. */
  async run(name: string, host: string): Promise<GuestView> {
    const [created] = await this.site.run({ name, diskMode: 'fresh', preferredHosts: [host] });
    assert.ok(created);
    await this.site.answers(created);
    const guest = await this.site.guestIs(name, 'inside', ({ status }) => status.observed?.inside === true);
    assert.equal((await this.site.hostOf(guest)).name, host);
    return guest;
  }

  bootId(guest: GuestView): Promise<string> {
    return this.site.ask(guest, '/boot-id');
  }

  async hostIs(host: string, state: 'online' | 'lost', limitMs = 15_000): Promise<void> {
    await this.site.hostIs(host, state, ({ status }) => status.state === state, limitMs);
  }

  /** Waits until the host's guests are frozen, or no longer are. */
  async frozen(host: string, wanted: boolean, limitMs = 8_000): Promise<void> {
    await until(`the guests of ${host} to be ${wanted ? '' : 'not '}frozen`, limitMs, async () =>
      (await isFrozen(this.lab, host)) === wanted ? true : undefined,
    );
  }

  /** The guest answers from another host than `from`. */
  async wentOn(guest: GuestView, from: string, limitMs = 60_000): Promise<GuestView> {
    const moved = await this.site.guestIs(
      guest.name,
      `on another host than ${from}`,
      ({ status }) => status.state === 'running' && status.placement?.hostId !== guest.status.placement?.hostId,
      limitMs,
    );
    assert.notEqual((await this.site.hostOf(moved)).name, from);
    await this.site.answers(moved);
    return moved;
  }

  async sessionOf(host: string): Promise<{ readonly number: number; readonly id: string }> {
    // A controller that was held up leads again a moment later.
    return until(`the session of ${host}`, 10_000, async () => (await this.site.hostView(host)).status.session);
  }

  /** Looks for so long: no host is lost, none lapses, no guest is frozen. */
  async nothingHappens(ms: number): Promise<void> {
    const sessions = await Promise.all(threeHosts.map(async (host) => this.sessionOf(host)));
    const end = performance.now() + ms;
    while (performance.now() < end) {
      for (const { host, frozen } of this.watch.copies()) assert.ok(!frozen, `a guest of ${host} is frozen`);
      await new Promise((next) => setTimeout(next, 50));
    }
    await this.lab.settled();
    assert.deepEqual(await Promise.all(threeHosts.map(async (host) => this.sessionOf(host))), sessions);
  }

  /** Power on where it is off, all parts running, and leases settled. */
  async whole(): Promise<void> {
    for (const host of threeHosts) {
      if (!this.lab.testbed.host(host).powered) await this.lab.powerOn(host);
      else await this.lab.startHost(host);
    }
    await this.lab.settled();
  }
}
