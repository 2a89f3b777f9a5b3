/**
 * `./virga bench memory`: resident memory at 1,000 guests, after the lists were read and the loop has run. Bound: the
 * controller under 200 MB. The ratio is to a Node process that does nothing, measured in the same run.
 */
import assert from 'node:assert/strict';
import { below, median, result, type BenchResult, type BenchRow } from './kit.ts';
import { bareMB, benchSite } from './controller.ts';

const hosts = 50;
const guests = 1000;
const looks = 5;

/** The controller's rows. */
export async function controllerRows(): Promise<BenchRow[]> {
  const site = await benchSite(hosts, guests);
  try {
    const seen: number[] = [];
    for (let look = 0; look < looks; look += 1) {
      const { items } = await site.client.call('guest.list', { query: { limit: guests } });
      assert.equal(items.length, guests);
      await site.client.call('site.status');
      seen.push(await site.residentMB());
    }
    const value = median(seen);
    return [
      below('controller at 1,000 guests', value, 'MB', 200),
      { measure: 'ratio to a Node process that does nothing', value: value / (await bareMB()), unit: '×' },
    ];
  } finally {
    await site.stop();
  }
}

export async function run(): Promise<BenchResult> {
  return result('memory', await controllerRows());
}
