/**
 * `./virga bench converge`: one decision of the controller over 1,000 hosts and 20,000 guests. Bounds: under 100 ms when
 * nothing changed, 1,024 new guests placed in under 1 s. The ratio is to one pass over the same guests
 * that only reads their state, measured in the same run.
 */
import assert from 'node:assert/strict';
import { below, medianMs, result, type BenchResult } from './kit.ts';
import { decide } from '../src/core/converge.ts';
import type { Guest } from '../src/core/model/guest.ts';
import type { Host } from '../src/core/model/host.ts';
import type { Instant, Uuid } from '../src/core/model/resource.ts';
import { runGuests } from '../src/core/requests/guests.ts';
import { formatAddress } from '../src/core/net/address.ts';
import { aGuest, aHost, aNetwork, anImage, sight, t0, TestSite } from '../test/unit/core/kit.ts';

const hosts = 1000;
const guests = 20_000;
const added = 1024;
const settings = { silentAfterMs: 10_000, listeningSinceAt: 0 };

interface LargeSite {
  readonly site: TestSite;
  readonly heard: ReadonlyMap<Uuid, Instant>;
}

/** Twenty running guests on each host, with addresses, owners and sights as in life. */
function largeSite(waiting: number): LargeSite {
  const image = anImage('debian');
  const lan = aNetwork('default');
  const all: Host[] = Array.from({ length: hosts }, (_, index) =>
    aHost(`host-${String(index).padStart(4, '0')}`, {
      spec: { cordoned: index % 50 === 0, overcommit: { cpu: 4, memory: 1 } },
    }),
  );
  const running = Array.from({ length: guests }, (_, index) =>
    runningGuest(index, all[index % hosts], image.id, lan.id),
  );
  const pending = Array.from({ length: waiting }, (_, index) => aGuest(`new-${index}`));
  const site = new TestSite([image, lan, ...all, ...running, ...pending]);
  return { site, heard: new Map(all.map((host) => [host.id, t0] as const)) };
}

function runningGuest(index: number, host: Host | undefined, imageId: Uuid, networkId: Uuid): Guest {
  assert.ok(host);
  const number = BigInt(index);
  const mac = `52:54:00:${[index >> 16, (index >> 8) & 255, index & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
  const guest = aGuest(`guest-${index}`, {
    on: host,
    spec: {
      image: { id: imageId, sha512: 'b'.repeat(128), format: 'qcow2' },
      nics: [{ networkId, mac, ipv4: formatAddress(4, (10n << 24n) + 2n + number) }],
    },
  });
  const { id: _id, ...observed } = sight(guest);
  return { ...guest, status: { ...guest.status, state: 'running', observed } };
}

function readStates(site: TestSite): number {
  let running = 0;
  for (const guest of site.all('guest')) if (guest.status.state === 'running') running += 1;
  return running;
}

/** @throws AssertionError when a decision is not the expected one: a wrong answer has no speed. */
export async function run(): Promise<BenchResult> {
  const quiet = largeSite(0);
  const crowded = largeSite(added);
  const written = ({ site, heard }: LargeSite): number => decide(site, t0 + 1000, heard, settings).change.put.length;
  const scan = await medianMs(() => assert.equal(readStates(quiet.site), guests));
  const idle = await medianMs(() => assert.equal(written(quiet), 0));
  const placing = await medianMs(() => assert.equal(written(crowded), added));
  const asked = { image: 'debian', name: 'batch', count: added };
  const request = await medianMs(() =>
    assert.equal(runGuests(quiet.site, asked, quiet.site.context).created.length, added),
  );
  return result('converge', [
    { measure: 'reference: one pass over 20,000 guests', value: scan, unit: 'ms' },
    below('nothing changed: 1,000 hosts, 20,000 guests', idle, 'ms', 100),
    { measure: 'nothing changed, against the reference', value: idle / scan, unit: '×' },
    below('1,024 waiting guests placed by one decision', placing, 'ms', 1000),
    below('request for 1,024 guests: checked, addressed, placed', request, 'ms', 1000),
  ]);
}
