/**
 * `./virga bench dark`: every link goes down at once for 60 s, as when the only switch loses power, then up. Every guest
 * goes on where it was; none is restarted, no host is declared lost. The reference is a guest that no lease freezes on
 * the same hosts: what the network alone takes to come back.
 */
import { darkAndBack } from '../src/site/dark.ts';
import { Poller, type Watched } from '../src/site/poller.ts';
import type { Lab } from '../src/site/lab.ts';
import { atMost, result, type BenchResult } from './kit.ts';
import { addressOf, benchLab, runOn, threeHosts } from './lease-kit.ts';

const darkMs = 60_000;
const perHost = 2;

/** A guest that stays outside: its disk is of this host alone. */
async function runOutside(lab: Lab): Promise<Watched> {
  const { items } = await lab.client.call('guest.run', {
    body: { image: 'tiny', name: 'outside', memoryMiB: 128, diskMode: 'keep', networks: ['lab'] },
  });
  const [guest] = items;
  if (!guest) throw new Error('the guest was not created');
  const watched = { name: guest.name, address: addressOf(guest) };
  await lab.testbed.httpWait(watched.address, { body: watched.name, timeoutMs: 120_000 });
  return watched;
}

export async function run(): Promise<BenchResult> {
  const lab = await benchLab();
  const poller = new Poller(lab.testbed, []);
  try {
    const guests: Watched[] = [];
    for (const host of threeHosts) guests.push(...(await runOn(lab, host, perHost)));
    const outside = await runOutside(lab);
    poller.watch([...guests, outside]);
    const { restarted, lost, frozen, eachMs } = await darkAndBack(lab, poller, [...guests, outside], darkMs);
    const network = eachMs.at(-1) ?? Number.NaN;
    const ours = Math.max(...eachMs.slice(0, -1));
    return result('dark', [
      { measure: 'all links down for', value: darkMs / 1000, unit: 's' },
      { measure: 'highly available guests', value: guests.length, unit: '' },
      { measure: 'hosts frozen meanwhile', value: frozen, unit: '', bound: '= 3', holds: frozen === threeHosts.length },
      atMost('guests restarted', restarted, '', 0),
      atMost('hosts declared lost', lost.length, '', 0),
      { measure: 'links up → a guest without a lease answers', value: network, unit: 'ms' },
      atMost('links up → every guest answers', ours, 'ms', 1000),
      { measure: 'ratio', value: ours / network, unit: '×' },
    ]);
  } finally {
    poller.stop();
    await lab.close();
  }
}
