/**
 * `./virga bench failover`: the power of a simulated host is cut (kill -9 of its first process) under real guests, and
 * a client that asks every 50 ms waits until they answer from other hosts. Four cases, at least ten cuts each: one
 * guest per host, five per host, the profile `fast`, and the leading controller on the host that dies. The reference is
 * `virsh create` → HTTP of the same guests under the same load, in the same run.
 */
import type { Lab } from '../src/site/lab.ts';
import { cutAndWatch, StartWatch, type GuestFailover } from '../src/site/failover.ts';
import { Poller, type Watched } from '../src/site/poller.ts';
import { until } from '../src/site/ready.ts';
import { atMost, median, result, type BenchOptions, type BenchResult, type BenchRow } from './kit.ts';
import { bareStarts, benchLab, deleteAll, foreignTwin, runOn, threeHosts } from './lease-kit.ts';

const usualCuts = 10;
const referenceRounds = 3;
const killedRounds = 5;

interface Case {
  readonly title: string;
  readonly perHost: number;
  readonly cuts: number;
  /** The host to cut: the leader's where it dies too, else one after the other. */
  readonly leaderDies: boolean;
}

/** A lab with its guests by host, and what watches them. */
class Scene {
  readonly lab: Lab;
  readonly poller: Poller;
  readonly starts = new StartWatch();
  readonly #guests = new Map<string, readonly Watched[]>();

  private constructor(lab: Lab) {
    this.lab = lab;
    this.poller = new Poller(lab.testbed, []);
  }

  static async open(lab: Lab): Promise<Scene> {
    const scene = new Scene(lab);
    for (const host of lab.testbed.hosts) await scene.starts.follow(host);
    return scene;
  }

  on(host: string): readonly Watched[] {
    return this.#guests.get(host) ?? [];
  }

  async fill(host: string, perHost: number): Promise<void> {
    this.#guests.set(host, await runOn(this.lab, host, perHost));
    this.#rewatch();
  }

  async empty(host: string): Promise<void> {
    const names = this.on(host).map(({ name }) => name);
    this.#guests.delete(host);
    this.#rewatch();
    await deleteAll(this.lab, names);
  }

  #rewatch(): void {
    this.poller.watch([...this.#guests.values()].flat());
  }

  /** One cut; afterwards the host is back, empty, and holds a lease. */
  async cut(host: string, perHost: number): Promise<readonly GuestFailover[]> {
    const { lab, poller, starts } = this;
    const guests = this.on(host).map(({ name }) => name);
    const seen = await cutAndWatch({ lab, host, guests, poller, starts });
    await lab.powerOn(host);
    await starts.follow(lab.testbed.host(host));
    await Promise.all([this.empty(host), lab.settled(90_000)]);
    // A host that has not reported yet takes no guests, however much they prefer it.
    await until(`${host} to be online`, 60_000, async () =>
      (await lab.hosts()).some(({ name, status }) => name === host && status.state === 'online') ? true : undefined,
    );
    await this.fill(host, perHost);
    return seen;
  }

  async close(): Promise<void> {
    this.poller.stop();
    await this.starts.stop();
    await this.lab.close();
  }
}

const say = (line: string): void => console.error(line);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;

async function cuts(
  scene: Scene,
  { title, perHost, cuts: count, leaderDies }: Case,
): Promise<readonly GuestFailover[]> {
  for (const host of threeHosts) {
    if (scene.on(host).length === perHost) continue;
    if (scene.on(host).length > 0) await scene.empty(host);
    await scene.fill(host, perHost);
  }
  const seen: GuestFailover[] = [];
  for (let round = 0; round < count; round += 1) {
    const host = leaderDies ? await scene.lab.leader() : (threeHosts[round % threeHosts.length] ?? 'alder');
    const some = await scene.cut(host, perHost);
    seen.push(...some);
    const [first] = some;
    if (first === undefined) throw new Error(`${host} carried no guest`);
    const { lostMs, orderedMs, startedMs } = first;
    const answered = some.map(({ answeredMs }) => seconds(answeredMs)).join(' ');
    say(
      `  ${title}, cut ${round + 1} (${host}): lost ${seconds(lostMs)}, ordered ${seconds(orderedMs)}, started ${seconds(startedMs)}, answers ${answered}`,
    );
  }
  return seen;
}

/** `virsh create` → HTTP of the guests of one host, started at once on the two others. Milliseconds. */
async function reference(scene: Scene, perHost: number): Promise<number> {
  const [first, ...others] = threeHosts;
  const { lab } = scene;
  const guests = scene.on(first);
  const folder = lab.testbed.host(first).dir;
  const twins: { guest: Watched; xml: string }[] = [];
  for (const guest of guests) twins.push({ guest, xml: await foreignTwin(lab, first, guest.name, folder) });
  for (const { name } of guests)
    await lab.client.call('guest.stop', { params: { guest: name }, body: { force: true } });
  await until('the guests to stop', 60_000, async () => {
    const { items } = await lab.client.call('guest.list', { query: { state: 'stopped' } });
    return guests.every(({ name }) => items.some((each) => each.name === name)) ? true : undefined;
  });
  const times: number[] = [];
  for (let round = 0; round < referenceRounds; round += 1) times.push(...(await bareStarts(lab, others, twins)));
  await scene.empty(first);
  await scene.fill(first, perHost);
  return median(times);
}

/** kill -9 of a guest's process on a healthy host → it answers again. Milliseconds, over several kills. */
async function killedGuest(scene: Scene): Promise<number> {
  const [host] = threeHosts;
  const [guest] = scene.on(host);
  if (!guest) throw new Error(`${host} carries no guest`);
  const machine = scene.lab.testbed.host(host);
  const times: number[] = [];
  for (let round = 0; round < killedRounds; round += 1) {
    const pid = (await machine.run(['cat', `/run/libvirt/qemu/${guest.name}.pid`])).trim();
    const killedAt = performance.now();
    await machine.run(['kill', '-KILL', pid]);
    const begun = scene.poller.begin([guest.name], killedAt);
    await until(`${guest.name} to answer again`, 90_000, () =>
      Promise.resolve(scene.poller.answering([guest.name]) ? true : undefined),
    );
    times.push((scene.poller.outage(guest.name).answeredAt ?? Number.NaN) - begun);
  }
  return median(times);
}

const startBounds = { default: { median: 3000, worst: 3600 }, fast: { median: 2000 }, fastLeader: { median: 3000 } };

function stepRows(title: string, seen: readonly GuestFailover[]): BenchRow[] {
  const middle = (pick: (one: GuestFailover) => number): number => median(seen.map(pick));
  return [
    { measure: `${title}: guests that went on elsewhere`, value: seen.length, unit: '' },
    { measure: `${title}: cut → lost (detection)`, value: middle(({ lostMs }) => lostMs), unit: 'ms' },
    {
      measure: `${title}: lost → ordered (decision)`,
      value: middle(({ lostMs, orderedMs }) => orderedMs - lostMs),
      unit: 'ms',
    },
    {
      measure: `${title}: ordered → QEMU runs (start)`,
      value: middle(({ orderedMs, startedMs }) => startedMs - orderedMs),
      unit: 'ms',
    },
    {
      measure: `${title}: QEMU runs → HTTP (boot)`,
      value: middle(({ startedMs, answeredMs }) => answeredMs - startedMs),
      unit: 'ms',
    },
    { measure: `${title}: requests failed per guest`, value: middle(({ failedRequests }) => failedRequests), unit: '' },
  ];
}

function boundRows(
  title: string,
  seen: readonly GuestFailover[],
  started: { readonly median: number; readonly worst?: number },
  answered?: { readonly median: number; readonly worst: number },
): BenchRow[] {
  const starts = seen.map(({ startedMs }) => startedMs);
  const answers = seen.map(({ answeredMs }) => answeredMs);
  const worstStart = Math.max(...starts);
  return [
    ...stepRows(title, seen),
    atMost(`${title}: cut → QEMU runs elsewhere, median`, median(starts), 'ms', started.median),
    started.worst === undefined
      ? { measure: `${title}: cut → QEMU runs elsewhere, worst`, value: worstStart, unit: 'ms' }
      : atMost(`${title}: cut → QEMU runs elsewhere, worst`, worstStart, 'ms', started.worst),
    ...(answered === undefined
      ? [{ measure: `${title}: cut → HTTP, median`, value: median(answers), unit: 'ms' }]
      : [
          atMost(`${title}: cut → HTTP, median`, median(answers), 'ms', answered.median),
          atMost(`${title}: cut → HTTP, worst`, Math.max(...answers), 'ms', answered.worst),
        ]),
  ];
}

/** The controller beside the switch: one and five guests per host, then the fast profile. */
async function controllerBeside(count: number): Promise<BenchRow[]> {
  const scene = await Scene.open(await benchLab());
  const rows: BenchRow[] = [];
  try {
    for (const host of threeHosts) await scene.fill(host, 1);
    const bareOne = await reference(scene, 1);
    const killed = await killedGuest(scene);
    const one = await cuts(scene, { title: 'one', perHost: 1, cuts: count, leaderDies: false });
    rows.push(
      { measure: 'bare virsh create → HTTP, one at once', value: bareOne, unit: 'ms' },
      atMost('killed guest process → HTTP', killed, 'ms', bareOne + 1000),
      ...boundRows('one guest per host', one, startBounds.default, { median: 3000 + 1.2 * bareOne, worst: 9000 }),
      {
        measure: 'ratio of cut → HTTP to bare',
        value: median(one.map((each) => each.answeredMs)) / bareOne,
        unit: '×',
      },
    );
    await scene.lab.client.call('site.set', { body: { lease: 'fast' } });
    await scene.lab.settled();
    const fast = await cuts(scene, { title: 'fast', perHost: 1, cuts: count, leaderDies: false });
    rows.push(...boundRows('fast profile', fast, startBounds.fast));
    await scene.lab.client.call('site.set', { body: { lease: 'default' } });
    await scene.lab.settled();
    await cuts(scene, { title: 'filling', perHost: 5, cuts: 0, leaderDies: false });
    const bareFive = await reference(scene, 5);
    const five = await cuts(scene, { title: 'five', perHost: 5, cuts: count, leaderDies: false });
    rows.push(
      { measure: 'bare virsh create → HTTP, five at once', value: bareFive, unit: 'ms' },
      ...boundRows('five guests per host', five, startBounds.default, { median: 10_000, worst: 15_000 }),
      {
        measure: 'ratio of cut → HTTP to bare, five',
        value: median(five.map((each) => each.answeredMs)) / bareFive,
        unit: '×',
      },
    );
    return rows;
  } finally {
    await scene.close();
  }
}

/** Two controllers on hosts over one database beside the switch; the host of the leading one is cut. */
async function controllersOnHosts(count: number): Promise<BenchRow[]> {
  const scene = await Scene.open(await benchLab({ controllers: ['alder', 'birch'] }));
  try {
    const slow = await cuts(scene, { title: 'leader dies', perHost: 1, cuts: count, leaderDies: true });
    await scene.lab.client.call('site.set', { body: { lease: 'fast' } });
    await scene.lab.settled();
    const fast = await cuts(scene, { title: 'leader dies, fast', perHost: 1, cuts: count, leaderDies: true });
    return [
      ...boundRows('leader dies too', slow, startBounds.default),
      ...boundRows('leader dies too, fast', fast, startBounds.fastLeader),
    ];
  } finally {
    await scene.close();
  }
}

export async function run({ cuts: count = usualCuts }: BenchOptions = {}): Promise<BenchResult> {
  const begun = performance.now();
  const rows = [...(await controllerBeside(count)), ...(await controllersOnHosts(count))];
  rows.push(atMost('the whole bench', (performance.now() - begun) / 60_000, 'min', 25));
  return result('failover', rows);
}
