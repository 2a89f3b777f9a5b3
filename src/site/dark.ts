/** The switch of a lab loses power and comes back: what its guests made of that. */
import type { Lab } from './lab.ts';
import type { Poller } from './poller.ts';
import { until } from './ready.ts';

export interface DarkResult {
  /** Guests that booted again: must be none. */
  readonly restarted: number;
  /** Hosts whose session was ended: must be none. */
  readonly lost: readonly string[];
  /** Hosts whose guests were frozen before the switch came back. */
  readonly frozen: number;
  /** Milliseconds from the switch's return until the last guest answers. */
  readonly onAgainMs: number;
  /** Of each guest. */
  readonly eachMs: readonly number[];
}

/** Of each guest's present boot, from its own web server. */
export async function bootIds(lab: Lab, addresses: readonly string[]): Promise<readonly string[]> {
  return Promise.all(
    addresses.map(async (address) => (await lab.testbed.httpWait(address, { path: '/boot-id' })).body.trim()),
  );
}

const frozenGroups = 'cat /sys/fs/cgroup/virga/*/s*/cgroup.events /sys/fs/cgroup/unified/virga/*/s*/cgroup.events';

/** Whether every group of guests on the host is frozen; false where there is none. */
export async function isFrozen(lab: Lab, host: string): Promise<boolean> {
  const { stdout } = await lab.testbed.host(host).exec(['sh', '-c', `${frozenGroups} 2>/dev/null`]);
  return stdout.includes('frozen 1') && !stdout.includes('frozen 0');
}

const patienceMs = 60_000;

/** Pulls the switch for `darkMs`, puts it back, and waits until every guest that the poller asks answers again. */
export async function darkAndBack(
  lab: Lab,
  poller: Poller,
  guests: readonly { readonly name: string; readonly address: string }[],
  darkMs: number,
): Promise<DarkResult> {
  const names = guests.map(({ name }) => name);
  const addresses = guests.map(({ address }) => address);
  const before = await bootIds(lab, addresses);
  const sessions = new Map((await lab.hosts()).map((host) => [host.name, host.status.session?.id]));
  const hosts = lab.testbed.hosts.map(({ name }) => name);
  const pulledAt = performance.now();
  await lab.testbed.pullSwitch();
  let frozen = 0;
  while (performance.now() - pulledAt < darkMs) {
    const now = await Promise.all(hosts.map(async (host) => isFrozen(lab, host)));
    frozen = Math.max(frozen, now.filter(Boolean).length);
    const left = darkMs - (performance.now() - pulledAt);
    await new Promise((next) => setTimeout(next, Math.max(0, Math.min(1_000, left))));
  }
  const begunAt = poller.begin(names);
  await lab.testbed.restoreSwitch();
  await until('every guest to answer again', patienceMs, () =>
    Promise.resolve(poller.answering(names) ? true : undefined),
  );
  const eachMs = names.map((name) => (poller.outage(name).answeredAt ?? Number.NaN) - begunAt);
  await lab.settled();
  const after = await bootIds(lab, addresses);
  const lost = (await lab.hosts()).filter((host) => host.status.session?.id !== sessions.get(host.name));
  return {
    restarted: before.filter((id, index) => id !== after[index]).length,
    lost: lost.map(({ name }) => name),
    frozen,
    onAgainMs: Math.max(...eachMs),
    eachMs,
  };
}
