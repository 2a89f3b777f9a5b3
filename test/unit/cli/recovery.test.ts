/** What a person says of recovery: guests, the site's settings, fence devices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFence } from '../../../src/cli/commands/host.ts';
import { parseLease } from '../../../src/cli/commands/site-settings.ts';
import { at, guest, host, siteSettings, siteStatus, uuid } from './documents.ts';
import { cli, page, StandIn } from './stand-in.ts';

test('guests: recovery on run and set, and whether and why not they are highly available', async (t) => {
  const h1 = host('h1');
  const pinned = guest('web', { spec: { image: { id: uuid(), sha512: 'x', format: 'qcow2' } } });
  const site = await StandIn.start(t, {
    'guest.change': () => pinned,
    'guest.list': () => page([pinned]),
    'host.list': () => page([h1]),
    'image.list': () => page([]),
    'network.list': () => page([]),
  });
  const argv = [
    '--priority',
    '90',
    '--prefer',
    'h1',
    '--prefer',
    'h2',
    '--fail-back',
    '--max-moves',
    '3',
    '--window',
    '2h',
  ];
  const ran = await cli(site.socket, ['guest', 'set', 'web', '--ha', 'on', ...argv]);
  assert.deepEqual(site.asked.at(-1)?.body, {
    ha: 'on',
    priority: 90,
    preferredHosts: ['h1', 'h2'],
    failBack: true,
    limits: { moves: 3, windowSeconds: 7200 },
  });
  assert.match(
    ran.out,
    /web is changed; when its host is lost: it stays down until its host is back \(its disk is kept/,
  );
  await cli(site.socket, ['guest', 'set', 'web', '--prefer', 'none', '--no-fail-back']);
  assert.deepEqual(site.asked.at(-1)?.body, { preferredHosts: [], failBack: false });
  assert.equal((await cli(site.socket, ['guest', 'set', 'web', '--priority', '101'])).code, 2);
  assert.match(
    (await cli(site.socket, ['guest', 'list', '-o', 'wide'])).out,
    /NOT HA.*\n.* no .*its disk is kept on its host only/,
  );
});

test('settings of the site; figures of a lease want their units', async (t) => {
  const hold = { reason: 'new switch', who: 'local:root', heldAt: at };
  const site = await StandIn.start(t, {
    'site.settings': () => ({ ...siteSettings, hold }),
    'site.set': () => siteSettings,
    'site.hold': () => ({ ...siteSettings, hold }),
    'site.status': () => siteStatus({ hosts: { online: 1, lost: 1 } }),
    'site.release': () => siteSettings,
  });
  assert.match((await cli(site.socket, ['site', 'show'])).out, /Held +new switch \(local:root/);
  await cli(site.socket, ['site', 'set', '--lease', 'length=3s,bound=600ms', '--lapse-grace', '0']);
  assert.deepEqual(site.asked.at(-1)?.body, { lease: { lengthMs: 3000, boundMs: 600 }, lapseGraceSeconds: 0 });
  assert.equal((await cli(site.socket, ['site', 'hold'])).code, 2);
  assert.equal((await cli(site.socket, ['site', 'release'])).code, 5, 'guests of lost hosts start at once');
  assert.equal((await cli(site.socket, ['site', 'release', '--yes'])).code, 0);
  assert.throws(() => parseLease('length=3'), /say the unit/);
  assert.throws(() => parseLease('quick'), /default, fast/);
  assert.equal(parseLease('fast'), 'fast');
});

test('a fence device is written as its program would be called', () => {
  assert.deepEqual(parseFence('fence_ipmilan ip=192.0.2.9 password_file=/etc/x delay=500ms'), {
    agent: 'fence_ipmilan',
    parameters: { ip: '192.0.2.9', password_file: '/etc/x' },
    delayMs: 500,
  });
  assert.throws(() => parseFence('rm -rf'), /no fence program/);
});
